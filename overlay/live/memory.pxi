# A pair of queues in memory.

cdef extern from "io/memory.h" nogil:
    struct memory_config:
        uint32_t capacity
        uint64_t size
        uint32_t mtu
        bint underlay
        bint segments
        uint8_t mac[2][6]

    int memory_open(device **ends, const memory_config *config)


def memory_pair(uint32_t capacity, uint64_t size, uint32_t mtu, bint underlay, bint segments,
                bytes first_mac, bytes second_mac):
    """Two queues, joined: what one sends, the other receives."""
    cdef device *ends[2]
    cdef memory_config config
    cdef const uint8_t *macs[2]
    cdef Queue first = Queue.__new__(Queue), second = Queue.__new__(Queue)
    if len(first_mac) != 6 or len(second_mac) != 6:
        raise ValueError("a MAC address has 6 bytes")
    macs[0], macs[1] = first_mac, second_mac
    memset(&config, 0, sizeof(config))
    config.capacity, config.size, config.mtu = capacity, size, mtu
    config.underlay, config.segments = underlay, segments
    memcpy(config.mac[0], macs[0], 6)
    memcpy(config.mac[1], macs[1], 6)
    if memory_open(ends, &config) != 0:
        raise os_error(errno, "memory")
    first.attach(ends[0])
    second.attach(ends[1])
    return first, second

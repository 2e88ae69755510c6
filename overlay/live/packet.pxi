# AF_PACKET: an interface as a port or as the underlay.

cdef extern from "io/path.h" nogil:
    struct path_address:
        uint8_t family
        uint8_t bytes[16]


cdef extern from "io/packet.h" nogil:
    enum:
        PACKET_LOCALS_MAX

    struct packet_options:
        const char *interface
        uint32_t protocols
        uint16_t port
        const path_address *locals
        size_t local_count
        size_t ring
        int fanout
        int group
        bint promiscuous
        bint bypass

    device *packet_open(const packet_options *options)
    int packet_group(const device *d)
    int packet_refresh(device *d)
    void packet_path_mtu(device *d, const path_address *remote, uint32_t mtu)


cdef path_address path_address_of(bytes packed) except *:
    cdef path_address address
    cdef const uint8_t *raw = packed
    memset(&address, 0, sizeof(address))
    if len(packed) not in (4, 16):
        raise ValueError("an address has 4 or 16 bytes")
    address.family = 4 if len(packed) == 4 else 6
    memcpy(address.bytes, raw, len(packed))
    return address


cdef class PacketQueue(Queue):
    """One socket of an interface."""

    def __init__(self, str interface, *, uint32_t protocols=0, uint16_t port=0, addresses=(),
                 size_t ring=0, int fanout=-1, int group=-1, bint promiscuous=False,
                 bint bypass=False):
        cdef path_address list_of[PACKET_LOCALS_MAX]
        cdef packet_options options
        cdef bytes name = os.fsencode(interface)
        cdef device *d
        if len(addresses) > PACKET_LOCALS_MAX:
            raise ValueError(f"at most {PACKET_LOCALS_MAX} local addresses")
        for i, packed in enumerate(addresses):
            list_of[i] = path_address_of(packed)
        options.interface = name
        options.protocols, options.port = protocols, port
        options.locals, options.local_count = list_of, len(addresses)
        options.ring, options.fanout, options.group = ring, fanout, group
        options.promiscuous, options.bypass = promiscuous, bypass
        with nogil:
            d = packet_open(&options)
        if d == NULL:
            raise os_error(errno, interface)
        self.attach(d)

    @property
    def group(self):
        """The fanout group, for the queues that share with this one, or -1."""
        return packet_group(self.open())

    def refresh(self):
        """Read the interface's MTU and MAC address again."""
        if packet_refresh(self.open()) != 0:
            raise os_error(errno, "refresh")

    def path_mtu(self, bytes remote, uint32_t mtu):
        """Packets to this remote (4 or 16 bytes) have at most mtu bytes."""
        cdef path_address address = path_address_of(remote)
        packet_path_mtu(self.open(), &address, mtu)

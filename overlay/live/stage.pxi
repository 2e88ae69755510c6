# Stages of a live VTEP that work on one packet: too-big answers, MSS, outer reassembly.

cdef extern from "offload.h" nogil:
    bint offload_complete_at(uint8_t *data, uint32_t length, uint32_t start, uint32_t offset)

cdef extern from "icmp.h" nogil:
    enum:
        ICMP_ANSWER_MAX

    uint32_t icmp_too_big(const uint8_t *frame, uint32_t length, uint32_t mtu, uint8_t *out)
    bint clamp_mss(uint8_t *frame, uint32_t length, uint16_t mss, bint partial)

cdef extern from "fragment.h" nogil:
    cdef struct fragment_statistics "fragment_stats":
        uint64_t taken
        uint64_t joined
        uint64_t overlaps
        uint64_t limits
        uint64_t timeouts
        uint64_t refused
        uint64_t held
        uint64_t packets
        uint64_t pending
        uint64_t memory

    struct fragments

    size_t fragment_size(uint64_t memory)
    fragments *fragment_init(void *at, uint64_t memory, uint64_t timeout, uint64_t seed)
    void fragment_stats(const fragments *f, fragment_statistics *stats)
    int fragment_push(fragments *f, const uint8_t *packet, uint32_t length, int link,
                      uint64_t now, const uint8_t **whole, uint32_t *length_of_whole)
    size_t fragment_expire(fragments *f, uint64_t now)


def complete(data not None, uint32_t start, uint32_t offset):
    """The bytes, the checksum completed as virtio's NEEDS_CSUM asks; None if it lies outside."""
    cdef bytearray copy = bytearray(data)
    cdef uint8_t[::1] view = copy
    if not len(copy) or not offload_complete_at(&view[0], <uint32_t>len(copy), start, offset):
        return None
    return bytes(copy)


def too_big(const uint8_t[::1] frame not None, uint32_t mtu):
    """The ICMP answer to a frame that is longer than mtu bytes of IP, or None."""
    cdef uint8_t out[ICMP_ANSWER_MAX]
    cdef uint32_t length = 0
    if frame.shape[0]:
        length = icmp_too_big(&frame[0], <uint32_t>frame.shape[0], mtu, out)
    return (<char *>out)[:length] if length else None


def clamp(frame not None, uint16_t mss, bint partial=False):
    """The frame, the MSS option of a TCP SYN lowered to mss (over IPv6: 20 less)."""
    cdef bytearray copy = bytearray(frame)
    cdef uint8_t[::1] view = copy
    if len(copy):
        clamp_mss(&view[0], <uint32_t>len(copy), mss, partial)
    return bytes(copy)


cdef class Fragments:
    """Reassembly of outer fragments in ``memory`` bytes of payload.  Not for two threads at once.

    Times are in nanoseconds of any clock that does not run backwards.
    """
    cdef fragments *f
    cdef void *block

    def __cinit__(self, uint64_t memory=4 << 20, uint64_t timeout=30_000_000_000,
                  uint64_t seed=0):
        cdef size_t size = fragment_size(memory)
        if size == 0:
            raise ConfigError("memory", memory, "bytes, 262144 or more")
        self.block = malloc(size + 64)
        if self.block == NULL:
            raise MemoryError
        self.f = fragment_init(<void *>((<uintptr_t>self.block + 63) & ~<uintptr_t>63), memory,
                               timeout, seed)

    def __dealloc__(self):
        free(self.block)

    @property
    def handle(self):
        """The address of the struct fragments, for a worker."""
        return <uintptr_t>self.f

    def push(self, const uint8_t[::1] packet not None, uint64_t now, int link=0):
        """(Status, the whole packet or None)."""
        cdef const uint8_t *whole
        cdef uint32_t length
        cdef const uint8_t *data = &packet[0] if packet.shape[0] else <const uint8_t *>b""
        cdef int status = fragment_push(self.f, data, <uint32_t>packet.shape[0], link, now, &whole,
                                        &length)
        return Status(status), (<char *>whole)[:length] if status == 0 else None

    def expire(self, uint64_t now):
        """Forget what is too old; returns the fragments lost."""
        return fragment_expire(self.f, now)

    @property
    def stats(self):
        """Counts by name, as fragment.h has them."""
        cdef fragment_statistics s
        fragment_stats(self.f, &s)
        return s

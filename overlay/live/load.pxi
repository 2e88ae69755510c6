# A device for measurements.

cdef extern from "io/load.h" nogil:
    device *load_open(const uint8_t *data, const uint32_t *lengths, size_t count,
                      uint32_t headroom, bint underlay)


cdef class LoadQueue(Queue):
    """The same frames with every recv, and a sink."""

    def __cinit__(self, list frames, bint underlay):
        data = b"".join(frames)
        cdef const uint8_t *bytes_ = data
        cdef size_t count = len(frames), i
        cdef uint32_t *lengths = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        if lengths == NULL:
            raise MemoryError
        for i in range(count):
            lengths[i] = <uint32_t>len(frames[i])
        cdef device *d = load_open(bytes_, lengths, count, 128, underlay)
        free(lengths)
        if d == NULL:
            raise MemoryError
        self.attach(d)

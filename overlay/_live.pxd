# What _live.pyx uses of csrc/io, csrc/fdb.h and csrc/bridge.h.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "overlay.h" nogil:
    enum:
        OV_OK
        OV_BAD_ROW
        OV_NO_ROOM
        OV_DEVICE_REFUSED
        OV_STATUS_COUNT
        OV_UDP

    struct ov_batch:
        uint8_t *data
        uint64_t size
        uint64_t capacity
        uint64_t count
        uint64_t used
        uint64_t gap
        uint64_t *base
        uint64_t *offset
        uint64_t *key
        uint64_t *outer
        uint32_t *length
        uint32_t *wire
        uint32_t *origin
        uint16_t *mss
        uint8_t *status
        uint8_t *protocol
        uint8_t *link
        uint8_t *checksum

cdef extern from "io/device.h" nogil:
    struct device_stats:
        uint64_t rx_packets
        uint64_t rx_bytes
        uint64_t tx_packets
        uint64_t tx_bytes
        uint64_t *lost

    struct device

    struct device_ops:
        int64_t (*recv)(device *d, ov_batch *b) noexcept nogil
        size_t (*send)(device *d, ov_batch *b, const uint32_t *rows, size_t count) noexcept nogil
        void (*close)(device *d) noexcept nogil

    struct device:
        const device_ops *ops
        int fd
        uint32_t mtu
        uint8_t *mac
        bint lends
        bint underlay
        device_stats stats

    void device_clear(ov_batch *b)
    uint64_t device_room(const ov_batch *b)
    uint8_t *device_at(const ov_batch *b)
    size_t device_row(ov_batch *b, uint64_t base, uint64_t offset, uint32_t length)
    size_t device_append(ov_batch *b, uint32_t length)
    void device_count(uint64_t *counter, uint64_t n)
    void device_lose(device *d, ov_batch *b, size_t i, uint8_t status)


cdef class Queue:
    cdef device *d
    cdef object user  # the Chassis that has it
    cdef int busy  # calls that run without the GIL
    cdef bint closing
    cdef int attach(self, device *d) except -1
    cdef device *open(self) except NULL
    cdef int done(self) except -1
    cdef int shut(self) except -1

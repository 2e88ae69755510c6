# A device written in Python, as a queue that a worker can use.  Nothing is
# printed and no exception passes: the last one stays as the queue's error.

from cpython.object cimport PyObject
from libc.errno cimport EIO

cdef enum:
    HEADROOM = 128

cdef struct python_device:
    device base
    PyObject *queue  # which owns this struct

cdef device_ops python_ops
python_ops.recv = python_recv
python_ops.send = python_send
python_ops.close = python_close


cdef class PythonQueue(Queue):
    """What lets a worker use a Python device; it calls recv and send with the GIL held.

    :param device: a :class:`overlay.io.device.Device`; closed with the queue.
    """

    cdef readonly object device
    cdef public object error
    cdef object lent, carried

    def __init__(self, device):
        if self.d != NULL:
            raise TypeError("a queue is made once")
        mac = device.mac or bytes(6)
        if not isinstance(mac, bytes) or len(mac) != 6:
            raise ConfigError("mac", mac, "6 bytes or None")
        cdef python_device *p = <python_device *>calloc(1, sizeof(python_device))
        if p == NULL:
            raise MemoryError
        self.attach(&p.base)
        self.device = device
        p.queue = <PyObject *>self
        p.base.ops = &python_ops
        p.base.fd = device.fileno()
        p.base.mtu = device.mtu
        p.base.underlay = device.underlay
        p.base.lends = True
        memcpy(p.base.mac, <const uint8_t *><bytes>mac, 6)

    def __dealloc__(self):
        # Here, while the fields are whole; the device is somebody else's to close.
        free(self.d)
        self.d = NULL

    def recv(self, batch):
        self.open()
        return self.device.recv(batch)

    def send(self, batch):
        self.open()
        return self.device.send(batch)

    def close(self):
        if self.d != NULL and not self.closing:
            self.shut()
            self.device.close()

    cdef int keep(self, error) except -1:
        """Remember an exception; Ctrl-C still reaches the main thread."""
        self.error = error
        if isinstance(error, KeyboardInterrupt):
            import _thread

            _thread.interrupt_main()
        return 0


cdef int64_t python_recv(device *d, ov_batch *b) noexcept with gil:
    cdef PythonQueue queue = <PythonQueue>(<python_device *>d).queue
    cdef ov_batch *lent
    cdef uint64_t rows
    device_clear(b)
    try:
        rows = b.capacity
        batch = queue.lent
        if batch is None or batch.capacity > rows or batch.gap != b.gap:
            size = rows * (1920 + b.gap) + 2 * (65535 + 22 + b.gap + 16)
            batch = queue.lent = Batch.packed(size, rows, gap=b.gap)
        queue.device.recv(batch)
        lent = batch_of(batch)
        if lent.count > lent.capacity:
            raise ValueError("recv: more rows than the batch has")
    except BaseException as error:
        queue.keep(error)
        return -EIO
    return lend(d, lent, b)


cdef int64_t lend(device *d, ov_batch *lent, ov_batch *b) noexcept nogil:
    """Point b at the rows of lent; what does not lie in its data is refused here."""
    cdef size_t i, n = <size_t>lent.count
    cdef uint64_t received = 0
    b.data, b.size, b.count, b.used = lent.data, lent.size, lent.count, lent.used
    memcpy(b.base, lent.base, n * sizeof(uint64_t))
    memcpy(b.offset, lent.offset, n * sizeof(uint64_t))
    memcpy(b.key, lent.key, n * sizeof(uint64_t))
    memcpy(b.outer, lent.outer, n * sizeof(uint64_t))
    memcpy(b.length, lent.length, n * sizeof(uint32_t))
    memcpy(b.wire, lent.wire, n * sizeof(uint32_t))
    memcpy(b.origin, lent.origin, n * sizeof(uint32_t))
    memcpy(b.mss, lent.mss, n * sizeof(uint16_t))
    memcpy(b.status, lent.status, n)
    memcpy(b.protocol, lent.protocol, n)
    memcpy(b.link, lent.link, n)
    memcpy(b.checksum, lent.checksum, n)
    for i in range(n):
        if not row_good(b, i) or b.status[i] >= OV_STATUS_COUNT:
            device_lose(d, b, i, OV_BAD_ROW)
        else:
            received += b.length[i]
    device_count(&d.stats.rx_packets, n)
    device_count(&d.stats.rx_bytes, received)
    return <int64_t>n


cdef size_t python_send(device *d, ov_batch *b, const uint32_t *rows,
                        size_t count) noexcept with gil:
    cdef PythonQueue queue = <PythonQueue>(<python_device *>d).queue
    cdef ov_batch *carried = NULL
    cdef uint64_t size
    cdef bint failed = False
    try:
        size = carry_size(b, rows, count)
        batch = queue.carried
        if batch is None or batch.capacity < count or batch.data.size < size:
            batch = queue.carried = Batch.packed(2 * size + 65536, 2 * count + 64, gap=HEADROOM)
        carried = batch_of(batch)
        if carry(d, b, rows, count, carried) != 0:
            queue.device.send(batch)
    except BaseException as error:
        failed = True
        queue.keep(error)
    return settle(d, b, rows, count, carried, failed)


cdef uint64_t carry_size(const ov_batch *b, const uint32_t *rows, size_t count) noexcept nogil:
    """Bytes that suffice for these rows."""
    cdef uint64_t size = 1
    cdef size_t n
    for n in range(count):
        if row_good(b, rows[n]):
            size += HEADROOM + OUTER_MOST + 16 + <uint64_t>b.length[rows[n]]
    return size


cdef size_t carry(device *d, ov_batch *b, const uint32_t *rows, size_t count,
                  ov_batch *to) noexcept nogil:
    """Copy the rows that are to be sent."""
    cdef size_t n, i
    device_clear(to)
    for n in range(count):
        i = rows[n]
        if b.status[i] == OV_OK and not (row_good(b, i) and copy_row(b, i, to)):
            device_lose(d, b, i, OV_BAD_ROW)
    return <size_t>to.count


cdef size_t settle(device *d, ov_batch *b, const uint32_t *rows, size_t count, ov_batch *carried,
                   bint failed) noexcept nogil:
    """Bring the statuses back; after an exception, rows without one were refused."""
    cdef size_t n, i, sent = 0, row = 0
    cdef uint64_t sent_bytes = 0
    cdef uint8_t status
    for n in range(count):
        i = rows[n]
        if b.status[i] != OV_OK:
            continue
        status = OV_OK
        if carried != NULL and row < carried.capacity:
            status = carried.status[row]
            row += 1
        if status >= OV_STATUS_COUNT or (failed and status == OV_OK):
            status = OV_DEVICE_REFUSED
        if status != OV_OK:
            device_lose(d, b, i, status)
        else:
            sent += 1
            sent_bytes += b.length[i]
    device_count(&d.stats.tx_packets, sent)
    device_count(&d.stats.tx_bytes, sent_bytes)
    return sent


cdef void python_close(device *d) noexcept with gil:
    free(d)

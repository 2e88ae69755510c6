# One queue of a device: a struct device, owned.

cdef inline ov_batch *batch_of(object batch) except NULL:
    """A batch's struct; it lives as long as the batch, which the caller holds."""
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a Batch, not {type(batch).__name__}")
    return <ov_batch *><uintptr_t>batch._address


cdef object os_error(int number, str what):
    return OSError(number, f"{what}: {os.strerror(number)}")


cdef class Queue:
    """A device's queue.  Use from one thread at a time; a worker that has it is one."""

    cdef int attach(self, device *d) except -1:
        self.d = d
        return 0

    cdef device *open(self) except NULL:
        if self.d == NULL:
            raise ValueError("the device is closed")
        return self.d

    def __dealloc__(self):
        self.close()

    @property
    def handle(self):
        """The address of the struct device, for a worker."""
        return <uintptr_t>self.open()

    @property
    def closed(self):
        return self.d == NULL

    @property
    def mtu(self):
        return self.open().mtu

    @property
    def mac(self):
        return bytes(self.open().mac[:6])

    def fileno(self):
        return self.open().fd

    def recv(self, batch):
        """Fill the batch with what waits; returns the rows."""
        cdef ov_batch *b = batch_of(batch)
        cdef device *d = self.open()
        cdef ov_batch lent = b[0]
        cdef int64_t n
        with nogil:
            n = d.ops.recv(d, &lent)
            if n >= 0 and lent.data != b.data:
                n = copy_lent(&lent, b)
        if n < 0:
            raise os_error(<int>-n, "recv")
        b.count = <uint64_t>n
        b.used = lent.used
        return n

    def send(self, batch):
        """Send the rows whose status is OK; returns how many went."""
        cdef ov_batch *b = batch_of(batch)
        cdef device *d = self.open()
        cdef size_t count = <size_t>b.count, sent, i
        cdef uint32_t *rows = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        if rows == NULL:
            raise MemoryError
        with nogil:
            for i in range(count):
                rows[i] = <uint32_t>i
            sent = d.ops.send(d, b, rows, count)
        free(rows)
        return sent

    @property
    def stats(self):
        """(rx_packets, rx_bytes, tx_packets, tx_bytes, {Status: lost})."""
        cdef device_stats *s = &self.open().stats
        lost = {Status(i): s.lost[i] for i in range(OV_STATUS_COUNT) if s.lost[i]}
        return s.rx_packets, s.rx_bytes, s.tx_packets, s.tx_bytes, lost

    def close(self):
        if self.d != NULL:
            self.d.ops.close(self.d)
            self.d = NULL


cdef int64_t copy_lent(ov_batch *lent, ov_batch *b) noexcept nogil:
    """Rows that lie in a device's memory, into the batch's own; what does not fit is cut off."""
    cdef uint64_t used = 0, at
    cdef size_t i, count = <size_t>lent.count
    for i in range(count):
        at = used + b.gap
        if at + lent.length[i] > b.size:
            return <int64_t>i
        memcpy(b.data + at, lent.data + lent.offset[i], lent.length[i])
        b.base[i] = used
        b.outer[i] = at
        b.offset[i] = at
        used = at + ((lent.length[i] + 15) & ~<uint64_t>15)
    lent.used = used
    return <int64_t>count

# One queue of a device: a struct device, owned.

cdef inline ov_batch *batch_of(object batch) except NULL:
    """A batch's struct; it lives as long as the batch, which the caller holds."""
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a Batch, not {type(batch).__name__}")
    return <ov_batch *><uintptr_t>batch._address


cdef object os_error(int number, str what):
    return OSError(number, f"{what}: {os.strerror(number)}")


cdef class Chassis


cdef class Queue:
    """A device's queue.  Use from one thread at a time; a worker that has it is one."""

    cdef int attach(self, device *d) except -1:
        self.d = d
        return 0

    cdef device *open(self) except NULL:
        if self.d == NULL or self.closing:
            raise ValueError("the device is closed")
        return self.d

    cdef int done(self) except -1:
        """At the end of a call that ran without the GIL: a close that came meanwhile is done."""
        self.busy -= 1
        if self.closing and self.busy == 0:
            self.shut()
        return 0

    cdef int shut(self) except -1:
        """Give the struct back, once no worker has it."""
        cdef device *d = self.d
        self.closing = True
        if self.user is not None:
            (<Chassis>self.user).evict(d)
        self.d = NULL
        d.ops.close(d)
        return 0

    def __dealloc__(self):
        if self.d != NULL:
            self.d.ops.close(self.d)
            self.d = NULL

    @property
    def used(self):
        """Whether a switch has it."""
        return self.user is not None

    @property
    def handle(self):
        """The address of the struct device, for a worker."""
        return <uintptr_t>self.open()

    @property
    def closed(self):
        return self.d == NULL or self.closing

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
        self.busy += 1
        with nogil:
            n = d.ops.recv(d, &lent)
            if n >= 0 and lent.data != b.data:
                n = copy_lent(d, &lent, b)
        self.done()
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
        self.busy += 1
        with nogil:
            for i in range(count):
                rows[i] = <uint32_t>i
            sent = d.ops.send(d, b, rows, count)
        free(rows)
        self.done()
        return sent

    @property
    def stats(self):
        """(rx_packets, rx_bytes, tx_packets, tx_bytes, {Status: lost})."""
        cdef device_stats *s = &self.open().stats
        lost = {Status(i): s.lost[i] for i in range(OV_STATUS_COUNT) if s.lost[i]}
        return s.rx_packets, s.rx_bytes, s.tx_packets, s.tx_bytes, lost

    def close(self):
        """Give it back.  A switch that has it sends to it and receives from it no more; a
        recv or send in another thread ends first."""
        if self.d == NULL or self.closing:
            return
        if self.busy:
            self.closing = True
        else:
            self.shut()


cdef enum:
    OUTER_MOST = 512  # bytes of outer headers that go with a row
    OUTER_IP = 40


cdef bint row_good(const ov_batch *b, size_t i) noexcept nogil:
    return (b.base[i] <= b.offset[i] and b.offset[i] <= b.size
            and b.length[i] <= b.size - b.offset[i] and b.length[i] <= b.wire[i])


cdef uint64_t row_front(const ov_batch *b, size_t i) noexcept nogil:
    """Bytes from a decapsulated row's outer IP header to the row, or of that header elsewhere."""
    if not b.protocol[i] and b.link[i] != OV_UDP:
        return 0
    if b.outer[i] < b.offset[i] and b.offset[i] - b.outer[i] <= OUTER_MOST:
        return b.offset[i] - b.outer[i]
    return OUTER_IP if b.link[i] == OV_UDP and b.outer[i] < b.size else 0


cdef bint copy_row(const ov_batch *source, size_t i, ov_batch *to) noexcept nogil:
    """Append a good row, all its columns, and the outer headers that it came behind; False
    where there is no room.  Both batches may have the same columns, if not the same bytes."""
    cdef uint64_t front = row_front(source, i), base = to.used, at = base + to.gap
    cdef uint64_t key = source.key[i]
    cdef uint32_t length = source.length[i], wire = source.wire[i]
    cdef uint16_t mss = source.mss[i]
    cdef uint8_t status = source.status[i], protocol = source.protocol[i]
    cdef uint8_t link = source.link[i], checksum = source.checksum[i]
    cdef uint64_t here = source.size - source.outer[i] if front else 0
    cdef size_t row
    if front + length > device_room(to):
        return False
    if front:
        memset(to.data + at, 0, front)
        memcpy(to.data + at, source.data + source.outer[i], front if front < here else here)
    memcpy(to.data + at + front, source.data + source.offset[i], length)
    row = device_row(to, base, at + front, length)
    to.used = (at + front + length + 15) & ~<uint64_t>15
    to.outer[row] = at if front else 0
    to.key[row], to.wire[row], to.mss[row] = key, wire, mss
    to.status[row], to.checksum[row] = status, checksum
    to.protocol[row], to.link[row] = protocol, link
    to.origin[row] = <uint32_t>i
    return True


cdef int64_t copy_lent(device *d, ov_batch *lent, ov_batch *b) noexcept nogil:
    """Rows that lie in a device's memory, into the batch's own; what does not fit is lost."""
    cdef ov_batch to = b[0]
    cdef size_t i
    device_clear(&to)
    for i in range(<size_t>lent.count):
        if not row_good(lent, i) or not copy_row(lent, i, &to):
            device_count(&d.stats.lost[OV_NO_ROOM], 1)
    lent.used = to.used
    return <int64_t>to.count


def copy_rows(source, const uint32_t[::1] rows, batch):
    """Append these rows of source to a batch while they fit, all their columns; returns how
    many were done.  One that does not lie in its data gets BAD_ROW and is left out."""
    cdef ov_batch *b = batch_of(source)
    cdef ov_batch *to = batch_of(batch)
    cdef Py_ssize_t n, count = rows.shape[0]
    cdef size_t i
    if b == to:
        raise ValueError("a batch cannot be copied to itself")
    with nogil:
        for n in range(count):
            i = rows[n]
            if i >= b.count:
                break
            if not row_good(b, i):
                b.status[i] = OV_BAD_ROW
            elif not copy_row(b, i, to):
                break
        else:
            n = count
    return n

# UDP sockets as an underlay.

cdef extern from "io/udp.h" nogil:
    enum:
        UDP_SENDERS_MAX
        UDP_TOO_BIG

    struct udp_options:
        uint8_t local[16]
        uint8_t family
        bint shared
        bint checksum
        bint timestamps
        uint8_t multicast_ttl
        uint16_t port
        uint32_t senders
        uint32_t interface
        uint32_t receive_buffer

    struct udp_error:
        uint8_t remote[16]
        uint8_t kind
        uint32_t mtu

    device *udp_open(const udp_options *options)
    int udp_refresh(device *d)
    int udp_join(device *d, const uint8_t *group, uint32_t interface)
    int udp_leave(device *d, const uint8_t *group, uint32_t interface)
    size_t udp_errors(device *d, udp_error *errors, size_t most)
    void udp_stamp(device *d, int64_t *times, uint64_t room)
    uint64_t udp_overrun(const device *d)
    bint udp_sends_trains(const device *d)
    bint udp_receives_trains(const device *d)
    size_t udp_ports(const device *d, uint16_t *ports)


cdef class UdpQueue(Queue):
    """A receiving socket at (local, port) and the senders.  Raises OSError as the kernel says.

    ``local`` is 4 or 16 bytes; ``shared`` says that other queues bind the same port.
    """

    cdef uint8_t family

    def __init__(self, bytes local, uint16_t port, *, uint32_t senders, uint32_t interface,
                 bint shared, bint checksum, uint8_t multicast_ttl, uint32_t receive_buffer,
                 bint timestamps=False):
        cdef udp_options options
        cdef device *d
        if self.d != NULL:
            raise ValueError("the queue is open")
        memset(&options, 0, sizeof(options))
        self.family = 4 if len(local) == 4 else 6
        self.address(local, options.local)
        options.family = self.family
        options.shared, options.checksum = shared, checksum
        options.multicast_ttl, options.port, options.senders = multicast_ttl, port, senders
        options.timestamps = timestamps
        options.interface, options.receive_buffer = interface, receive_buffer
        with nogil:
            d = udp_open(&options)
        if d == NULL:
            raise os_error(errno, "udp")
        self.attach(d)

    cdef int address(self, bytes address, uint8_t *out) except -1:
        cdef const uint8_t *source = address
        if len(address) != (4 if self.family == 4 else 16):
            raise ValueError("an address of the other family")
        memset(out, 0, 16)
        memcpy(out, source, len(address))
        return 0

    def recv_stamped(self, batch, int64_t[::1] times):
        """As recv; writes when the kernel received each row, nanoseconds since 1970."""
        udp_stamp(self.open(), &times[0] if times.shape[0] else NULL, <uint64_t>times.shape[0])
        try:
            return self.recv(batch)
        finally:
            if self.d != NULL:
                udp_stamp(self.d, NULL, 0)

    def refresh(self):
        """Read the interface's MTU and MAC again, from its network namespace."""
        if udp_refresh(self.open()) != 0:
            raise os_error(errno, "udp")

    def join(self, bytes group, uint32_t interface):
        """Receive what is sent to a multicast group, at an interface (0: the usual one)."""
        cdef uint8_t address[16]
        self.address(group, address)
        if udp_join(self.open(), address, interface) != 0:
            raise os_error(errno, "join")

    def leave(self, bytes group, uint32_t interface):
        """Receive it no more."""
        cdef uint8_t address[16]
        self.address(group, address)
        if udp_leave(self.open(), address, interface) != 0:
            raise os_error(errno, "leave")

    def errors(self):
        """What the network has said since: (remote, MTU or None for unreachable)."""
        cdef udp_error errors[64]
        cdef size_t n = 64, i
        cdef device *d = self.open()
        found = []
        while n == 64:
            n = udp_errors(d, errors, 64)
            for i in range(n):
                remote = bytes(errors[i].remote[:4 if self.family == 4 else 16])
                found.append((remote, errors[i].mtu if errors[i].kind == UDP_TOO_BIG else None))
        return found

    @property
    def ports(self):
        """The senders' ports."""
        cdef uint16_t ports[UDP_SENDERS_MAX]
        cdef size_t n = udp_ports(self.open(), ports), i
        return tuple(ports[i] for i in range(n))

    @property
    def trains(self):
        """Whether trains are (sent, received) by one system call."""
        return bool(udp_sends_trains(self.open())), bool(udp_receives_trains(self.open()))

    @property
    def stats(self):
        """As a queue's; DEVICE_OVERRUN is what found the receive buffer full."""
        *counts, lost = Queue.stats.__get__(self)
        overrun = udp_overrun(self.open())
        if overrun:
            lost[Status.DEVICE_OVERRUN] = overrun
        return (*counts, lost)

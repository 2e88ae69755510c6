# AF_XDP: one receive queue of an interface.

cdef extern from "io/xdp.h" nogil:
    enum:
        XDP_LOCALS_MAX

    enum xdp_step:
        pass

    struct xdp_request:
        const char *interface
        uint32_t queue
        uint32_t protocols
        uint16_t port
        const path_address *locals
        size_t local_count
        uint32_t frames
        bint guard
        bint zero_copy

    device *xdp_open(const xdp_request *request, xdp_step *step)
    bint xdp_is_native(const device *d)
    int xdp_refresh(device *d)
    void xdp_path_mtu(device *d, const path_address *remote, uint32_t mtu)


# By enum xdp_step.
XDP_STEPS = ("build", "interface", "socket", "memory", "bind", "program", "attach")


cdef class XdpQueue(Queue):
    """A socket, and the program that fills it."""

    def __init__(self, str interface, *, uint32_t queue=0, uint32_t protocols=0, uint16_t port=0,
                 addresses=(), uint32_t frames=4096, bint guard=False, bint zero_copy=False):
        cdef path_address list_of[XDP_LOCALS_MAX]
        cdef xdp_request request
        cdef xdp_step step
        cdef bytes name = os.fsencode(interface)
        cdef device *d
        if len(addresses) > XDP_LOCALS_MAX:
            raise ValueError(f"at most {XDP_LOCALS_MAX} local addresses")
        for i, packed in enumerate(addresses):
            list_of[i] = path_address_of(packed)
        request.interface = name
        request.queue, request.protocols, request.port = queue, protocols, port
        request.locals, request.local_count = list_of, len(addresses)
        request.frames, request.guard, request.zero_copy = frames, guard, zero_copy
        with nogil:
            d = xdp_open(&request, &step)
        if d == NULL:
            raise OSError(errno, os.strerror(errno), f"{interface}: {XDP_STEPS[<int>step]}")
        self.attach(d)

    @property
    def native(self):
        """Whether the driver runs the program, rather than the kernel after it."""
        return xdp_is_native(self.open())

    def refresh(self):
        """Read the interface's MTU and MAC address again."""
        if xdp_refresh(self.open()) != 0:
            raise os_error(errno, "refresh")

    def path_mtu(self, bytes remote, uint32_t mtu):
        """Packets to this remote (4 or 16 bytes) have at most mtu bytes."""
        cdef path_address address = path_address_of(remote)
        xdp_path_mtu(self.open(), &address, mtu)

# A queue of a TAP interface.

cdef extern from "io/tap.h" nogil:
    enum:
        TAP_MULTI_QUEUE
        TAP_OFFLOAD
        TAP_PERSIST
        TAP_NAME

    device *tap_open(const char *name, unsigned flags, char *actual)
    int tap_refresh(device *d)
    unsigned tap_offloads(const device *d)


cdef class TapQueue(Queue):
    """A queue of the TAP interface of this name, which is made where there is none.

    Raises OSError as the kernel says.
    """

    cdef readonly str name

    def __init__(self, str name, *, bint multi_queue, bint offload, bint persist):
        cdef char actual[TAP_NAME]
        cdef bytes asked = os.fsencode(name)
        cdef const char *given = asked
        cdef unsigned flags = 0
        cdef device *d
        if self.d != NULL:
            raise ValueError("the queue is open")
        if multi_queue:
            flags |= TAP_MULTI_QUEUE
        if offload:
            flags |= TAP_OFFLOAD
        if persist:
            flags |= TAP_PERSIST
        with nogil:
            d = tap_open(given, flags, actual)
        if d == NULL:
            raise os_error(errno, "tap")
        self.attach(d)
        self.name = os.fsdecode(<bytes>actual)

    def refresh(self):
        """Read the interface's MTU and MAC again, from its network namespace."""
        if tap_refresh(self.open()) != 0:
            raise os_error(errno, self.name)

    @property
    def offloads(self):
        """The names of what the kernel gives whole: super-frames by their kind."""
        cdef unsigned granted = tap_offloads(self.open())
        names = {1: "checksum", 2: "tso4", 4: "tso6", 8: "tso-ecn", 32: "uso4", 64: "uso6"}
        return tuple(name for bit, name in names.items() if granted & bit)

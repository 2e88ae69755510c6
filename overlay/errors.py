"""What can go wrong, and whose fault it is.

The caller's mistakes are exceptions raised before any packet exists
(:class:`ConfigError`).  What traffic does wrong is a value, a :class:`Status`;
the single-frame functions carry it in :class:`EncapError` or
:class:`DecapError`, batches write it to ``Batch.status``.

:class:`Status` is the one list of drop reasons: names, numbers, texts and
counters everywhere come from it.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "BackendError",
    "CaptureError",
    "ConfigError",
    "DecapError",
    "EncapError",
    "MTUExceeded",
    "OverlayError",
    "Status",
]


class Status(IntEnum):
    """Why a row of a batch was refused; 0 is :attr:`OK`.

    ``status.text`` is one line for people.  The numbers are those of
    ``enum ov_status`` in ``csrc/overlay.h``.
    """

    text: str

    def __new__(cls, value: int, text: str = "") -> Status:
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member

    OK = 0, "done"
    # The batch itself.
    BAD_ROW = 1, "the row points outside the batch's data"
    NO_HEADROOM = 2, "not enough free bytes before the frame for the outer headers"
    NO_ROOM = 3, "the output batch is full"
    # Encap.
    FRAME_TOO_SHORT = 4, "the frame is shorter than an Ethernet header (14 bytes)"
    FRAME_TOO_LONG = 5, "the frame does not fit the length fields of the outer headers"
    FRAME_TAGGED = 6, "the frame carries a VLAN tag that the tunnel refuses"
    FRAME_CUT = 7, "the capture cut the frame: bytes that are needed are not here"
    MTU_EXCEEDED = 8, "the packet would be larger than the underlay's MTU"
    # Outer link layer and IP.
    LINK_TYPE = 9, "the packet is neither Ethernet nor raw IP"
    ETHERNET_TRUNCATED = 10, "the outer Ethernet header is cut short"
    NOT_IP = 11, "the outer EtherType is neither IPv4 nor IPv6"
    IP_TRUNCATED = 12, "the outer IP header is cut short"
    IP_VERSION = 13, "the outer IP version does not fit"
    IP_HEADER_LENGTH = 14, "the outer IPv4 header length is below 20 bytes"
    IP_LENGTH = 15, "the outer IP length is larger than the packet, or too small"
    IP_CHECKSUM = 16, "the outer IPv4 header checksum is wrong"
    IP_FRAGMENT = 17, "the outer packet is an IP fragment"
    IP_EXTENSION = 18, "an outer IPv6 extension header overruns the packet"
    UNKNOWN_PROTOCOL = 19, "no tunnel protocol is known by this IP protocol and port"
    # UDP and VXLAN.
    UDP_TRUNCATED = 20, "the outer UDP header is cut short"
    UDP_LENGTH = 21, "the outer UDP length is larger than the IP payload, or too small"
    UDP_CHECKSUM = 22, "the outer UDP checksum is wrong"
    UDP_ZERO_CHECKSUM = 23, "the outer UDP checksum is zero over IPv6 without leave"
    HEADER_TRUNCATED = 24, "the tunnel header is cut short"
    VXLAN_NO_VNI = 25, "the VXLAN I flag is clear: no valid VNI"
    VXLAN_RESERVED = 26, "a reserved VXLAN bit is set"
    # GRE and NVGRE.
    GRE_VERSION = 27, "the GRE version is not 0"
    GRE_ROUTING = 28, "the GRE routing bit is set"
    GRE_PROTOCOL = 29, "GRE does not carry Ethernet (protocol 0x6558)"
    GRE_NO_KEY = 30, "GRE has no key: not NVGRE"
    GRE_CHECKSUM_PRESENT = 31, "the GRE checksum bit is set, which NVGRE forbids"
    GRE_SEQUENCE_PRESENT = 32, "the GRE sequence bit is set, which NVGRE forbids"
    GRE_RESERVED = 33, "a reserved GRE bit is set"
    GRE_CHECKSUM = 34, "the GRE checksum is wrong"
    NVGRE_VSID = 35, "the VSID is in a reserved range"
    # STT.
    TCP_TRUNCATED = 36, "the TCP-shaped header is cut short"
    TCP_CHECKSUM = 37, "the outer TCP checksum is wrong"
    STT_DATA_OFFSET = 38, "the STT data offset is not 5"
    STT_EMPTY = 39, "the STT segment has no payload"
    STT_LENGTH = 40, "the STT frame length is below 32"
    STT_BOUNDS = 41, "the STT segment reaches past the end of its frame"
    STT_INCOMPLETE = 42, "the STT segment is not a whole frame: reassembly is needed"
    STT_DUPLICATE = 43, "the bytes of the STT segment have all arrived before"
    STT_OVERLAP = 44, "some bytes of the STT segment have arrived before"
    STT_VERSION = 45, "the STT version is not 0"
    STT_FLAGS = 46, "the STT checksum flags are both set"
    STT_L4_OFFSET = 47, "the STT L4 offset lies inside the inner IP header"
    STT_L4_HEADER = 48, "the inner L4 header lies beyond the STT frame"
    STT_OFFLOAD = 49, "the STT offload fields do not fit the inner packet"
    # The inner frame.
    UNKNOWN_KEY = 50, "no network here has this VNI, VSID or Context ID"
    INNER_TOO_SHORT = 51, "the inner frame is shorter than an Ethernet header (14 bytes)"
    INNER_TAGGED = 52, "the inner frame carries a VLAN tag"
    ECN_CONGESTION = 53, "congestion was marked on a packet whose sender cannot hear of it"
    # Outer fragments.
    FRAGMENT_HELD = 54, "the outer packet is a fragment, held until its others arrive"
    FRAGMENT_TIMEOUT = 55, "the other fragments of the outer packet did not arrive in time"
    FRAGMENT_OVERLAP = 56, "the fragments of the outer packet overlap"
    FRAGMENT_LIMIT = 57, "too many fragments of outer packets are waiting"
    # The switch.
    UNKNOWN_REMOTE = 58, "the network has no remote of this address"
    SOURCE_MAC = 59, "the frame's source MAC address is zero or a group"
    OWN_MAC = 60, "the frame came back: its source MAC address is a local port's own"
    SPOOFED_SOURCE = 61, "the frame's source MAC address is bound to another place"
    RESERVED_MAC = 62, "the frame's destination is reserved to its link (01:80:c2:00:00:0x)"
    PORT_VLAN = 63, "no port of the device has the frame's VLAN tag"
    NO_DESTINATION = 64, "the network has nowhere to send the frame to"
    SAME_PORT = 65, "the frame's destination is where it came from"
    SUPPRESSED = 66, "the request was answered here and not flooded"
    UNRESOLVED = 67, "the remote has no route, or its next hop does not answer"
    # Devices.
    DEVICE_FULL = 68, "the device's queue is full"
    DEVICE_DOWN = 69, "the device is down or gone"
    DEVICE_REFUSED = 70, "the device refused the packet"
    DEVICE_OVERRUN = 71, "packets arrived faster than they were read"
    FAULT_INJECTED = 72, "a fault was asked for"
    # GENEVE, VXLAN-GPE, GRE and ERSPAN.
    FRAME_NOT_IP = 73, "the frame is not IPv4 or IPv6, which is all that the tunnel carries"
    GENEVE_VERSION = 74, "the GENEVE version is not 0"
    GENEVE_CONTROL = 75, "the GENEVE packet is for the control plane (O bit)"
    GENEVE_PROTOCOL = 76, "GENEVE does not carry Ethernet (protocol type 0x6558)"
    GENEVE_OPTIONS = 77, "the lengths of the GENEVE options do not add up"
    GENEVE_CRITICAL = 78, "a critical GENEVE option is not known here"
    GPE_VERSION = 79, "the VXLAN-GPE version is not 0"
    GPE_CONTROL = 80, "the VXLAN-GPE packet is for the control plane (O bit)"
    GPE_NEXT_PROTOCOL = 81, "VXLAN-GPE does not carry Ethernet (next protocol 3)"
    GPE_SHIM = 82, "there are too many VXLAN-GPE shim headers"
    ERSPAN_VERSION = 83, "the ERSPAN version does not fit the GRE protocol"
    ERSPAN_SEQUENCE = 84, "ERSPAN of this type has no GRE sequence number, or has other GRE fields"
    ERSPAN_FRAME_TYPE = 85, "ERSPAN carries neither Ethernet nor IP"
    # The rewriter.
    KEY_RANGE = 86, "the key does not fit the field that it is to be in"
    NO_FIELD = 87, "the packet has no field of the kind that is to be set"


class OverlayError(Exception):
    """The root of every exception that this package raises on purpose."""


class ConfigError(OverlayError, ValueError):
    """The caller asked for something that cannot be: names field, value and range."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}={value!r}: expected {expected}")
        self.field = field
        self.value = value
        self.expected = expected

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.field, self.value, self.expected)


class BackendError(OverlayError, RuntimeError):
    """The backend that was asked for is not here."""


class CaptureError(OverlayError, ValueError):
    """A capture file cannot be read on; says the file, the offset and why."""


class _StatusError(OverlayError):
    def __init__(self, status: Status | int) -> None:
        self.status = Status(status)
        super().__init__(f"{self.status.name}: {self.status.text}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (int(self.status),)


class EncapError(_StatusError):
    """This frame cannot be encapsulated by this tunnel; ``status`` says why."""


class MTUExceeded(EncapError):  # noqa: N818 - the name is part of the public API
    """The packet would be larger than the underlay's MTU."""

    def __init__(self, status: Status | int = Status.MTU_EXCEEDED) -> None:
        super().__init__(status)


class DecapError(_StatusError):
    """This packet was refused; ``status`` says why."""

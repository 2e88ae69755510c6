"""STT as a layer of scapy (draft-davie-stt-08), above its TCP.

Lives here: the 18 bytes of a frame's first segment, and what they ask of the TCP-shaped
header below.  Must not: reassembly; that is :class:`overlay.SttReassembler`'s.
"""

from __future__ import annotations

import struct
from typing import Any

from scapy.config import conf
from scapy.fields import (
    BitField,
    ByteField,
    FlagsField,
    ShortField,
    XByteField,
    XLongField,
    XShortField,
)
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, bind_bottom_up

from overlay import checksum

from .entropy import Derived, source_port

__all__ = ["STT"]

PORT = 7471
_FLAGS = ["verified", "partial", "ipv4", "tcp", "r4", "r5", "r6", "r7"]


class STT(Packet):
    """The STT header and, above it, an Ethernet frame without a tag.

    Below it stands scapy's ``TCP``, whose fields mean other things here.  What is not
    given there follows from the frame: ``dport`` is 7471, ``sport`` comes from the flow
    hash, ``seq`` is the STT frame's length in its upper half, ``flags`` are ``PA``,
    ``window`` is 0.  ``ack``, the frame ID, is the caller's to choose.

    ``l4_offset`` is worked out where the flag ``partial`` is set; then the checksum
    of the TCP or UDP packet inside, unless given, is left as the sum of its
    pseudo header.  A segment whose offset is not 0 is read as bytes: it has no header.
    """

    name = "STT"
    fields_desc = [  # noqa: RUF012 - scapy's own way
        ByteField("version", 0),
        FlagsField("flags", 0, 8, _FLAGS),
        ByteField("l4_offset", None),
        XByteField("reserved", 0),
        ShortField("mss", 0),
        BitField("pcp", 0, 3),
        BitField("tagged", 0, 1),
        BitField("vid", 0, 12),
        XLongField("context_id", 0),
        XShortField("padding", 0),
    ]

    @classmethod
    def dispatch_hook(cls, _pkt: bytes | None = None, *_: Any, **options: Any) -> Any:
        """Only the first segment of a frame has the header."""
        lower = options.get("_underlayer")
        if _pkt is not None and isinstance(lower, TCP) and lower.seq & 0xFFFF:
            return conf.raw_layer
        return cls

    def add_underlayer(self, underlayer: Packet) -> None:
        """Say what the header below is to hold, unless told otherwise."""
        super().add_underlayer(underlayer)
        if isinstance(underlayer, TCP):
            underlayer.overloaded_fields = Derived(
                sport=source_port(lambda: self.payload),
                dport=PORT,
                seq=lambda: len(bytes(self)) << 16,
                flags=0x18,
                window=0,
            )

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Fill in the L4 offset, and leave the inner checksum partial if it is so."""
        at = self._l4() if self.flags & 2 else 0
        if self.l4_offset is None:
            pkt = pkt[:2] + bytes([at if at <= 255 else 0]) + pkt[3:]
        return pkt + (self._partial(pay, at) if at else pay)

    def _l4(self) -> int:
        """Where the inner TCP or UDP header begins in the frame; 0 if there is none."""
        size, layer = 0, self.payload
        while layer and not isinstance(layer, (TCP, UDP)):
            if isinstance(layer, Packet) and layer.name == "Raw":
                return 0
            size += len(layer) - len(layer.payload)
            layer = layer.payload
        return size if layer else 0

    def _partial(self, frame: bytes, at: int) -> bytes:
        """The frame with the sum of the pseudo header for its L4 checksum, not inverted."""
        layer = self.payload.getlayer(TCP) or self.payload.getlayer(UDP)
        if layer is None or "chksum" in layer.fields:
            return frame
        protocol, field = (6, at + 16) if isinstance(layer, TCP) else (17, at + 6)
        if IPv6 in self.payload:
            addresses, size = frame[22:54], int.from_bytes(frame[18:20], "big") + 54 - at
        elif IP in self.payload:
            addresses, size = frame[26:34], int.from_bytes(frame[16:18], "big") + 14 - at
        else:
            return frame
        # 0xFFFF minus the checksum is the sum itself.
        total = 0xFFFF - checksum(addresses + struct.pack("!HI", protocol, size))
        return frame[:field] + total.to_bytes(2, "big") + frame[field + 2 :]

    def guess_payload_class(self, payload: bytes) -> Any:
        """An Ethernet frame, in the only version that there is."""
        return Ether if self.version == 0 else super().guess_payload_class(payload)

    def hashret(self) -> bytes:
        """What a request and its answer have in common."""
        return struct.pack("!Q", self.context_id) + bytes(self.payload.hashret())

    def answers(self, other: Packet) -> int:
        """Whether this is of the same network, and its frame answers the other's."""
        if not isinstance(other, STT) or other.context_id != self.context_id:
            return 0
        return int(self.payload.answers(other.payload))

    def mysummary(self) -> str:
        """One line."""
        return f"STT context_id={self.context_id:#x}"


bind_bottom_up(TCP, STT, dport=PORT)

"""NVGRE as a layer of scapy (RFC 7637): its GRE, read as VSID and FlowID.

Lives here: the layer.  Must not: GRE of other shapes; those stay scapy's ``GRE``.
"""

from __future__ import annotations

import struct
from typing import Any

from scapy.data import ETHER_TYPES
from scapy.fields import BitField, X3BytesField, XByteField, XShortEnumField
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Packet, bind_layers

from .entropy import frame_hash

__all__ = ["NVGRE"]

ETHERNET = 0x6558


class NVGRE(GRE):
    """GRE with a key, without checksum and sequence, around Ethernet.

    ``GRE in packet`` and ``packet[GRE].key`` go on to work: it is a ``GRE``, whose
    ``key`` is the VSID and the FlowID.  ``flow_id`` is from the flow hash if not given.
    """

    name = "NVGRE"
    match_subclass = True
    fields_desc = [  # noqa: RUF012 - scapy's own way
        BitField("chksum_present", 0, 1),
        BitField("routing_present", 0, 1),
        BitField("key_present", 1, 1),
        BitField("seqnum_present", 0, 1),
        BitField("reserved0", 0, 9),
        BitField("version", 0, 3),
        XShortEnumField("proto", ETHERNET, ETHER_TYPES),
        X3BytesField("vsid", 0x1000),
        XByteField("flow_id", None),
    ]

    @classmethod
    def dispatch_hook(cls, _pkt: bytes | None = None, *args: Any, **options: Any) -> Any:
        """``GRE`` for any other shape of it."""
        if _pkt is None or not _pkt:
            return cls
        if len(_pkt) >= 8:
            flags, proto = struct.unpack("!HH", _pkt[:4])
            if flags & 0xF007 == 0x2000 and proto == ETHERNET:
                return cls
        return GRE.dispatch_hook(_pkt, *args, **options)

    @property
    def key(self) -> int:
        """The two as GRE's key."""
        return int(self.vsid) << 8 | int(self.flow_id or 0)

    def post_build(self, p: bytes, pay: bytes) -> bytes:
        """Fill in the FlowID."""
        if self.flow_id is None:
            p = p[:7] + bytes([frame_hash(self.payload) >> 56])
        return p + pay

    def hashret(self) -> bytes:
        """What a request and its answer have in common."""
        return int(self.vsid).to_bytes(3, "big") + bytes(self.payload.hashret())

    def answers(self, other: Packet) -> int:
        """Whether this is of the same network, and its frame answers the other's."""
        if not isinstance(other, NVGRE) or other.vsid != self.vsid:
            return 0
        return int(self.payload.answers(other.payload))

    def mysummary(self) -> str:
        """One line."""
        return str(self.sprintf("NVGRE vsid=%NVGRE.vsid% flow_id=%NVGRE.flow_id%"))


bind_layers(NVGRE, Ether, proto=ETHERNET)
# Asked before GRE is; what it does not know it leaves to GRE.
IP.payload_guess = [({"frag": 0, "proto": 47}, NVGRE), *IP.payload_guess]
IPv6.payload_guess = [({"nh": 47}, NVGRE), *IPv6.payload_guess]

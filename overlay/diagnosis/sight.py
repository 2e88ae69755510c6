"""Sight: one burst as the detectors see it.

Lives here: everything that several detectors ask of a packet.  Must not: any
judgement.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from overlay.profile import Profile
from overlay.tunnel import PROTOCOLS

from . import inner, outer
from .words import Bools, Hashes, Numbers, Words, fold, mix

__all__ = [
    "ERSPAN",
    "GENEVE",
    "GPE",
    "GRE",
    "NAMES",
    "NO_KEY",
    "NVGRE",
    "STT",
    "VXLAN",
    "Detector",
    "Finisher",
    "Sight",
]

VXLAN, NVGRE, STT, GENEVE, GPE, GRE, ERSPAN = range(1, 8)

NAMES = {
    VXLAN: "vxlan", NVGRE: "nvgre", STT: "stt", GENEVE: "geneve", GPE: "vxlan-gpe", GRE: "gre",
    ERSPAN: "erspan",
} | {kind.number: name for name, kind in PROTOCOLS.items()}  # fmt: skip

#: The key of packets that have none, or whose key decap could not read.
NO_KEY = 2**64 - 1


@dataclass
class Sight:
    """Columns of one burst, one element a packet."""

    profile: Profile
    words: Words
    outer: outer.Outer
    inner: inner.Inner
    #: From 1, as Wireshark counts.
    number: Numbers
    #: Nanoseconds since 1970.
    time: Numbers
    #: Of the capture.
    interface: Numbers
    #: What decap says of it, by the lenient profile and by the RFCs.
    status: Numbers
    strict_status: Numbers
    #: The tunnel's, or that which the headers promise where decap refuses; 0 for none.
    protocol: Numbers
    key: Hashes
    #: The slot of its tunnel, or -1.
    tunnel: Numbers

    @property
    def rows(self) -> int:
        return len(self.number)

    @cached_property
    def taken(self) -> Bools:
        """Whether decap takes it."""
        taken: Bools = self.status == 0
        return taken

    @cached_property
    def shim(self) -> Numbers:
        """Where the tunnel's own header begins: behind UDP, or where GRE or TCP does."""
        return self.outer.l4 + np.where(self.outer.protocol == outer.UDP, 8, 0)

    @cached_property
    def pair(self) -> Hashes:
        """Of source, destination and protocol."""
        return mix(self.outer.source, self.outer.destination, self.protocol)

    @cached_property
    def flow(self) -> Hashes:
        """Of the tunnel and the inner TCP or UDP flow; means something where ``inner.l4`` is."""
        i = self.inner
        return mix(
            self.pair, self.key, i.source, i.destination,
            i.sport << 32 | i.dport << 16 | i.protocol, i.vid,
        )  # fmt: skip

    @cached_property
    def back(self) -> Hashes:
        """``flow`` of the packets that answer in the same network."""
        o, i = self.outer, self.inner
        return mix(
            mix(o.destination, o.source, self.protocol), self.key, i.destination, i.source,
            i.dport << 32 | i.sport << 16 | i.protocol, i.vid,
        )  # fmt: skip

    @cached_property
    def outer_sum(self) -> Numbers:
        """The sum of the IP payload, without the pseudo header; where ``outer.is_whole``."""
        o = self.outer
        here = o.is_whole & (self.protocol != 0)
        return self.words.sums(o.l4, np.where(here, self.l4_end, o.l4))

    @cached_property
    def l4_end(self) -> Numbers:
        """Where the outer UDP datagram, TCP segment or GRE packet ends."""
        o = self.outer
        length = self.words.word(o.l4 + 4)
        said = np.where((o.protocol == outer.UDP) & (length >= 8), o.l4 + length, o.end)
        return np.minimum(said, o.end)

    def pseudo(self, family: Numbers, l3: Numbers, protocol: Numbers, length: Numbers) -> Numbers:
        """The folded sum of the pseudo headers of these IP headers (RFC 768, RFC 8200 8.1)."""
        words = self.words
        total = protocol + (length & 0xFFFF) + (length >> 16)
        four = np.zeros_like(total)
        for place in (12, 14, 16, 18):
            four += words.word(l3 + place)
        if (family == 6).any():
            six = np.zeros_like(total)
            for place in range(8, 40, 2):
                six += words.word(l3 + place)
            four = np.where(family == 6, six, four)
        return fold(total + four)

    # -- words for people -----------------------------------------------------

    def address(self, row: int, side: str) -> str:
        """The outer ``"source"`` or ``"destination"`` of a row, as text."""
        return self.text(int(self.outer.family[row]), int(self.outer.l3[row]), side)

    def text(self, family: int, l3: int, side: str) -> str:
        """The ``"source"`` or ``"destination"`` of the IP header at ``l3``, as text."""
        size, at = (4, 12) if family == 4 else (16, 8)
        start = l3 + at + (size if side == "destination" else 0)
        raw = self.words.data[start : start + size].tobytes()
        return str(ipaddress.ip_address(raw)) if len(raw) == size and family else "?"

    def ends(self, row: int) -> str:
        """The outer addresses of a row."""
        return f"{self.address(row, 'source')} > {self.address(row, 'destination')}"

    def inner_address(self, row: int, side: str) -> str:
        """The inner IP address of a row, or else its MAC address."""
        i = self.inner
        if i.family[row]:
            return self.text(int(i.family[row]), int(i.l3[row]), side)
        number = int((i.source_mac if side == "source" else i.destination_mac)[row])
        return number.to_bytes(6, "big").hex(":")

    def inner_flow(self, row: int) -> str:
        """The inner ends of a row, such as ``10.0.0.1:4000 > 10.0.0.2:80``."""
        i = self.inner
        ends = [self.inner_address(row, side) for side in ("source", "destination")]
        if i.l4[row]:
            v6 = i.family[row] == 6
            ports = int(i.sport[row]), int(i.dport[row])
            ends = [
                f"[{end}]:{port}" if v6 else f"{end}:{port}"
                for end, port in zip(ends, ports, strict=True)
            ]
        return " > ".join(ends)


class Finisher(Protocol):
    """What has more to say when the capture is over."""

    def finish(self) -> None:
        """The capture is over: say what only the whole of it shows."""

    def left_out(self) -> dict[str, int]:
        """What its tables could not keep, by name."""
        ...


class Detector(Finisher, Protocol):
    """Looks for a group of faults, burst after burst."""

    def take(self, sight: Sight) -> None:
        """Look at a burst."""

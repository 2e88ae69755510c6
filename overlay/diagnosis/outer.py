"""Outer: the link, IP, UDP, TCP and GRE headers of the packets of a burst, as columns.

Lives here: what the headers say, right or wrong, also of packets that decap
refuses.  Must not: any judgement.  A column says something only where the
header that it is read from is here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overlay.batch import Batch
from overlay.profile import Profile

from .words import Bools, Hashes, Numbers, Words, mix

__all__ = [
    "GRE",
    "ICMP",
    "ICMP6",
    "STT_PORT",
    "TCP",
    "UDP",
    "Outer",
    "addresses",
    "parse",
    "ports",
]

TCP, UDP, GRE = 6, 17, 47
ICMP, ICMP6 = 1, 58

STT_PORT = 7471

_TYPE_VLAN, _TYPE_IPV4, _TYPE_IPV6 = 0x8100, 0x0800, 0x86DD
_EXTENSIONS = (0, 43, 60)
_FRAGMENT = 44


@dataclass
class Outer:
    """One element a packet; positions are absolute in the burst's data."""

    #: Where the packet begins, where what is here of it ends, its bytes on the wire.
    at: Numbers
    stop: Numbers
    wire: Numbers
    #: 4, 6, or 0 where no whole IP header is here.
    family: Numbers
    l3: Numbers
    l4: Numbers
    #: Where the IP payload ends by its length field; length fields of 0 mean all.
    end: Numbers
    #: Bytes of IP packet by the length field, or by the wire where it is 0.
    size: Numbers
    #: Whether the IP length field is 0 although there is a payload (BIG TCP).
    unsized: Bools
    protocol: Numbers
    tos: Numbers
    ttl: Numbers
    #: The IPv4 flags and fragment offset; an IPv6 fragment's offset and M likewise.
    fragment: Numbers
    df: Bools
    source: Hashes
    destination: Hashes
    group: Bools
    #: UDP and TCP ports, where the packet is no later fragment; else 0.
    sport: Numbers
    dport: Numbers
    #: The number of the protocol that the headers promise, 0 for none.
    promised: Numbers

    @property
    def is_fragment(self) -> Bools:
        return np.asarray((self.family != 0) & (self.fragment & 0x3FFF != 0))

    @property
    def is_later_fragment(self) -> Bools:
        return np.asarray((self.family != 0) & (self.fragment & 0x1FFF != 0))

    @property
    def is_whole(self) -> Bools:
        """Whether every byte of the IP packet is here."""
        return np.asarray((self.family != 0) & (self.end <= self.stop))


def addresses(words: Words, l3: Numbers, six: Bools) -> tuple[Hashes, Hashes, Bools]:
    """Source and destination as numbers, and whether the destination is a group."""
    source = words.double(l3 + 12).astype(np.uint64)
    destination = words.double(l3 + 16).astype(np.uint64)
    group = destination >> np.uint64(28) == 14
    if six.any():
        rows = np.flatnonzero(six)
        at = l3[rows]
        source[rows] = mix(words.long(at + 8), words.long(at + 16))
        destination[rows] = mix(words.long(at + 24), words.long(at + 32))
        group[rows] = words.byte(at + 24) == 0xFF
    return source, destination, group


def _pass_extensions(words: Words, outer: Outer, rows: Numbers) -> None:
    """Move ``l4`` of these IPv6 rows past up to eight extension headers."""
    for _ in range(8):
        next_header = outer.protocol[rows]
        fragment = next_header == _FRAGMENT
        rows = rows[np.isin(next_header, _EXTENSIONS) | fragment]
        if not rows.size:
            return
        at = outer.l4[rows]
        rows = rows[at + 8 <= outer.stop[rows]]
        at, fragment = outer.l4[rows], outer.protocol[rows] == _FRAGMENT
        word = words.word(at + 2)
        said = word >> 3 | (word & 1) << 13  # as IPv4 has it
        outer.fragment[rows[fragment]] = said[fragment]
        outer.l4[rows] = at + np.where(fragment, 8, (words.byte(at + 1) + 1) * 8)
        outer.protocol[rows] = words.byte(at)
        rows = rows[~fragment | (said & 0x1FFF == 0)]


def parse(words: Words, batch: Batch, profile: Profile) -> Outer:
    """The outer headers of every row of a batch over the same data."""
    at = batch.offset.astype(np.int64)
    stop = at + batch.length.astype(np.int64)
    wire = batch.wire.astype(np.int64)
    link = batch.link

    ethernet = link == 0
    kind = words.word(at + 12)
    tagged = ethernet & (kind == _TYPE_VLAN)
    l3 = at + np.where(ethernet, np.where(tagged, 18, 14), 0)
    kind = np.where(tagged, words.word(at + 16), kind)
    version = words.byte(l3) >> 4
    raw = link == 1
    header = np.where(version == 4, (words.byte(l3) & 15) * 4, 40)
    four = (version == 4) & (raw | (ethernet & (kind == _TYPE_IPV4))) & (header >= 20)
    six = (version == 6) & (raw | (ethernet & (kind == _TYPE_IPV6)))
    here = l3 + header <= stop
    four, six = four & here, six & here

    some_six = bool(six.any())
    size = words.word(l3 + 2)
    protocol, ttl, tos = words.byte(l3 + 9), words.byte(l3 + 8), words.byte(l3 + 1)
    fragment = words.word(l3 + 6)
    if some_six:
        payload = words.word(l3 + 4)
        size = np.where(six, payload + 40 * (payload != 0), size)
        protocol = np.where(six, words.byte(l3 + 6), protocol)
        ttl = np.where(six, words.byte(l3 + 7), ttl)
        tos = np.where(six, words.word(l3) >> 4 & 0xFF, tos)
        fragment = np.where(six, 0, fragment)
    room = at + wire - l3
    unsized = (four | six) & (size == 0) & (room > header)
    size = np.where(size == 0, room, size)
    source, destination, group = addresses(words, l3, six)
    outer = Outer(
        at=at, stop=stop, wire=wire,
        family=np.where(four, 4, np.where(six, 6, 0)),
        l3=l3, l4=l3 + header, end=l3 + size, size=size, unsized=unsized,
        protocol=np.where(four | six, protocol, -1), tos=tos, ttl=ttl,
        fragment=fragment, df=four & (fragment & 0x4000 != 0),
        source=source, destination=destination, group=group,
        sport=np.zeros_like(at), dport=np.zeros_like(at), promised=np.zeros_like(at),
    )  # fmt: skip
    if some_six:
        _pass_extensions(words, outer, np.flatnonzero(six))
    _ports(words, outer, profile)
    return outer


def ports(profile: Profile) -> list[tuple[int, int]]:
    """The UDP ports that promise a protocol, by its number; the last one wins."""
    names = ((5, "gpe_port"), (4, "geneve_port"), (1, "vxlan_port"))
    return [(n, getattr(profile, name)) for n, name in names if hasattr(profile, name)]


def _ports(words: Words, outer: Outer, profile: Profile) -> None:
    """Ports, and which protocol they promise."""
    first = (outer.family != 0) & (outer.fragment & 0x1FFF == 0)
    udp = first & (outer.protocol == UDP) & (outer.l4 + 4 <= outer.stop)
    tcp = first & (outer.protocol == TCP) & (outer.l4 + 4 <= outer.stop)
    both = udp | tcp
    outer.sport = np.where(both, words.word(outer.l4), 0)
    outer.dport = np.where(both, words.word(outer.l4 + 2), 0)
    promised = outer.promised
    for number, port in ports(profile):
        promised[udp & (outer.dport == port)] = number
    promised[tcp & (outer.dport == STT_PORT)] = 3
    gre = first & (outer.protocol == GRE) & (outer.l4 + 4 <= outer.stop)
    carries = words.word(outer.l4 + 2)
    promised[gre] = 6
    promised[gre & (carries == 0x6558) & (words.word(outer.l4) & 0x2000 != 0)] = 2
    promised[gre & ((carries == 0x88BE) | (carries == 0x22EB))] = 7

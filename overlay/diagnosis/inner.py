"""Inner: the headers of the frames in the tunnels, as columns.

Lives here: what the frame says, right or wrong.  Must not: any judgement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .words import Bools, Hashes, Numbers, Words, mix

__all__ = ["Inner", "parse"]

_TAGS = (0x8100, 0x88A8)
_EXTENSIONS = (0, 43, 44, 60)


@dataclass
class Inner:
    """One element a packet; positions are absolute in the burst's data.

    A column says something only where ``here`` does, those of IP where
    ``family`` is not 0, those of ports where ``l4`` is not 0.
    """

    #: Whether an Ethernet header of the frame is here, or an IP header where the tunnel carries IP.
    here: Bools
    #: Whether it carries IP, without Ethernet: MAC addresses are 0.
    raw: Bools
    #: Where the frame begins, and where it ends on the wire and in the capture.
    at: Numbers
    end: Numbers
    stop: Numbers
    kind: Numbers
    vid: Numbers
    #: MAC addresses as numbers.
    source_mac: Numbers
    destination_mac: Numbers
    family: Numbers
    l3: Numbers
    protocol: Numbers
    tos: Numbers
    source: Hashes
    destination: Hashes
    #: Where the L4 header begins; 0 for fragments and where it is not here.
    l4: Numbers
    #: Where the IP packet ends by its length field.
    ip_end: Numbers
    #: Bytes of the IP header, extension headers not counted.
    header: Numbers
    sport: Numbers
    dport: Numbers

    @property
    def is_unicast(self) -> Bools:
        return np.asarray(self.here & (self.destination_mac >> 40 & 1 == 0))


def _mac(words: Words, at: Numbers) -> Numbers:
    return words.word(at) << 32 | words.double(at + 2)


def parse(words: Words, here: Bools, raw: Bools, at: Numbers, end: Numbers, stop: Numbers) -> Inner:
    """The frames at these places.

    :param here: which rows have one.
    :param raw: which carry IP without Ethernet.
    :param at: where it begins.
    :param end: where it ends by the lengths of the outer headers.
    :param stop: where what the capture holds of it ends.
    """
    stop = np.minimum(stop, end)
    raw = here & raw
    here = here & (at + np.where(raw, 20, 14) <= stop)
    version = words.byte(at) >> 4
    kind = np.where(raw, np.where(version == 4, 0x0800, 0x86DD), words.word(at + 12))
    l3 = at + np.where(raw, 0, 14)
    vid = np.zeros_like(at)
    for turn in range(2):
        tagged = here & ~raw & np.isin(kind, _TAGS) & (l3 + 4 <= stop)
        if not tagged.any():
            break
        if turn == 0:
            vid = np.where(tagged, words.word(l3) & 0xFFF, 0)
        kind = np.where(tagged, words.word(l3 + 2), kind)
        l3 = l3 + np.where(tagged, 4, 0)
    version = words.byte(l3) >> 4
    header = np.where(version == 4, (words.byte(l3) & 15) * 4, 40)
    inside = here & (l3 + header <= stop)
    four = inside & (kind == 0x0800) & (version == 4) & (header >= 20)
    six = inside & (kind == 0x86DD) & (version == 6)
    family = np.where(four, 4, np.where(six, 6, 0))
    size = words.word(l3 + 2)
    protocol, tos = words.byte(l3 + 9), words.byte(l3 + 1)
    fragment = four & (words.word(l3 + 6) & 0x3FFF != 0)
    source = words.double(l3 + 12).astype(np.uint64)
    destination = words.double(l3 + 16).astype(np.uint64)
    if six.any():
        rows = np.flatnonzero(six)
        start = l3[rows]
        size[rows] = words.word(start + 4) + 40
        protocol[rows] = words.byte(start + 6)
        tos[rows] = words.word(start) >> 4 & 0xFF
        source[rows] = mix(words.long(start + 8), words.long(start + 16))
        destination[rows] = mix(words.long(start + 24), words.long(start + 32))
        fragment = fragment | (six & np.isin(protocol, _EXTENSIONS))
    ports = (protocol == 6) | (protocol == 17)
    start = l3 + header
    readable = (family != 0) & ~fragment & ports & (start + 8 <= stop)
    return Inner(
        here=here, raw=raw, at=at, end=end, stop=stop, kind=kind, vid=vid,
        source_mac=np.where(raw, 0, _mac(words, at + 6)),
        destination_mac=np.where(raw, 0, _mac(words, at)),
        family=family, l3=l3, protocol=protocol, tos=tos, source=source, destination=destination,
        l4=np.where(readable, start, 0), ip_end=l3 + size, header=header,
        sport=np.where(readable, words.word(start), 0),
        dport=np.where(readable, words.word(start + 2), 0),
    )  # fmt: skip

"""Checksum: wrong outer and inner checksums, told apart from unfinished ones.

A field is *unfinished* when it holds the folded sum of the pseudo header alone,
as a stack leaves it for a NIC to complete.
"""

from __future__ import annotations

import numpy as np

from .findings import Findings
from .outer import GRE, TCP, UDP
from .sight import STT, Sight
from .words import Bools, Numbers, fold

__all__ = ["ChecksumDetector"]

#: An IP packet above this, its checksum unfinished, is one that a NIC has yet to cut (GSO).
_LARGE = 1600


class ChecksumDetector:
    """Outer IPv4, UDP, TCP and GRE checksums; inner IPv4, TCP and UDP checksums."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._unjudged = {"outer checksum": 0, "inner checksum": 0}

    def take(self, sight: Sight) -> None:
        tunnelled = sight.protocol != 0
        if not tunnelled.any():
            return
        self._ip(sight, tunnelled)
        inner = _InnerSums(sight)
        self._outer(sight, tunnelled, inner)
        self._inner(sight, inner)

    def finish(self) -> None:
        pass

    def left_out(self) -> dict[str, int]:
        return {}

    @property
    def unjudged(self) -> dict[str, int]:
        """How many packets could not be judged, by what."""
        return self._unjudged

    # -- outer --------------------------------------------------------------

    def _ip(self, sight: Sight, tunnelled: Bools) -> None:
        o, words = sight.outer, sight.words
        four = tunnelled & (o.family == 4)
        header = np.where(words.byte(o.l3) >> 4 == 4, (words.byte(o.l3) & 15) * 4, 0)
        total = words.sums(o.l3, o.l3 + np.where(four, header, 0))
        field = words.word(o.l3 + 10)
        wrong = four & (total != 0xFFFF)
        if not wrong.any():
            return

        def seen(row: int) -> str:
            right = int(fold(total[row : row + 1] + (0xFFFF ^ field[row]))[0]) ^ 0xFFFF
            return f"IPv4 header checksum {field[row]:#06x}, right is {right:#06x}"

        offloaded = wrong & (field == 0)
        self._findings.rows("checksum-offloaded", sight, offloaded, seen)
        self._findings.rows("ip-checksum", sight, wrong & ~offloaded, seen)

    def _outer(self, sight: Sight, tunnelled: Bools, inner: _InnerSums) -> None:
        o, words, find = sight.outer, sight.words, self._findings
        first = tunnelled & ~o.is_fragment
        udp = first & (o.protocol == UDP) & (o.l4 + 8 <= o.stop)
        tcp = first & (o.protocol == TCP) & (o.l4 + 20 <= o.stop)
        field = words.word(o.l4 + np.where(udp, 6, 16))
        none = udp & (field == 0)
        find.rows(
            "udp-zero-checksum", sight, none & (o.family == 6),
            lambda row: f"UDP checksum 0 over IPv6, {sight.ends(row)}",
        )  # fmt: skip
        self._gre(sight, first & (o.protocol == GRE) & (o.l4 + 8 <= o.stop))
        checked = (udp & ~none) | tcp
        self._unjudged["outer checksum"] += int(np.count_nonzero(checked & ~o.is_whole))
        checked &= o.is_whole
        if not checked.any():
            return
        length = sight.l4_end - o.l4
        pseudo = sight.pseudo(o.family, o.l3, o.protocol, length)
        total = fold(sight.outer_sum + pseudo)
        wrong = checked & (total != 0xFFFF)
        if not wrong.any():
            return
        zero = np.zeros_like(length)
        bare = sight.pseudo(o.family, o.l3, o.protocol, zero)
        unfinished = (field == pseudo) | (field == bare)
        # The checksum is right once the inner one is: what Linux calls local checksum offload.
        later = fold(total + (0xFFFF ^ inner.sum) + (0xFFFF ^ inner.pseudo))
        unfinished |= inner.unfinished & (later == 0xFFFF)

        def seen(row: int) -> str:
            right = int(fold(total[row : row + 1] + (0xFFFF ^ field[row]))[0]) ^ 0xFFFF
            name = "UDP" if udp[row] else "TCP"
            what = (
                f"{name} checksum {field[row]:#06x}, right is {right or 0xFFFF:#06x}"
                f" over {length[row]} bytes"
            )
            if field[row] in (pseudo[row], bare[row]):
                return f"{what}; it is the sum of the pseudo header alone"
            if unfinished[row]:
                return f"{what}; it is right once the inner checksum is finished"
            return what

        find.rows("checksum-offloaded", sight, wrong & unfinished, seen)
        find.rows("udp-checksum", sight, wrong & ~unfinished & udp, seen)
        find.rows("tcp-checksum", sight, wrong & ~unfinished & tcp, seen)

    def _gre(self, sight: Sight, gre: Bools) -> None:
        o, words = sight.outer, sight.words
        checked = gre & (words.word(o.l4) & 0x8007 == 0x8000)
        self._unjudged["outer checksum"] += int(np.count_nonzero(checked & ~o.is_whole))
        checked &= o.is_whole
        if checked.any():
            field = words.word(o.l4 + 4)
            self._findings.rows(
                "gre-checksum", sight, checked & (sight.outer_sum != 0xFFFF),
                lambda row: f"GRE checksum {field[row]:#06x} is wrong",
            )  # fmt: skip

    # -- inner --------------------------------------------------------------

    def _inner(self, sight: Sight, inner: _InnerSums) -> None:
        i, words, find = sight.inner, sight.words, self._findings
        four = i.here & (i.family == 4)
        total = words.sums(i.l3, i.l3 + np.where(four, i.header, 0))
        field = words.word(i.l3 + 10)
        find.rows(
            "inner-ip-checksum", sight, four & (total != 0xFFFF),
            lambda row: f"inner IPv4 header checksum {field[row]:#06x}, {sight.inner_flow(row)}",
        )  # fmt: skip
        self._unjudged["inner checksum"] += int(np.count_nonzero(inner.present & ~inner.judged))
        if not inner.wrong.any():
            return

        def seen(row: int) -> str:
            what = f"inner {inner.name(row)} checksum {inner.field[row]:#06x}"
            return f"{what}, {sight.inner_flow(row)}, {i.end[row] - i.at[row]} bytes of frame"

        o = sight.outer
        has_sum = (o.protocol == UDP) & (words.word(o.l4 + 6) != 0)
        outer_right = (
            o.is_whole & has_sum
            & (fold(sight.outer_sum + sight.pseudo(o.family, o.l3, o.protocol, sight.l4_end - o.l4))
               == 0xFFFF)
        )  # fmt: skip
        # A super-packet, or an outer checksum that waits as well: the NIC has not seen it yet.
        waits = (o.size > _LARGE) | (has_sum & ~outer_right)
        waits |= (o.family == 4) & (words.word(o.l3 + 10) == 0)
        find.rows("inner-checksum-offloaded", sight, inner.unfinished & waits, seen)
        find.rows("inner-checksum-unfinished", sight, inner.unfinished & ~waits, seen)
        find.rows("inner-checksum", sight, inner.wrong & ~inner.unfinished, seen)


class _InnerSums:
    """The sums of inner TCP segments and UDP datagrams."""

    present: Bools
    judged: Bools
    wrong: Bools
    unfinished: Bools
    field: Numbers
    sum: Numbers
    pseudo: Numbers

    def __init__(self, sight: Sight) -> None:
        i, words = sight.inner, sight.words
        self._protocol = i.protocol
        self.field = words.word(i.l4 + np.where(i.protocol == 6, 16, 6))
        self.present = (i.l4 != 0) & ~((i.protocol == 17) & (self.field == 0))
        # A frame of STT may be unfinished, and says so itself.
        partial = (sight.protocol == STT) & (words.byte(sight.shim + 21) & 2 != 0)
        self.present &= ~partial
        end = np.minimum(i.ip_end, i.end)
        room = end - i.l4 >= np.where(i.protocol == 6, 20, 8)
        sized = (i.ip_end <= i.end) & room
        # An IP length of 0 (BIG TCP) is beyond judging here.
        self.judged = self.present & sized & (end <= i.stop)
        start = np.where(self.judged, i.l4, 0)
        stop = np.where(self.judged, end, 0)
        self.sum = _ordered(sight, start, stop)
        length = np.where(self.judged, end - i.l4, 0)
        self.pseudo = sight.pseudo(i.family, i.l3, i.protocol, length)
        self.wrong = self.judged & (fold(self.sum + self.pseudo) != 0xFFFF)
        self.unfinished = self.wrong & (self.field == self.pseudo)
        if self.wrong.any():
            bare = sight.pseudo(i.family, i.l3, i.protocol, np.zeros_like(length))
            self.unfinished |= self.wrong & (self.field == bare)

    def name(self, row: int) -> str:
        return "TCP" if self._protocol[row] == 6 else "UDP"


def _ordered(sight: Sight, start: Numbers, stop: Numbers) -> Numbers:
    """Sums of the ranges that are not empty; the others give 0 wherever they are."""
    total = np.zeros_like(start)
    rows = np.flatnonzero(stop > start)
    if rows.size:
        total[rows] = sight.words.sums(start[rows], stop[rows])
    return total

"""Mtu: fragments, what routers say by ICMP, and what is sent above it all the same."""

from __future__ import annotations

import numpy as np

from . import outer
from .findings import Findings
from .sight import NAMES, STT, Sight
from .table import NOWHERE, Table
from .words import Bools, Numbers, mix

__all__ = ["MtuDetector"]

#: IP bytes that no link carries in one piece: what is longer the NIC has yet to cut.
_JUMBO = 9216
#: Packets may have been on their way when the router spoke, in ns.
_GRACE = 200_000_000


class MtuDetector:
    """Remembers what routers state of each pair of end points."""

    def __init__(self, findings: Findings, mtu: int | None) -> None:
        self._findings = findings
        self._mtu = mtu
        self._stated = Table(10, {"mtu": np.int64, "number": np.int64, "time": np.int64})
        self._fragments = Table(12, {"tunnel": np.int32}, recent=True)

    def take(self, sight: Sight) -> None:
        fragment = sight.outer.is_fragment
        if fragment.any():
            self._take_fragments(sight, fragment)
        self._take_icmp(sight)
        if self._mtu is None and not self._stated.used:
            return
        limit = np.full(sight.rows, 1 << 30 if self._mtu is None else self._mtu, np.int64)
        tunnelled = (sight.protocol != 0) & ~fragment & (sight.outer.size <= _JUMBO)
        if self._mtu is not None:
            self._findings.rows(
                "above-mtu", sight, tunnelled & (sight.outer.size > limit),
                lambda row: f"{sight.outer.size[row]} bytes of IP packet, MTU {limit[row]}",
            )  # fmt: skip
        if self._stated.used:
            limit = self._take_ignored(sight, tunnelled, limit)
        self._take_mss(sight, limit)

    # -- fragments ------------------------------------------------------------

    def _take_fragments(self, sight: Sight, fragment: Bools) -> None:
        o, words = sight.outer, sight.words
        ident = np.where(o.family == 6, words.double(o.l4 - 4), words.word(o.l3 + 4))
        first = fragment & (sight.protocol != 0) & (sight.tunnel != NOWHERE)
        name = mix(o.source, o.destination, o.protocol, ident)
        rows = np.flatnonzero(first)
        if rows.size:
            slots, _ = self._fragments.place(name[rows])
            self._fragments["tunnel"][slots] = sight.tunnel[rows]
        later = np.flatnonzero(fragment & ~first)
        slots = self._fragments.find(name[later])
        known = slots != NOWHERE
        sight.tunnel[later[known]] = self._fragments["tunnel"][slots[known]]
        which = first.copy()
        which[later[known]] = True
        which |= fragment & (o.protocol == outer.GRE)
        self._findings.rows(
            "outer-fragment", sight, which,
            lambda row: f"{sight.ends(row)}: {o.size[row]} bytes of IP packet at offset "
                        f"{(o.fragment[row] & 0x1FFF) * 8} of packet {ident[row]:#06x}",
        )  # fmt: skip

    # -- ICMP -----------------------------------------------------------------

    def _take_icmp(self, sight: Sight) -> None:
        o, words = sight.outer, sight.words
        four = (o.family == 4) & (o.protocol == outer.ICMP)
        six = (o.family == 6) & (o.protocol == outer.ICMP6)
        if not (four.any() or six.any()):
            return
        at = o.l4 + 8  # the header of the packet that did not arrive
        kind, code = words.byte(o.l4), words.byte(o.l4 + 1)
        four &= (kind == 3) & (at + 24 <= o.stop) & (words.byte(at) >> 4 == 4)
        six &= ((kind == 2) | (kind == 1)) & (at + 44 <= o.stop) & (words.byte(at) >> 4 == 6)
        l4 = at + np.where(four, (words.byte(at) & 15) * 4, 40)
        protocol = np.where(four, words.byte(at + 9), words.byte(at + 6))
        about = _promised(sight, protocol, words.word(l4 + 2), l4 + 4 <= o.stop)
        four, six = four & (about != 0), six & (about != 0)
        large = (four & (code == 4)) | (six & (kind == 2))
        closed = (four & np.isin(code, (2, 3))) | (six & (kind == 1) & (code == 4))
        stated = np.where(four, words.word(o.l4 + 6), words.double(o.l4 + 4))
        size = np.where(four, words.word(at + 2), words.word(at + 4) + 40)

        def seen(row: int) -> str:
            family, place = int(o.family[row]), int(at[row])
            ends = (sight.text(family, place, side) for side in ("source", "destination"))
            what = f"{sight.address(row, 'source')} says of {' > '.join(ends)} {NAMES[about[row]]}"
            if large[row]:
                return f"{what}: MTU {stated[row]}, the packet had {size[row]} bytes"
            return f"{what}: ICMP type {kind[row]} code {code[row]}, unreachable"

        self._findings.rows("path-mtu", sight, large, seen)
        self._findings.rows("port-unreachable", sight, closed, seen)
        rows = np.flatnonzero(large & (stated >= 68))
        if rows.size:
            source, destination, _ = outer.addresses(words, at[rows], six[rows])
            slots, _ = self._stated.place(mix(source, destination))
            held = slots != NOWHERE
            rows, slots = rows[held], slots[held]
            for name, column in (("mtu", stated), ("number", sight.number), ("time", sight.time)):
                self._stated[name][slots] = column[rows]

    def _take_ignored(self, sight: Sight, tunnelled: Bools, limit: Numbers) -> Numbers:
        """Say what is sent above a stated MTU; the limit of each packet, those stated too."""
        o = sight.outer
        slots = self._stated.find(mix(o.source, o.destination))
        known = slots != NOWHERE
        stated = np.where(known, self._stated["mtu"][slots], 1 << 30)
        number = np.where(known, self._stated["number"][slots], 0)
        late = sight.time > np.where(known, self._stated["time"][slots], 0) + _GRACE
        self._findings.rows(
            "path-mtu-ignored", sight,
            tunnelled & known & late & (sight.number > number) & (o.size > stated),
            lambda row: f"{o.size[row]} bytes of IP packet, although packet {number[row]} states "
                        f"an MTU of {stated[row]}",
        )  # fmt: skip
        return np.minimum(limit, stated)

    # -- MSS --------------------------------------------------------------------

    def _take_mss(self, sight: Sight, limit: Numbers) -> None:
        o, i, words = sight.outer, sight.inner, sight.words
        at = i.l4
        syn = (at != 0) & (i.protocol == 6) & (at + 24 <= i.stop) & (sight.protocol != STT)
        syn &= (words.byte(at + 13) & 0x02 != 0) & (words.byte(at + 12) >> 4 >= 6)
        syn &= words.word(at + 20) == 0x0204
        if not syn.any():
            return
        mss = words.word(at + 22)
        # The segment has the headers of this packet, without the options.
        needed = at - o.l3 + 20 + mss
        self._findings.rows(
            "mss-too-large", sight, syn & (needed > limit),
            lambda row: f"{sight.inner_flow(row)}: MSS {mss[row]} makes outer packets of "
                        f"{needed[row]} bytes, the path takes {limit[row]}; clamp it to "
                        f"{max(0, mss[row] - needed[row] + limit[row])}",
        )  # fmt: skip

    def finish(self) -> None:
        pass

    def left_out(self) -> dict[str, int]:
        return {"path MTUs": self._stated.lost, "fragments": self._fragments.lost}


def _promised(sight: Sight, protocol: Numbers, port: Numbers, here: Bools) -> Numbers:
    """The protocol that these headers promise, 0 for none."""
    about = np.zeros_like(protocol)
    for number, known in outer.ports(sight.profile):
        about[here & (protocol == outer.UDP) & (port == known)] = number
    about[here & (protocol == outer.TCP) & (port == outer.STT_PORT)] = 3
    about[protocol == outer.GRE] = 6
    return about

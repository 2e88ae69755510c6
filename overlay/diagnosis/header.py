"""Header: reserved bits, extensions, ports and sizes that some receivers mind."""

from __future__ import annotations

import numpy as np

from .findings import Findings
from .outer import UDP
from .sight import GENEVE, GPE, GRE, NVGRE, STT, VXLAN, Sight
from .words import Bools

__all__ = ["HeaderDetector"]

_JUMBO = 9216
_ETHERTYPES = (0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8)


class HeaderDetector:
    """Looks at every tunnel header by itself."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def take(self, sight: Sight) -> None:
        whole = (sight.shim + 8 <= sight.outer.stop) & ~sight.outer.is_fragment
        kinds = set(np.unique(sight.protocol[whole]).tolist())
        if VXLAN in kinds:
            self._vxlan(sight, whole & (sight.protocol == VXLAN))
        if GPE in kinds:
            self._gpe(sight, whole & (sight.protocol == GPE))
        if GENEVE in kinds:
            self._geneve(sight, whole & (sight.protocol == GENEVE))
        if NVGRE in kinds or GRE in kinds:
            self._gre(sight, whole & np.isin(sight.protocol, (NVGRE, GRE)))
        self._sizes(sight)
        self._other_ports(sight)

    def finish(self) -> None:
        pass

    def left_out(self) -> dict[str, int]:
        return {}

    def _vxlan(self, sight: Sight, rows: Bools) -> None:
        words, at = sight.words, sight.shim
        first, second = words.double(at), words.double(at + 4)
        flags = first >> 24
        odd = rows & ((first != 0x08000000) | (second & 0xFF != 0)) & (flags & 0x08 != 0)
        if not odd.any():
            return
        policy = odd & (flags & 0x80 != 0)
        next_protocol = odd & ~policy & (flags & 0x04 != 0)
        allowed = np.where(policy, 0x8848FFFF, np.where(next_protocol, 0x3F0000FF, 0x08000000))
        reserved = odd & ((first & ~allowed & 0xFFFFFFFF != 0) | (second & 0xFF != 0))

        def seen(row: int) -> str:
            return f"VXLAN header {first[row]:08x} {second[row]:08x}"

        find = self._findings.rows
        find("group-policy", sight, policy,
             lambda row: f"{seen(row)}: group {first[row] & 0xFFFF:#06x}")  # fmt: skip
        find("gpe-on-vxlan-port", sight, next_protocol,
             lambda row: f"{seen(row)}: P bit, next protocol {first[row] & 0xFF}")  # fmt: skip
        find("vxlan-reserved", sight, reserved, seen)

    def _gpe(self, sight: Sight, rows: Bools) -> None:
        words, at = sight.words, sight.shim
        first, second = words.double(at), words.double(at + 4)

        def seen(row: int) -> str:
            return f"VXLAN-GPE header {first[row]:08x} {second[row]:08x}"

        plain = rows & (first >> 24 == 0x08)
        self._findings.rows("vxlan-on-gpe-port", sight, plain, seen)
        reserved = rows & ((first & 0xC0FFFF00 != 0) | (second & 0xFF != 0))
        self._findings.rows("gpe-reserved", sight, reserved, seen)

    def _geneve(self, sight: Sight, rows: Bools) -> None:
        words, at = sight.words, sight.shim
        flags, last = words.byte(at + 1), words.byte(at + 7)
        self._findings.rows(
            "geneve-reserved", sight, rows & ((flags & 0x3F != 0) | (last != 0)),
            lambda row: f"GENEVE flags {flags[row]:#04x}, last byte {last[row]:#04x}",
        )  # fmt: skip

    def _gre(self, sight: Sight, rows: Bools) -> None:
        words, at = sight.words, sight.shim
        flags, key = words.word(at), words.double(at + 4)
        vsid = key >> 8
        enhanced = flags & 7 != 0
        self._findings.rows(
            "gre-reserved", sight, rows & ~enhanced & (flags & 0x4FF8 != 0),
            lambda row: f"GRE flags {flags[row]:#06x}",
        )  # fmt: skip
        keyed = rows & sight.taken & (sight.protocol == NVGRE) & (flags & 0xB000 == 0x2000)
        self._findings.rows(
            "nvgre-vsid", sight, keyed & ((vsid < 0x1000) | (vsid == 0xFFFFFF)),
            lambda row: f"VSID {vsid[row]:#08x}, FlowID {key[row] & 0xFF}; as a 32-bit GRE key "
                        f"{key[row]}",
        )  # fmt: skip

    def _sizes(self, sight: Sight) -> None:
        o = sight.outer
        tunnelled = sight.protocol != 0
        no_length = tunnelled & (o.protocol == UDP) & ~o.is_fragment
        no_length &= (o.l4 + 8 <= o.stop) & (sight.words.word(o.l4 + 4) == 0)
        big = tunnelled & o.unsized
        self._findings.rows(
            "big-tcp", sight, big | no_length,
            lambda row: f"{'IP' if big[row] else 'UDP'} length 0 in a packet of "
                        f"{o.wire[row]} bytes",
        )  # fmt: skip
        # Whole STT frames are super-packets by nature; segments are not.
        self._findings.rows(
            "super-packet", sight, tunnelled & (o.size > _JUMBO),
            lambda row: f"{o.size[row]} bytes of IP packet"
                        + (" that hold a whole STT frame" if sight.protocol[row] == STT else ""),
        )  # fmt: skip

    def _other_ports(self, sight: Sight) -> None:
        """UDP to unknown ports whose payload reads as VXLAN or GENEVE with a sound frame."""
        o, words = sight.outer, sight.words
        at = o.l4 + 8
        others = (sight.protocol == 0) & (o.protocol == UDP) & (o.dport != 0)
        others &= (at + 8 + 34 <= o.stop) & ~o.is_fragment
        if not others.any():
            return
        first, second = words.double(at), words.double(at + 4)
        vxlan = others & (first == 0x08000000) & (second & 0xFF == 0)
        options = words.byte(at) * 4
        geneve = others & (first & 0xC03FFFFF == 0x6558) & (second & 0xFF == 0)
        geneve &= first >> 30 == 0
        frame = at + 8 + np.where(geneve, options, 0)
        kind = words.word(frame + 12)
        sound = np.isin(kind, _ETHERTYPES) & (frame + 34 <= o.stop)
        four = kind == 0x0800
        total = words.word(frame + 16)
        sound &= ~four | ((words.byte(frame + 14) == 0x45) & (frame + 14 + total <= o.end))
        sound &= (kind != 0x86DD) | (words.byte(frame + 14) >> 4 == 6)
        sound &= (kind != 0x0806) | (words.word(frame + 14) == 1)
        found = sound & (vxlan | geneve)
        self._findings.rows(
            "tunnel-port", sight, found,
            lambda row: f"{sight.ends(row)}: UDP port "
                        f"{o.dport[row]} carries {'VXLAN' if vxlan[row] else 'GENEVE'}, VNI "
                        f"{second[row] >> 8}",
        )  # fmt: skip

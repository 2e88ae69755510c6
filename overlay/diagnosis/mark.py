"""Mark: DSCP, ECN and TTL of the outer header against the inner one; captures cut short."""

from __future__ import annotations

from .findings import Findings
from .sight import Sight

__all__ = ["MarkDetector"]

#: A TTL that is as good as used up.
_LOW = 4


class MarkDetector:
    """Looks at every packet by itself."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def take(self, sight: Sight) -> None:
        o, i, find = sight.outer, sight.inner, self._findings.rows
        both = i.here & (i.family != 0)
        ecn, inner_ecn = o.tos & 3, i.tos & 3

        def seen(row: int) -> str:
            names = ("Not-ECT", "ECT(1)", "ECT(0)", "CE")
            return (
                f"outer DSCP {o.tos[row] >> 2} {names[ecn[row]]}, "
                f"inner DSCP {i.tos[row] >> 2} {names[inner_ecn[row]]}"
            )

        if (both & (o.tos != i.tos)).any():
            find("ecn-congestion", sight, both & (ecn == 3) & (inner_ecn == 0), seen)
            find("ecn-not-propagated", sight, both & (ecn == 0) & (inner_ecn != 0), seen)
            find("dscp-not-propagated", sight, both & (o.tos < 4) & (i.tos >= 4), seen)
        low = (sight.protocol != 0) & ~o.group & (o.ttl <= _LOW) & (o.family != 0)
        find(
            "ttl-low", sight, low,
            lambda row: f"outer {'TTL' if o.family[row] == 4 else 'hop limit'} {o.ttl[row]}",
        )  # fmt: skip
        find(
            "df-clear", sight,
            (sight.protocol != 0) & (o.family == 4) & ~o.df & ~o.is_fragment,
            lambda row: f"DF 0, {o.size[row]} bytes of IP packet",
        )  # fmt: skip
        held = o.stop - o.at
        find(
            "truncated", sight, (sight.protocol != 0) & (held < o.wire),
            lambda row: f"{held[row]} of {o.wire[row]} bytes are here",
        )  # fmt: skip

    def finish(self) -> None:
        pass

    def left_out(self) -> dict[str, int]:
        return {}

"""Refused: what decap does not take, by its status."""

from __future__ import annotations

import numpy as np

from overlay.errors import Status

from .catalogue import REFUSALS
from .findings import Findings
from .report import Severity
from .sight import ERSPAN, GRE, Sight
from .words import Bools, Numbers

__all__ = ["RefusedDetector"]

# Others speak of these: checksums, fragments, reassembly.
_ELSEWHERE = (
    Status.IP_CHECKSUM, Status.UDP_CHECKSUM, Status.TCP_CHECKSUM, Status.GRE_CHECKSUM,
    Status.IP_FRAGMENT, Status.STT_INCOMPLETE, Status.ECN_CONGESTION,
)  # fmt: skip
# What only the RFCs' profile refuses, and no other detector speaks of.
_BY_RFC = (
    Status.GRE_CHECKSUM_PRESENT, Status.GRE_SEQUENCE_PRESENT, Status.INNER_TAGGED,
    Status.STT_DATA_OFFSET, Status.STT_FLAGS,
)  # fmt: skip


class RefusedDetector:
    """Packets whose headers promise a tunnel, and that decap refuses all the same."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def take(self, sight: Sight) -> None:
        promised = (sight.protocol != 0) & (sight.status != 0)
        promised |= sight.status == Status.LINK_TYPE
        self._say(sight, sight.status, promised & ~np.isin(sight.status, _ELSEWHERE), "")
        strict = sight.taken & np.isin(sight.strict_status, _BY_RFC)
        strict &= ~np.isin(sight.protocol, (GRE, ERSPAN))
        self._say(sight, sight.strict_status, strict, " (by the RFC; lenient receivers take it)")

    def finish(self) -> None:
        pass

    def left_out(self) -> dict[str, int]:
        return {}

    def _say(self, sight: Sight, column: Numbers, rows: Bools, rest: str) -> None:
        if not rows.any():
            return
        o = sight.outer
        cut = o.stop - o.at < o.wire
        for number in np.unique(column[rows]).tolist():
            status = Status(number)
            which = rows & (column == number)

            def seen(row: int, status: Status = status) -> str:
                here = f"{o.stop[row] - o.at[row]} of {o.wire[row]} bytes here"
                size = here if cut[row] else f"{o.wire[row]} bytes"
                return f"{status.text}{rest}; {size}"

            short = which & cut
            if status.name.endswith(("TRUNCATED", "TOO_SHORT")) and short.any():
                # The capture cut it, not the sender.
                self._findings.rows(
                    "refused", sight, short, seen, severity=Severity.INFO, status=status
                )
                which &= ~cut
            self._findings.rows(
                "refused", sight, which, seen, severity=REFUSALS[status][0], status=status
            )

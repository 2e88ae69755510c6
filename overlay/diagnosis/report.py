"""Report: what a diagnosis found, as values.

Lives here: what users read and programs take.  Must not: how it was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

__all__ = ["Finding", "Report", "Severity", "TunnelReport"]


class Severity(IntEnum):
    """How bad a finding is: ``INFO``, ``WARNING`` or ``ERROR``."""

    #: Worth knowing, and no fault in itself.
    INFO = 0
    #: Some end points, or some traffic, will suffer.
    WARNING = 1
    #: Packets are lost, or will be.
    ERROR = 2

    @property
    def label(self) -> str:
        """The name as it is written: ``"warning"``."""
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One thing that was seen, in one tunnel.

    ``packet``: the number of the first packet that shows it, from 1, as Wireshark
    counts.  ``count``: how many do.  ``packets``: the first few of them.  ``seen``: what
    was seen in the first, with values.  ``status``: the reason of decap, of a
    ``"refused"`` finding.
    """

    kind: str
    severity: Severity
    packet: int
    count: int
    seen: str
    advice: str
    packets: tuple[int, ...] = ()
    status: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON takes it."""
        said: dict[str, Any] = {
            "kind": self.kind,
            "severity": self.severity.label,
            "packet": self.packet,
            "count": self.count,
            "packets": list(self.packets),
            "seen": self.seen,
            "advice": self.advice,
        }
        return said if self.status is None else {**said, "status": self.status}


@dataclass(frozen=True)
class TunnelReport:
    """One direction of one network between two end points.

    ``key`` is None for packets whose key could not be read, or that have none.
    ``begin`` and ``end`` are nanoseconds since 1970, of the first and the last packet.
    """

    source: str
    destination: str
    protocol: str
    key: int | None
    packets: int
    bytes: int
    begin: int
    end: int
    packet: int
    findings: tuple[Finding, ...] = ()

    @property
    def seconds(self) -> float:
        """From the first packet to the last."""
        return (self.end - self.begin) / 1e9

    def as_dict(self) -> dict[str, Any]:
        """The tunnel as JSON takes it."""
        return {
            "source": self.source,
            "destination": self.destination,
            "protocol": self.protocol,
            "key": self.key,
            "packets": self.packets,
            "bytes": self.bytes,
            "begin": self.begin,
            "end": self.end,
            "packet": self.packet,
            "findings": [finding.as_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class Report:
    """What :func:`overlay.diagnosis.diagnose` gives.

    ``packets`` were read, ``others`` of them are in no tunnel that is known here.
    ``findings`` are those of no tunnel in particular; each tunnel has its own.
    ``unjudged``: for each question, how many packets could not answer it, and
    ``left_out``: for each table that was full, how many entries it could not keep.
    """

    packets: int
    bytes: int
    others: int
    tunnels: tuple[TunnelReport, ...]
    findings: tuple[Finding, ...]
    unjudged: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def all_findings(self) -> list[tuple[TunnelReport | None, Finding]]:
        """Every finding with its tunnel: the worst first, then in order of packets."""
        found: list[tuple[TunnelReport | None, Finding]] = [(None, f) for f in self.findings]
        found += [(tunnel, f) for tunnel in self.tunnels for f in tunnel.findings]
        return sorted(found, key=lambda pair: (-pair[1].severity, pair[1].packet, pair[1].kind))

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding, or None."""
        return max((finding.severity for _, finding in self.all_findings), default=None)

    def of(self, kind: str) -> list[Finding]:
        """The findings of this kind."""
        return [finding for _, finding in self.all_findings if finding.kind == kind]

    def above(self, least: Severity) -> Report:
        """The same without findings that are milder than ``least``."""

        def kept(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
            return tuple(finding for finding in findings if finding.severity >= least)

        tunnels = tuple(replace(t, findings=kept(t.findings)) for t in self.tunnels)
        return replace(self, tunnels=tunnels, findings=kept(self.findings))

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return {
            "packets": self.packets,
            "bytes": self.bytes,
            "others": self.others,
            "tunnels": [tunnel.as_dict() for tunnel in self.tunnels],
            "findings": [finding.as_dict() for finding in self.findings],
            "unjudged": dict(self.unjudged),
            "left_out": dict(self.left_out),
        }

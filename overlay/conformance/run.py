"""Run: cases on a device, one after the other, and what each ended in."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from overlay.errors import ConfigError, OverlayError

from . import common, geneve, nvgre, stt, vxlan  # noqa: F401 - the cases are theirs
from .bench import Bench
from .case import CASES, Case, Fault, Inapplicable, Unjudged, Verdict
from .device import Device

__all__ = ["Result", "run", "select"]


@dataclass(frozen=True)
class Result:
    """How a case ended with a device.

    detail: what the device did, or why that cannot be said; empty where it passed.
    seconds: how long it took.  applies: False where the device does nothing that the
    requirement is about.
    """

    case: Case
    protocol: str
    family: int
    verdict: Verdict
    detail: str
    seconds: float
    applies: bool = True

    @property
    def nonconforming(self) -> bool:
        """Whether the device fails what it must do."""
        return self.verdict is Verdict.FAILED and self.case.binding

    @property
    def open(self) -> bool:
        """Whether nobody knows if the device does what it must do."""
        return self.verdict is Verdict.UNJUDGED and self.case.binding and self.applies


def select(protocol: str, family: int, only: Collection[str] = ()) -> list[Case]:
    """The cases of a protocol over an underlay of this family.

    :param only: the ids of those that are wanted; all if empty.
    :raises ConfigError: there is no case of such an id.
    """
    known = {case.id for case in CASES}
    wanted = {one.upper() for one in only}
    if unknown := sorted(wanted - known):
        raise ConfigError("only", unknown[0], "the id of a case, such as VXLAN-6")
    return [
        case
        for case in CASES
        if protocol in case.protocols
        and family in case.families
        and (not wanted or case.id in wanted)
    ]


def run(device: Device, cases: Collection[Case], *, wait: float = 2.0) -> Iterator[Result]:
    """Try the cases on the device, in their order.

    :param wait: seconds within which a live device must have passed a packet.
    """
    bench = Bench(device, wait=wait)
    for case in cases:
        start = time.monotonic()
        verdict, detail, applies = _try(case, bench)
        if verdict is Verdict.FAILED and device.delayed:  # a busy machine may have been late
            verdict, detail, applies = _try(case, bench)
        setting = device.setting
        yield Result(
            case, setting.protocol, setting.family, verdict, detail, time.monotonic() - start,
            applies,
        )  # fmt: skip


def _try(case: Case, bench: Bench) -> tuple[Verdict, str, bool]:
    try:
        bench.device.reset()
        case.try_on(bench)
    except Fault as fault:
        return Verdict.FAILED, str(fault), True
    except (Unjudged, OverlayError, OSError) as reason:
        return Verdict.UNJUDGED, str(reason), not isinstance(reason, Inapplicable)
    return Verdict.PASSED, "", True

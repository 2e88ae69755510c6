"""Report: the results of a run, for programs: JSON and JUnit's XML.

What must not: the table for people, which is the command's.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from .case import Verdict
from .run import Result

__all__ = ["Report"]


@dataclass
class Report:
    """What came of a device: its name and version, when it was tried, and the results."""

    device: str
    version: str
    results: Sequence[Result]
    time: datetime.datetime = field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc)
    )

    @property
    def conforms(self) -> bool:
        """The device does all that it must do; what could not be judged is not known to be done."""
        judged = any(one.verdict is not Verdict.UNJUDGED for one in self.results)
        return judged and not any(one.nonconforming or one.open for one in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """How many ended in what, by the verdicts' words."""
        found = Counter(one.verdict for one in self.results)
        return {verdict.value: found[verdict] for verdict in Verdict}

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "device": self.device,
            "version": self.version,
            "time": self.time.isoformat(timespec="seconds"),
            "conforms": self.conforms,
            "counts": self.counts,
            "results": [
                {
                    "id": one.case.id,
                    "protocol": one.protocol,
                    "family": one.family,
                    "level": one.case.level,
                    "clause": one.case.clause,
                    "requirement": one.case.requirement,
                    "sends": one.case.sends,
                    "expects": one.case.expects,
                    "verdict": one.verdict.value,
                    "detail": one.detail,
                    "seconds": round(one.seconds, 3),
                }
                for one in self.results
            ],
        }

    def junit(self) -> bytes:
        """JUnit's XML: a suite for each protocol and family, a test case for each case.

        A SHOULD that the device does not follow is a failure too; its type says so.
        """
        root = ElementTree.Element("testsuites", name=f"overlay conform {self.device}")
        suites: dict[tuple[str, int], list[Result]] = {}
        for one in self.results:
            suites.setdefault((one.protocol, one.family), []).append(one)
        for (protocol, family), results in suites.items():
            found = Counter(one.verdict for one in results)
            suite = ElementTree.SubElement(
                root, "testsuite",
                name=f"{self.device} {protocol} IPv{family}",
                tests=str(len(results)), failures=str(found[Verdict.FAILED]), errors="0",
                skipped=str(found[Verdict.UNJUDGED]),
                time=f"{sum(one.seconds for one in results):.3f}",
                timestamp=self.time.strftime("%Y-%m-%dT%H:%M:%S"),
            )  # fmt: skip
            for one in results:
                self._test(suite, one)
        ElementTree.indent(root)
        text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
        return text

    def _test(self, suite: ElementTree.Element, one: Result) -> None:
        case = one.case
        test = ElementTree.SubElement(
            suite, "testcase",
            classname=f"{self.device}.{one.protocol}.ipv{one.family}",
            name=f"{case.id} {case.requirement}", time=f"{one.seconds:.3f}",
        )  # fmt: skip
        if one.verdict is Verdict.FAILED:
            failure = ElementTree.SubElement(test, "failure", type=case.level, message=one.detail)
            failure.text = f"{case.clause}: sent {case.sends}; expected {case.expects}."
        elif one.verdict is Verdict.UNJUDGED:
            ElementTree.SubElement(test, "skipped", message=f"not judged: {one.detail}")

"""What the tests on real hosts share: whether there can be any, and how results are judged."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import pytest

from conftest import missing
from overlay.lab.exam import Result
from overlay.lab.host import Host, LabError, which
from overlay.lab.peer import has_tap


def need_hosts() -> None:
    """Skip the test where there can be no network namespaces; in CI nothing is skipped."""
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    try:
        Host("probe").close()
    except LabError as error:
        missing(f"{error}: root (or `unshare -Urn pytest`)")


def need_tools(*tools: str) -> None:
    for tool in tools:
        if which(tool) is None:
            missing(tool)


def need_tap() -> None:
    if not has_tap():
        missing("/dev/net/tun")


def all_passed(results: Iterable[Result]) -> None:
    """Every result is good; in CI none was left out either."""
    wrong = [
        f"{result.name}, {result.between}: {result.detail}"
        for result in results
        if result.passed is False or (result.passed is None and os.environ.get("CI") == "true")
    ]
    if wrong:
        pytest.fail("\n".join(wrong))

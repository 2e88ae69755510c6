"""Every requirement of the specification is named by a test that holds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PREFIXES = ("COM", "VXLAN", "GBP", "GPE", "NVGRE", "GRE", "STT", "GENEVE")

#: What is neither the codec's nor the switch's, and where it belongs.
ELSEWHERE = {
    "GBP-5": "who may talk to whom is the user's to say: group IDs are carried, not enforced",
    "GBP-6": "the same: what group a packet without one belongs to",
}


def required(shared: Path) -> set[str]:
    pattern = re.compile(rf"^\|\s*((?:{'|'.join(PREFIXES)})-\d+)\s*\|", re.MULTILINE)
    texts = [file.read_text() for file in (shared / "spec").glob("*.md")]
    return {name for text in texts for name in pattern.findall(text)}


def named() -> set[str]:
    pattern = re.compile(rf"\b(?:{'|'.join(PREFIXES)})-\d+\b")
    here = Path(__file__)
    return {
        name
        for file in here.parent.glob("test_*.py")
        if file != here
        for name in pattern.findall(file.read_text())
    }


def test_every_requirement_is_named(shared: Path) -> None:
    missing = required(shared) - named() - set(ELSEWHERE)
    assert not missing, sorted(missing)


def test_the_table_of_what_is_elsewhere_is_short_and_true(shared: Path) -> None:
    """An id that a test names, or that is none, has no place in it."""
    assert set(ELSEWHERE) <= required(shared)
    assert not set(ELSEWHERE) & named()
    assert all(ELSEWHERE.values())


def test_the_specification_has_them_all(shared: Path) -> None:
    counts = {p: sum(name.startswith(p + "-") for name in required(shared)) for p in PREFIXES}
    assert counts == {
        "COM": 24, "VXLAN": 35, "GBP": 7, "GPE": 11, "NVGRE": 31, "GRE": 7, "STT": 55,
        "GENEVE": 32,
    }  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_test_names_what_is_not_required(shared: Path, prefix: str) -> None:
    assert {n for n in named() if n.startswith(prefix + "-")} <= required(shared)

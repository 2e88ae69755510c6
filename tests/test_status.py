"""Status: one list of reasons, the same in Python and in C."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from overlay import DecapError, EncapError, MTUExceeded, Status

CORE = Path(__file__).parents[1] / "csrc"


def c_names() -> list[str]:
    header = (CORE / "overlay.h").read_text()
    body = re.search(r"enum ov_status \{(.*?)\}", header, re.DOTALL)
    assert body
    return [name.strip() for name in body[1].split(",") if name.strip()]


def c_texts() -> dict[str, tuple[str, str]]:
    """OV_NAME -> (name, text), as the table in C writes them."""
    source = (CORE / "status.c").read_text()
    joined = re.sub(r'"\s*\n\s*"', "", source)
    table = re.findall(r'\[(OV_\w+)\]\s*=\s*\{\s*"([^"]*)",\s*"([^"]*)"\s*\}', joined)
    return {key: (name, text) for key, name, text in table}


def test_numbers_are_those_of_c() -> None:
    *names, count = c_names()
    assert count == "OV_STATUS_COUNT"
    assert [f"OV_{status.name}" for status in Status] == names
    assert [int(status) for status in Status] == list(range(len(names)))


def test_names_and_texts_are_those_of_c() -> None:
    assert c_texts() == {f"OV_{s.name}": (s.name, s.text) for s in Status}


@pytest.mark.parametrize("status", Status, ids=lambda status: status.name)
def test_each_status_is_a_value(status: Status) -> None:
    assert Status(int(status)) is status
    assert pickle.loads(pickle.dumps(status)) is status
    assert status.text
    assert "\n" not in status.text
    assert not status.text.endswith(".")
    assert bool(status) is (status is not Status.OK)


def test_texts_are_all_different() -> None:
    assert len({status.text for status in Status}) == len(Status)


@pytest.mark.parametrize("cls", [EncapError, DecapError])
def test_errors_carry_their_status(cls: type[EncapError | DecapError]) -> None:
    error = cls(Status.IP_LENGTH)
    assert error.status is Status.IP_LENGTH
    assert str(error) == f"IP_LENGTH: {Status.IP_LENGTH.text}"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.status is Status.IP_LENGTH
    assert pickle.loads(pickle.dumps(MTUExceeded())).status is Status.MTU_EXCEEDED

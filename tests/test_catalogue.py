"""Every Status is reached by traffic that is wrong in that one thing."""

from __future__ import annotations

import pytest

import cases
from laws import outcome
from overlay import Batch, Status
from overlay.codec import Codec


def _id(case: cases.Decap | cases.Encap | cases.Rows) -> str:
    return f"{case.status.name}-{case.name}".replace(" ", "_")


@pytest.mark.parametrize("case", cases.DECAP, ids=_id)
def test_decap_refuses(codec: Codec, case: cases.Decap) -> None:
    """COM-2, COM-3, COM-16, COM-17, COM-18, STT-16, STT-34, STT-35, STT-42, STT-43, STT-53:
    each crafted packet is refused for its own reason."""
    assert outcome(lambda: case.run(codec)) == case.status


@pytest.mark.parametrize("case", cases.DECAP, ids=_id)
def test_decap_batch_refuses(codec: Codec, case: cases.Decap) -> None:
    batch = Batch.from_frames([case.packet])
    batch.link[0] = case.link
    batch.wire[0] = len(case.packet) if case.wire_length is None else case.wire_length
    assert codec.decap_batch(batch, case.profile, **case.options) == 0
    assert batch.status[0] == case.status
    assert bytes(batch[0]) == case.packet
    assert batch.drops() == {case.status: 1}


@pytest.mark.parametrize("case", cases.ENCAP, ids=_id)
def test_encap_refuses(codec: Codec, case: cases.Encap) -> None:
    assert outcome(lambda: case.run(codec)) == case.status


@pytest.mark.parametrize("case", cases.ROWS, ids=_id)
def test_row_is_refused(codec: Codec, case: cases.Rows) -> None:
    assert case.run(codec) == case.status


@pytest.mark.parametrize("name", cases.ACCEPTED)
@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_decap_accepts(codec: Codec, name: str, profile: str) -> None:
    codec.decap(cases.ACCEPTED[name], profile)


def test_every_status_has_a_case() -> None:
    """Every one that encap and decap give; not those of the switch, of devices, of rules."""
    held = {case.status for case in [*cases.DECAP, *cases.ENCAP, *cases.ROWS]}
    elsewhere = {*range(Status.FRAGMENT_HELD, Status.FRAME_NOT_IP)}
    elsewhere |= {Status.KEY_RANGE, Status.NO_FIELD}
    assert held | {Status.OK} == {status for status in Status if status not in elsewhere}

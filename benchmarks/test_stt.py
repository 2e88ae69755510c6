"""How fast is STT cut into segments and put together again?"""

from __future__ import annotations

from typing import Any

import pytest

from overlay import Batch
from overlay.codec import Codec

from . import traffic
from .question import STT

FRAMES = 4


@pytest.fixture(params=[9000, 65517])
def frames(request: pytest.FixtureRequest) -> list[bytes]:
    return [traffic.frame(request.param, flow) for flow in range(FRAMES)]


def packed(frames: list[bytes]) -> Batch:
    return Batch.packed(2 * sum(map(len, frames)), 64 * FRAMES)


def test_segmentation(benchmark: Any, codec: Codec, frames: list[bytes]) -> None:
    source, out = Batch.from_frames(frames, headroom=0), packed(frames)
    segments = benchmark.pedantic(
        codec.encap_into, (source, out, STT, 1500), setup=out.clear, rounds=50, warmup_rounds=1
    )
    assert segments > FRAMES


def test_reassembly(benchmark: Any, codec: Codec, frames: list[bytes]) -> None:
    source, segments, out = Batch.from_frames(frames, headroom=0), packed(frames), packed(frames)
    reassembler = codec.SttReassembler()

    def fresh() -> None:
        segments.clear()
        out.clear()
        codec.encap_into(source, segments, STT, 1500)

    whole = benchmark.pedantic(
        reassembler.push_batch, (segments, out, 0.0), setup=fresh, rounds=50, warmup_rounds=1
    )
    assert whole == FRAMES
    assert out.to_list() == frames

"""How fast is a super-frame cut, put together again, and split behind a tunnel header?

``extra_info`` has the payload a second, in GB/s.
"""

from __future__ import annotations

from typing import Any

import pytest

from overlay import Batch, Tunnel
from overlay.codec import Codec

from . import traffic

FRAMES = 4
PAYLOAD = 45 * 1400
PARTIAL = 2


def _frames() -> list[bytes]:
    return [traffic.frame(54 + PAYLOAD, 4 * flow + 1) for flow in range(FRAMES)]


def _supers() -> Batch:
    batch = Batch.from_frames(_frames())
    batch.mss[:] = 1400
    batch.checksum[:] = PARTIAL
    return batch


def _room() -> Batch:
    return Batch.packed(FRAMES * (PAYLOAD + 46 * 256), FRAMES * 46)


def _report(benchmark: Any) -> None:
    if benchmark.stats is not None:
        rate = FRAMES * PAYLOAD / benchmark.stats.stats.median / 1e9
        benchmark.extra_info["GB/s"] = round(rate, 2)


def test_cut(benchmark: Any, codec: Codec) -> None:
    batch, out = _supers(), _room()
    packets = benchmark.pedantic(
        codec.segment_batch, (batch, out), setup=out.clear, rounds=50, warmup_rounds=1
    )
    assert packets == FRAMES * 45
    _report(benchmark)


def test_coalesce(benchmark: Any, codec: Codec) -> None:
    if codec.name == "reference":
        pytest.skip("the twin tries every length of a run")
    batch, packets, out = _supers(), _room(), _room()
    codec.segment_batch(batch, packets)
    supers = benchmark.pedantic(
        codec.coalesce_batch, (packets, out), setup=out.clear, rounds=50, warmup_rounds=1
    )
    assert supers == FRAMES
    _report(benchmark)


def test_split(benchmark: Any, codec: Codec, tunnel: Tunnel) -> None:
    batch, out = _supers(), _room()
    assert codec.encap_batch(batch, tunnel) == FRAMES
    packets = benchmark.pedantic(
        codec.segment_batch, (batch, out, 1500), setup=out.clear, rounds=50, warmup_rounds=1
    )
    assert packets >= FRAMES * 44
    _report(benchmark)

"""How fast is encap of a burst, in place and into another batch?"""

from __future__ import annotations

from typing import Any

from overlay import Batch, Tunnel
from overlay.codec import Codec

from .arena import Arena


def test_in_place(benchmark: Any, codec: Codec, tunnel: Tunnel, frames: tuple[bytes, ...]) -> None:
    arena = Arena(tunnel, frames)
    done = benchmark.pedantic(
        codec.encap_batch, (arena.batch, tunnel), setup=arena.as_frames, rounds=50, warmup_rounds=1
    )
    assert done == len(frames)


def test_into(benchmark: Any, codec: Codec, tunnel: Tunnel, frames: tuple[bytes, ...]) -> None:
    batch = Batch.from_frames(frames, headroom=0)
    out = Batch.packed(sum(map(len, frames)) + len(frames) * tunnel.overhead, len(frames))
    done = benchmark.pedantic(
        codec.encap_into, (batch, out, tunnel), setup=out.clear, rounds=50, warmup_rounds=1
    )
    assert done == len(frames)

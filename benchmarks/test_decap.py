"""How fast is decap of a burst in place, with all checks?"""

from __future__ import annotations

from typing import Any

import pytest

from overlay import Tunnel
from overlay.codec import Codec

from .arena import Arena


@pytest.mark.parametrize("profile", ["rfc", "strict"])
def test_in_place(
    benchmark: Any, codec: Codec, tunnel: Tunnel, frames: tuple[bytes, ...], profile: str
) -> None:
    arena = Arena(tunnel, frames)
    done = benchmark.pedantic(
        codec.decap_batch, (arena.batch, profile), setup=arena.as_packets, rounds=50,
        warmup_rounds=1,
    )  # fmt: skip
    assert done == len(frames)

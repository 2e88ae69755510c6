"""How fast is one frame at a time, and a list of frames?"""

from __future__ import annotations

from typing import Any

import pytest

from overlay import Tunnel
from overlay.codec import Codec

from . import traffic


@pytest.fixture(params=traffic.SIZES)
def frame(request: pytest.FixtureRequest) -> bytes:
    return traffic.frame(request.param, 1)


def test_encap(benchmark: Any, codec: Codec, tunnel: Tunnel, frame: bytes) -> None:
    packet = benchmark(codec.encoder(tunnel).encap, frame)
    assert packet.endswith(frame)


def test_encap_many(benchmark: Any, codec: Codec, tunnel: Tunnel, frame: bytes) -> None:
    packets = benchmark(codec.encoder(tunnel).encap_many, [frame] * traffic.BURST)
    assert len(packets) == traffic.BURST


def test_decap(benchmark: Any, codec: Codec, tunnel: Tunnel, frame: bytes) -> None:
    assert benchmark(codec.decap, tunnel.encap(frame)).frame == frame


def test_decap_many(benchmark: Any, codec: Codec, tunnel: Tunnel, frame: bytes) -> None:
    packets = [tunnel.encap(frame)] * traffic.BURST
    assert benchmark(codec.decap_many, packets)[-1].frame == frame

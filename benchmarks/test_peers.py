"""How do others do it: scapy, dpkt, struct.pack and the twin?"""

from __future__ import annotations

from typing import Any

import pytest

from . import peer, traffic
from .question import VXLAN


@pytest.fixture(params=(64, 1500))
def frame(request: pytest.FixtureRequest) -> bytes:
    return traffic.frame(request.param, 1)


@pytest.fixture(params=[one.name for one in peer.peers()])
def other(request: pytest.FixtureRequest) -> peer.Peer:
    return next(one for one in peer.peers() if one.name == request.param)


def test_encap(benchmark: Any, other: peer.Peer, frame: bytes) -> None:
    assert benchmark(other.encap, frame).endswith(frame)


def test_decap(benchmark: Any, other: peer.Peer, frame: bytes) -> None:
    assert benchmark(other.decap, VXLAN.encap(frame))

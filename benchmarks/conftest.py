"""Fixtures: each backend's codec, each protocol's tunnel, each size in turn."""

from __future__ import annotations

import pytest

from overlay import Tunnel, _backend
from overlay.codec import Codec
from overlay.errors import BackendError

from . import question, traffic


@pytest.fixture(scope="session", params=list(_backend._MODULES))
def codec(request: pytest.FixtureRequest) -> Codec:
    """Each backend; one that is not built is skipped."""
    try:
        return _backend.load(request.param)
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(params=[question.VXLAN, question.NVGRE, question.STT], ids=lambda t: t.name)
def tunnel(request: pytest.FixtureRequest) -> Tunnel:
    """A tunnel of each protocol over IPv4."""
    given: Tunnel = request.param
    return given


@pytest.fixture(params=question.MIX)
def size(request: pytest.FixtureRequest) -> int | str:
    """Bytes of a frame, or the mix."""
    given: int | str = request.param
    return given


@pytest.fixture(params=[32, traffic.BURST])
def frames(request: pytest.FixtureRequest, size: int | str) -> tuple[bytes, ...]:
    """A burst of frames."""
    return traffic.frames(size, request.param)

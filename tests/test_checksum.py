"""The internet checksum against a naive twin: every length, every alignment, every routine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wire
from overlay.codec import Codec

LONGEST = 9001
DATA = np.frombuffer(wire.pattern(LONGEST + 64, 3), np.uint8)
FULL = np.full(LONGEST + 64, 0xFF, np.uint8)


def naive(data: np.ndarray) -> Callable[[int, int], int]:
    """The checksum of data[start : start + length], from sums made once."""
    even = np.concatenate([[0], np.cumsum(data.astype(np.int64) * np.array([256, 1])[_odd(data)])])
    odd = np.concatenate([[0], np.cumsum(data.astype(np.int64) * np.array([1, 256])[_odd(data)])])

    def checksum(start: int, length: int) -> int:
        sums = odd if start % 2 else even
        total = int(sums[start + length] - sums[start])
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total ^ 0xFFFF

    return checksum


def _odd(data: np.ndarray) -> np.ndarray:
    return np.arange(len(data)) % 2


NAIVE = naive(DATA)
ROUTINES = ["avx512", "avx2", "neon", "portable", "naive"]


def routines(codec: Codec) -> list[Callable[[memoryview], int]]:
    """Every routine that this backend has on this machine."""
    by = getattr(codec, "checksum_by", lambda name, data: None)
    here = [name for name in ROUTINES if by(name, b"") is not None]
    return [codec.checksum, *(partial(by, name) for name in here)]


def test_the_naive_twin_is_right() -> None:
    for start, length in [(0, 0), (0, 1), (1, 1), (3, 10), (7, 9001), (64, 9001)]:
        assert NAIVE(start, length) == wire.checksum(DATA[start : start + length].tobytes())


def test_the_routine_in_use_is_a_known_one(codec: Codec) -> None:
    by = getattr(codec, "checksum_by", None)
    if by is None:
        assert len(routines(codec)) == 1
        return
    assert codec.checksum_routine in ROUTINES
    assert by(codec.checksum_routine, b"\x12") == 0xEDFF
    assert by("portable", b"\x12") == by("naive", b"\x12") == 0xEDFF
    assert by("abacus", b"\x12") is None


def test_every_length(codec: Codec) -> None:
    """0..9001, at an alignment that wanders."""
    for routine in routines(codec):
        for length in range(LONGEST + 1):
            start = length * 7 % 64
            got = routine(memoryview(DATA[start : start + length]))
            assert got == NAIVE(start, length), (start, length)


def test_every_alignment(codec: Codec) -> None:
    """0..63, with every length in which a wide routine has a head, a body and a tail."""
    for routine in routines(codec):
        for start in range(64):
            for length in [*range(200), 255, 256, 257, 1500, 4097, LONGEST]:
                got = routine(memoryview(DATA[start : start + length]))
                assert got == NAIVE(start, length), (start, length)


def test_carries(codec: Codec) -> None:
    """All ones, the most carries there can be."""
    for routine in routines(codec):
        for length in [*range(300), 4096, LONGEST, 65535]:
            data = b"\xff" * length
            assert routine(memoryview(data)) == wire.checksum(data), length


@pytest.mark.parametrize("length", [65535, 65536, 1 << 20])
def test_long_data(codec: Codec, length: int) -> None:
    data = wire.pattern(length, 9)
    for routine in routines(codec):
        assert routine(memoryview(data)) == wire.checksum(data)


@given(data=st.binary(max_size=300))
def test_any_data(codec: Codec, data: bytes) -> None:
    for routine in routines(codec):
        assert routine(memoryview(data)) == wire.checksum(data)


def test_known_values(codec: Codec) -> None:
    """RFC 1071 3: its worked example, and the identity of the sum."""
    assert codec.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert codec.checksum(b"") == 0xFFFF
    assert codec.checksum(b"\0\0") == 0xFFFF
    assert codec.checksum(b"\xff\xff") == 0
    assert codec.checksum(b"\x12") == 0xEDFF


@pytest.mark.slow
def test_every_length_at_every_alignment(codec: Codec) -> None:
    """The whole product 0..9001 x 0..63, of every routine with SIMD and the portable one."""
    by = getattr(codec, "checksum_by", None)
    if by is None:
        assert codec.checksum(b"") == 0xFFFF
        return
    view = memoryview(DATA.tobytes())
    lengths = range(LONGEST + 1)
    for start in range(64):
        expected = [NAIVE(start, length) for length in lengths]
        for name in ROUTINES[:-1]:
            if by(name, b"") is not None:
                got = [by(name, view[start : start + length]) for length in lengths]
                assert got == expected, (name, start)

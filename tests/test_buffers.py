"""Any buffer of bytes is taken, none is altered, and what is not one is refused clearly."""

from __future__ import annotations

import array
import ctypes
import mmap

import numpy as np
import pytest

import cases
import frames
import wire
from overlay import VXLAN, Batch
from overlay.codec import Codec
from test_encap import plain

TUNNEL = plain(VXLAN, ip_id=1)


def mapped(data: bytes) -> mmap.mmap:
    region = mmap.mmap(-1, len(data))
    region[:] = data
    return region


def fixed(data: bytes) -> memoryview:
    """Bytes as a ctypes array hands them out: format "<B"."""
    return memoryview((ctypes.c_uint8 * len(data)).from_buffer_copy(data))


MAKERS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "writable view": lambda data: memoryview(bytearray(data)),
    "slice": lambda data: memoryview(b"--" + data + b"--")[2:-2],
    "mmap": mapped,
    "numpy": lambda data: np.frombuffer(data, np.uint8),
    "numpy int8": lambda data: np.frombuffer(data, np.int8),
    "array": lambda data: array.array("B", data),
    "signed array": lambda data: array.array("b", data),
    "ctypes": fixed,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_any_buffer(codec: Codec, kind: str) -> None:
    make = MAKERS[kind]
    packet = codec.encap(TUNNEL, frames.UDP4)
    assert codec.encap(TUNNEL, make(frames.UDP4)) == packet
    encoder = codec.encoder(TUNNEL)
    assert encoder.encap(make(frames.UDP4)) == packet
    assert encoder.encap_many([make(frames.UDP4)] * 2) == [packet] * 2
    assert codec.packets(TUNNEL, make(frames.UDP4)) == [packet]
    assert codec.decap(make(packet)).frame == frames.UDP4
    assert [d.frame for d in codec.decap_many([make(packet)] * 2)] == [frames.UDP4] * 2
    assert codec.flow_hash(make(frames.UDP4)) == codec.flow_hash(frames.UDP4)
    assert codec.checksum(make(frames.UDP4)) == codec.checksum(frames.UDP4)
    assert codec.segments(make(frames.LONG), 1448) == codec.segments(frames.LONG, 1448)
    assert codec.SttReassembler().push(make(cases.STT4), 0.0).frame == cases.ICMP4
    assert Batch.from_frames([make(frames.UDP4)]).to_list() == [frames.UDP4]


def test_wide_items_are_their_bytes(codec: Codec) -> None:
    """An array of words counts as its bytes."""
    data = frames.udp_frame(bytes(2))  # 44 bytes
    words = np.frombuffer(data, np.uint32)
    assert codec.encap(TUNNEL, words) == codec.encap(TUNNEL, data)
    assert codec.encap(TUNNEL, words.reshape(1, 11)) == codec.encap(TUNNEL, data)


GAPS = {
    "every other byte": lambda data: memoryview(data + data)[::2],
    "reversed": lambda data: memoryview(data)[::-1],
    "numpy column": lambda data: np.zeros((len(data), 2), np.uint8)[:, 0],
    "fortran": lambda data: np.asfortranarray(np.zeros((14, 14), np.uint8)[:, :7]),
}


@pytest.mark.parametrize("kind", GAPS)
def test_gaps_are_refused(codec: Codec, kind: str) -> None:
    view = GAPS[kind](frames.UDP4)
    for call in calls(codec, view):
        with pytest.raises(TypeError, match="C-contiguous"):
            call()


@pytest.mark.parametrize("value", ["text", 5, None, [1, 2], object()], ids=lambda v: str(type(v)))
def test_what_is_no_buffer_is_refused(codec: Codec, value: object) -> None:
    for call in calls(codec, value):
        with pytest.raises(TypeError, match=f"not {type(value).__name__}"):
            call()


def calls(codec: Codec, value: object) -> list:
    return [
        lambda: codec.encap(TUNNEL, value),
        lambda: codec.encoder(TUNNEL).encap(value),
        lambda: codec.encoder(TUNNEL).encap_many([value]),
        lambda: codec.packets(TUNNEL, value),
        lambda: codec.decap(value),
        lambda: codec.decap_many([value]),
        lambda: codec.flow_hash(value),
        lambda: codec.checksum(value),
        lambda: codec.segments(value, 5),
        lambda: codec.SttReassembler().push(value, 0.0),
        lambda: Batch.from_frames([value]),
        lambda: Batch(1).append(value),
    ]


@pytest.mark.parametrize("name", cases.ACCEPTED)
def test_decap_never_alters_its_buffer(codec: Codec, name: str) -> None:
    """Marks and checksums are mended in the result, not in what the caller holds."""
    packet = bytearray(cases.ACCEPTED[name])
    for profile in ("rfc", "strict", "lenient"):
        before = bytes(packet)
        codec.decap(packet, profile)
        codec.decap(memoryview(packet).toreadonly(), profile)
        codec.decap_many([packet], profile)
        assert packet == before


def test_a_mended_frame_leaves_the_packet(codec: Codec) -> None:
    """The same where the frame is altered: CE is merged, a checksum completed, a tag put back."""
    blank = bytearray(wire.remark(frames.TCP4, 2))
    blank[50:52] = b"\0\0"
    packet = bytearray(
        wire.stt(bytes(blank), stt_flags=0x0E, l4_offset=34, tci=0x1005, ip_fields={"tos": 3})
    )
    before = bytes(packet)
    frame = codec.decap(packet).frame
    assert frame == wire.tag(wire.remark(frames.TCP4, 3), (0x8100, 5))
    assert packet == before
    reassembler = codec.SttReassembler()
    assert reassembler.push(packet, 0.0).frame == frame
    assert packet == before


def test_results_outlive_their_buffers(codec: Codec) -> None:
    packet = bytearray(cases.VXLAN4)
    result = codec.decap(packet)
    packet[:] = bytes(len(packet))
    assert result.frame == cases.ICMP4
    assert result.tunnel.vni == 0x123456


def test_a_batch_needs_a_writable_flat_array() -> None:
    with pytest.raises(ValueError, match="writable"):
        Batch.from_array(np.frombuffer(b"abc", np.uint8), [0], [3])
    with pytest.raises(ValueError, match="uint8"):
        Batch.from_array(np.zeros(3, np.int16), [0], [3])
    with pytest.raises(ValueError, match="contiguous"):
        Batch.from_array(np.zeros(6, np.uint8)[::2], [0], [3])

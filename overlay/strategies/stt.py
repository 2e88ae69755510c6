"""STT: the segments of a few frames, as a network delivers them.

What must not live here: reassembly.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from overlay.tunnel import STT

from .frame import ip_frames
from .packet import mended
from .tunnel import tunnels as any_tunnels

__all__ = ["SttSegments", "stt_segments"]

_HEADERS = 20 + 18  # of TCP's shape and of STT


@dataclass(frozen=True)
class SttSegments:
    """Segments in the order in which they arrive.

    ``frames``: what was sent.  ``arrivals``: each segment's packet, and the seconds
    that pass before it comes.  ``complete``: for each frame, whether every byte of it
    arrives, in time or not.
    """

    frames: tuple[bytes, ...]
    arrivals: tuple[tuple[bytes, float], ...]
    complete: tuple[bool, ...]

    @property
    def packets(self) -> list[bytes]:
        """The packets without their times."""
        return [packet for packet, _ in self.arrivals]

    def __repr__(self) -> str:
        told = []
        for packet, wait in self.arrivals:
            port, sequence, number = _spoken(packet)
            told.append(
                f"{number:#x}@{port}[{sequence & 0xFFFF}:+{_payload(packet)}/{sequence >> 16}]"
                f" after {wait:g}s"
            )
        return f"SttSegments({len(self.frames)} frames: {', '.join(told)})"


def stt_segments(
    tunnels: SearchStrategy[Any] | None = None,
    frames: SearchStrategy[bytes] | None = None,
    *,
    max_frames: int = 3,
    shuffled: bool = True,
    duplicated: bool = True,
    overlapped: bool = True,
    lost: bool = True,
    delayed: bool = True,
    colliding: bool = False,
) -> SearchStrategy[SttSegments]:
    """The segments of one frame or several: interleaved, and with what may go wrong.

    Shrinks to one frame in one segment.

    :param tunnels: of STT tunnels; those of one sender for all of the frames.
    :param frames: of frames; sound IP frames of up to 6000 bytes if None.
    :param shuffled: whether segments of one frame and of others change places.
    :param duplicated: whether some come again.
    :param overlapped: whether some of other sizes repeat a part of the frame.
    :param lost: whether some never come.
    :param delayed: whether seconds pass before some; else all come at once.
    :param colliding: whether two frames may have the same Frame ID from the same port.
    """
    allowed = {
        "shuffled": shuffled, "duplicated": duplicated, "overlapped": overlapped, "lost": lost,
        "delayed": delayed, "colliding": colliding,
    }  # fmt: skip
    if tunnels is None:
        tunnels = any_tunnels(["stt"], inner_vlan="keep")
    if frames is None:
        frames = ip_frames(max_size=6000, tagged=False)
    return _segments(tunnels, frames, max_frames, allowed)


@st.composite
def _segments(
    draw: DrawFn,
    tunnels: SearchStrategy[STT],
    frames: SearchStrategy[bytes],
    most: int,
    allowed: dict[str, bool],
) -> SttSegments:
    shape = draw(tunnels)
    sent, whole, arrivals, complete = [], [], [], []
    for number in range(draw(st.integers(1, most))):
        colliding = allowed["colliding"] and draw(st.booleans())
        tunnel = replace(
            shape,
            source_port=draw(st.sampled_from([50000, 50001])),
            frame_id=7 if colliding else 0xFFFFFFFE + number & 0xFFFFFFFF,
        )
        frame = draw(frames)
        packet = tunnel.encap(frame)
        sent.append(frame)
        whole.append((packet, tunnel.overhead - _HEADERS))
        spans = _spans(draw, len(packet) - whole[-1][1] - 20, allowed)
        complete.append(_covered(spans, len(packet) - whole[-1][1] - 20))
        arrivals += [(number, low, high) for low, high in spans]
    if allowed["shuffled"] and draw(st.booleans()):
        arrivals = draw(st.permutations(arrivals))
    came = []
    for number, low, high in arrivals:
        mark = draw(st.sampled_from([None, None, 0, 1, 2, 3]))
        wait = float(draw(st.sampled_from([0, 0, 0, 1, 10]))) if allowed["delayed"] else 0.0
        packet, l4 = whole[number]
        came.append((_segment(packet, l4, low, high, mark), wait))
    return SttSegments(tuple(sent), tuple(came), tuple(complete))


def _spans(draw: DrawFn, size: int, allowed: dict[str, bool]) -> list[tuple[int, int]]:
    """The parts of an STT frame of ``size`` bytes that arrive, in order."""
    step = draw(st.sampled_from([size, 3000, 2048, 1440, 536, 100, 7]))
    step = max(step, size // 12 + 1)
    spans = [(low, min(low + step, size)) for low in range(0, size, step)]
    if allowed["overlapped"]:
        part = st.tuples(st.integers(0, size - 1), st.integers(1, size))
        parts = draw(st.just([]) | st.lists(part, max_size=2))
        spans += [(low, min(low + length, size)) for low, length in parts]
    again = _some(draw, len(spans)) if allowed["duplicated"] else []
    gone = _some(draw, len(spans)) if allowed["lost"] else []
    return [
        span
        for number, span in enumerate(spans)
        for _ in range((number not in gone) * (1 + again.count(number)))
    ]


def _some(draw: DrawFn, size: int) -> list[int]:
    """Three of ``size`` places at most, mostly none."""
    few = st.lists(st.integers(0, size - 1), max_size=3)
    return draw(st.just([]) | st.just([]) | few)


def _covered(spans: Sequence[tuple[int, int]], size: int) -> bool:
    reached = 0
    for low, high in sorted(spans):
        if low > reached:
            return False
        reached = max(reached, high)
    return reached == size


def _segment(packet: bytes, l4: int, low: int, high: int, mark: int | None) -> bytes:
    """Bytes ``low`` to ``high`` of the STT frame that ``packet`` carries whole, as a segment."""
    start = l4 + 20
    data = bytearray(packet[:start] + packet[start + low : start + high])
    sequence = (len(packet) - start) << 16 | low
    struct.pack_into("!I", data, l4 + 4, sequence)
    data[l4 + 13] = 0x18 if start + high == len(packet) else 0x10
    l3 = 18 if data[12:14] == b"\x81\0" else 14
    if data[l3] >> 4 == 4:
        struct.pack_into("!H", data, l3 + 2, len(data) - l3)
        at, shift = l3 + 1, 0
    else:
        struct.pack_into("!H", data, l3 + 4, len(data) - l3 - 40)
        at, shift = l3 + 1, 4
    if mark is not None:
        data[at] = data[at] & ~(3 << shift) | mark << shift
    return mended(bytes(data))


def _spoken(packet: bytes) -> tuple[int, int, int]:
    """The source port, the sequence and the acknowledgement number of a segment."""
    at = _l4(packet)
    port, _, sequence, number = struct.unpack_from("!HHII", packet, at)
    return port, sequence, number


def _payload(packet: bytes) -> int:
    return len(packet) - _l4(packet) - 20


def _l4(packet: bytes) -> int:
    l3 = 18 if packet[12:14] == b"\x81\0" else 14
    return l3 + (20 if packet[l3] >> 4 == 4 else 40)

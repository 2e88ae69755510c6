"""Hypothesis strategies for frames, tunnels, packets, STT segments and captures.

    from hypothesis import given
    from overlay import strategies

    @given(strategies.packets())
    def test_my_parser(packet):
        my_parser(packet)

Every one shrinks: what a failing test shows is the plainest input that still
fails.  Needs the extra ``hypothesis``; nothing of ``overlay`` imports it.
"""

from __future__ import annotations

from .capture import captures
from .frame import frames, ip_frames
from .packet import corrupted, mended, packets, truncated
from .stt import SttSegments, stt_segments
from .tunnel import geneve_options, profiles, tunnels

__all__ = [
    "SttSegments",
    "captures",
    "corrupted",
    "frames",
    "geneve_options",
    "ip_frames",
    "mended",
    "packets",
    "profiles",
    "stt_segments",
    "truncated",
    "tunnels",
]

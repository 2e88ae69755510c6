"""Match: ten thousand expected packets, masked, against as many that came.

By the public API.  What must not be here: printing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import overlay
from overlay.match import Expected, Matcher

from .measure import Contender, interleave, pinned
from .row import Row

_COUNT = 10_000
_ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
_HOP = ["outer.ipv4.ttl", "outer.ipv4.checksum"]
_MASKS = (_HOP, [*_HOP, "outer.udp.source_port"], ["outer.ipv4", "outer.udp"])


def masked() -> Iterator[Row]:
    """Packets that a router changed, against what was sent, under three masks."""
    frames = [bytes(12) + b"\x88\xb5" + n.to_bytes(4, "big") + bytes(46) for n in range(_COUNT)]
    sent = overlay.VXLAN(vni=5001, **_ENDS).encap_many(frames)
    came = overlay.VXLAN(vni=5001, ttl=63, **_ENDS).encap_many(frames)
    random.Random(1).shuffle(came)
    wanted = _wanted(sent)
    if not Matcher(wanted).match(came).ok:
        raise RuntimeError("the packets are not as expected")
    with pinned():
        naming, matching = interleave(
            [
                Contender("names", lambda: _wanted(sent), 1e6),
                Contender("match", lambda: Matcher(wanted).match(came), 1e6),
            ],
            rounds=5,
        )
    yield Row(
        question="match",
        case=f"{_COUNT:,} masked against {_COUNT:,}",
        unit="ms",
        measured=matching.median,
        best=matching.best,
        target="< 1000 ms",
        met=matching.best < 1000,
        spread=matching.spread,
        note=f"and {naming.median:.0f} ms to find the masks by field names",
    )


def _wanted(packets: list[bytes]) -> list[Expected]:
    return [Expected(packet, ignore=_MASKS[n % 3]) for n, packet in enumerate(packets)]

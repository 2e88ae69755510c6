"""Geneve: what GENEVE costs beside VXLAN, without options and with them.

The same frames, the same checksum setting, taken in turns; the floor of a row is VXLAN's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import overlay
from overlay import Batch, Tunnel

from . import traffic
from .measure import Contender, interleave, pinned
from .row import Row

_ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
_COLUMNS = ("offset", "length", "wire", "status")
_OVN = (overlay.GeneveOption(0x0102, 0x80, bytes((0, 1, 0, 2))),)
_GWLB = tuple(
    overlay.GeneveOption(0x0108, kind, bytes(size)) for kind, size in ((1, 8), (2, 8), (3, 4))
)


def beside_vxlan() -> Iterator[Row]:
    """Encap and decap in place, a burst in the cache."""
    for checksum in (False, True):
        vxlan = overlay.VXLAN(vni=5001, checksum=checksum, **_ENDS)
        given: dict[str, tuple[overlay.GeneveOption, ...]] = {
            "no options": (),
            "8 bytes of options": _OVN,
            "32 bytes of options": _GWLB,
        }
        others = {
            name: overlay.Geneve(vni=5001, checksum=checksum, options=options, **_ENDS)
            for name, options in given.items()
        }
        for verb in ("encap", "decap"):
            for name, tunnel in others.items():
                yield _row(verb, name, checksum, tunnel, vxlan)


def _row(verb: str, name: str, checksum: bool, tunnel: Tunnel, vxlan: Tunnel) -> Row:
    frames = traffic.frames(64)
    with pinned():
        contenders = [_contender(verb, one, frames) for one in (tunnel, vxlan)]
        ours, floor = interleave(contenders, rounds=101, repeat=20)
    ratio, most = ours.ratio(floor), 1.1 if name == "no options" else 1.3
    return Row(
        question="GENEVE beside VXLAN",
        case=f"{verb}, {name}, checksum {'on' if checksum else 'off'}",
        unit="ns/packet",
        measured=ours.median,
        best=ours.best,
        floor=floor.median,
        ratio=ratio,
        target=f"<= {most:g} x VXLAN",
        met=ratio <= most,
        spread=ours.spread,
    )


def _contender(verb: str, tunnel: Tunnel, frames: tuple[bytes, ...]) -> Contender:
    batch = Batch.from_frames(frames)
    if verb == "decap":
        tunnel.encap_batch(batch)
    kept = {name: getattr(batch, name).copy() for name in _COLUMNS}

    def back() -> None:
        for name, column in kept.items():
            np.copyto(getattr(batch, name), column)

    calls: dict[str, Callable[[], object]] = {
        "encap": lambda: tunnel.encap_batch(batch),
        "decap": lambda: overlay.decap_batch(batch),
    }
    return Contender(tunnel.name, calls[verb], len(frames), back)

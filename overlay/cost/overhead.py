"""Overhead: the bytes of a tunnel, and how many packets a link carries with them."""

from __future__ import annotations

from dataclasses import dataclass

from overlay import Tunnel

__all__ = ["IMIX", "SIZES", "Overhead", "overhead", "tunnel_for"]

#: Sizes of the frames of a mix: 7 of 64, 4 of 594 and 1 of 1518 bytes on the wire with
#: FCS, the "simple IMIX" of RFC 6985; here without FCS.
IMIX = (60, 60, 590, 60, 590, 60, 60, 1514, 590, 60, 590, 60)

#: Frames of each size class, in bytes without FCS.
SIZES: dict[str, tuple[int, ...]] = {
    "64": (64,),
    "512": (512,),
    "1500": (1500,),
    "IMIX": IMIX,
}

#: What every frame takes of an Ethernet link besides its bytes: preamble, start, FCS, gap.
ON_THE_WIRE = 7 + 1 + 4 + 12


@dataclass(frozen=True)
class Overhead:
    """What a tunnel adds to frames of a mean size.

    ``bytes`` are added to a frame; ``percent`` is their part of the packet;
    ``bare_pps`` and ``packets_per_second`` are what a link carries of these frames
    without and with the tunnel; ``goodput`` is the bits a second of frames, with it.
    """

    bytes: int
    percent: float
    bare_pps: float
    packets_per_second: float
    goodput: float


def overhead(tunnel: Tunnel, sizes: tuple[int, ...], link: float = 10e9) -> Overhead:
    """The cost of a tunnel for frames of these sizes on a link of so many bits a second.

    :param sizes: bytes of each frame without FCS, of a mix that repeats.
    """
    mean = sum(sizes) / len(sizes)
    packet = mean + tunnel.overhead
    pps = link / 8 / (packet + ON_THE_WIRE)
    return Overhead(
        bytes=tunnel.overhead,
        percent=100 * tunnel.overhead / packet,
        bare_pps=link / 8 / (mean + ON_THE_WIRE),
        packets_per_second=pps,
        goodput=pps * mean * 8,
    )


def tunnel_for(kind: type[Tunnel], family: int = 4, checksum: bool | None = None) -> Tunnel:
    """The tunnel of this class that is measured; ``checksum`` where the class has one."""
    ends = ("192.0.2.1", "192.0.2.2") if family == 4 else ("2001:db8::1", "2001:db8::2")
    key = {"session_id": 0x123}.get(kind.key_field, 0x123456)
    given: dict[str, object] = {kind.key_field: key, "local": ends[0], "remote": ends[1]}
    if checksum is not None and "checksum" in kind.__dataclass_fields__:
        given["checksum"] = checksum
    return kind(**given)  # type: ignore[arg-type]

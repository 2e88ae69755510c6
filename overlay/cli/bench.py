"""``overlay bench``: speed by protocol, size and batch; overhead in bytes and percent."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import click

import overlay
from overlay import PROTOCOLS
from overlay._backend import load
from overlay.codec import Codec

from .measure import CAPACITY, batch_rates, single_rates
from .option import JSON, make
from .stream import plain

#: Frames of each size class; IMIX is 7 of 64, 4 of 594 and 1 of 1518 bytes, FCS counted.
SIZES: dict[str, tuple[int, ...]] = {
    "64": (64,),
    "512": (512,),
    "1500": (1500,),
    "IMIX": (60, 60, 590, 60, 590, 60, 60, 1514, 590, 60, 590, 60),
}


def _frame(size: int, flow: int) -> bytes:
    """An Ethernet frame of this size: IPv4 and UDP, of this flow."""
    ethernet = bytes.fromhex("525400aa0002525400aa00010800")
    length = size - 14
    ip = bytearray(20)
    ip[0], ip[2:4], ip[8], ip[9] = 0x45, length.to_bytes(2, "big"), 64, 17
    ip[12:20] = bytes([10, 0, flow >> 8 & 255, flow & 255, 10, 1, 0, 2])
    ip[10:12] = overlay.checksum(bytes(ip)).to_bytes(2, "big")
    udp = (1024 + flow).to_bytes(2, "big") + b"\0\x35" + (length - 20).to_bytes(2, "big") + b"\0\0"
    return ethernet + bytes(ip) + udp + bytes(length - 28)


def _measure(codec: Codec, seconds: float) -> list[dict[str, Any]]:
    """One result a protocol, size and way."""
    results = []
    for kind in PROTOCOLS.values():
        tunnel = make(kind, 0x123456, local="192.0.2.1", remote="192.0.2.2")
        for name, sizes in SIZES.items():
            frames = [_frame(sizes[i % len(sizes)], i) for i in range(60)]
            mean = sum(map(len, frames)) / len(frames)
            for way, rates in (
                ("batch", batch_rates(codec, tunnel, frames, seconds)),
                ("single", single_rates(codec, tunnel, frames, seconds)),
            ):
                results.append({
                    "protocol": tunnel.name, "size": name, "way": way,
                    "encap_mpps": rates[0] / 1e6, "decap_mpps": rates[1] / 1e6,
                    "encap_ns": 1e9 / rates[0], "decap_ns": 1e9 / rates[1],
                    "encap_gbps": rates[0] * mean * 8 / 1e9,
                    "decap_gbps": rates[1] * mean * 8 / 1e9,
                    "overhead_bytes": tunnel.overhead,
                    "overhead_percent": 100 * tunnel.overhead / (mean + tunnel.overhead),
                })  # fmt: skip
    return results


@click.command("bench")
@JSON
@click.option("--json-file", "file", type=click.Path(dir_okay=False), hidden=True)
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw the rates to a PNG file.")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 600), default=6.0, show_default=True,
    help="How long to measure, about.",
)  # fmt: skip
def command(as_json: bool, file: str | None, plot: str | None, seconds: float) -> None:
    """Measure encap and decap: by protocol, frame size, in batches and one by one.

    The ratio is to the reference backend in the same run.  Percent is the
    overhead's part of the packet.
    """
    raise NotImplementedError

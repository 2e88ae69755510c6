"""``overlay bench``: speed by protocol, size and batch; overhead in bytes and percent."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from typing import Any

import click

import overlay
from overlay import PROTOCOLS
from overlay._backend import load
from overlay.codec import Codec
from overlay.io.naming import naming

from .measure import CAPACITY, batch_rates, single_rates
from .option import make
from .stream import counted, print_table

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


def _measure(codec: Codec, seconds: float, step: Callable[[str], None]) -> list[dict[str, Any]]:
    """One result a protocol, size and way; ``step`` is told of each."""
    results = []
    for kind in PROTOCOLS.values():
        tunnel = make(kind, 0x123456, local="192.0.2.1", remote="192.0.2.2")
        for name, sizes in SIZES.items():
            frames = [_frame(sizes[i % len(sizes)], i) for i in range(60)]
            mean = sum(map(len, frames)) / len(frames)
            for way, measure in (("batch", batch_rates), ("single", single_rates)):
                step(f"{codec.name} {tunnel.name} {name} {way}")
                rates = measure(codec, tunnel, frames, seconds)
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


def _ratios(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Put the ratio to the reference into each result."""
    for one, other in zip(ours, theirs, strict=True):
        for verb in ("encap", "decap"):
            one[f"{verb}_ratio_to_reference"] = one[f"{verb}_mpps"] / other[f"{verb}_mpps"]


@click.command("bench")
@click.option(
    "--json", "file", is_flag=False, flag_value="-",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write machine-readable results to this file, or to standard output.",
)  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw the rates to a PNG file.")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 600), default=6.0, show_default=True,
    help="How long to measure, about.",
)  # fmt: skip
def command(file: str | None, plot: str | None, seconds: float) -> None:
    """Measure encap and decap: by protocol, frame size, in batches and one by one.

    The ratio is to the reference backend in the same run; percent is the
    overhead's part of the packet.
    """
    if math.isnan(seconds):
        raise click.BadParameter("nan is not a number of seconds", param_hint="--seconds")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install 'overlay-dataplane[plot]'")
    codecs = [load(overlay.backend)]
    if overlay.backend != "reference":
        codecs.append(load("reference"))
    steps = len(codecs) * len(PROTOCOLS) * len(SIZES) * 2
    each = seconds / (2 * steps)
    with counted(steps) as step:
        results = {codec.name: _measure(codec, each, step) for codec in codecs}
    _ratios(results[overlay.backend], results["reference"])
    if file is not None:
        text = json.dumps({"version": overlay.__version__, "batch": CAPACITY, "results": results})
        with naming("<stdout>" if file == "-" else file), click.open_file(file, "w") as out:
            out.write(text + "\n")
    if plot is not None:
        with naming(plot):
            _draw(results, plot)
    if file != "-":
        _print(results[overlay.backend])


def _short(number: float) -> str:
    """Three digits, and no exponent."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _print(results: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title=f"{overlay.backend} backend", title_justify="left")
    for column in ("protocol", "size", "way", "overhead"):
        table.add_column(column)
    for verb in ("encap", "decap"):
        for column in (f"{verb} Mpps", "ns", "Gbit/s", "x reference"):
            table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            result["protocol"], result["size"], result["way"],
            f"{result['overhead_bytes']} = {result['overhead_percent']:.1f} %",
            *(
                _short(result[f"{verb}_{name}"])
                for verb in ("encap", "decap")
                for name in ("mpps", "ns", "gbps", "ratio_to_reference")
            ),
            end_section=result["size"] == "IMIX" and result["way"] == "single",
        )  # fmt: skip
    print_table(table)


def _draw(results: dict[str, list[dict[str, Any]]], path: str) -> None:
    """Bars of Mpps: a panel for each way and verb, a group for each size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(12, 8), sharey=True)
    series = [(backend, protocol) for backend in results for protocol in PROTOCOLS]
    width = 0.8 / len(series)
    for row, way in enumerate(("batch", "single")):
        for column, verb in enumerate(("encap", "decap")):
            panel = panels[row][column]
            for number, (backend, protocol) in enumerate(series):
                rates = [
                    r[f"{verb}_mpps"] for r in results[backend]
                    if r["protocol"] == protocol and r["way"] == way
                ]  # fmt: skip
                places = [size + (number + 0.5) * width - 0.4 for size in range(len(rates))]
                panel.bar(places, rates, width, label=f"{protocol}, {backend}")
            panel.set(title=f"{verb}, {way}", yscale="log", ylabel="Mpps")
            panel.set_xticks(range(len(SIZES)), list(SIZES))
            panel.grid(axis="y", alpha=0.3)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="lower center", ncols=6)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, format="png", dpi=120)
    pyplot.close(figure)

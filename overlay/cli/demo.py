"""``overlay demo``: the main job on the sample capture, twin-checked, with a table of speeds."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import Any

import click

import overlay
from overlay import PROTOCOLS, BackendError, Batch, Decapsulated, Tunnel
from overlay._backend import load
from overlay.codec import Codec
from overlay.cost.contender import Overlay, taking
from overlay.cost.meter import best_of
from overlay.layout import fields, name_at

from . import DONE, REFUSED
from .option import JSON
from .option import sample as sample_tunnel
from .stream import print_table

_SEQUENCE = 0x1234567
#: Of each measurement.
_SECONDS = 0.06


def sample() -> list[bytes]:
    """The frames of the sample capture."""
    with as_file(files("overlay") / "data" / "sample.pcap") as path:
        return Batch.from_pcap(path).to_list()


def _codecs() -> tuple[Codec, Codec | None]:
    """The backend in use, and the reference if that is another."""
    reference = load("reference")
    try:
        return (load(overlay.backend), reference) if overlay.backend != "reference" else (
            reference, None,
        )  # fmt: skip
    except BackendError:  # pragma: no cover - it was loaded before
        return reference, None


def _twins(one: Codec, two: Codec, tunnel: Tunnel, frames: list[bytes]) -> str:
    """How two codecs compare on every frame: "identical", or where they part."""
    profile = taking(tunnel)
    for number, frame in enumerate(frames):
        packets = [codec.encap(tunnel, frame, sequence=_SEQUENCE + number) for codec in (one, two)]
        if packets[0] != packets[1]:
            pairs = enumerate(zip(*packets, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(map(len, packets)))
            return f"frame {number + 1} differs at {name_at(fields(packets[1], by=tunnel), at)}"
        if one.decap(packets[0], profile) != two.decap(packets[0], profile):
            return f"frame {number + 1} is decapsulated differently"
    return "identical"


def _batches(codec: Codec, tunnel: Tunnel, frames: list[bytes]) -> str:
    """Whether a batch gives what single calls give, there and back."""
    batch = Batch.from_frames(frames)
    codec.encap_batch(batch, tunnel, sequence=_SEQUENCE)
    single = [codec.encap(tunnel, f, sequence=_SEQUENCE + i) for i, f in enumerate(frames)]
    if batch.to_list() != single:
        return "batch differs"
    codec.decap_batch(batch, taking(tunnel))
    results = codec.decap_many(single, taking(tunnel))
    back = [result.frame for result in results if isinstance(result, Decapsulated)]
    if len(back) < len(frames) or batch.to_list() != back:
        return "batch differs"
    return "equal"


@click.command("demo")
@JSON
def command(as_json: bool) -> int:
    """Encap and decap a sample capture through every protocol; compare the twins.

    Needs no file, no network and no root.  Exit status 1 if the twins differ.
    """
    frames = sample()
    main, reference = _codecs()
    results: list[dict[str, Any]] = []
    for kind in PROTOCOLS.values():
        tunnel = sample_tunnel(kind)
        result: dict[str, Any] = {
            "protocol": tunnel.name,
            "overhead": tunnel.overhead,
            "twins": _twins(main, reference, tunnel, frames) if reference else "reference only",
            "batch": _batches(main, tunnel, frames),
        }
        for codec in filter(None, (main, reference)):
            timed = Overlay(codec)
            result[codec.name] = {
                f"{way}{verb}_mpps": round(count / best_of(run, reset, _SECONDS) / 1e6, 6)
                for way, tasks in (("batch_", timed.batch), ("", timed.single))
                for verb, count, run, reset in tasks(tunnel, frames)
            }
        results.append(result)
    good = all(
        r["twins"] in ("identical", "reference only") and r["batch"] == "equal" for r in results
    )
    if as_json:
        click.echo(json.dumps({"frames": len(frames), "good": good, "results": results}))
    else:
        _print(results, len(frames), main, reference)
    return DONE if good else REFUSED


def _print(results: list[dict[str, Any]], count: int, main: Codec, reference: Codec | None) -> None:
    from rich.table import Table

    table = Table(title=f"{count} frames of the sample capture, Mpps", title_justify="left")
    for column in ("protocol", "backend", "batch encap", "batch decap", "encap", "decap"):
        table.add_column(column, justify="left" if column in ("protocol", "backend") else "right")
    table.add_column("twins")
    for result in results:
        for codec in filter(None, (main, reference)):
            rates = result[codec.name].values()
            first = codec is main
            table.add_row(
                f"{result['protocol']} +{result['overhead']}" if first else "",
                codec.name,
                *(f"{rate:.3g}" for rate in rates),
                f"{result['twins']}, batch {result['batch']}" if first else "",
            )
    print_table(table)
    if reference is None:
        click.echo("Only the reference backend is here: there is no twin to compare with.")

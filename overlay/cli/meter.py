"""``overlay meter``: what became of the frames of ``overlay generate``."""

from __future__ import annotations

import json
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from overlay import Batch
from overlay.io.device import burst as empty_burst
from overlay.io.pcap import Burst
from overlay.traffic import Counts, Meter, Report

from . import DONE, REFUSED
from .decapsulator import Decapsulator
from .device import opened
from .option import (
    ABOVE_ZERO,
    DEPTH,
    IDS,
    JSON,
    PROTOCOL,
    count,
    interface,
    port_options,
    profile_of,
    profile_option,
    seconds,
    strict,
    tap,
)
from .stream import Reading, Tally, open_input, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from overlay.io.device import Device

# What is raised by files that say something else than is expected.
_NONSENSE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

#: Rows of a table at most; --json has them all.
_SHOWN = 100


class _Gauge:
    """A meter as what frames are written to."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.found = 0

    def times(self, burst: Burst) -> npt.NDArray[np.int64]:
        return burst.timestamps

    def write_all(
        self, batch: Batch, times: npt.NDArray[Any], interface: npt.NDArray[np.uint32]
    ) -> int:
        return self.write(batch, times, interface)

    def write(
        self,
        batch: Batch,
        timestamps: npt.ArrayLike = 0,
        interface: npt.ArrayLike = 0,  # noqa: ARG002
    ) -> int:
        self.found += self._meter.take(batch, timestamps)
        return int(np.count_nonzero(batch.status == 0))


def _sent(text: str | None) -> int | dict[int, int] | None:
    """A number, or what ``overlay generate --json`` wrote to a file."""
    if text is None:
        return None
    told: int | dict[int, int]
    try:
        if text.isdecimal():
            told = int(text)
        else:
            said = json.loads(Path(text).read_text())
            told = {int(key): int(number) for key, number in said["sent"].items()}
            told = told or int(said["packets"])
        numbers = told.values() if isinstance(told, dict) else [told]
        if not all(0 <= number < 2**63 for number in numbers):
            raise ValueError
    except OSError as error:
        raise click.UsageError(f"--sent {text}: {error.strerror}") from None
    except _NONSENSE:
        raise click.UsageError(
            f"--sent {text[:999]}: expected a number, or a file by overlay generate --json"
        ) from None
    return told


def _listen(
    device: Device, work: Decapsulator, gauge: _Gauge, seconds: float | None, idle: float | None,
    count: int | None,
) -> dict[str, int]:  # fmt: skip
    """Take what arrives until it is enough, or Ctrl-C; what the device lost."""
    batch = empty_burst(2048)
    begun = heard = time.monotonic()
    first = 0
    try:
        while count is None or gauge.found < count:
            now = time.monotonic()
            if seconds is not None and now - begun >= seconds:
                break
            if idle is not None and gauge.found and now - heard >= idle:
                break
            rows = device.recv(batch)
            if not rows:
                number = device.fileno()
                if number >= 0:
                    select.select([number], [], [], 0.02)
                else:
                    time.sleep(0.001)
                continue
            when = np.full(rows, time.time_ns())
            before = gauge.found
            work.take(Burst(batch, first, 0, np.zeros(rows, np.uint32), times=when))
            first += rows
            if gauge.found > before:
                heard = time.monotonic()
    except KeyboardInterrupt:  # that is how one ends it
        pass
    return {status.name: n for status, n in device.stats.lost.items() if n}


def _time(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return ""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if abs(nanoseconds) >= size:
            return f"{nanoseconds / size:.3f} {unit}"
    return f"{nanoseconds} ns"


def _table(rows: list[Counts], total: Counts, streams: bool) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    delays = ("min", "max") if streams else ("min", "median", "p99", "max")
    numbers = ("sent", "received", "lost", "duplicated", "reordered", "extent")
    names = [*numbers, *(() if streams else ("corrupted",))]
    table.add_column("stream" if streams else "key", justify="left")
    for name in (*names, *delays, "jitter"):
        table.add_column(name, justify="right")
    for counts in [*rows, total]:
        name = "total"
        if counts is not total:
            name = "no tunnel" if counts.key is None else f"{counts.protocol or ''} {counts.key}"
            name += f" #{counts.stream}" if streams else ""
        table.add_row(
            name.strip(),
            *(f"{getattr(counts, column):,}" for column in names),
            *(_time(counts.latency.get(delay)) for delay in delays),
            _time(counts.jitter),
        )
    return table


def _show(report: Report, streams: bool) -> None:
    for wanted, rows in ((True, report.keys), (streams, report.streams)):
        if wanted:
            print_table(_table(list(rows[:_SHOWN]), report.total, rows is report.streams))
            if len(rows) > _SHOWN:
                click.echo(f"and {len(rows) - _SHOWN:,} more, which --json has")
    for number, what in (
        (report.unsigned, "frames without a signature"),
        (report.overflowed, "frames of streams beyond the limit, not counted"),
        (report.unchecked, "frames so late that they may be duplicates"),
    ):
        if number:
            click.echo(f"{number:,} {what}")
    if not report.clocks_agree:
        click.echo("frames came before they went: the clocks differ, latencies say nothing")


@click.command("meter")
@click.argument("source", metavar="[IN]", required=False)
@click.option("--sent", metavar="N|FILE",
              help="Frames that were sent, or what overlay generate --json wrote.")  # fmt: skip
@click.option("--streams", is_flag=True, help="A table of the streams, too.")
@click.option("--from-first", is_flag=True, help="Count from the first number seen, not from 0.")
@IDS
@PROTOCOL
@profile_option()
@port_options
@DEPTH
@interface("Listen on this interface")
@tap("Listen to a TAP interface.")
@click.option("--udp", metavar="LOCAL", help="Receive by a UDP socket at this address; no root.")
@seconds("End after so long.")
@click.option(
    "--idle", type=ABOVE_ZERO, metavar="N", help="End so many seconds after the last signature."
)
@count("End after N signatures.")
@JSON
@strict("if frames were lost or corrupted")
def command(
    source: str | None, sent: str | None, streams: bool, from_first: bool,
    keys: tuple[range, ...], protocols: tuple[str, ...], profile: str, ports: dict[str, int],
    depth: int, interface: str | None, tap: str | None, udp: str | None, seconds: float | None,
    idle: float | None, count: int | None, as_json: bool, strict: bool,
) -> int:  # fmt: skip
    """Find the signatures of overlay generate in IN, or live; say what was lost and how late.

    IN holds packets or frames: what is in no tunnel is looked at as it is.  By key, and with
    --streams by stream: sent, received, lost, duplicated, reordered and by how many at
    most, corrupted, latency and jitter.  Latency is arrival less the stamp in the frame,
    which is one only where both have the same clock.
    """
    if sum(bool(place) for place in (source, interface, tap, udp)) != 1:
        raise click.UsageError("say where from: IN, --interface, --tap or --udp, one of them")
    chosen = profile_of(profile, keys, **ports, protocols=protocols)
    told = _sent(sent)
    meter = Meter(from_first=from_first)
    gauge = _Gauge(meter)
    tally = Tally("packets", "frames")
    work = Decapsulator(chosen, gauge, tally, depth=depth, plain=True)
    lost: dict[str, int] = {}
    reading: Reading | None = None
    if source is not None:
        with open_input(source) as capture:
            reading = Reading(capture)
            for burst in reading:
                work.take(burst)
    else:
        at = None if udp is None else (udp, ports["vxlan_port"])
        with opened(interface=interface, tap=tap, udp=at) as device:
            lost = _listen(device, work, gauge, seconds, idle, count)
    work.finish()
    report = meter.report(told)
    if as_json:
        counts = tally.as_dict()
        click.echo(json.dumps({**report.as_dict(), "input": counts, "device_lost": lost}))
    else:
        _show(report, streams)
        for status, number in tally.drops.most_common():
            click.echo(f"{number:,} refused: {status.name}, {status.text}")
        for name, number in lost.items():
            click.echo(f"{number:,} lost by the device: {name}")
    lossy = strict and not report.clean
    return (REFUSED if lossy else DONE) if reading is None else reading.end(lossy)

"""``overlay generate``: frames and packets of many kinds, to a capture or a device."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from overlay import PROTOCOLS, STT, Batch, ConfigError, Status, segment_batch
from overlay.io.pcap import CaptureWriter
from overlay.io.record import HEADER
from overlay.traffic import FIELDS, Rate, Schedule, Sent, Sweep, send

from . import DONE, REFUSED
from .device import opened
from .option import (
    JSON,
    STRICT,
    count,
    interface,
    key_field,
    seconds,
    tap,
    tunnel_options,
)
from .stream import Tally, counted, format_named, target_of
from .value import Number

if TYPE_CHECKING:
    from overlay.io.device import Device

#: Frames made and written together.
_BURST = 4096
#: Combinations that are made if nobody says how many.
_MOST = 10_000_000
#: Of a capture, if nobody says.
_RATE = "1Mpps"


def sweep_of(tunnel: str | None, key: str | None, inner: tuple[str, ...], given: dict[str, Any],
             **options: Any) -> Sweep:  # fmt: skip
    """The sweep of these options; a wrong one is a usage error that names the option."""
    kind = None if tunnel is None else PROTOCOLS[tunnel]
    outer = {name: value for name, value in given.items() if value is not None}
    if kind is None and (outer or key is not None):
        raise click.UsageError("options of a tunnel were given, and no --tunnel")
    if kind is not None:
        for name, value in (("id", key), *((n, outer.get(n)) for n in ("local", "remote"))):
            if value is None and (name != "id" or not _has_default(kind)):
                raise click.UsageError(f"--tunnel {tunnel} needs --{name}")
        known = getattr(kind, "__dataclass_fields__", {})
        for name in outer:
            if name not in known:
                raise click.UsageError(f"--{name.replace('_', '-')} is no option of {tunnel}")
        if key is not None:
            outer = {"key": key, **outer}
    try:
        return Sweep(list(inner), tunnel=kind, outer=outer or None, **options)
    except ConfigError as error:
        raise click.UsageError(f"{_option(error, kind)} {_said(error)}") from None


def _has_default(kind: Any) -> bool:
    field = kind.__dataclass_fields__[key_field(kind)]
    return field.default is not field.default_factory  # both are MISSING where there is none


def _option(error: ConfigError, kind: Any) -> str:
    if error.field == "inner" or error.field in FIELDS:
        return "--inner"
    if kind is not None and error.field == key_field(kind):
        return "--id"
    return "--" + error.field.replace("_", "-")


def _said(error: ConfigError) -> str:
    name = f"{error.field}=" if error.field in FIELDS else ""
    return f"{name}{error.value}: expected {error.expected}"


class Recorder:
    """Writes a sweep to a capture; its memory is used again."""

    def __init__(self, sweep: Sweep, writer: CaptureWriter, mtu: int, tally: Tally) -> None:
        self._sweep = sweep
        self._writer = writer
        self._mtu = mtu
        self._tally = tally
        self._batch: Batch | None = None
        self.refused: dict[int, int] = {}

    def take(self, first: int, times: np.typing.NDArray[np.int64]) -> None:
        """Make the frames from number ``first`` on, one a time, and write them."""
        tally, rows = self._tally, len(times)
        batch = self._batch = self._sweep.packets(first, rows, times=times, batch=self._batch)
        tally.read += rows
        tally.bytes_read += int(self._sweep.sizes(first, rows).sum())
        out = batch if not self._mtu else self._segmented(batch)
        if batch.status.any():
            tally.drop(batch)
            keys = self._sweep.keys(first, rows)[batch.status != 0]
            for key in keys.tolist():
                self.refused[key] = self.refused.get(key, 0) + 1
        tally.bytes_written += int(out.wire[out.status == 0].sum(dtype=np.int64))
        tally.wrote += self._writer.write(out, times if out is batch else times[out.origin])

    def _segmented(self, batch: Batch) -> Batch:
        """Packets of at most the MTU: of STT segments, of the others those that fit."""
        good = batch.status == Status.OK
        if not any(isinstance(tunnel, STT) for tunnel in self._sweep.tunnels):
            tags = np.array([0 if t.outer_vlan is None else 4 for t in self._sweep.tunnels[:1]])
            long = batch.length.astype(np.int64) - 14 - int(tags.sum()) > self._mtu
            batch.status[good & long] = Status.MTU_EXCEEDED
            return batch
        total = int(batch.length.sum(dtype=np.int64))
        segments = total // max(1, self._mtu - 80) + 2 * batch.count
        out = Batch.packed(total + segments * (128 + HEADER), segments, gap=HEADER)
        segment_batch(batch, out, self._mtu)
        return out


def _record(
    sweep: Sweep, target: str, rate: Rate, count: int | None, seconds: float | None, mtu: int,
    tally: Tally,
) -> dict[int, int]:  # fmt: skip
    """Write to a capture; how many of each key."""
    schedule = Schedule(rate)
    start = time.time_ns()
    total = count
    if total is None and rate.packets and seconds is not None:
        total = max(1, int(rate.packets * seconds))
    first = 0
    with CaptureWriter(target_of(target), format_named(target) or "pcap") as writer:
        work = Recorder(sweep, writer, mtu, tally)
        bursts = 1 if total is None else -(-total // _BURST)
        with counted(bursts) as step:
            while total is None or first < total:
                step("")
                rows = _BURST if total is None else min(_BURST, total - first)
                due = schedule.take(sweep.lengths(first, rows))
                if seconds is not None:
                    due = due[: int(np.searchsorted(due, seconds * 1e9))]
                if not len(due):
                    break
                work.take(first, start + due)
                first += len(due)
    sent = sweep.sent(first)
    return {key: number - work.refused.get(key, 0) for key, number in sent.items()}


def _one_local(sweep: Sweep) -> str:
    locals_ = {tunnel.local for tunnel in sweep.tunnels}
    ports = {getattr(tunnel, "port", None) for tunnel in sweep.tunnels}
    if len(locals_) != 1 or None in ports:
        raise click.UsageError("--udp sends tunnels over UDP that have one --local address")
    return locals_.pop()


def _free_port(local: str) -> int:
    """A port to receive at which nobody else has: nothing is received."""
    import socket

    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((local, 0))
        except OSError as error:
            raise click.UsageError(f"--local {local}: {error.strerror}") from None
        return int(probe.getsockname()[1])


def _live(
    sweep: Sweep, device: Device, rate: Rate | None, count: int | None, seconds: float | None,
    tally: Tally,
) -> Sent:  # fmt: skip
    done = send(sweep, device, rate=rate, count=count, seconds=seconds)
    tally.read, tally.wrote, tally.bytes_written = done.frames, done.packets, done.bytes
    tally.bytes_read = done.frame_bytes
    tally.drops.update(done.drops)
    return done


def _how_many(sweep: Sweep, count: int | None, seconds: float | None, live: bool) -> int | None:
    if count is not None or seconds is not None:
        return count
    if live or sweep.combine == "random":
        raise click.UsageError("say how many: --count or --seconds")
    if sweep.period > _MOST:
        raise click.UsageError(f"{sweep.period} combinations: say how many, --count or --seconds")
    return sweep.period


@click.command("generate")
@click.argument("target", metavar="[OUT]", required=False)
@tunnel_options(addresses=False, many=True)
@click.option(
    "--inner", multiple=True, metavar="FIELD=VALUES",
    help="A field of the frames, as ip.dst=10.0.0.0/24 or udp.sport=1000-2000; repeatable.",
)  # fmt: skip
@click.option(
    "--size", metavar="SIZES", help="Bytes of a frame without FCS: 64, 64,1500, 64-1514 or imix."
)
@click.option(
    "--combine", type=click.Choice(["zip", "product", "random"]), default="zip", show_default=True,
    help="How fields go together: in step, every combination, at random.",
)  # fmt: skip
@click.option("--random-seed", type=Number(), default=0, help="Of --combine random.")
@count("Frames to make; else every combination.")
@seconds("End after so long.")
@click.option(
    "--rate", metavar="RATE",
    help=f"10kpps, 1Gbit/s; OUT's timestamps have it, {_RATE} by default.",
)  # fmt: skip
@click.option("--mtu", type=click.IntRange(68, 65535),
              help="OUT: IP MTU of the underlay; STT is segmented.")  # fmt: skip
@interface("Send on this interface")
@tap("Send frames into a TAP interface.")
@click.option("--udp", is_flag=True, help="Send by UDP sockets from --local; needs no root.")
@click.option("--no-signature", is_flag=True, help="Frames as short as 14 bytes, not measurable.")
@click.option(
    "--first-stream", type=click.IntRange(0), default=0,
    help="Number of the first stream, where several senders share a receiver.",
)  # fmt: skip
@click.option("--fill", metavar="HEX", default="00", help="The payload, over and over.")
@JSON
@STRICT
def command(
    target: str | None, tunnel: str | None, key: str | None, inner: tuple[str, ...],
    size: str | None, combine: str, random_seed: int, count: int | None, seconds: float | None,
    rate: str | None, mtu: int | None, interface: str | None, tap: str | None, udp: bool,
    no_signature: bool, first_stream: int, fill: str, as_json: bool, strict: bool, **given: Any,
) -> int:  # fmt: skip
    """Make frames whose fields take many values; write the packets to OUT or send them.

    overlay generate packets.pcap --tunnel vxlan --id 5000-5063 --local 192.0.2.1
    --remote 192.0.2.2 --inner ip.dst=10.0.0.0/24 --size imix --count 100000

    Each frame ends with a signature, which overlay meter finds.  Values are numbers,
    ranges, lists and networks: 5, 1-99, 1-99/2, 1,5,9, 10.0.0.0/24.
    """
    places = [name for name, given_ in (("OUT", target), ("--interface", interface), ("--tap", tap),
                                        ("--udp", udp)) if given_]  # fmt: skip
    if len(places) != 1:
        raise click.UsageError("say where to: OUT, --interface, --tap or --udp, one of them")
    try:
        filled = bytes.fromhex(fill)
        asked = None if rate is None else Rate.of(rate)
    except ConfigError as error:
        raise click.UsageError(f"--rate {error.value}: expected {error.expected}") from None
    except ValueError:
        raise click.UsageError(f"--fill {fill}: expected bytes in hexadecimal") from None
    sweep = sweep_of(
        tunnel, key, inner, given, size=size, combine=combine, seed=random_seed,
        signature=not no_signature, first_stream=first_stream, fill=filled,
    )  # fmt: skip
    total = _how_many(sweep, count, seconds, target is None)
    tally = Tally("frames", "packets", ("made", "sent" if target is None else "written"))
    more: dict[str, Any] = {"streams": sweep.streams}
    done: Sent | None = None
    if target is not None:
        keys = _record(sweep, target, asked or Rate.of(_RATE), total, seconds, mtu or 0, tally)
    else:
        at = (_one_local(sweep), _free_port(_one_local(sweep))) if udp else None
        with opened(interface=interface, tap=tap, udp=at) as device:
            done = _live(sweep, device, asked, total, seconds, tally)
        keys = dict(done.keys)
        more |= {"asked": rate, **done.as_dict()}
    more["sent"] = {str(k): number for k, number in sorted(keys.items())}
    err = target == "-"
    if as_json:
        click.echo(json.dumps({**tally.as_dict(), **more}), err=err)
    else:
        tally.show(False, to_stderr=err)
        if done is not None:
            _say(done, asked)
    return REFUSED if strict and tally.refused else DONE


def _say(done: Sent, asked: Rate | None) -> None:
    """What rate was reached, beside what was asked for."""
    packets, bits = done.reached()
    said = f"reached {packets:,.0f} pps, {bits / 1e6:,.3f} Mbit/s in {done.seconds:.3f} s"
    if asked is not None:
        said += f"; asked for {asked.text()}"
    if done.slipped:
        said += f"; {done.slipped:.3f} s behind were let go"
    click.echo(said)

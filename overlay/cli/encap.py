"""``overlay encap``: a capture of frames to one of packets."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from overlay import STT, Batch, Status, Tunnel
from overlay.io import record
from overlay.io.pcap import Burst, CaptureWriter

from .option import JSON, STRICT, tunnel_of, tunnel_options
from .stream import Output, Reading, Tally, open_input
from .value import Number


class Encapsulator:
    """Takes bursts of frames and writes packets; its arena is used again."""

    def __init__(self, tunnel: Tunnel, mtu: int, writer: CaptureWriter, tally: Tally) -> None:
        self._tunnel = tunnel
        self._mtu = mtu
        self._writer = writer
        self._tally = tally
        self._out = Batch.packed(1, 1)

    def take(self, burst: Burst) -> None:
        batch, times, interface = burst.batch, self._writer.times(burst), burst.interface
        if batch.link.any():
            batch.status[batch.link != 0] = Status.LINK_TYPE
        rows, size = self._room(batch)
        self._tally.read += batch.count
        self._tally.bytes_read += int(batch.wire.sum(dtype=np.int64))
        while True:
            if self._out.capacity < rows or self._out.data.size < size:
                spare = size // 4, rows // 4  # so that a slightly larger burst fits too
                self._out = Batch.packed(size + spare[0], rows + spare[1], gap=record.HEADER)
            out = self._out
            out.clear()
            self._tunnel.encap_into(batch, out, self._mtu)
            self._tally.wrote += out.count
            self._tally.bytes_written += int(out.wire.sum(dtype=np.int64))
            self._writer.write_packed(out, times, interface)
            if not batch.status.any():
                return
            late = np.flatnonzero(batch.status == Status.NO_ROOM)
            self._tally.drops.update(
                {status: n for status, n in batch.drops().items() if status != Status.NO_ROOM}
            )
            if not late.size:
                return
            if size >= 1 << 32:
                self._tally.drops[Status.NO_ROOM] += int(late.size)
                return
            batch = Batch.from_array(
                batch.data, batch.offset[late], batch.length[late], wire=batch.wire[late]
            )
            times, interface = times[late], interface[late]
            rows, size = 4 * rows, 4 * size

    def _room(self, batch: Batch) -> tuple[int, int]:
        """Packets and bytes that the batch becomes, but for frames beyond an STT frame's limit."""
        total = int(batch.length.sum(dtype=np.int64))
        packets = batch.count
        if self._mtu and isinstance(self._tunnel, STT):
            floor = 40 if self._tunnel.family == 4 else 60
            packets += total // max(1, self._mtu - floor) + batch.count
        each = self._tunnel.overhead + record.HEADER + 64
        return max(1, packets), max(1, total + packets * each)


@click.command("encap")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@tunnel_options()
@click.option(
    "--mtu", type=Number(), default=0,
    help="IP MTU of the underlay: STT is segmented, the others' larger packets are refused.",
)  # fmt: skip
@JSON
@STRICT
def command(
    source: str, target: str, tunnel: str, key: int, mtu: int, as_json: bool, strict: bool,
    **given: Any,
) -> int:  # fmt: skip
    """Put the frames of IN into a tunnel; write the packets to OUT.

    overlay encap frames.pcap packets.pcap --tunnel vxlan --id 5001
    --local 192.0.2.1 --remote 192.0.2.2
    """
    made = tunnel_of(tunnel, key, given)
    least = made.overhead - 14 - (0 if made.outer_vlan is None else 4) + 1
    if mtu and not least <= mtu <= 65535:
        raise click.UsageError(f"--mtu {mtu}: expected {least}..65535")
    tally = Tally("frames", "packets")
    with open_input(source) as capture:
        reading = Reading(capture)
        output = Output(target, capture)
        with output.writer as writer:
            work = Encapsulator(made, mtu, writer, tally)
            for burst in reading:
                output.describe()
                work.take(burst)
            output.describe()
    tally.show(as_json, to_stderr=target == "-")
    return reading.end(strict and tally.refused > 0)

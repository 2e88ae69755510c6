"""``overlay decap``: a capture of packets to one of frames."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import click

from overlay import ConfigError, Status
from overlay.io.table import TableWriter
from overlay.tunnel import OPTIONS

from .decapsulator import Decapsulator
from .option import DEPTH, IDS, JSON, PROTOCOL, STRICT, port_options, profile_of, profile_option
from .selection import Selection
from .stream import Output, Reading, Tally, open_input
from .value import Moment, Network, Option

_HINT = "checksums of offloading senders are not final in captures: --profile lenient takes them"
_HINTED = (Status.UDP_CHECKSUM, Status.TCP_CHECKSUM, Status.IP_CHECKSUM, Status.IP_LENGTH)


def _table(path: str | None) -> contextlib.AbstractContextManager[TableWriter | None]:
    if path is None:
        return contextlib.nullcontext()
    try:
        return TableWriter(path)
    except ConfigError as error:
        raise click.UsageError(f"--columns {path}: expected {error.expected}") from None


@click.command("decap")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@IDS
@PROTOCOL
@profile_option()
@port_options
@click.option(
    "--payload", type=click.Choice(["ethernet", "any"]),
    help="Whether tunnels that carry IP are taken, as frames without MAC addresses; "
    "by default under lenient.",
)  # fmt: skip
@click.option(
    "--known-option", "known", type=Option(data=False), multiple=True,
    help="A critical GENEVE option that is known, in hexadecimal, such as 0103:80; repeatable.",
)  # fmt: skip
@click.option(
    "--inner-vlan", type=click.Choice(["keep", "strip", "reject"]), default="keep",
    show_default=True, help="VLAN tags of the frames.",
)  # fmt: skip
@click.option(
    "--outer", type=Network(), multiple=True,
    help="An address or network that the outer source or destination is of; repeatable.",
)  # fmt: skip
@click.option("--local", type=Network(), multiple=True, help="The same, of the source alone.")
@click.option("--remote", type=Network(), multiple=True, help="The same, of the destination.")
@click.option(
    "--after", type=Moment(), help="Only packets from this time on: ISO 8601, or epoch seconds."
)
@click.option("--before", type=Moment(), help="Only packets before this time.")
@DEPTH
@click.option(
    "--fragments", type=click.Choice(["reassemble", "drop"]), default="reassemble",
    show_default=True, help="What becomes of outer IP fragments.",
)  # fmt: skip
@click.option(
    "--metadata", type=click.Choice(["comment", "none"]),
    help="What is kept of each tunnel: a comment on the frame (pcapng, where it is the default).",
)  # fmt: skip
@click.option(
    "--columns", type=str, metavar="TABLE",
    help="Write the facts of every packet to a .parquet or .csv file.",
)  # fmt: skip
@click.option("--resegment", is_flag=True, help="Cut STT frames by their MSS.")
@JSON
@STRICT
def command(
    source: str, target: str, keys: tuple[range, ...], protocols: tuple[str, ...], profile: str,
    ports: dict[str, int], payload: str | None,
    known: tuple[tuple[int, int], ...], inner_vlan: str, outer: tuple[Any, ...],
    local: tuple[Any, ...], remote: tuple[Any, ...], after: int | None, before: int | None,
    depth: int,
    fragments: Literal["reassemble", "drop"], metadata: Literal["comment", "none"] | None,
    columns: str | None, resegment: bool, as_json: bool, strict: bool,
) -> int:  # fmt: skip
    """Take the frames out of the packets of IN; write them to OUT.

    Packets that are in no tunnel are refused too, and counted by reason.  Outer
    fragments and STT segments are reassembled.  Timestamps, lengths on the wire and
    (pcapng) interfaces are kept.
    """
    chosen = profile_of(
        profile, keys, **ports, protocols=protocols, payload=payload, inner_vlan=inner_vlan,
        options=OPTIONS | set(known) if known else None,
    )  # fmt: skip
    selection = Selection(outer, local, remote, after, before)
    tally = Tally("packets", "frames")
    with open_input(source) as capture, _table(columns) as table:
        reading = Reading(capture)
        output = Output(target, capture)
        with output.writer as writer:
            if metadata == "comment" and writer.format == "pcap":
                raise click.UsageError("--metadata comment: only a .pcapng has comments")
            work = Decapsulator(
                chosen, writer, tally, depth=depth, resegment=resegment, selection=selection,
                fragments=fragments == "reassemble", table=table,
                comments=writer.format == "pcapng" and metadata != "none",
            )  # fmt: skip
            for burst in reading:
                output.describe()
                work.take(burst)
            output.describe()
            work.finish()
    tally.show(as_json, to_stderr=target == "-")
    if profile == "rfc" and not as_json and any(tally.drops[status] for status in _HINTED):
        click.echo(_HINT, err=target == "-")
    return reading.end(strict and tally.refused > 0)

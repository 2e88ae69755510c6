"""``overlay decap``: a capture of packets to one of frames."""

from __future__ import annotations

import contextlib
import typing
from typing import Any, Literal

import click

from overlay import PROTOCOLS, CaptureError, ConfigError, Status
from overlay.io.table import TableWriter
from overlay.tunnel import OPTIONS

from . import DONE, FAILED, REFUSED, fail
from .decapsulator import DEPTH_MAX, Decapsulator
from .option import JSON, PROFILE, STRICT, Option, ports, profile_of
from .selection import IDS_MAX, Ids, Moment, Network, Selection
from .stream import Output, Tally, open_input, watched

if typing.TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType

_HINT = "checksums of offloading senders are not final in captures: --profile lenient takes them"
_HINTED = (Status.UDP_CHECKSUM, Status.TCP_CHECKSUM, Status.IP_CHECKSUM, Status.IP_LENGTH)


class _Depth(_Type):
    """How many tunnels, or all that are believed."""

    name = "number|all"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "all":
            return DEPTH_MAX
        return click.IntRange(1, DEPTH_MAX).convert(value, param, ctx)


def _table(path: str | None) -> contextlib.AbstractContextManager[TableWriter | None]:
    if path is None:
        return contextlib.nullcontext()
    try:
        return TableWriter(path)
    except ConfigError as error:
        raise click.UsageError(f"--columns {path}: expected {error.expected}") from None


def _numbers(ranges: tuple[range, ...]) -> dict[str, Any]:
    """The keys of a profile; none where no number was given."""
    if sum(map(len, ranges)) > IDS_MAX:
        raise click.UsageError(f"--id: more than {IDS_MAX} numbers")
    return {"keys": frozenset().union(*ranges)} if ranges else {}


@click.command("decap")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option(
    "--id", "keys", type=Ids(), multiple=True,
    help="A key to take, of the outermost tunnel, or a range: a VNI, VSID, Context ID, ERSPAN "
    "session or GRE key, 'none' for GRE without one; repeatable.",
)  # fmt: skip
@click.option(
    "--protocol", "protocols", type=click.Choice(list(PROTOCOLS)), multiple=True,
    help="A protocol to take; repeatable.",
)  # fmt: skip
@PROFILE
@ports
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
@click.option(
    "--depth", type=_Depth(), default="1", show_default=True,
    help=f"Tunnels within tunnels to remove at most; all is {DEPTH_MAX}.  Fragments and STT "
    "segments within are not reassembled.",
)  # fmt: skip
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
    port: int, geneve_port: int, gpe_port: int, payload: str | None,
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
        profile, vxlan_port=port, geneve_port=geneve_port, gpe_port=gpe_port,
        inner_vlan=inner_vlan, **_numbers(keys),
        **({"payload": payload} if payload else {}),
        **({"options": OPTIONS | set(known)} if known else {}),
        **({"protocols": protocols} if protocols else {}),
    )  # fmt: skip
    selection = Selection(outer, local, remote, after, before)
    tally = Tally("packets", "frames")
    broken: CaptureError | None = None
    with open_input(source) as capture, _table(columns) as table:
        output = Output(target, capture)
        with output.writer as writer:
            if metadata == "comment" and writer.format == "pcap":
                raise click.UsageError("--metadata comment: only a .pcapng has comments")
            work = Decapsulator(
                chosen, writer, tally, depth=depth, resegment=resegment, selection=selection,
                fragments=fragments == "reassemble", table=table,
                comments=writer.format == "pcapng" and metadata != "none",
            )  # fmt: skip
            try:
                for burst in watched(capture):
                    output.describe()
                    work.take(burst)
            except CaptureError as error:
                broken = error
            output.describe()
            work.finish()
    tally.show(as_json, to_stderr=target == "-")
    if profile == "rfc" and not as_json and any(tally.drops[status] for status in _HINTED):
        click.echo(_HINT, err=target == "-")
    if broken is not None:
        fail(str(broken))
        return FAILED
    return REFUSED if strict and tally.refused else DONE

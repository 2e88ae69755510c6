"""``overlay diagnose``: what is wrong with the tunnels of a capture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from overlay import ConfigError
from overlay.diagnosis import Diagnoser, Finding, Report, Severity, TunnelReport

from .option import JSON, port_options, strict, wrong
from .stream import Reading, open_input, print_table
from .value import Number

if TYPE_CHECKING:
    from rich.table import Table

_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}

#: Tunnels that the table shows.
_SHOWN = 50


def _numbers(finding: Finding) -> str:
    """``packet 17``, ``packets 17, 19 and 40 more``."""
    if finding.count == 1:
        return f"packet {finding.packet}"
    named = ", ".join(map(str, finding.packets))
    more = finding.count - len(finding.packets)
    return f"packets {named}" + (f" and {more:,} more" if more > 0 else "")


def _place(tunnel: TunnelReport | None) -> str:
    if tunnel is None:
        return ""
    key = "" if tunnel.key is None else f" {tunnel.key}"
    return f"{tunnel.source} > {tunnel.destination} {tunnel.protocol}{key}"


def _tunnels(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, side in (("tunnel", "left"), ("key", "right"), ("packets", "right"),
                       ("bytes", "right"), ("from packet", "right"), ("seconds", "right"),
                       ("findings", "left")):  # fmt: skip
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    largest = sorted(report.tunnels, key=lambda tunnel: -tunnel.packets)[:_SHOWN]
    for tunnel in sorted(largest, key=lambda tunnel: tunnel.packet):
        counts = [
            f"[{_COLORS[level]}]{count} {level.label}[/]"
            for level in reversed(Severity)
            if (count := sum(f.severity == level for f in tunnel.findings))
        ]
        table.add_row(
            f"{tunnel.source} > {tunnel.destination} {tunnel.protocol}",
            "" if tunnel.key is None else str(tunnel.key),
            f"{tunnel.packets:,}", f"{tunnel.bytes:,}", str(tunnel.packet),
            f"{tunnel.seconds:.3f}", ", ".join(counts) or "none",
        )  # fmt: skip
    return table


def _show(report: Report, least: Severity) -> None:
    """The report for people."""
    if report.tunnels:
        print_table(_tunnels(report))
        if len(report.tunnels) > _SHOWN:
            click.echo(f"and {len(report.tunnels) - _SHOWN:,} tunnels more")
    others = f", {report.others:,} of them in no tunnel" if report.others else ""
    click.echo(f"{report.packets:,} packets{others}")
    shown = [pair for pair in report.all_findings if pair[1].severity >= least]
    for tunnel, finding in shown:
        status = f" {finding.status}" if finding.status else ""
        level = click.style(finding.severity.label, fg=_COLORS[finding.severity], bold=True)
        click.echo(f"\n{level} {finding.kind}{status}: {_numbers(finding)}")
        if tunnel is not None:
            click.echo(f"  {_place(tunnel)}")
        click.echo(f"  {finding.seen}")
        click.echo(click.style(f"  {finding.advice}", dim=True))
    if not shown:
        click.echo("nothing found")
    for what, count in report.unjudged.items():
        click.echo(f"\nnot judged: {what} of {count:,} packets, not all of their bytes are here")
    for what, count in report.left_out.items():
        click.echo(f"\nleft out: {count:,} {what}, for which there was no room")


@click.command("diagnose")
@click.argument("source", metavar="IN")
@port_options
@click.option(
    "--paths", type=Number(), default=8, show_default=True,
    help="Equal paths that routers share the outer headers out to.",
)  # fmt: skip
@click.option("--mtu", type=Number(), help="The underlay's IP MTU, if it is known.")
@click.option(
    "--min-severity", type=click.Choice([level.label for level in Severity]), default="info",
    show_default=True, help="The mildest findings that are shown.",
)  # fmt: skip
@JSON
@strict("on findings from warning up")
def command(
    source: str, ports: dict[str, int], paths: int, mtu: int | None, min_severity: str,
    as_json: bool, strict: bool,
) -> int:  # fmt: skip
    """Look for what is wrong with the tunnels of IN.

    Checksums, reserved bits, entropy, path MTUs, asymmetric networks, loops, STT
    reassembly, ECN: each finding has its first packet's number, what was seen, and
    what to do.
    """
    try:
        work = Diagnoser(paths=paths, mtu=mtu, **ports)
    except ConfigError as error:
        raise wrong(error) from None
    with open_input(source, burst_bytes=4 << 20) as capture:
        reading = Reading(capture)
        for burst in reading:
            work.take(burst)
    report = work.report()
    least = Severity[min_severity.upper()]
    if as_json:
        click.echo(json.dumps(report.above(least).as_dict()))
    else:
        _show(report, least)
    worst = report.worst
    return reading.end(strict and worst is not None and worst >= Severity.WARNING)

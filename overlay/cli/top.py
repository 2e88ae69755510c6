"""``overlay top``: what passes a running VTEP, live."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from overlay.service.client import DEFAULT, Client, RefusedError
from overlay.service.rate import rates

from .stream import print_table

if TYPE_CHECKING:
    from rich.table import Table

_WAYS = ("in_pps", "in_bps", "out_pps", "out_bps")


def short(value: float) -> str:
    """A number as 3 digits and a unit."""
    for unit in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if value >= 99.5 or not value else f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}T"


def _row(table: Table, label: str, traffic: dict[str, float], note: str = "", **style: Any) -> None:
    table.add_row(label, *(short(traffic[way]) for way in _WAYS), note, **style)


def _drops(table: Table, rows: list[dict[str, Any]]) -> None:
    for drop in rows:
        note = f"{drop['count']} in all"
        table.add_row(
            f"  drop {drop['reason']}", short(drop["pps"]), "", "", "", note,
            style="red" if drop["pps"] else "dim",
        )  # fmt: skip


def picture(found: dict[str, Any], rows: int | None = None) -> Table:
    """The table; ``rows`` is how many lines there is room for."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("network, port, remote, drop", no_wrap=True)
    for name in ("in/s", "in bit/s", "out/s", "out bit/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    # The busiest first, so that it is what there is room for.
    for network in sorted(found["networks"], key=lambda n: -sum(n["ports"].values())):
        name = f" {network['name']}" if network["name"] else ""
        label = f"{network['tunnel']} {network['id']}{name}"
        _row(table, label, network["ports"], f"{network['macs']} MACs", style="bold")
        for port in network["port"]:
            _row(table, f"  port {port['name']}", port)
        for remote in network["remote"]:
            other = remote["tunnel"] != network["tunnel"]
            _row(table, f"  remote {remote['address']}", remote, remote["tunnel"] if other else "")
        _drops(table, network["drops"])
        if rows is not None and table.row_count > rows:
            break
    if found["unknown"]:
        table.add_row("no network", style="bold")
        _drops(table, found["unknown"])
    if rows is not None and table.row_count > rows:
        del table.rows[rows:]
        for column in table.columns:
            del column._cells[rows:]
    return table


def _interval(_: Any, __: Any, value: float) -> float:
    if 0.1 <= value <= 3600:
        return value
    raise click.BadParameter("expected seconds in 0.1..3600")


@click.command("top")
@click.option("--socket", default=DEFAULT, show_default=True, help="The VTEP's control socket.")
@click.option(
    "--interval", type=float, default=1.0, show_default=True, callback=_interval,
    help="Seconds between two looks.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="One look, and the end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a look.")
def command(socket: str, interval: float, once: bool, as_json: bool) -> None:
    """Show packets and bits a second by network, port and remote, and what is dropped why."""
    try:
        with Client(socket) as client:
            _watch(client, interval, once, as_json)
    except RefusedError as error:
        raise click.ClickException(str(error)) from None


def _watch(client: Client, interval: float, once: bool, as_json: bool) -> None:
    old = client.ask("stats")
    if as_json or once or not sys.stdout.isatty():
        while True:
            time.sleep(interval)
            new = client.ask("stats")
            if as_json:
                click.echo(json.dumps(rates(old, new)))
            else:
                print_table(picture(rates(old, new)))
            if once:
                return
            sys.stdout.flush()
            old = new
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            new = client.ask("stats")
            live.update(picture(rates(old, new), max(1, console.height - 2)), refresh=True)
            old = new
            time.sleep(interval)

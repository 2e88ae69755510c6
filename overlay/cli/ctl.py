"""``overlay ctl``: asks and changes a running VTEP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from overlay.service.client import DEFAULT, Client, RefusedError
from overlay.switch import SWITCHED

from .option import ID, JSON
from .stream import print_table
from .top import short
from .value import Number

F = TypeVar("F", bound=Callable[..., Any])

_NETWORK = click.argument("network", metavar="NETWORK")
_TUNNEL = click.option("--tunnel", type=click.Choice(list(SWITCHED)), help="The protocol.")


class _Session:
    """What the options before the subcommand said."""

    def __init__(self, socket: str, as_json: bool) -> None:
        self._socket = socket
        self.as_json = as_json

    def ask(self, name: str, /, **fields: Any) -> Any:
        try:
            with Client(self._socket) as client:
                return client.ask(name, **fields)
        except RefusedError as error:
            raise click.ClickException(str(error)) from None

    def change(self, name: str, /, **fields: Any) -> None:
        """Ask for a change; silent where it was made, as tools are, but for --json."""
        answer = self.ask(name, **fields)
        if self.as_json:
            click.echo(json.dumps(answer))

    def events(self) -> Iterable[dict[str, Any]]:
        try:
            with Client(self._socket) as client:
                yield from client.events()
        except RefusedError as error:
            raise click.ClickException(str(error)) from None

    def show(self, rows: Any, table: Callable[[Any], None]) -> None:
        if self.as_json:
            click.echo(json.dumps(rows))
        else:
            table(rows)


def _network(text: str) -> int | str:
    """A number, decimal or with 0x, or a name."""
    try:
        return int(text, 0)
    except ValueError:
        return text


def _print(columns: str, rows: Iterable[Iterable[object]]) -> None:
    """A table; a ``>`` before a column's name aligns it to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in columns.split(", "):
        table.add_column(name.lstrip(">"), justify="right" if name[:1] == ">" else "left")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    print_table(table)


def _yes(value: object, word: str) -> str:
    return word if value else ""


_PASS = click.make_pass_decorator(_Session)


@click.group("ctl")
@click.option("--socket", default=DEFAULT, show_default=True, help="The VTEP's control socket.")
@JSON
@click.pass_context
def command(ctx: click.Context, socket: str, as_json: bool) -> None:
    """Ask a running VTEP, or change it.

    NETWORK is an id, a name, or tunnel:id where an id is two networks'.
    """
    ctx.obj = _Session(socket, as_json)


# -- asking ------------------------------------------------------------------------


@command.command("list")
@click.argument("network", metavar="[NETWORK]", required=False)
@_PASS
def _list(session: _Session, network: str | None) -> None:
    """Networks, their ports and their remotes."""
    fields = {} if network is None else {"network": _network(network)}

    def table(networks: Any) -> None:
        rows: list[list[object]] = []
        for one in networks:
            label = " ".join(filter(None, [one["tunnel"], str(one["id"]), one["name"]]))
            rows.append([label, f"mtu {one['mtu']}", f"{one['macs']} MACs"])
            for port in one["ports"]:
                device = f"tap {port['tap']}" if port["tap"] else f"interface {port['interface']}"
                vlan = f"vlan {port['vlan']}" if port["vlan"] is not None else ""
                rows.append([f"  port {port['name']}", device, vlan])
            for remote in one["remotes"]:
                notes = [
                    _yes(remote["tunnel"] != one["tunnel"] or remote["key"] != one["id"],
                         f"{remote['tunnel']} {remote['key']}"),
                    _yes(remote["relay"], "relay"),
                    _yes(not remote["flood"], "no flood"),
                    _yes(not remote["resolved"], "unresolved"),
                    _yes(not remote["listed"], "met"),
                ]  # fmt: skip
                notes = list(filter(None, notes))
                rows.append([f"  remote {remote['address']}", f"mtu {remote['mtu']}",
                             ", ".join(notes)])  # fmt: skip
        _print("network, , ", rows)

    session.show(session.ask("list", **fields), table)


@command.command("fdb")
@_NETWORK
@_PASS
def _fdb(session: _Session, network: str) -> None:
    """The MAC addresses of NETWORK and where they are."""
    session.show(
        session.ask("fdb.list", network=_network(network)),
        lambda rows: _print(
            "MAC, where, , >age",
            (
                [row["mac"],
                 f"port {row['port']}" if "port" in row else f"remote {row.get('remote', '?')}",
                 " ".join(filter(None, [_yes(row["static"], "static"),
                                        _yes(row["sticky"], "sticky")])),
                 "" if row["static"] else f"{row['age']:.0f} s"]
                for row in rows
            ),
        ),
    )  # fmt: skip


@command.command("neighbors")
@_NETWORK
@_PASS
def _neighbors(session: _Session, network: str) -> None:
    """The IP addresses of NETWORK that ARP and ND are answered for."""
    session.show(
        session.ask("neighbor.list", network=_network(network)),
        lambda rows: _print(
            "IP, MAC, ",
            ([row["ip"], row["mac"], _yes(row["static"], "static")] for row in rows),
        ),
    )


@command.command("stats")
@click.argument("network", metavar="[NETWORK]", required=False)
@_PASS
def _stats(session: _Session, network: str | None) -> None:
    """Counters of all networks, or of NETWORK."""
    fields = {} if network is None else {"network": _network(network)}

    def table(stats: Any) -> None:
        rows: list[list[object]] = []
        for one in [*stats["networks"], {"tunnel": "no", "id": "network", **stats["unknown"]}]:
            known = one["id"] != "network"
            if known:
                sides = one["ports"], one["tunnels"]
                rows.append([f"{one['tunnel']} {one['id']}", "", "", "", ""])
                for name, side in zip(("ports", "tunnels"), sides, strict=True):
                    rows.append([f"  {name}", *_traffic(side)])
                rows += ([f"  port {port['name']}", *_traffic(port)] for port in one["port"])
                rows += ([f"  remote {r['address']}", *_traffic(r)] for r in one["remote"])
                rows.append(["  copies", one["copies"], "", "", ""])
                rows.append(["  answers", one["answers"], "", "", ""])
            elif one["drops"]:
                rows.append(["no network", "", "", "", ""])
            rows += ([f"  drop {name}", n, "", "", ""] for name, n in one["drops"].items())
        _print(", >frames in, >bytes in, >frames out, >bytes out", rows)

    session.show(session.ask("stats", **fields), table)


def _traffic(side: dict[str, int]) -> list[object]:
    return [
        side["in_frames"], short(side["in_bytes"]) + "B",
        side["out_frames"], short(side["out_bytes"]) + "B",
    ]  # fmt: skip


@command.command("events")
@click.option("--count", type=click.IntRange(1), help="End after so many.")
@_PASS
def _events(session: _Session, count: int | None) -> None:
    """What happens, as it happens: learned, moved, aged, dropped for the first time."""
    for number, event in enumerate(session.events(), 1):
        if session.as_json:
            click.echo(json.dumps(event))
        else:
            fields = {name: value for name, value in event.items() if name not in ("kind", "time")}
            words = [f"{name}={_flat(value)}" for name, value in fields.items()]
            click.echo(" ".join([time.strftime("%H:%M:%S"), event["kind"], *words]))
        if number == count:
            return


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value)


@command.command("config")
@_PASS
def _config(session: _Session) -> None:
    """The configuration that was loaded last, as JSON."""
    answer = session.ask("config")
    click.echo(json.dumps(answer, indent=None if session.as_json else 2))


@command.command("reload")
@_PASS
def _reload(session: _Session) -> None:
    """Load the configuration again, as SIGHUP does, and say what changed."""
    session.show(
        session.ask("reload"),
        lambda answer: click.echo("\n".join(answer["steps"]) or "nothing changed"),
    )


# -- changing ------------------------------------------------------------------------


@command.group("add")
def _add() -> None:
    """Add a network, a port, a remote, an FDB entry or a neighbour."""


@_add.command("network")
@click.argument("number", metavar="ID", type=Number())
@_TUNNEL
@click.option("--name")
@click.option("--mtu", type=int)
@click.option("--remote", "remotes", multiple=True, help="A remote; more than once for more.")
@click.option("--learn/--no-learn", default=None)
@click.option("--ageing", type=float, help="Seconds.")
@click.option("--suppress-arp", is_flag=True, default=None)
@click.option("--limit", type=int, help="MAC addresses that may be learned.")
@click.option("--accept", type=click.Choice(["listed", "any"]))
@click.option("--mss-clamp", is_flag=True, default=None)
@click.option("--gbp", type=int, help="VXLAN group policy ID.")
@click.option("--group", help="Multicast group.")
@_PASS
def _add_network(session: _Session, /, number: int, remotes: tuple[str, ...], **given: Any) -> None:
    """Add network ID."""
    session.change("network.add", id=number, remotes=list(remotes), **given)


@_add.command("port")
@_NETWORK
@click.option("--tap", metavar="NAME", help="A TAP device; it is made if it is not there.")
@click.option("--interface", metavar="NAME", help="An interface.")
@click.option("--vlan", type=int, help="VID of the frames that are the port's.")
@click.option("--mac", help="The port's own MAC address.")
@click.option("--name")
@click.option("--queues", type=int)
@_PASS
def _add_port(session: _Session, /, network: str, **given: Any) -> None:
    """Add a port to NETWORK."""
    session.change("port.add", network=_network(network), **given)


@_add.command("remote")
@_NETWORK
@click.argument("address")
@_TUNNEL
@click.option(*ID, "key", type=Number(), help="Its VNI, VSID or Context ID.")
@click.option("--relay", is_flag=True, default=None, help="Pass frames on to other remotes.")
@click.option("--no-flood", is_flag=True, help="Send it no group and no unknown frames.")
@_PASS
def _add_remote(session: _Session, /, network: str, no_flood: bool, **given: Any) -> None:
    """Add a remote to NETWORK."""
    flood = False if no_flood else None
    session.change("remote.add", network=_network(network), flood=flood, **given)


@_add.command("fdb")
@_NETWORK
@click.argument("mac")
@click.option("--remote", metavar="ADDRESS")
@click.option("--port", metavar="NAME")
@click.option("--sticky", is_flag=True, default=None, help="Traffic from elsewhere is spoofed.")
@_PASS
def _add_fdb(session: _Session, /, network: str, **given: Any) -> None:
    """Set where MAC is in NETWORK, for good."""
    session.change("fdb.add", network=_network(network), **given)


@_add.command("neighbor")
@_NETWORK
@click.argument("ip")
@click.argument("mac")
@_PASS
def _add_neighbor(session: _Session, network: str, ip: str, mac: str) -> None:
    """Set the MAC address that IP is answered with in NETWORK."""
    session.change("neighbor.add", network=_network(network), ip=ip, mac=mac)


@command.group("remove")
def _remove() -> None:
    """Remove a network, a port, a remote, an FDB entry or a neighbour."""


@_remove.command("network")
@_NETWORK
@_PASS
def _remove_network(session: _Session, network: str) -> None:
    """Remove NETWORK with all that is in it."""
    session.change("network.remove", network=_network(network))


def _removal(kind: str, field: str, what: str) -> None:
    @_remove.command(kind, help=f"Remove {what} from NETWORK.")
    @_NETWORK
    @click.argument(field)
    @_PASS
    def remove(session: _Session, /, network: str, **given: str) -> None:
        session.change(f"{kind}.remove", network=_network(network), **given)


_removal("port", "name", "the port of this name")
_removal("remote", "address", "the remote of this address")
_removal("fdb", "mac", "a MAC address")
_removal("neighbor", "ip", "an IP address")


@command.command("flush")
@_NETWORK
@click.option("--port", metavar="NAME", help="Only what is at this port.")
@click.option("--remote", metavar="ADDRESS", help="Only what is at this remote.")
@click.option("--static", is_flag=True, default=None, help="Static entries too.")
@_PASS
def _flush(session: _Session, /, network: str, **given: Any) -> None:
    """Forget the MAC addresses that NETWORK has learned."""
    session.show(
        session.ask("fdb.flush", network=_network(network), **given),
        lambda answer: click.echo(f"{answer['removed']} entries removed"),
    )

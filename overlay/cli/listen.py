"""``overlay listen``: mirrored traffic of a UDP port, decapsulated, to a capture or a TAP."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import click

from overlay import PROTOCOLS, ConfigError, Profile
from overlay.address import ip_address
from overlay.io.block import Interface
from overlay.io.health import HealthCheck
from overlay.io.packet import Packet
from overlay.io.reflector import Reflector
from overlay.io.rotation import Rotation
from overlay.io.tap import Tap
from overlay.io.udp import Udp

from . import DONE, FAILED, REFUSED, fail
from .mirror import Feed, Frames, Mirror, Stop, Stream, Target, finished
from .option import (
    ABOVE_ZERO,
    DEPTH,
    IDS,
    JSON,
    STRICT,
    count,
    interface,
    profile_of,
    profile_option,
    seconds,
    tap,
)
from .stream import Tally, format_named
from .value import Size, Type

#: The protocols over UDP and the ports that they have.
PORTS: dict[str, int] = {
    name: field.default
    for name, kind in PROTOCOLS.items()
    for field in dataclasses.fields(kind)
    if field.name == "port" and isinstance(field.default, int)
}

_HINT = (
    "the kernel had no room for packets: let sockets have more by "
    "`sysctl net.core.rmem_max=67108864`, or run as root"
)


class Place(NamedTuple):
    """Where to listen; an address of None is all of them, of both families."""

    address: str | None
    port: int | None


class PlaceType(Type):
    """[ADDRESS]:PORT."""

    name = "[address]:port"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, Place):
            return value
        match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]*)):(\d{1,5})", value)
        if match is None or not 0 < int(match[3]) < 65536:
            example = ":4789 or [fd00::1]:6081"
            self.fail(f"{value!r} is no [ADDRESS]:PORT, such as {example}", param, ctx)
        try:
            address = ip_address("address", match[1] or match[2]) if match[1] or match[2] else None
        except ConfigError:
            self.fail(f"{value!r}: {match[1] or match[2]} is no IP address", param, ctx)
        return Place(address, int(match[3]))


def protocol_at(port: int | None, asked: str | None) -> str:
    """The protocol that is asked for, or whose port this is, or VXLAN."""
    if asked is not None:
        return asked
    return next((name for name, its in PORTS.items() if its == port), "vxlan")


def open_places(
    places: tuple[Place, ...], protocol: str | None, zero_checksum6: bool
) -> list[tuple[Udp, str]]:
    """A socket for each place and family, and the protocol that is spoken there."""
    found: list[tuple[Udp, str]] = []
    for place in places or (Place(None, None),):
        name = protocol_at(place.port, protocol)
        port = PORTS[name] if place.port is None else place.port
        addresses = [place.address] if place.address else ["0.0.0.0", "::"]
        for address in addresses:
            try:
                device = Udp(
                    address, port, senders=0, checksum=not zero_checksum6,
                    receive_buffer=64 << 20, timestamps=True,
                )  # fmt: skip
            except OSError as error:
                none = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
                if place.address is None and address == "::" and none:
                    continue  # a host without IPv6
                for opened, _ in found:
                    opened.close()
                raise
            found.append((device, name))
    return found


def named(device: Udp, protocol: str) -> str:
    """The name of a capture's interface: what was listened to."""
    host = f"[{device.local}]" if ":" in device.local else device.local
    return f"{host}:{device.port} {protocol}"


@click.command("listen")
@click.argument("places", metavar="[[ADDRESS]:PORT]...", type=PlaceType(), nargs=-1)
@click.option(
    "-w", "--write", "target", metavar="OUT", default="-", show_default=True,
    help="The capture to write, - for standard output.",
)  # fmt: skip
@tap("Give the frames to a TAP interface instead.")
@interface("Take all tunnels that arrive at an interface instead")
@click.option(
    "--protocol", type=click.Choice(list(PROTOCOLS)),
    help="What is spoken there; by default what the port is for, else VXLAN.",
)  # fmt: skip
@IDS
@profile_option("lenient")
@DEPTH
@click.option(
    "--format", "form", type=click.Choice(["pcap", "pcapng"]),
    help="By default as OUT is called, else pcapng.",
)  # fmt: skip
@click.option(
    "--rotate-size", type=Size(), metavar="BYTES",
    help="Begin a new file before one has more bytes than that (64M).",
)  # fmt: skip
@click.option(
    "--rotate-seconds", type=ABOVE_ZERO, metavar="N", help="Begin a new file after so long."
)
@click.option(
    "--files", type=click.IntRange(1, 10**6), metavar="N", help="Keep the N files written last."
)
@count("End after N frames.")
@seconds("End after so long.")
@click.option(
    "--health-check", type=click.IntRange(1, 65535), metavar="PORT",
    help="Answer a load balancer's health checks, HTTP or TCP, at this TCP port.",
)  # fmt: skip
@click.option(
    "--reflect", multiple=True, metavar="NETWORK",
    help="GENEVE: give datagrams back to senders in this network, as AWS Gateway "
    "Load Balancer expects; repeatable.",
)  # fmt: skip
@JSON
@STRICT
def command(
    places: tuple[Place, ...], target: str, tap: str | None, interface: str | None,
    protocol: str | None, keys: tuple[range, ...], profile: str, depth: int,
    form: Literal["pcap", "pcapng"] | None, rotate_size: int | None,
    rotate_seconds: float | None, files: int | None, count: int | None, seconds: float | None,
    health_check: int | None, reflect: tuple[str, ...], as_json: bool, strict: bool,
) -> int:  # fmt: skip
    """Take the frames out of mirrored traffic that is sent to UDP ports of this host.

    Cloud mirrors send VXLAN to port 4789 or GENEVE to 6081; ":PORT" listens at all
    addresses, and without any it is VXLAN's port.  Needs no root.

    Ends by Ctrl-C, SIGTERM, --count or --seconds, with a table of what came and what was
    lost.  To look at it live: overlay listen | wireshark -k -i -
    """
    if sys.platform != "linux":
        raise click.UsageError("listening needs Linux")
    rotates = rotate_size is not None or rotate_seconds is not None
    if tap is not None and (target != "-" or rotates or form):
        raise click.UsageError("--tap takes the place of a capture")
    if not target:
        raise click.UsageError("OUT has no name: give a file, or - for standard output")
    if rotates and target == "-":
        raise click.UsageError("--rotate-size and --rotate-seconds need --write FILE")
    if files is not None and not rotates:
        raise click.UsageError("--files needs --rotate-size or --rotate-seconds")
    if tap is None and target == "-" and sys.stdout.isatty():
        raise click.UsageError("OUT is a terminal: give --write FILE, or pipe it on")
    if interface is not None and places:
        raise click.UsageError("--interface takes the place of [ADDRESS]:PORT")
    if interface is None and protocol is not None and protocol not in PORTS:
        raise click.UsageError(f"{protocol} has no UDP port: --interface NAME hears it")
    spoken = {protocol_at(place.port, protocol) for place in places} or {protocol or "vxlan"}
    if reflect and (spoken != {"geneve"} or interface is not None):
        raise click.UsageError("--reflect is for GENEVE to UDP ports alone")
    tally = Tally("packets", "frames")
    with contextlib.ExitStack() as undo:
        stop = undo.enter_context(Stop())
        feeds, names = _feeds(undo, places, interface, protocol, profile, keys)
        out: Target
        if tap is not None:
            with explained():
                out = Frames(undo.enter_context(Tap(tap)))
        else:
            kind = form or format_named(target) or "pcapng"
            interfaces = [Interface(name=name) for name in names]
            if rotates:
                out = Rotation(
                    target, kind, interfaces=interfaces,
                    size=rotate_size, seconds=rotate_seconds, files=files,
                )  # fmt: skip
            else:
                out = Stream(
                    sys.stdout.buffer if target == "-" else target, kind, interfaces=interfaces
                )
        with finished(out):
            reflector = _reflector(undo, reflect, places) if reflect else None
            with explained():
                health = undo.enter_context(HealthCheck(health_check)) if health_check else None
            piped = out if isinstance(out, Stream) and target == "-" else None
            mirror = Mirror(
                feeds, out, tally, depth=depth, count=count, seconds=seconds,
                reflector=reflector, reader=piped,
            )  # fmt: skip
            mirror.run(stop)
        mirror.settle()
        if health is not None:
            tally.facts["health_checks"] = health.accepted
    tally.show(as_json, to_stderr=target == "-" and tap is None)
    lost = tally.facts["lost_in_the_kernel"]
    if lost and not as_json and interface is None:
        click.echo(_HINT, err=True)
    if isinstance(out, Rotation) and out.error is not None:
        fail(f"{target}: {out.error.strerror or out.error}")
        return FAILED
    return REFUSED if strict and (tally.refused or lost) else DONE


def _feeds(
    undo: contextlib.ExitStack, places: tuple[Place, ...], interface: str | None,
    protocol: str | None, profile: str, keys: tuple[range, ...],
) -> tuple[list[Feed], list[str]]:  # fmt: skip
    """What to listen to, and its names."""
    if interface is not None:
        known = {"protocols": (protocol,)} if protocol else {}
        chosen = profile_of(profile, keys, **known)
        try:
            heard = undo.enter_context(Packet(interface))
        except ConfigError as error:
            raise click.UsageError(f"--interface {interface}: needs {error.expected}") from None
        return [Feed(heard, chosen, 0)], [interface]
    zero = profile_of(profile).zero_checksum6 is True
    with explained():
        opened = open_places(places, protocol, zero)
    for device, _ in opened:
        undo.enter_context(device)
    profiles: dict[str, Profile] = {
        name: profile_of(profile, keys, protocols=(name,)) for _, name in opened
    }
    feeds = [Feed(device, profiles[name], n) for n, (device, name) in enumerate(opened)]
    return feeds, [named(device, name) for device, name in opened]


def _reflector(
    undo: contextlib.ExitStack, networks: tuple[str, ...], places: tuple[Place, ...]
) -> Reflector:
    ports = {place.port or PORTS["geneve"] for place in places} or {PORTS["geneve"]}
    if len(ports) > 1:
        raise click.UsageError("--reflect is for one port")
    try:
        return undo.enter_context(Reflector(networks, ports.pop()))
    except ConfigError as error:
        raise click.UsageError(f"--reflect {error.value}: expected {error.expected}") from None


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What the kernel says against a device is about no file: it is said as it is."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(error.strerror or str(error)) from None

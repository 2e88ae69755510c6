"""``overlay extcap``: decapsulated traffic as an interface of Wireshark.

Lives here: Wireshark's extcap protocol (its manual page extcap(4)), and the small
program in the user's folder that speaks it.  What must not: the capture itself,
which is :mod:`.mirror`'s.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import overlay
from overlay import PROTOCOLS, ConfigError
from overlay.address import ip_address
from overlay.io.packet import Packet

from . import DONE
from .listen import PORTS, Place, explained, open_places
from .mirror import Feed, Mirror, Stop, Stream, finished
from .option import profile_of
from .stream import Tally
from .value import Ids

UDP, INTERFACE = "overlay", "overlay_interface"
_SHOWN = {
    UDP: "Tunnels to a UDP port, decapsulated",
    INTERFACE: "Tunnels at an interface, decapsulated",
}

_MARK = "# Made by `overlay extcap --install`."
_MOVED = (4, 2)  # the Wireshark that has its personal programs below ~/.local/lib
_NO_FILTER = (
    "overlay has no capture filters: choose keys in the interface's options, "
    "and use a display filter"
)
_NUMBER = "(0x[0-9a-fA-F]+|[0-9]+)"
_PROFILE_PORTS = {"vxlan": "vxlan_port", "geneve": "geneve_port", "vxlan-gpe": "gpe_port"}


@click.command(
    "extcap", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.option("--install", "what", flag_value="install", help="Add the interfaces to Wireshark.")
@click.option("--uninstall", "what", flag_value="uninstall", help="Take them away.")
@click.option(
    "--dir", "folder", type=click.Path(file_okay=False),
    help="Wireshark's folder for such programs; by default the user's own.",
)  # fmt: skip
@click.option("--extcap-interfaces", "what", flag_value="interfaces", hidden=True)
@click.option("--extcap-dlts", "what", flag_value="dlts", hidden=True)
@click.option("--extcap-config", "what", flag_value="config", hidden=True)
@click.option("--capture", "what", flag_value="capture", hidden=True)
@click.option("--extcap-interface", "interface", hidden=True)
@click.option("--extcap-version", "version", is_flag=False, flag_value="", hidden=True)
@click.option("--extcap-capture-filter", "capture_filter", default="", hidden=True)
@click.option("--fifo", hidden=True)
@click.option("--protocol", default="", hidden=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, hidden=True)
@click.option("--address", default="", hidden=True)
@click.option("--device", default="", hidden=True)
@click.option("--keys", default="", hidden=True)
@click.option("--profile", default="lenient", hidden=True)
@click.option("--depth", type=click.IntRange(1, 16), default=1, hidden=True)
@click.pass_context
def command(
    ctx: click.Context, what: str | None, folder: str | None, interface: str | None,
    version: str | None, capture_filter: str, fifo: str | None, protocol: str, port: int,
    address: str, device: str, keys: str, profile: str, depth: int,
) -> int:  # fmt: skip
    """Show the traffic inside tunnels live in Wireshark, decapsulated.

    After "overlay extcap --install" Wireshark and tshark list two more interfaces:
    "overlay" for tunnels that are sent to a UDP port of this host, without root, and
    "overlay_interface" for all that arrive at a network interface, which needs
    CAP_NET_RAW.  Protocol, key and port are in the interface's options.  All other
    options are Wireshark's own to give.
    """
    if strange := [word for word in ctx.args if not word.startswith("--extcap-")]:
        raise click.UsageError(f"No such option or argument: {strange[0]}")
    if what in ("install", "uninstall"):
        place = (Path(folder) if folder else personal_folder()) / UDP
        (install if what == "install" else uninstall)(place)
        return DONE
    if what == "interfaces" or (what is None and version is not None):
        _say(interfaces())
        return DONE
    if what is None and interface is None:
        raise click.UsageError("nothing to do: --install or --uninstall")
    if interface not in _SHOWN:
        raise click.UsageError(f"no interface {interface}: {', '.join(_SHOWN)}")
    if what == "dlts":
        _say(["dlt {number=1}{name=EN10MB}{display=Ethernet}"])
    elif what == "config":
        _say(config(interface))
    elif what is None:  # is this filter one?  What is printed says why not
        _say([_NO_FILTER] if capture_filter else [])
    else:
        if not fifo:
            raise click.UsageError("--capture needs --fifo")
        if capture_filter:
            raise click.UsageError(_NO_FILTER)
        _capture(fifo, interface, protocol, port, address, device, keys, profile, depth)
    return DONE


def _say(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


# -- what Wireshark asks --------------------------------------------------------------


def interfaces() -> list[str]:
    """The answer to --extcap-interfaces."""
    if sys.platform != "linux":
        return []
    shown = [f"interface {{value={name}}}{{display={text}}}" for name, text in _SHOWN.items()]
    return [f"extcap {{version={overlay.__version__}}}{{display=overlay}}", *shown]


def config(interface: str) -> list[str]:
    """The answer to --extcap-config: the fields of the options' dialog."""
    lines: list[str] = []
    number = 0

    def ask(call: str, shown: str, kind: str, tip: str, more: str = "",
            values: dict[str, str] | None = None) -> None:  # fmt: skip
        nonlocal number
        lines.append(
            f"arg {{number={number}}}{{call=--{call}}}{{display={shown}}}{{type={kind}}}"
            f"{{tooltip={tip}}}{more}"
        )
        for place, (value, text) in enumerate((values or {}).items()):
            first = "{default=true}" if place == 0 else ""
            lines.append(f"value {{arg={number}}}{{value={value}}}{{display={text}}}{first}")
        number += 1

    names = {name: name.upper() for name in (PORTS if interface == UDP else PROTOCOLS)}
    if interface == UDP:
        ask("protocol", "Protocol", "selector", "What is sent to the port", values=names)
        ask("port", "UDP port", "unsigned", "0 is the protocol's own", "{range=0,65535}{default=0}")
        ask("address", "Address", "string", "To listen at; empty for all of this host")
    else:
        devices = {name: name for _, name in socket.if_nameindex()}
        ask("device", "Interface", "selector", "What arrives there; needs CAP_NET_RAW",
            values=devices)  # fmt: skip
        ask("protocol", "Protocol", "selector", "Which tunnels to take",
            values={"all": "All"} | names)  # fmt: skip
        ask("port", "UDP port", "unsigned", "Of the protocol, where it has one; 0 is its own",
            "{range=0,65535}{default=0}")  # fmt: skip
    ask(
        "keys",
        "Keys",
        "string",
        "Numbers and ranges to take, with commas; empty for all",
        f"{{validation=^([ ]*{_NUMBER}(-{_NUMBER})?[ ]*(,|$))*$}}",
    )
    ask("profile", "Profile", "selector", "What is accepted",
        values={"lenient": "lenient", "rfc": "rfc", "strict": "strict"})  # fmt: skip
    ask("depth", "Depth", "unsigned", "Tunnels within tunnels to remove at most",
        "{range=1,16}{default=1}")  # fmt: skip
    return lines


def _capture(
    fifo: str, interface: str, protocol: str, port: int, address: str, device: str, keys: str,
    profile: str, depth: int,
) -> None:  # fmt: skip
    """Frames to the pipe, until Wireshark has had enough."""
    protocol = "" if protocol == "all" else protocol
    if protocol and protocol not in (PORTS if interface == UDP else PROTOCOLS):
        raise click.UsageError(f"--protocol {protocol} is none that can be had here")
    ranges = [Ids().convert(word.strip(), None, None) for word in keys.split(",") if word.strip()]
    with contextlib.ExitStack() as undo:
        stop = undo.enter_context(Stop())
        if interface == UDP:
            at = Place(ip_address("address", address) if address else None, port or None)
            zero = profile_of(profile).zero_checksum6 is True
            with explained():
                opened = open_places((at,), protocol or "vxlan", zero)
            for udp, _ in opened:
                undo.enter_context(udp)
            chosen = profile_of(profile, ranges, protocols=(protocol or "vxlan",))
            feeds = [Feed(udp, chosen, 0) for udp, _ in opened]
        else:
            chosen = profile_of(profile, ranges, **_of_interface(protocol, port))
            try:
                feeds = [Feed(undo.enter_context(Packet(device)), chosen, 0)]
            except ConfigError as error:
                raise click.UsageError(f"{device or 'Interface'}: needs {error.expected}") from None
        out = Stream(fifo, "pcap")
        with contextlib.suppress(BrokenPipeError), finished(out):
            Mirror(feeds, out, Tally("packets", "frames"), depth=depth, reader=out).run(stop)


def _of_interface(protocol: str, port: int) -> dict[str, object]:
    """What the dialog says of the tunnels at an interface, as a profile's options."""
    if not port:
        return {"protocols": (protocol,)} if protocol else {}
    if protocol not in _PROFILE_PORTS:
        raise click.UsageError("--port needs a protocol over UDP")
    return {"protocols": (protocol,), _PROFILE_PORTS[protocol]: port}


# -- the program in Wireshark's folder -----------------------------------------------


def program() -> str:
    """What Wireshark starts: this Python with this package, whatever folder it is in."""
    home = str(Path(overlay.__file__).resolve().parent.parent)
    code = (
        "import sys; sys.path[:1] = []; "
        f"sys.path.append({home!r}); from overlay.cli import main; main()"
    )
    python = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    return f'#!/bin/sh\n{_MARK}\nexec {python} extcap "$@"\n'


def install(place: Path) -> None:
    """Write the program, whole, and say where."""
    if place.exists() and not _is_ours(place):
        raise click.UsageError(f"{place} is there and was not made by overlay")
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.urandom(6).hex()}")
    try:
        temporary.write_text(program())
        temporary.chmod(0o755)
        temporary.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    click.echo(f"{place}: Wireshark lists {UDP} and {INTERFACE} when it starts again")


def uninstall(place: Path) -> None:
    """Remove the program, if it is ours."""
    if not place.exists():
        raise click.UsageError(f"{place} is not there")
    if not _is_ours(place):
        raise click.UsageError(f"{place} was not made by overlay")
    place.unlink()
    click.echo(f"{place}: removed")


def _is_ours(place: Path) -> bool:
    try:
        return place.read_text(errors="replace").split("\n")[1:2] == [_MARK]
    except OSError:
        return False


def personal_folder() -> Path:
    """The user's own folder, where the Wireshark that is installed looks."""
    folders = dict(_folders())
    for name, path in folders.items():
        if name.startswith("personal extcap"):
            return Path(path)
    version = re.search(r"\b(\d+)\.(\d+)", _tshark("--version"))
    if version and (int(version[1]), int(version[2])) < _MOVED:
        config = folders.get("personal configuration")
        return (Path(config) if config else Path.home() / ".config/wireshark") / "extcap"
    return Path.home() / ".local/lib/wireshark/extcap"


def _folders() -> Iterator[tuple[str, str]]:
    for line in _tshark("-G", "folders").splitlines():
        name, colon, path = line.partition(":")
        if colon:
            yield name.strip().lower(), path.strip()


def _tshark(*words: str) -> str:
    """What tshark, or Wireshark without it, says; nothing where there is neither."""
    found = shutil.which("tshark") or shutil.which("wireshark")
    if found is None:
        return ""
    try:
        return subprocess.run(
            [found, *words], capture_output=True, text=True, timeout=30, check=False,
            stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""

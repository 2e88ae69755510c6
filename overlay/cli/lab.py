"""``overlay lab``: hosts in network namespaces, a tunnel between them, and what it does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

from overlay.lab import exam, picture
from overlay.lab.host import Host, LabError, MissingError, unshared
from overlay.lab.ovs import OvsGre, OvsVxlan
from overlay.lab.peer import KernelVxlan, Peer, Segment
from overlay.lab.topology import Topology
from overlay.lab.vtep import OverlayVtep
from overlay.switch import SWITCHED

from . import DONE, REFUSED
from .option import JSON

__all__ = ["command", "enter_namespace"]

_KINDS: tuple[type[Peer], ...] = (OverlayVtep, KernelVxlan, OvsVxlan, OvsGre)
_INSIDE = "OVERLAY_LAB_INSIDE"  # set where this process is in a user namespace of its own


def _kind(peer: str, tunnel: str) -> type[Peer]:
    for kind in _KINDS:
        if kind.kind == peer and tunnel in kind.tunnels:
            return kind
    spoken = [word for kind in _KINDS if kind.kind == peer for word in kind.tunnels]
    others = sorted({kind.kind for kind in _KINDS if tunnel in kind.tunnels})
    raise click.UsageError(
        f"--peer {peer} speaks {' and '.join(spoken)}; --tunnel {tunnel} goes with --peer"
        f" {' or '.join(others)}"
    )


@click.command("lab")
@click.option(
    "--tunnel", type=click.Choice(list(SWITCHED)), default="vxlan", show_default=True,
    help="Protocol between the hosts.",
)  # fmt: skip
@click.option(
    "--peer", type=click.Choice(["overlay", "kernel", "ovs"]), default="overlay",
    show_default=True, help="What host b runs: this package, the kernel, Open vSwitch.",
)  # fmt: skip
@click.option(
    "--hosts", type=click.IntRange(2, 3), default=2, show_default=True,
    help="Two on a cable, or three on a switch; hosts a and c run overlay.",
)  # fmt: skip
@click.option("--ipv6", is_flag=True, help="The underlay is IPv6.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True,
    help="How long each measurement of speed takes.",
)  # fmt: skip
@click.option(
    "--capture", type=click.Path(dir_okay=False), help="Keep the captured packets in this file."
)
@click.option("--keep", is_flag=True, help="End in a shell in host a.")
@JSON
def command(
    tunnel: str, peer: str, hosts: int, ipv6: bool, seconds: float, capture: str | None,
    keep: bool, as_json: bool,
) -> int:  # fmt: skip
    """Build hosts out of network namespaces, join them by a tunnel, and try it.

    Needs no root where users may have namespaces, changes nothing of the system,
    and leaves nothing behind.  Exit status 1 if anything does not work.
    """
    kind = _kind(peer, tunnel)
    if keep and as_json:
        raise click.UsageError("--keep and --json exclude each other")
    enter_namespace()
    segment = Segment(tunnel=tunnel, version=6 if ipv6 else 4)
    results: list[exam.Result] = []
    # Open vSwitch takes packets as they are on the wire.
    with Topology(hosts, offload="wire" if kind.kind == "ovs" else "veth") as topology:
        kinds: list[type[Peer]] = [OverlayVtep, kind, OverlayVtep]
        pairs = zip(kinds, topology.hosts, strict=False)
        peers = [one(topology, host, segment) for one, host in pairs]
        if not as_json:
            click.echo(picture.draw(peers) + "\n")
        for one in peers:
            one.start()
        path = os.path.join(topology.folder, "lab.pcap")
        for result in _examine(topology, peers, seconds, path):
            results.append(result)
            if not as_json:
                click.echo(_line(result))
        if capture and os.path.exists(path):
            shutil.copyfile(path, capture)
        good = all(result.passed is not False for result in results)
        if as_json:
            click.echo(json.dumps(_report(peers, results, good)))
        else:
            click.echo("\n" + _verdict(results, segment, kind))
        if keep:
            _shell(topology, peers)
    return DONE if good else REFUSED


def _examine(
    topology: Topology, peers: list[Peer], seconds: float, path: str
) -> Iterator[exam.Result]:
    """Every question, in the order in which a failure says most."""
    first, others = peers[0], peers[1:]
    for other in others:
        reached = False
        for result in exam.connectivity(first, other):
            reached = reached or result.passed is True
            yield result
        if not reached:  # all else would only take long to fail
            return
    if len(others) > 1:
        yield from exam.connectivity(others[0], others[1])
    try:
        topology.set_offload("wire")
    except MissingError as error:
        yield exam.Result("capture", "", str(error), None)
    else:
        yield from exam.capture(first, others[0], path)
        topology.set_offload(topology.offload)
    yield from exam.sizes(first, others[0])
    yield from exam.tags(first, others[0])
    yield from exam.streams(first, others[0])
    yield from exam.speed(first, others[0], seconds)


_MARKS = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("skipped", "yellow")}


def _line(result: exam.Result) -> str:
    word, colour = _MARKS[result.passed]
    mark = click.style(word.ljust(7), fg=colour)
    return f"{mark}  {result.name:<32} {result.between:<6} {result.detail}"


def _verdict(results: list[exam.Result], segment: Segment, kind: type[Peer]) -> str:
    failed = [result.name for result in results if result.passed is False]
    skipped = sum(result.passed is None for result in results)
    what = f"overlay and {kind.kind}, {segment.tunnel} over IPv{segment.version}"
    left_out = f", {skipped} skipped" if skipped else ""
    if failed:
        return f"{what}: {len(failed)} of {len(results)} failed{left_out}: {', '.join(failed)}"
    return f"{what}: all {len(results) - skipped} passed{left_out}"


def _report(peers: list[Peer], results: list[exam.Result], good: bool) -> dict[str, Any]:
    return {
        "good": good,
        "tunnel": peers[0].segment.tunnel,
        "key": peers[0].segment.key,
        "hosts": [
            {
                "name": peer.host.name,
                "runs": peer.kind,
                "tenant": [peer.address(4), peer.address(6)],
                "underlay": peer.local,
                "mtu": peer.mtu,
            }
            for peer in peers
        ],
        "results": [vars(result) for result in results],
    }


def _shell(topology: Topology, peers: list[Peer]) -> None:
    """An interactive shell in host a, until it ends."""
    click.echo(f"\nA shell in host {peers[0].host.name}; leave it to end the lab.  Try:")
    click.echo(f"  ping {peers[1].address()}")
    for peer in peers[1:]:
        click.echo(f"  nsenter --net={peer.host.path} bash".ljust(44) + f"# host {peer.host.name}")
    if topology.switch is not None:
        click.echo(f"  nsenter --net={topology.switch.path} bash".ljust(44) + "# the switch")
    for peer in peers:
        if isinstance(peer, OverlayVtep):
            click.echo(f"  {sys.executable} -m overlay ctl --socket {peer.control} list")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the shell
    try:
        shell = os.environ.get("SHELL") or "/bin/sh"
        peers[0].host.popen([shell], stdin=None, stdout=None, stderr=None).wait()
    finally:
        signal.signal(signal.SIGINT, before)


def enter_namespace() -> None:
    """Go on as this process where it may make namespaces; else start again where it may."""
    try:
        Host("probe").close()
        return
    except LabError as error:
        if _INSIDE in os.environ:
            raise
        reason = str(error)
    try:
        words = unshared()
    except LabError as error:
        raise LabError(f"{reason}; {error}") from None
    os.environ[_INSIDE] = "1"
    sys.stdout.flush()
    os.execv(words[0], [*words, sys.executable, "-m", "overlay", *sys.argv[1:]])

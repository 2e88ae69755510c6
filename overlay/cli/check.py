"""``overlay check``: native against reference on the user's own capture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from overlay import (
    PROTOCOLS,
    DecapError,
    Difference,
    Profile,
    Tunnel,
    check,
)
from overlay._backend import load
from overlay.io.pcap import Burst

from .option import JSON, port_options, profile_of, profile_option, sample
from .stream import Reading, open_input


def tunnels() -> list[Tunnel]:
    """One of each protocol over IPv4, and over IPv6 with a tag and without counters.

    And one that carries IP, where there is such.
    """
    made: list[Tunnel] = []
    for kind in PROTOCOLS.values():
        made.append(sample(kind, df=False))
        made.append(sample(kind, local="2001:db8::1", remote="2001:db8::2", outer_vlan=7))
        if hasattr(kind, "payload"):
            made.append(sample(kind, payload="ip"))
    return made


def _compare(
    burst: Burst, profile: Profile, through: list[Tunnel]
) -> Iterator[tuple[int, str, Difference | None]]:
    """What was compared, by packet number and name, and the difference."""
    batch = burst.batch
    reference = load("reference")
    for row in range(batch.count):
        number, packet = burst.first + row + 1, bytes(batch[row])
        options: dict[str, Any] = {
            "link": int(batch.link[row]),
            "wire_length": int(batch.wire[row]),
        }
        yield number, "decap", check(packet, profile=profile, **options)
        try:
            frame = reference.decap(packet, profile, **options).frame
        except DecapError:
            if options["link"]:
                continue
            frame = packet  # not from a tunnel: a frame in its own right
        for tunnel in through:
            ip = " of IP" if getattr(tunnel, "payload", "") == "ip" else ""
            name = f"encap {tunnel.name}{ip} over IPv{tunnel.family}"
            yield number, name, check(frame, tunnel)
            if tunnel.name == "stt":
                yield number, f"{name}, segmented", check(frame, tunnel, mtu=1500)


@click.command("check")
@click.argument("source", metavar="IN")
@profile_option()
@port_options
@JSON
def command(source: str, profile: str, ports: dict[str, int], as_json: bool) -> int:
    """Run native and reference on the packets of IN and compare every byte.

    Each packet is decapsulated, and each frame that comes out (or the packet
    itself, where it is in no tunnel) is put through every protocol.  Exit
    status 1 if the two differ; the first differing field of each is printed.
    """
    chosen = profile_of(profile, **ports)
    load("native")  # says at once that there is nothing to compare
    packets = compared = 0
    differences: list[dict[str, object]] = []
    through = tunnels()
    with open_input(source) as capture:
        reading = Reading(capture)
        for burst in reading:
            packets += len(burst)
            for number, what, found in _compare(burst, chosen, through):
                compared += 1
                if found is not None:
                    differences.append({"packet": number, "what": what, "where": str(found)})
    if as_json:
        result = {"packets": packets, "compared": compared, "differences": differences}
        click.echo(json.dumps(result))
    else:
        for said in differences[:20]:
            click.echo(f"packet {said['packet']}: {said['what']}: {said['where']}")
        if len(differences) > 20:
            click.echo(f"and {len(differences) - 20} more")
        verdict = "all alike" if not differences else f"{len(differences)} differ"
        click.echo(f"{packets} packets, {compared} comparisons, {verdict}")
    return reading.end(bool(differences))

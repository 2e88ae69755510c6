"""``overlay mtu``: what a tunnel costs, header by header."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import click

from overlay import PROTOCOLS, ConfigError, Tunnel
from overlay.cost.cloud import CLOUDS
from overlay.layout import fields

from .option import JSON, sample
from .stream import print_table
from .value import Number

_SHOWN = {
    "ethernet": "Ethernet", "vlan": "802.1Q tag", "ipv4": "IPv4", "ipv6": "IPv6", "udp": "UDP",
    "tcp": "TCP-shaped", "vxlan": "VXLAN", "nvgre": "GRE with key (NVGRE)", "stt": "STT",
    "geneve": "GENEVE", "gpe": "VXLAN-GPE", "gre": "GRE", "erspan": "ERSPAN",
}  # fmt: skip


def _sizes(tunnel: Tunnel) -> dict[str, int]:
    """The bytes of each outer header, read off a packet."""
    sizes: Counter[str] = Counter()
    for field in fields(tunnel.encap(bytes(60)), by=tunnel):
        if field.header != "inner" and not field.header.startswith("inner."):
            sizes[field.header.rpartition(".")[2]] += field.size
    return {_SHOWN.get(header, header): size for header, size in sizes.items()}


@click.command("mtu")
@click.argument("protocol", metavar="PROTOCOL", type=click.Choice(list(PROTOCOLS)))
@click.option(
    "--underlay", type=Number(), help="IP MTU of the underlay; 1500, or what --cloud says."
)
@click.option(
    "--cloud", type=click.Choice(list(CLOUDS)), help="Take the underlay's MTU of this cloud."
)
@click.option(
    "--ip", "family", type=click.Choice(["4", "6"]), default="4", show_default=True,
    help="IP version of the underlay.",
)  # fmt: skip
@click.option("--vlan", is_flag=True, help="The underlay's frames carry an 802.1Q tag.")
@click.option(
    "--inner-tags", type=click.IntRange(0, 2), default=0, show_default=True,
    help="802.1Q tags that the inner frames keep.",
)  # fmt: skip
@JSON
def command(
    protocol: str, underlay: int | None, cloud: str | None, family: str, vlan: bool,
    inner_tags: int, as_json: bool,
) -> None:  # fmt: skip
    """Print the overhead of a protocol header by header, the inner MTU and the TCP MSS."""
    ends = ("192.0.2.1", "192.0.2.2") if family == "4" else ("2001:db8::1", "2001:db8::2")
    place = None if cloud is None else CLOUDS[cloud]
    if underlay is None:
        underlay = 1500 if place is None else place.mtu
    kind = PROTOCOLS[protocol]
    tunnel = sample(kind, local=ends[0], remote=ends[1], outer_vlan=1 if vlan else None)
    headers = _sizes(tunnel)
    try:
        inner = tunnel.inner_mtu(underlay, inner_tags=inner_tags)
    except ConfigError as error:
        raise click.UsageError(f"--underlay {underlay}: expected {error.expected}") from None
    result: dict[str, Any] = {
        "protocol": protocol,
        "headers": headers,
        "overhead": tunnel.overhead,
        "underlay_mtu": underlay,
        "inner_mtu": inner,
        "tcp_mss_ipv4": max(0, inner - 40),
        "tcp_mss_ipv6": max(0, inner - 60),
    }
    if protocol == "stt":
        result["largest_segmented_frame"] = 65535 - 18
    if place is not None:
        result["cloud"] = {
            **dataclasses.asdict(place),
            "inner_mtu_at_most": tunnel.inner_mtu(place.most, inner_tags=inner_tags),
            "inner_mtu_outside": tunnel.inner_mtu(place.outside, inner_tags=inner_tags),
        }
    if as_json:
        click.echo(json.dumps(result))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for header, size in headers.items():
        table.add_row(str(size), header)
    table.add_row(str(tunnel.overhead), "bytes added to a frame", style="bold")
    table.add_row("", "")
    table.add_row(str(underlay), "underlay IP MTU")
    table.add_row(str(inner), "inner IP MTU", style="bold")
    table.add_row(str(result["tcp_mss_ipv4"]), "TCP MSS, inner IPv4")
    table.add_row(str(result["tcp_mss_ipv6"]), "TCP MSS, inner IPv6")
    if protocol == "stt":
        table.add_row("65517", "largest frame, segmented")
    if place is not None:
        advice = result["cloud"]
        table.add_row("", "")
        table.add_row(str(place.most), f"largest IP MTU of {place.name}")
        table.add_row(str(advice["inner_mtu_at_most"]), "inner IP MTU with that", style="bold")
        table.add_row(str(place.outside), "IP MTU of what leaves it")
        table.add_row(str(advice["inner_mtu_outside"]), "inner IP MTU with that", style="bold")
    print_table(table)
    if place is not None:
        click.echo(f"{place.note}\n{place.source}")

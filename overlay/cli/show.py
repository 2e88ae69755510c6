"""``overlay show``: one line a packet, outer and inner, or one a field."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import click
import numpy as np

import overlay
from overlay import PROTOCOLS, CaptureError, Profile, Status
from overlay.io.pcap import Burst
from overlay.layout import Field, fields, frame_fields
from overlay.tunnel import NO_KEY

from . import DONE, FAILED, REFUSED, fail
from .option import JSON, STRICT, port_options, profile_of, profile_option
from .stream import open_input

_NAMES = {kind.number: name for name, kind in PROTOCOLS.items()}
_TYPES = {0x0806: "ARP", 0x0800: "IPv4", 0x86DD: "IPv6", 0x8847: "MPLS", 0x88CC: "LLDP"}
_PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 58: "ICMPv6", 132: "SCTP"}


#: Bytes of a field that a line shows.
_SHOWN = 24

Values = list[tuple[Field, bytes]]


def _read(data: memoryview, found: list[Field]) -> Values:
    return [(field, bytes(data[field.offset : field.offset + field.size])) for field in found]


def _by_name(values: Values) -> dict[str, bytes]:
    return {field.name: value for field, value in values}


def _ends(values: dict[str, bytes], side: str) -> tuple[str, str] | None:
    """Source and destination: IP addresses, or else MAC addresses."""
    for header, size in (("ipv4", 4), ("ipv6", 16), ("ethernet", 6)):
        pair = values.get(f"{side}.{header}.source"), values.get(f"{side}.{header}.destination")
        if all(end is not None and len(end) == size for end in pair):
            texts = [e.hex(":") if size == 6 else str(ipaddress.ip_address(e)) for e in pair if e]
            return texts[0], texts[1]
    return None


def _kind(values: dict[str, bytes], side: str) -> str:
    """What a frame carries, in a word or two."""
    words = []
    if tci := values.get(f"{side}.vlan.tci"):
        words.append(f"vlan {int.from_bytes(tci, 'big') & 0xFFF}")
    protocol = values.get(f"{side}.ipv4.protocol") or values.get(f"{side}.ipv6.next_header")
    ethertype = int.from_bytes(values.get(f"{side}.ethernet.ethertype", b""), "big")
    if protocol:
        words.append(_PROTOCOLS.get(protocol[0], f"IP protocol {protocol[0]}"))
    else:
        words.append(_TYPES.get(ethertype, f"EtherType {ethertype:#06x}"))
    for header in ("udp", "tcp"):
        ports = (
            values.get(f"{side}.{header}.source_port"),
            values.get(f"{side}.{header}.destination_port"),
        )
        if ports[0] and ports[1]:
            words.append(" > ".join(str(int.from_bytes(port, "big")) for port in ports if port))
    return " ".join(words)


def _rows(burst: Burst, profile: Profile, with_fields: bool) -> list[dict[str, Any]]:
    """What there is to say of each packet of a burst."""
    batch, rows = burst.batch, []
    packets = [
        _read(batch[row], fields(batch[row], link=int(link), by=profile)) if link < 2 else []
        for row, link in enumerate(batch.link.tolist())
    ]
    lengths = batch.wire.tolist()
    overlay.decap_batch(batch, profile)
    for row, packet in enumerate(packets):
        values = _by_name(packet)
        status = Status(int(batch.status[row]))
        said: dict[str, Any] = {
            "number": burst.first + row + 1,
            "time": int(burst.timestamps[row]),
            "length": lengths[row],
            "status": status.name,
        }
        if ends := _ends(values, "outer"):
            said["outer"] = {"source": ends[0], "destination": ends[1]}
        if status == Status.OK:
            inner = _by_name(_read(batch[row], frame_fields(batch[row])))
            said["protocol"] = _NAMES[int(batch.protocol[row])]
            key = int(batch.key[row])
            said["key"] = None if key == NO_KEY and said["protocol"] != "stt" else key
            said["inner"] = {"length": int(batch.wire[row]), "type": _kind(inner, "inner")}
            if ends := _ends(inner, "inner"):
                said["inner"].update({"source": ends[0], "destination": ends[1]})
        elif values:
            said["type"] = _kind(values, "outer")
        if with_fields:
            said["fields"] = [
                {"name": field.name, "offset": field.offset, "bytes": value.hex()}
                for field, value in packet
            ]
        rows.append(said)
    return rows


def _line(said: dict[str, Any], first: int) -> str:
    """One packet in one line, and one for each of its fields."""
    after = said["time"] - first
    sign = "-" if after < 0 else ""
    time = f"{sign}{abs(after) // 10**9}.{abs(after) % 10**9:09d}"
    words = [f"{said['number']:>5} {time:>16}"]
    if ends := said.get("outer"):
        words.append(f"{ends['source']} > {ends['destination']}")
    if inner := said.get("inner"):
        key = "none" if said["key"] is None else said["key"]
        words.append(f"{said['protocol']} key={key}")
        words.append(f"{inner.get('source', '?')} > {inner.get('destination', '?')}")
        words.append(f"{inner['type']} {inner['length']}")
    else:
        words.append(said.get("type", ""))
        words.append(said["status"])
    lines = ["  ".join(word for word in words if word)]
    for field in said.get("fields", ()):
        shown = field["bytes"][: 2 * _SHOWN] + ("..." if len(field["bytes"]) > 2 * _SHOWN else "")
        lines.append(f"{field['offset']:>11}  {field['name']:<32} {shown}")
    return "\n".join(lines)


@click.command("show")
@click.argument("source", metavar="IN")
@profile_option()
@port_options
@click.option(
    "--fields", "with_fields", is_flag=True,
    help="And a line for every field of the headers: its offset, its name, its bytes.",
)  # fmt: skip
@JSON
@STRICT
def command(
    source: str, profile: str, ports: dict[str, int], with_fields: bool, as_json: bool, strict: bool
) -> int:
    """Print the packets of IN, a line each.

    Number, seconds since the first packet, outer addresses, protocol and key,
    inner addresses, what the frame carries and its length; or why it was
    refused.  With --json an object a line, "time" in nanoseconds since 1970, "key"
    null where the tunnel has none.
    """
    chosen = profile_of(profile, **ports)
    first: int | None = None
    refused = 0
    with open_input(source) as capture:
        try:
            for burst in capture:
                first = int(burst.timestamps[0]) if first is None else first
                rows = _rows(burst, chosen, with_fields)
                refused += int(np.count_nonzero(burst.batch.status))
                for row in rows:
                    click.echo(json.dumps(row) if as_json else _line(row, first))
        except CaptureError as error:
            fail(str(error))
            return FAILED
    return REFUSED if strict and refused else DONE

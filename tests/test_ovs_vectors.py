"""Open vSwitch's own expected packets for VXLAN push: inner frame to whole outer packet.

The tunnel's fields are read from the expected packet with struct, here.
"""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from overlay import VXLAN
from overlay.codec import Codec

FILE = Path(__file__).parents[2] / "shared/captures/ovs/dpif-netdev-vxlan-push.hex.txt"
SOURCE_PORT = 57363  # Open vSwitch pins it in these tests


class Row(NamedTuple):
    name: str
    header: int
    frame: bytes
    packet: bytes


def rows() -> list[Row]:
    """The rows whose outer checksums are final."""
    if not FILE.exists():
        return []
    found = []
    for number, line in enumerate(FILE.read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        ok, header, unchanged, _, _, given, expected, packet_hex = line.split("\t")
        packet = bytes.fromhex(packet_hex)
        # Where Open vSwitch finished an offloaded inner checksum, the inner frame is its own.
        frame = bytes.fromhex(given) if unchanged == "1" else packet[int(header) :]
        if ok == "1":
            found.append(Row(f"line{number}-{expected}", int(header), frame, packet))
    return found


ROWS = rows()
pytestmark = pytest.mark.skipif(not ROWS, reason="../shared is missing")


def tunnel_of(packet: bytes) -> VXLAN:
    """The tunnel that Open vSwitch was given."""
    remote_mac, local_mac, ethertype = struct.unpack_from("!6s6sH", packet)
    if ethertype == 0x0800:
        ttl, local, remote = struct.unpack_from("!22xB3x4s4s", packet)
        l4 = 34
    else:
        ttl, local, remote = struct.unpack_from("!21xB16s16s", packet)
        l4 = 54
    source, port, _, checksum, _, vni = struct.unpack_from("!HHHHII", packet, l4)
    assert source == SOURCE_PORT
    return VXLAN(
        vni=vni >> 8,
        local=ipaddress.ip_address(local),  # type: ignore[arg-type]
        remote=ipaddress.ip_address(remote),  # type: ignore[arg-type]
        local_mac=local_mac,
        remote_mac=remote_mac,
        ttl=ttl,
        port=port,
        source_port=source,
        flow_label=0,
        checksum=checksum != 0,
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_encap_gives_what_open_vswitch_expects(codec: Codec, row: Row) -> None:
    """COM-1, VXLAN-1, VXLAN-2, VXLAN-3, VXLAN-14, VXLAN-16, VXLAN-34."""
    tunnel = tunnel_of(row.packet)
    assert tunnel.overhead == row.header
    assert codec.encap(tunnel, row.frame) == row.packet


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decap_takes_what_open_vswitch_expects(codec: Codec, row: Row) -> None:
    """VXLAN-15, VXLAN-19: and what was found rebuilds the packet."""
    found = codec.decap(row.packet, "strict", zero_checksum6=True)
    assert found.frame == row.frame
    assert found.key == tunnel_of(row.packet).vni
    assert codec.encap(found.tunnel, found.frame) == row.packet

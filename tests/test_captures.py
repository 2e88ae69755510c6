"""Captures of other authors: every one is read to its end, and tshark agrees on what is inside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import overlay
from overlay.cli import cli
from overlay.io.pcap import open_capture

SHARED = Path(__file__).parent.parent.parent / "shared" / "captures"
FILES = sorted(p for p in SHARED.glob("*/*") if p.suffix in (".pcap", ".pcapng", ".cap"))

# Files in which VXLAN or keyed Ethernet-in-GRE is known to be, and how many packets of it.
KNOWN = {
    "tcpdump/vxlan.pcap": 10, "zeek/vxlan-encapsulated-http.pcap": 12,
    "peers/k_vxlan_v4_arp_icmp.pcap": 34, "peers/k_vxlan_v6_outer.pcap": 16,
    "peers/k_vxlan_v4_gbp.pcap": 20, "peers/ovs_vxlan_v4.pcap": 10, "peers/ovs_gre_v4.pcap": 28,
    "tcpdump/gso-ipv6-vxlan-ipv6.pcap": 1, "pcapplusplus/Vxlan1.pcap": 1,
}  # fmt: skip

_OUTER = {"geninfo", "frame", "eth", "ethertype", "vlan", "raw", "ip", "ipv6", "udp"}

pytestmark = pytest.mark.skipif(not FILES, reason="the captures are missing")


def name_of(path: Path) -> str:
    return path.relative_to(SHARED).as_posix()


def number(proto: ElementTree.Element, name: str) -> int | None:
    """A field's value in a dissected header."""
    for field in proto.iter("field"):
        if field.get("name") == name:
            return int(field.get("show", ""), 0)
    return None


def tunnelled(packet: ElementTree.Element, size: int) -> tuple[int, int, int] | None:
    """Key, offset and end of the inner frame as tshark sees it; None if it is in no tunnel."""
    protos = list(packet.iter("proto"))
    names = [proto.get("name", "") for proto in protos]
    at = next((i for i, name in enumerate(names) if name not in _OUTER), len(names))
    if at + 1 >= len(names) or names[at] not in ("vxlan", "gre") or names[at + 1] != "eth":
        return None
    end = size
    for proto, name in zip(protos[:at], names, strict=False):
        start = int(proto.get("pos", "0"))
        if name == "ip":
            end = min(end, start + (number(proto, "ip.len") or size))
        elif name == "ipv6":
            end = min(end, start + 40 + (number(proto, "ipv6.plen") or size))
        elif name == "udp":
            end = min(end, start + (number(proto, "udp.length") or size))
    shim = protos[at]
    if names[at] == "vxlan":
        key = number(shim, "vxlan.vni")
        sound = number(shim, "vxlan.flag_i") != 0
    else:
        word = number(shim, "gre.key")
        key = None if word is None else word >> 8
        sound = True
    if key is None or not sound:
        return None
    return key, int(protos[at + 1].get("pos", "0")), end


def wrong_checksum(packet: ElementTree.Element) -> bool:
    """Whether the outer IPv4 checksum is there and wrong."""
    header = next((p for p in packet.iter("proto") if p.get("name") == "ip"), None)
    outer = next(p for p in packet.iter("proto") if p.get("name") in ("ip", "ipv6"))
    if header is None or header is not outer or number(header, "ip.checksum") == 0:
        return False
    return number(header, "ip.checksum.status") == 0


@pytest.mark.parametrize("path", FILES, ids=name_of)
@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_decap_ends_well(path: Path, profile: str, tmp_path: Path) -> None:
    """COM-19: every packet is a frame or is counted with its reason."""
    out = tmp_path / "out.pcap"
    args = ["decap", str(path), str(out), "--json", "--profile", profile, "--depth", "4"]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    with open_capture(path) as capture:
        assert said["packets"] == sum(len(burst) for burst in capture)
    with open_capture(out) as capture:
        assert said["frames"] == sum(len(burst) for burst in capture)
    assert said["packets"] == said["frames"] + said["refused"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_inner_frames_are_those_that_tshark_sees(
    path: Path, tool: Callable[[str], str]
) -> None:
    """COM-2, COM-4, NVGRE-27, VXLAN-6: keys and bytes, but for wrong outer IPv4 checksums."""
    command = [tool("tshark"), "-n", "-r", path, "-T", "pdml", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run(command, capture_output=True, check=True)
    theirs = list(ElementTree.fromstring(done.stdout).iter("packet"))
    seen = 0
    for packet, dissected in zip(packets(path), theirs, strict=True):
        data, link, wire = packet
        found = tunnelled(dissected, len(data))
        if found is None or link == 2:
            continue
        key, start, end = found
        if wrong_checksum(dissected):
            with pytest.raises(overlay.DecapError) as refused:
                overlay.decap(data, profile="lenient", link=link, wire_length=wire)
            assert refused.value.status == overlay.Status.IP_CHECKSUM
            continue
        d = overlay.decap(data, profile="lenient", link=link, wire_length=wire)
        assert d.key == key
        assert d.frame == data[start:end]
        assert d.header == data[:start]
        seen += 1
    assert seen == KNOWN.get(name_of(path), seen)


def packets(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Bytes, link and length on the wire of every packet."""
    with open_capture(path) as capture:
        for burst in capture:
            for row in range(len(burst)):
                batch = burst.batch
                yield bytes(batch[row]), int(batch.link[row]), int(batch.wire[row])

"""Captures of other authors: every one is read to its end, and tshark agrees on what is inside."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import overlay
from overlay import Status
from overlay.cli import cli
from overlay.io.pcap import open_capture
from overlay.tunnel import NO_KEY

SHARED = Path(__file__).parent.parent.parent / "shared" / "captures"
FILES = sorted(p for p in SHARED.glob("*/*") if p.suffix in (".pcap", ".pcapng", ".cap"))

# Files in which tunnels are known to be, and how many packets of which.
KNOWN: dict[str, dict[str, int]] = {
    "tcpdump/vxlan.pcap": {"vxlan": 10}, "zeek/vxlan-encapsulated-http.pcap": {"vxlan": 12},
    "peers/k_vxlan_v4_arp_icmp.pcap": {"vxlan": 34}, "peers/k_vxlan_v6_outer.pcap": {"vxlan": 16},
    "peers/k_vxlan_v4_gbp.pcap": {"vxlan": 20}, "peers/ovs_vxlan_v4.pcap": {"vxlan": 10},
    "peers/ovs_gre_v4.pcap": {"nvgre": 28}, "peers/ovs_geneve_v4.pcap": {"geneve": 9},
    "tcpdump/gso-ipv6-vxlan-ipv6.pcap": {"vxlan": 1}, "pcapplusplus/Vxlan1.pcap": {"vxlan": 1},
    "pcapplusplus/GrePackets.pcap": {"gre": 3, "nvgre": 1}, "gopacket/gre.pcap": {"gre": 2},
    "gopacket/geneve.pcap": {"geneve": 2}, "tcpdump/geneve.pcap": {"geneve": 39},
    "tcpdump/geneve-gcp.pcap": {"geneve": 1}, "zeek/geneve-47101.pcap": {"geneve": 24},
    "zeek/geneve-many-options.pcap": {"geneve": 10}, "zeek/gre-sample.pcap": {"gre": 40},
    "zeek/gre-within-gre.pcap": {"gre": 628}, "zeek/erspanI.pcap": {"erspan": 10},
    "zeek/erspanII.pcap": {"erspan": 4}, "zeek/erspanIII.pcap": {"erspan": 2},
    "tcpdump/erspan-type-iii-ft-0.pcap": {"erspan": 9},
    "ovs/tunnel-push-pop.pcap": {"erspan": 2, "vxlan": 6, "nvgre": 1, "gre": 4, "geneve": 1},
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


@dataclass(frozen=True)
class Found:
    """A tunnel's payload as tshark sees it."""

    protocol: str
    key: int
    start: int  # of what is carried
    end: int  # by the outer lengths
    ethertype: int  # of an IP packet; 0 of a frame
    options: list[tuple[int, int, bytes]]

    @property
    def is_short(self) -> bool:
        """Whether it is less than its first header."""
        return self.end - self.start < {0: 14, 0x0800: 20, 0x86DD: 40}[self.ethertype]


def tunnelled(packet: ElementTree.Element, size: int) -> Found | None:
    """What is in the tunnel of this packet; None if it is in none that decap knows."""
    protos = list(packet.iter("proto"))
    names = [proto.get("name", "") for proto in protos]
    at = next((i for i, name in enumerate(names) if name not in _OUTER), len(names))
    if at == len(names) or (names[at] == "gre") is (names[at - 1] == "udp"):
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
    protocol, key, options = "", None, []
    if names[at] == "vxlan" and number(shim, "vxlan.flag_i") != 0:
        protocol, key = "vxlan", number(shim, "vxlan.vni")
    elif names[at] == "geneve" and number(shim, "geneve.version") == 0:
        protocol, key = "geneve", number(shim, "geneve.vni")
        options = list(geneve_options(shim))
    elif names[at] == "gre" and not number(shim, "gre.flags.version"):
        protocol, key, at = of_gre(protos, names, at)
    following = names[at + 1] if at + 1 < len(names) else ""
    if key is None or following not in ("eth", "ip", "ipv6"):
        return None
    ethertype = {"eth": 0, "ip": 0x0800, "ipv6": 0x86DD}[following]
    start = int(protos[at + 1].get("pos", "0"))
    return Found(protocol, key, start, end, ethertype, options)


def of_gre(
    protos: list[ElementTree.Element], names: list[str], at: int
) -> tuple[str, int | None, int]:
    """Protocol, key and place of the last header of a GRE packet."""
    shim = protos[at]
    kind, word = number(shim, "gre.proto"), number(shim, "gre.key")
    if kind in (0x88BE, 0x22EB) and names[at + 1 : at + 2] == ["erspan"]:
        session = number(protos[at + 1], "erspan.spanid")
        return "erspan", NO_KEY if session is None else session, at + 1
    if kind not in (0x6558, 0x0800, 0x86DD) or number(shim, "gre.flags.routing"):
        return "", None, at
    if kind == 0x6558 and word is not None:
        return "nvgre", word >> 8, at
    return "gre", NO_KEY if word is None else word, at


def geneve_options(shim: ElementTree.Element) -> Iterator[tuple[int, int, bytes]]:
    """Class, type and data of each option."""
    for field in shim.iter("field"):
        if field.get("name") == "geneve.option":
            data = bytes.fromhex(field.get("value", ""))
            number, kind = (data[0] << 8 | data[1]), data[2]
            yield number, kind, data[4:]


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
    """COM-2, COM-4, NVGRE-27, VXLAN-6, GENEVE-6, GENEVE-14, GENEVE-24, GRE-1, GRE-4: keys, options
    and bytes, but for wrong outer IPv4 checksums."""
    command = [tool("tshark"), "-n", "-r", path, "-T", "pdml", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run(command, capture_output=True, check=True)
    theirs = list(ElementTree.fromstring(done.stdout).iter("packet"))
    seen: Counter[str] = Counter()
    for packet, dissected in zip(packets(path), theirs, strict=True):
        data, link, wire = packet
        found = tunnelled(dissected, len(data))
        if found is None or link == 2:
            continue
        status = Status.OK
        if wrong_checksum(dissected):
            status = Status.IP_CHECKSUM
        elif found.is_short:
            status = Status.INNER_TOO_SHORT
        if status:
            with pytest.raises(overlay.DecapError) as refused:
                overlay.decap(data, profile="lenient", link=link, wire_length=wire)
            assert refused.value.status == status
            continue
        d = overlay.decap(data, profile="lenient", link=link, wire_length=wire)
        assert (d.protocol, d.key) == (found.protocol, found.key)
        carried = data[found.start : found.end]
        if found.ethertype:
            assert d.frame == bytes(12) + found.ethertype.to_bytes(2, "big") + carried
        else:
            assert d.frame == carried
        assert d.header == data[: found.start]
        if isinstance(d.tunnel, overlay.Geneve):
            theirs_ = [(o.option_class, o.type, o.data) for o in d.tunnel.options]
            assert theirs_ == found.options
        seen[d.protocol] += 1
    assert seen == KNOWN.get(name_of(path), seen)


def packets(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Bytes, link and length on the wire of every packet."""
    with open_capture(path) as capture:
        for burst in capture:
            for row in range(len(burst)):
                batch = burst.batch
                yield bytes(batch[row]), int(batch.link[row]), int(batch.wire[row])

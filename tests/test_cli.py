"""The command line: what it writes and what it prints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import overlay
from command import ENDS, FIRST, STT, VXLAN, packets, report, run, shell, write
from overlay import Batch
from overlay.cli.demo import sample
from overlay.cli.sample import frames as sample_frames
from overlay.cli.sample import write as write_sample
from overlay.io.pcap import CaptureWriter, Interface, open_capture

# -- encap and decap -------------------------------------------------------------


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("protocol", list(overlay.PROTOCOLS))
def test_there_and_back(protocol: str, form: str, capture: Path, tmp_path: Path) -> None:
    middle, back = tmp_path / f"middle.{form}", tmp_path / f"back.{form}"
    count = len(packets(capture))
    key = {"gre": "none", "erspan": 501}.get(protocol, 5001)
    said = report("encap", capture, middle, "--tunnel", protocol, "--id", key, *ENDS)
    assert (said["frames"], said["packets"], said["refused"]) == (count, count, 0)
    assert middle.read_bytes()[:4] == (b"\n\r\r\n" if form == "pcapng" else b"\x4d\x3c\xb2\xa1")
    # Plain GRE is not taken unasked.
    said = report("decap", middle, back, *(["--protocol", "gre"] if protocol == "gre" else []))
    assert said["protocols"] == {protocol: count}
    assert packets(back) == packets(capture)


def test_encap_is_what_the_library_gives(tmp_path: Path) -> None:
    source = write(tmp_path / "in.pcap", sample())
    run(
        "encap", source, tmp_path / "out.pcap", *VXLAN, "--local-mac", "02:00:00:00:00:01",
        "--remote-mac", "02:00:00:00:00:02", "--outer-vlan", 100, "--ttl", 9, "--dscp", 46,
        "--no-df", "--ip-id", 7, "--source-port", "50000-50099", "--port", 8472, "--checksum",
        "--gbp", "0x1234", "--inner-vlan", "strip", "--seed", 3,
    )  # fmt: skip
    tunnel = overlay.VXLAN(
        vni=5001, local="192.0.2.1", remote="192.0.2.2", local_mac="02:00:00:00:00:01",
        remote_mac="02:00:00:00:00:02", outer_vlan=100, ttl=9, dscp=46, df=False, ip_id=7,
        source_port=(50000, 50099), port=8472, checksum=True, gbp=0x1234, inner_vlan="strip",
        seed=3,
    )  # fmt: skip
    assert [row[0] for row in packets(tmp_path / "out.pcap")] == tunnel.encap_many(sample())


def test_options_of_the_other_protocols(tmp_path: Path) -> None:
    source = write(tmp_path / "in.pcap", [bytes(60)])
    out = tmp_path / "out.pcap"
    run("encap", source, out, "--tunnel", "nvgre", "--id", "0x5001", *ENDS, "--flow-id", 9,
        "--dscp", "inherit", "--source-port", 7)  # fmt: skip
    assert packets(out)[0][0][38:42] == bytes.fromhex("00500109")
    run("encap", source, out, *STT, "--inner-checksum", "verified", "--frame-id", 5)
    assert packets(out)[0][0][42:46] == bytes.fromhex("00000005")


def test_stt_is_segmented_and_reassembled(capture: Path, tmp_path: Path) -> None:
    """STT-37, STT-38, STT-39: through a pipe of segments out of order, and back."""
    middle = tmp_path / "middle.pcap"
    said = report("encap", capture, middle, *STT, "--mtu", 576)
    assert said["packets"] > said["frames"]
    rows = packets(middle)
    assert max(len(row[0]) for row in rows) == 576 + 14
    shuffled = write(tmp_path / "shuffled.pcap", [row[0] for row in reversed(rows)])
    for source in (middle, shuffled):
        said = report("decap", source, tmp_path / "back.pcap")
        assert said["refused"] == 0
        back = [row[0] for row in packets(tmp_path / "back.pcap")]
        assert sorted(back) == sorted(row[0] for row in packets(capture))
    # A frame has the time of the packet that completed it.
    run("decap", middle, tmp_path / "back.pcap")
    assert packets(tmp_path / "back.pcap") == packets(capture)


def test_lost_stt_segments_are_counted(tmp_path: Path) -> None:
    """STT-44: a frame with a hole is not delivered; the packets' clock times it out."""
    frames = [bytes([n]) * 2000 for n in range(2, 5)]
    middle = tmp_path / "middle.pcap"
    run("encap", write(tmp_path / "in.pcap", frames), middle, *STT, "--mtu", 1500)
    rows = [row[0] for row in packets(middle)]
    batch = Batch.from_frames([rows[0], *rows[2:5], rows[1]])
    with CaptureWriter(tmp_path / "late.pcap") as writer:  # the second half comes a minute later
        writer.write(batch, FIRST + np.array([0, 1, 2, 3, 60_000_000_000]))
    result = run("decap", tmp_path / "late.pcap", tmp_path / "back.pcap", "--json", "--strict")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["drops"] == {"STT_INCOMPLETE": 3}  # one timed out; two halves wait in vain
    assert [row[0] for row in packets(tmp_path / "back.pcap")] == [frames[1]]


def test_resegmentation_by_mss(tmp_path: Path) -> None:
    """STT-32: a frame that asks to be cut is delivered by its MSS, or whole."""
    vectors = json.loads((Path(__file__).parent / "vectors" / "stt.json").read_text())
    vectors = vectors["vectors"] if isinstance(vectors, dict) else vectors
    vector = next(v for v in vectors if v["name"] == "stt_v4_tso_3seg")
    wanted = [bytes.fromhex(p) for p in vector["resegmented_hex"]]
    hexes = vector.get("segments_hex") or vector.get("packets_hex") or vector["packet_hex"]
    middle = write(tmp_path / "in.pcap", [bytes.fromhex(p) for p in hexes])
    run("decap", middle, tmp_path / "out.pcap", "--resegment")
    assert [row[0] for row in packets(tmp_path / "out.pcap")] == wanted
    run("decap", middle, tmp_path / "out.pcap")
    assert len(packets(tmp_path / "out.pcap")) == 1


def test_the_underlay_mtu(tmp_path: Path) -> None:
    source = write(tmp_path / "in.pcap", [bytes(60), bytes(1500)])
    result = run("encap", source, tmp_path / "out.pcap", *VXLAN, "--mtu", 1500, "--json")
    assert json.loads(result.stdout)["drops"] == {"MTU_EXCEEDED": 1}
    assert result.exit_code == 0
    assert len(packets(tmp_path / "out.pcap")) == 1
    result = run("encap", source, tmp_path / "out.pcap", *VXLAN, "--mtu", 1500, "--strict")
    assert result.exit_code == 1


def test_what_is_in_no_tunnel_is_counted_by_reason(tmp_path: Path) -> None:
    """COM-17: keys and protocols that are not asked for do not pass."""
    one, two = (
        overlay.VXLAN(vni=vni, local="192.0.2.1", remote="192.0.2.2").encap(bytes(60))
        for vni in (1, 2)
    )
    gre = overlay.NVGRE(vsid=0x5001, local="192.0.2.1", remote="192.0.2.2").encap(bytes(60))
    source = write(tmp_path / "in.pcap", [one, two, gre, bytes(60), bytes(5)])
    out = tmp_path / "out.pcap"
    said = report("decap", source, out)
    assert said["drops"] == {"NOT_IP": 1, "ETHERNET_TRUNCATED": 1}
    assert said["protocols"] == {"vxlan": 2, "nvgre": 1}
    said = report("decap", source, out, "--id", 1, "--id", "0x5001")
    assert said["drops"]["UNKNOWN_KEY"] == 1
    said = report("decap", source, out, "--protocol", "nvgre")
    assert said["drops"]["UNKNOWN_PROTOCOL"] == 2
    said = report("decap", source, out, "--port", 8472)
    assert said["protocols"] == {"nvgre": 1}


def test_profiles_and_inner_tags(tmp_path: Path) -> None:
    packet = bytearray(overlay.VXLAN(vni=1, local="192.0.2.1", remote="192.0.2.2").encap(bytes(60)))
    packet[49] = 1  # a reserved byte
    tagged = bytes(12) + bytes.fromhex("81000064") + bytes(60)
    other = overlay.VXLAN(vni=1, local="192.0.2.1", remote="192.0.2.2").encap(tagged)
    source = write(tmp_path / "in.pcap", [bytes(packet), other])
    out = tmp_path / "out.pcap"
    assert report("decap", source, out)["frames"] == 2
    assert report("decap", source, out, "--profile", "strict")["drops"] == {"VXLAN_RESERVED": 1}
    assert report("decap", source, out, "--inner-vlan", "reject")["drops"] == {"INNER_TAGGED": 1}
    report("decap", source, out, "--inner-vlan", "strip")
    assert packets(out)[1][0] == bytes(72)


def test_nested_tunnels(tmp_path: Path) -> None:
    ends = {"local": "192.0.2.1", "remote": "192.0.2.2"}
    layers = [bytes(60)]
    for tunnel in (
        overlay.STT(context_id=1, **ends), overlay.NVGRE(vsid=0x1002, **ends),
        overlay.VXLAN(vni=3, **ends),
    ):  # fmt: skip
        layers.append(tunnel.encap(layers[-1]))
    source = write(tmp_path / "in.pcap", [layers[3], layers[1], layers[2]])
    out = tmp_path / "out.pcap"
    for depth, expected in ((1, [2, 0, 1]), (2, [1, 0, 0]), (3, [0, 0, 0]), (9, [0, 0, 0])):
        said = report("decap", source, out, "--depth", depth)
        assert said["refused"] == 0
        assert [row[0] for row in packets(out)] == [layers[n] for n in expected]
    # Segments that come out of a tunnel of segments are frames as they are.
    report("encap", write(tmp_path / "deep.pcap", [layers[3]]), out, *STT, "--mtu", 100)
    report("decap", out, tmp_path / "back.pcap", "--depth", 4)
    assert packets(tmp_path / "back.pcap")[0][0] == layers[0]


def test_what_is_within_a_tunnel_and_refused_is_counted(tmp_path: Path) -> None:
    """With --depth, a bad packet of a tunnel is refused, and any other frame delivered."""
    ends = {"local": "192.0.2.1", "remote": "192.0.2.2"}
    outer, inner = overlay.VXLAN(vni=1, **ends), overlay.VXLAN(vni=2, checksum=True, **ends)
    damaged = bytearray(inner.encap(bytes(60)))
    damaged[-1] ^= 1
    headless = bytearray(overlay.NVGRE(vsid=0x1002, **ends).encap(bytes(60)))
    headless[24] ^= 1  # the IPv4 header checksum is wrong
    [segment, *_] = overlay.STT(context_id=1, **ends).packets(bytes(3000), 1500)
    bad = [bytes(damaged), bytes(headless), segment]
    keyless = bytearray(overlay.NVGRE(vsid=0x1002, **ends).encap(bytes(60)))
    keyless[36:38] = b"\x08\0"  # GRE that carries IPv4
    [udp] = [f for f in sample() if f[12:14] == b"\x08\0" and f[23] == 17 and len(f) == 60]
    ailing = bytearray(udp)
    ailing[24] ^= 1
    cut = bytes(12) + b"\x81\0\0"  # within its tag
    good = [bytes(60), bytes(keyless), udp, bytes(ailing), udp[:30], udp[:36], cut]
    once = inner.encap(bytes(60))
    layers = [outer.encap(frame) for frame in [*bad, *good, once]]
    out = tmp_path / "out.pcap"
    source = write(tmp_path / "in.pcap", layers)
    said = report("decap", source, out, "--depth", 3)
    assert said["drops"] == {"UDP_CHECKSUM": 1, "IP_CHECKSUM": 1, "STT_INCOMPLETE": 1}
    assert said["protocols"] == {"vxlan": len(layers) + 1}  # one of them was opened twice
    assert [row[0] for row in packets(out)] == [*good, bytes(60)]
    said = report("decap", source, out)
    assert (said["refused"], said["protocols"]) == (0, {"vxlan": len(layers)})


def test_a_hint_where_checksums_were_refused(tmp_path: Path) -> None:
    packet = bytearray(
        overlay.STT(context_id=1, local="192.0.2.1", remote="192.0.2.2").encap(bytes(60))
    )
    source = write(tmp_path / "good.pcap", [bytes(packet)])
    out = tmp_path / "out.pcap"
    assert "lenient" not in run("decap", source, out).stdout
    packet[-1] ^= 1
    source = write(tmp_path / "bad.pcap", [bytes(packet)])
    last = run("decap", source, out).stdout.splitlines()[-1]
    assert last.endswith("--profile lenient takes them")
    assert "TCP_CHECKSUM" in run("decap", source, out, "--profile", "strict").stdout
    assert "lenient" not in run("decap", source, out, "--profile", "strict").stdout
    assert json.loads(run("decap", source, out, "--json").stdout)["refused"] == 1
    assert "lenient" not in run("decap", source, out, "--profile", "lenient").stdout


def test_lengths_times_and_interfaces_survive(tmp_path: Path) -> None:
    """COM-4: a cut capture stays a cut capture, with its lengths on the wire."""
    tunnel = overlay.VXLAN(vni=1, local="192.0.2.1", remote="192.0.2.2")
    whole = [tunnel.encap(bytes(1000)) for _ in range(4)]
    batch = Batch.from_frames([packet[:200] for packet in whole])
    batch.wire[:] = len(whole[0])
    source = tmp_path / "in.pcapng"
    ports = [Interface(name="left"), Interface(name="right")]
    with CaptureWriter(source, "pcapng", interfaces=ports) as writer:
        writer.write(batch, [FIRST, 5, 7, 2**62], [0, 1, 1, 0])
    run("decap", source, tmp_path / "out.pcapng")
    rows = packets(tmp_path / "out.pcapng")
    assert [row[1:] for row in rows] == [
        (1000, FIRST, 0), (1000, 5, 1), (1000, 7, 1), (1000, 2**62, 0),
    ]  # fmt: skip
    assert {len(row[0]) for row in rows} == {150}
    with open_capture(tmp_path / "out.pcapng") as capture:
        list(capture)
        assert [i.name for i in capture.interfaces] == ["left", "right"]


def test_raw_ip_is_decapsulated_and_no_frame_to_encapsulate(tmp_path: Path) -> None:
    packet = overlay.VXLAN(vni=1, local="192.0.2.1", remote="192.0.2.2").encap(bytes(60))
    source = write(tmp_path / "in.pcap", [packet[14:]], linktype=101)
    assert report("decap", source, tmp_path / "out.pcap")["frames"] == 1
    assert report("encap", source, tmp_path / "out.pcap", *VXLAN)["drops"] == {"LINK_TYPE": 1}


# -- the other commands -----------------------------------------------------------


def test_show(tmp_path: Path) -> None:
    tunnel = overlay.VXLAN(vni=77, local="192.0.2.1", remote="192.0.2.2")
    frames = sample()
    source = write(tmp_path / "in.pcap", [*tunnel.encap_many(frames), bytes(60)])
    lines = run("show", source).stdout.splitlines()
    assert len(lines) == len(frames) + 1
    ping = next(line for line in lines if "ICMP" in line)
    assert "192.0.2.1 > 192.0.2.2  vxlan key=77  10.1.0.1 > 10.1.0.2  ICMP 98" in ping
    assert lines[-1].endswith("NOT_IP")
    objects = [json.loads(line) for line in run("show", source, "--json").stdout.splitlines()]
    assert [o["number"] for o in objects] == list(range(1, len(frames) + 2))
    assert [o["inner"]["length"] for o in objects[:-1]] == [len(frame) for frame in frames]
    assert objects[0]["time"] == FIRST
    assert objects[-1]["status"] == "NOT_IP"
    assert run("show", source, "--strict").exit_code == 1


@pytest.mark.parametrize("protocol", list(overlay.PROTOCOLS))
@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("vlan", [[], ["--vlan"]])
def test_mtu(protocol: str, ip: int, vlan: list[str]) -> None:
    """The table of overheads: every header's bytes add up."""
    shims = {"vxlan": 16, "nvgre": 8, "stt": 38, "geneve": 16, "vxlan-gpe": 16}
    shim = {**shims, "gre": 4, "erspan": 16}[protocol]
    overhead = 14 + 4 * len(vlan) + (20 if ip == 4 else 40) + shim
    said = report("mtu", protocol, "--underlay", 9000, "--ip", ip, *vlan)
    assert sum(said["headers"].values()) == said["overhead"] == overhead
    assert said["inner_mtu"] == 9000 - overhead + 4 * len(vlan)
    assert said["tcp_mss_ipv4"] == said["inner_mtu"] - 40
    assert said["tcp_mss_ipv6"] == said["inner_mtu"] - 60
    table = run("mtu", protocol, "--underlay", 9000, "--ip", ip, *vlan).stdout
    assert str(said["inner_mtu"]) in table


def test_check_of_a_capture(tmp_path: Path) -> None:
    source = write(tmp_path / "in.pcap", sample())
    result = run("check", source, "--json")
    if result.exit_code == 2 and "native backend" in result.stderr:
        pytest.skip("the native backend is missing")
    said = json.loads(result.stdout)
    assert said["packets"] == len(sample())
    assert said["compared"] > 5 * len(sample())
    assert (said["differences"], result.exit_code) == ([], 0)


def test_demo() -> None:
    said = report("demo")
    assert said["good"] is True
    assert [r["protocol"] for r in said["results"]] == list(overlay.PROTOCOLS)
    assert all(r["batch"] == "equal" for r in said["results"])
    result = run("demo")
    assert result.exit_code == 0
    for protocol in overlay.PROTOCOLS:
        assert protocol in result.stdout


def test_demo_with_the_reference_alone() -> None:
    result = shell("demo", env={**os.environ, "OVERLAY_BACKEND": "reference"})
    assert result.returncode == 0
    assert b"Only the reference backend is here" in result.stdout


def test_the_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    write_sample(str(tmp_path / "sample.pcap"))
    shipped = Path(overlay.__file__).parent / "data" / "sample.pcap"
    assert (tmp_path / "sample.pcap").read_bytes() == shipped.read_bytes()
    assert sample() == sample_frames()


def test_bench_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("bench", "--plot", tmp_path / "x.png")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "matplotlib" in result.stderr


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion(kind: str) -> None:
    result = run("completion", kind)
    assert result.exit_code == 0
    assert "_OVERLAY_COMPLETE" in result.stdout
    words = {"COMP_WORDS": "overlay de", "COMP_CWORD": "1", "_OVERLAY_COMPLETE": "bash_complete"}
    offered = shell(env={**os.environ, **words}).stdout.decode()
    assert "decap" in offered
    assert "encap" not in offered


def test_help_speaks_of_options() -> None:
    said = run("encap", "--help").stdout
    for word in ("`", ":mod:", "None"):
        assert word not in said


def test_a_backend_that_is_not_there_is_one_line() -> None:
    result = shell("--version", env={**os.environ, "OVERLAY_BACKEND": "fortran"})
    assert result.returncode == 2
    assert result.stdout == b""
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("overlay: OVERLAY_BACKEND='fortran': expected one of")


_SUBCOMMANDS = "demo encap decap show mtu check bench run ctl top lab completion".split()


def test_help_and_version() -> None:
    for args in (["--help"], []):
        result = run(*args)
        assert result.exit_code == 0
        for name in _SUBCOMMANDS:
            assert name in result.stdout
    assert overlay.backend in run("--version").stdout
    for name in _SUBCOMMANDS:
        assert run(name, "--help").exit_code == 0

"""The command line: what it writes, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import overlay
from overlay import Batch
from overlay.cli import cli
from overlay.cli.demo import sample
from overlay.cli.sample import frames as sample_frames
from overlay.cli.sample import write as write_sample
from overlay.io.pcap import CaptureWriter, Interface, open_capture

ENDS = ["--local", "192.0.2.1", "--remote", "192.0.2.2"]
VXLAN = ["--tunnel", "vxlan", "--id", "5001", *ENDS]
STT = ["--tunnel", "stt", "--id", "0x1122334455667788", *ENDS]
FIRST = 1_700_000_000_123_456_789


def run(*args: object) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="overlay")


def shell(*args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command as users start it."""
    command = [sys.executable, "-m", "overlay", *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, **options)


def report(*args: object) -> dict[str, Any]:
    """What the command says with --json."""
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def write(path: Path, frames: list[bytes], **options: Any) -> Path:
    batch = Batch.from_frames(frames)
    numbers = options.pop("interface", 0)
    with CaptureWriter(path, **options) as writer:
        writer.write(batch, FIRST + np.arange(len(frames)) * 1_000_000, numbers)
    return path


def packets(path: Path) -> list[tuple[bytes, int, int, int]]:
    """Bytes, length on the wire, time and interface of every packet."""
    rows = []
    with open_capture(path) as capture:
        for burst in capture:
            for row in range(len(burst)):
                wire, when = int(burst.batch.wire[row]), int(burst.timestamps[row])
                rows.append((bytes(burst.batch[row]), wire, when, int(burst.interface[row])))
    return rows


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """The sample's frames without tags, which every protocol carries unchanged."""
    return write(
        tmp_path / "in.pcap", [f for f in sample() if f[12:14] not in (b"\x81\0", b"\x88\xa8")]
    )


# -- encap and decap -------------------------------------------------------------


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("protocol", list(overlay.PROTOCOLS))
def test_there_and_back(protocol: str, form: str, capture: Path, tmp_path: Path) -> None:
    middle, back = tmp_path / f"middle.{form}", tmp_path / f"back.{form}"
    count = len(packets(capture))
    said = report("encap", capture, middle, "--tunnel", protocol, "--id", 5001, *ENDS)
    assert (said["frames"], said["packets"], said["refused"]) == (count, count, 0)
    assert middle.read_bytes()[:4] == (b"\n\r\r\n" if form == "pcapng" else b"\x4d\x3c\xb2\xa1")
    said = report("decap", middle, back)
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


# -- streams and ends ------------------------------------------------------------


def test_pipes(capture: Path, tmp_path: Path) -> None:
    there = shell("encap", "-", "-", *VXLAN, input=capture.read_bytes())
    assert there.returncode == 0
    assert b"packets written" in there.stderr
    back = shell("decap", "-", tmp_path / "back.pcap", input=there.stdout)
    assert back.returncode == 0
    assert b"frames written" in back.stdout
    assert back.stderr == b""  # no progress bar in a pipe
    assert packets(tmp_path / "back.pcap") == packets(capture)


def test_a_cut_capture_is_finished_and_reported(capture: Path, tmp_path: Path) -> None:
    count = len(packets(capture))
    data = capture.read_bytes()[:-3]
    capture.write_bytes(data)
    out = tmp_path / "out.pcap"
    result = shell("encap", capture, out, *VXLAN)
    assert result.returncode == 2
    assert len(packets(out)) == count - 1
    [line] = result.stderr.decode().splitlines()
    assert str(capture) in line
    assert "cut short" in line
    result = shell("show", out, "--json")
    assert len(result.stdout.splitlines()) == count - 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["encap", "IN", "OUT"], "--tunnel"),
        (["encap", "IN", "OUT", "--tunnel", "vxlan", "--id", "16777216", *ENDS], "--id 16777216"),
        (["encap", "IN", "OUT", "--tunnel", "vxlan", "--id", "x", *ENDS], "'x' is not a number"),
        (["encap", "IN", "OUT", *VXLAN, "--local", "::1"], "--remote 192.0.2.2"),
        (["encap", "IN", "OUT", *VXLAN, "--ttl", "256"], "--ttl 256"),
        (["encap", "IN", "OUT", *VXLAN, "--flow-id", "1"], "--flow-id is no option of vxlan"),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "9-8"], "--source-port"),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "a"], "--source-port"),
        (["encap", "IN", "OUT", *VXLAN, "--mtu", "36"], "--mtu 36"),
        (["encap", "NONE", "OUT", *VXLAN], "No such file"),
        (["encap", "IN", "/there/is/none/x", *VXLAN], "No such file"),
        (["decap", "IN", "OUT", "--id", "-1"], "--id -1"),
        (["decap", "TEXT", "OUT"], "neither pcap nor pcapng"),
        (["decap", "EMPTY", "OUT"], "empty"),
        (["decap", "DIRECTORY", "OUT"], "directory"),
        (["decap", "IN", "DIRECTORY"], "directory"),
        (["show", "TEXT"], "neither pcap nor pcapng"),
        (["check", "TEXT"], "neither pcap nor pcapng"),
        (["encap", "IN", "", *VXLAN], "OUT has no name"),
        (["show", ""], "IN has no name"),
        (["encap", "IN", "/there/is/none/x", *VXLAN], "overlay: /there/is/none/x: "),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "1" * 5000], "--source-port"),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "\u0661"], "--source-port"),
        (["decap", "IN", "OUT", "--port", "0x" + "f" * 5000], "--port"),
        (["mtu", "vxlan", "--underlay", "10"], "--underlay 10: expected an integer in 50..65535"),
        (["mtu", "nothing"], "'PROTOCOL': 'nothing'"),
        (["there-is-no-such-command"], "there-is-no-such-command"),
    ],
)
def test_mistakes_are_one_line(args: list[str], said: str, capture: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no capture, is it?")
    (tmp_path / "empty").touch()
    out = tmp_path / "out.pcap"
    places = {
        "IN": capture, "OUT": out, "NONE": tmp_path / "none", "TEXT": tmp_path / "text",
        "EMPTY": tmp_path / "empty", "DIRECTORY": tmp_path,
    }  # fmt: skip
    result = run(*[places.get(arg, arg) for arg in args])
    if args[0] == "check" and "native backend" in result.stderr:
        pytest.skip("the native backend is missing")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("overlay: ")
    assert said in line
    assert result.stdout == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGINT, 130, b"overlay: interrupted\n"),
        (signal.SIGTERM, 143, b""),
        (signal.SIGHUP, 129, b""),
    ],
)
def test_nothing_stays_after_an_interrupt(
    number: int, status: int, words: bytes, capture: Path, tmp_path: Path
) -> None:
    """A run that is stopped in the middle leaves the target as it was."""
    out = tmp_path / "here" / "out.pcap"
    out.parent.mkdir()
    command = [sys.executable, "-m", "overlay", "encap", "-", str(out), *VXLAN]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(capture.read_bytes())
    process.stdin.flush()
    while not list(out.parent.iterdir()):  # until it has begun
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said == words
    assert list(out.parent.iterdir()) == []


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    source = write(tmp_path / "in.pcap", [bytes(60)] * 20000)
    process = subprocess.Popen(
        [sys.executable, "-m", "overlay", "show", str(source)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


@pytest.mark.parametrize(
    "args",
    [
        ["--help"], ["--version"], [], ["mtu", "--help"], ["mtu", "vxlan"], ["completion", "bash"],
        ["demo"], ["bench", "--seconds", "0.5"], ["bench", "--seconds", "0.5", "--json"],
        ["encap", "IN", "-", *VXLAN], ["show", "IN"], ["decap", "IN", "OUT"], ["check", "IN"],
    ],
)  # fmt: skip
def test_where_nobody_reads(args: list[str], capture: Path, tmp_path: Path) -> None:
    """A closed pipe ends every command alike: never as if packets had been refused."""
    places = {"IN": capture, "OUT": tmp_path / "out.pcap"}
    read, written = os.pipe()
    os.close(read)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "overlay", *[str(places.get(arg, arg)) for arg in args]],
            stdout=written, stderr=subprocess.PIPE, check=False, timeout=60,
        )  # fmt: skip
    finally:
        os.close(written)
    if args[:1] == ["check"] and b"native backend" in process.stderr:
        pytest.skip("the native backend is missing")
    assert (process.returncode, process.stderr) == (141, b"")


def bash(line: str, *args: object) -> subprocess.CompletedProcess[bytes]:
    """The command with redirections: ``line`` follows it."""
    command = ["bash", "-c", f'exec "$@" {line}', "bash", sys.executable, "-m", "overlay"]
    return subprocess.run([*command, *map(str, args)], capture_output=True, check=False, timeout=60)


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


@pytest.mark.parametrize("args", [["mtu", "vxlan"], ["demo"], ["--help"], ["encap", "-", "-"]])
def test_a_closed_standard_output(args: list[str]) -> None:
    result = bash(">&-", *args)
    assert result.returncode == 2
    assert result.stderr == b"overlay: standard output is closed\n"


def test_a_closed_standard_input() -> None:
    result = bash("<&-", "show", "-")
    assert result.returncode == 2
    assert result.stderr == b"overlay: standard input is closed\n"


@needs_full
@pytest.mark.parametrize("line", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("args", [["mtu", "nosuch"], ["show", "/there/is/none"]])
def test_an_error_that_cannot_be_said(line: str, args: list[str]) -> None:
    assert bash(line, *args).returncode == 2


@needs_full
def test_a_full_disk_is_named(capture: Path, tmp_path: Path) -> None:
    result = shell("encap", capture, "/dev/full", *VXLAN)
    assert result.returncode == 2
    assert result.stderr == b"overlay: /dev/full: No space left on device\n"
    for args in (["mtu", "vxlan"], ["show", capture], ["encap", capture, "-", *VXLAN]):
        result = bash(">/dev/full", *args)
        assert result.returncode == 2
        assert result.stderr == b"overlay: <stdout>: No space left on device\n"
    out = tmp_path / "there" / "out.pcap"
    out.parent.mkdir()
    source = write(tmp_path / "large.pcap", [bytes(1000)] * 1000)
    command = [sys.executable, "-m", "overlay", "encap", str(source), str(out), *VXLAN]
    result = subprocess.run(
        ["bash", "-c", 'ulimit -f 1 && exec "$@"', "bash", *command],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.decode() == f"overlay: {out}: File too large\n"
    assert list(out.parent.iterdir()) == []


def test_output_may_replace_its_input_and_keeps_its_mode(capture: Path) -> None:
    before = packets(capture)
    os.chmod(capture, 0o640)
    assert run("encap", capture, capture, *VXLAN).exit_code == 0
    assert run("decap", capture, capture).exit_code == 0
    assert packets(capture) == before
    assert stat.S_IMODE(capture.stat().st_mode) == 0o640


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
    shim = {"vxlan": 16, "nvgre": 8, "stt": 38}[protocol]
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


def test_bench(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    result = run("bench", "--seconds", "0.5", "--json", file, "--plot", plot)
    assert result.exit_code == 0, result.output
    said = json.loads(file.read_text())["results"][overlay.backend]
    assert len(said) == len(overlay.PROTOCOLS) * 4 * 2
    assert all(row["encap_mpps"] > 0 < row["decap_mpps"] for row in said)
    row = next(r for r in said if (r["protocol"], r["size"]) == ("vxlan", "64"))
    assert row["overhead_bytes"] == 50
    assert row["overhead_percent"] == pytest.approx(100 * 50 / 114)
    assert plot.read_bytes().startswith(b"\x89PNG")


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


def test_help_and_version() -> None:
    for args in (["--help"], []):
        result = run(*args)
        assert result.exit_code == 0
        for name in ("demo", "encap", "decap", "show", "mtu", "check", "bench", "completion"):
            assert name in result.stdout
    assert overlay.backend in run("--version").stdout
    for name in ("encap", "decap", "show", "mtu", "check", "demo", "bench", "completion"):
        assert run(name, "--help").exit_code == 0

"""`overlay generate` and `overlay meter`: from one to the other, by file, device and kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import overlay
from command import ENDS, packets, report, run, shell, write
from overlay.io.memory import Memory
from overlay.io.packet import Packet
from overlay.traffic import Meter, Rate, Sweep, send
from veth import A, B, network, quiet, running, until
from veth import run as ip

VXLAN = ["--tunnel", "vxlan", "--id", "5000-5003", *ENDS]


def generate(path: Path, *args: object) -> dict[str, Any]:
    return report("generate", path, *args)


# ---- captures -----------------------------------------------------------------------------


def test_a_capture_holds_the_sweep_at_its_rate(tmp_path: Path) -> None:
    said = generate(
        tmp_path / "out.pcap", *VXLAN, "--inner", "ip.dst=10.0.0.0/24", "--inner",
        "udp.sport=1000-1999", "--size", "imix", "--count", 5000, "--rate", "10kpps",
    )  # fmt: skip
    assert (said["frames"], said["packets"], said["refused"]) == (5000, 5000, 0)
    assert said["sent"] == {str(key): 1250 for key in range(5000, 5004)}
    rows = packets(tmp_path / "out.pcap")
    times = np.array([time for _, _, time, _ in rows])
    assert (np.diff(times) == 100_000).all()
    sweep = Sweep(
        ["ip.dst=10.0.0.0/24", "udp.sport=1000-1999"], size="imix", tunnel=overlay.VXLAN,
        outer={"key": "5000-5003", "local": "192.0.2.1", "remote": "192.0.2.2"},
    )  # fmt: skip
    expected = sweep.packets(0, 5000, times=times).to_list()
    assert [packet for packet, *_ in rows] == expected


def test_bits_a_second_are_of_the_packets(tmp_path: Path) -> None:
    generate(tmp_path / "a.pcapng", *VXLAN, "--size", "100,1000", "--count", 100, "--rate", "1Mbps")
    rows = packets(tmp_path / "a.pcapng")
    for (packet, _, before, _), (_, _, after, _) in pairwise(rows):
        assert after - before == pytest.approx(len(packet) * 8000, abs=1)


def test_seconds_and_a_rate_say_how_many(tmp_path: Path) -> None:
    said = generate(tmp_path / "a.pcap", *VXLAN, "--seconds", 0.5, "--rate", "2 kpps")
    assert said["packets"] == 1000
    said = generate(tmp_path / "b.pcap", *VXLAN, "--seconds", 0.5, "--rate", "1Mbit/s")
    length = len(packets(tmp_path / "b.pcap")[0][0])
    assert said["packets"] == pytest.approx(500_000 / 8 / length, abs=1)


def test_every_combination_is_made_if_nobody_says_how_many(tmp_path: Path) -> None:
    said = generate(
        tmp_path / "a.pcap", *VXLAN, "--inner", "udp.sport=1-5", "--combine", "product",
        "--ttl", "3,9",
    )  # fmt: skip
    assert said["packets"] == 4 * 5 * 2
    assert len({p[:-32] for p, *_ in packets(tmp_path / "a.pcap")}) == 40


def test_frames_alone(tmp_path: Path) -> None:
    said = generate(tmp_path / "a.pcap", "--inner", "eth.type=0x88b5-0x88b8")
    assert said["sent"] == {}
    assert [p[12:14] for p, *_ in packets(tmp_path / "a.pcap")] == [
        bytes([0x88, 0xB5 + n]) for n in range(4)
    ]
    seen = report("meter", tmp_path / "a.pcap", "--sent", 4)
    assert seen["total"]["received"] == 4
    assert [(c["protocol"], c["key"]) for c in seen["keys"]] == [(None, None)]


def test_what_the_tunnel_refuses_is_not_written_and_not_sent(tmp_path: Path) -> None:
    said = generate(tmp_path / "a.pcap", *VXLAN, "--mtu", 200, "--size", "100,1000", "--count", 8)
    assert said["drops"] == {"MTU_EXCEEDED": 4}
    assert said["packets"] == sum(said["sent"].values()) == 4
    strict = run("generate", tmp_path / "a.pcap", *VXLAN, "--mtu", 200, "--size", 1000, "--strict")
    assert strict.exit_code == 1


def test_tshark_finds_no_checksum_wrong(tmp_path: Path, tool: Callable[[str], str]) -> None:
    for number, inner in enumerate(
        (
            ["ip.dst=10.0.0.0/24", "udp.sport=1000-1999", "ip.dscp=0-63"],
            ["ip.src=2001:db8::/64", "tcp.sport=1000-1999", "vlan.id=1-4094"],
            ["tcp.dport=1000-1999", "tcp.seq=5-1000/3", "ip.ttl=1-255"],
        )
    ):
        path = tmp_path / f"{number}.pcap"
        fields = [word for field in inner for word in ("--inner", field)]
        generate(path, "--size", "110-1500", "--fill", "0102fe", "--count", 500, *fields)
        done = subprocess.run(
            [
                tool("tshark"), "-n", "-r", path, "-o", "ip.check_checksum:TRUE",
                "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-T", "fields",
                "-e", "ip.checksum.status", "-e", "udp.checksum.status",
                "-e", "tcp.checksum.status", "-e", "_ws.expert.severity",
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = set(done.stdout.splitlines())
        assert lines <= {"1\t1\t\t", "1\t\t1\t", "\t\t1\t"} or all(
            set(line.split("\t")[:3]) <= {"1", ""} for line in lines
        ), lines


# ---- the other end ----------------------------------------------------------------------------


@pytest.fixture
def sent(tmp_path: Path) -> tuple[Path, Path]:
    """A capture of 400 packets, and what generate said of it."""
    said = generate(tmp_path / "all.pcap", *VXLAN, "--count", 400, "--rate", "1kpps")
    (tmp_path / "sent.json").write_text(json.dumps(said))
    return tmp_path / "all.pcap", tmp_path / "sent.json"


def test_nothing_is_lost_where_nothing_is(sent: tuple[Path, Path]) -> None:
    said = report("meter", sent[0], "--sent", sent[1], "--strict")
    assert said["total"]["received"] == said["total"]["sent"] == 400
    assert said["total"]["latency"] == {"min": 0, "median": 0, "p99": 0, "max": 0}
    assert {c["key"]: c["received"] for c in said["keys"]} == dict.fromkeys(range(5000, 5004), 100)


def test_losses_are_found_and_strict_says_so(sent: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [packet for packet, *_ in packets(sent[0])]
    kept = rows[:100] + rows[101:300] + [rows[99]] + rows[303:390]
    broken = bytearray(rows[391])
    broken[-20] ^= 1
    write(tmp_path / "some.pcap", [*kept, bytes(broken)])
    said = report("meter", tmp_path / "some.pcap", "--sent", sent[1])
    total = said["total"]
    assert (total["received"], total["lost"]) == (386, 14)
    assert (total["duplicated"], total["corrupted"], total["reordered"]) == (1, 1, 0)
    assert run("meter", tmp_path / "some.pcap").exit_code == 0
    assert run("meter", tmp_path / "some.pcap", "--strict").exit_code == 1
    shown = run("meter", tmp_path / "some.pcap", "--streams").output
    assert "vxlan 5003 #3" in shown
    assert report("meter", tmp_path / "some.pcap", "--sent", 400)["total"]["lost"] == 14


def test_stt_is_reassembled_and_nested_tunnels_are_opened(tmp_path: Path) -> None:
    stt = ["--tunnel", "stt", "--id", "1-3", *ENDS, "--size", 4000, "--mtu", 1500]
    said = generate(tmp_path / "stt.pcap", *stt, "--count", 30)
    assert said["packets"] == 90
    seen = report("meter", tmp_path / "stt.pcap", "--sent", 30)
    assert [(c["protocol"], c["key"], c["received"]) for c in seen["keys"]] == [
        ("stt", key, 10) for key in (1, 2, 3)
    ]
    generate(tmp_path / "in.pcap", *VXLAN, "--count", 40)
    nested = ["--tunnel", "nvgre", "--id", "0x7000", *ENDS]
    assert run("encap", tmp_path / "in.pcap", tmp_path / "two.pcap", *nested).exit_code == 0
    seen = report("meter", tmp_path / "two.pcap", "--depth", 2)
    assert {c["key"]: c["received"] for c in seen["keys"]} == dict.fromkeys(range(5000, 5004), 10)
    seen = report("meter", tmp_path / "two.pcap")
    assert [(c["protocol"], c["received"]) for c in seen["keys"]] == [("nvgre", 40)]


def test_a_pipe_from_one_to_the_other() -> None:
    made = shell("generate", "-", *VXLAN, "--count", 50, "--json")
    assert made.returncode == 0
    assert json.loads(made.stderr)["packets"] == 50
    seen = shell("meter", "-", "--json", input=made.stdout)
    assert json.loads(seen.stdout)["total"]["received"] == 50


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["generate"], "say where to"),
        (["generate", "a", "--udp"], "one of them"),
        (["generate", "a", "--id", "7"], "no --tunnel"),
        (["generate", "a", "--tunnel", "vxlan", *ENDS], "--id"),
        (["generate", "a", "--tunnel", "vxlan", "--id", "7", "--local", "::1"], "--remote"),
        (["generate", "a", *VXLAN, "--flow-id", "7"], "--flow-id is no option of vxlan"),
        (["generate", "a", *VXLAN, "--ttl", "1-300"], "--ttl 256"),
        (["generate", "a", *VXLAN, "--id", "16777215-16777216"], "--id 16777216"),
        (["generate", "a", *VXLAN, "--inner", "ip.dst=10"], "--inner ip.dst=10: expected IP"),
        (["generate", "a", *VXLAN, "--inner", "ip"], "--inner ip: expected"),
        (["generate", "a", *VXLAN, "--size", "73"], "--size 73: expected at least 74 bytes"),
        (["generate", "a", *VXLAN, "--rate", "10"], "--rate 10: expected a rate"),
        (["generate", "a", *VXLAN, "--fill", "x"], "--fill x"),
        (["generate", "a", *VXLAN, "--combine", "random"], "--count or --seconds"),
        (["generate", "a", *VXLAN, "--inner", "ip.dst=10.0.0.0/8"], "say how many"),
        (["generate", "--udp", *VXLAN], "--count or --seconds"),
        (["generate", "--udp", "--tunnel", "nvgre", "--id", "0x5000", "--count", "1", *ENDS],
         "--udp sends"),
        (["generate", "--interface", "nosuch0", *VXLAN, "--count", "1"], "--interface nosuch0"),
        (["generate", "/nonexistent/a.pcap", *VXLAN], "/nonexistent/a.pcap"),
        (["meter"], "say where from"),
        (["meter", "/nonexistent.pcap"], "/nonexistent.pcap"),
        (["meter", "x", "--sent", "/nonexistent.json"], "--sent /nonexistent.json"),
        (["meter", "--interface", "nosuch0"], "--interface nosuch0"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(args: list[str], words: str, tmp_path: Path) -> None:
    done = shell(*args, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(_root())})
    said = done.stderr.decode()
    assert done.returncode == 2
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def _root() -> Path:
    return Path(overlay.__file__).parent.parent


def test_rates_are_read_and_said() -> None:
    for text, packets_, bits in (
        ("10kpps", 1e4, 0), ("10k pps", 1e4, 0), ("2.5 Mpps", 2.5e6, 0), ("100p/s", 100, 0),
        ("1Gbit/s", 0, 1e9), ("100 Mbps", 0, 1e8), (".5kbit/s", 0, 500),
    ):  # fmt: skip
        assert Rate.of(text) == Rate(packets=packets_, bits=bits)
    assert Rate.of("2500kpps").text() == "2.5 Mpps"
    for text in ("", "10", "fast", "-1pps", "0pps", "1e99pps"):
        with pytest.raises(overlay.ConfigError, match="rate"):
            Rate.of(text)


# ---- devices ----------------------------------------------------------------------------------


def test_a_packet_is_never_early() -> None:
    """However slow the machine: the n-th of them is not before its time."""
    sweep = Sweep()
    near, far = Memory.pair(capacity=2**12)
    with near, far:
        begun = time.time_ns()
        done = send(sweep, near, rate=Rate(packets=2000), count=200)
        frames = far.take()
    stamps = np.array([int.from_bytes(frame[-16:-8], "big") for frame in frames])
    assert done.packets == len(frames) == 200
    assert (stamps - begun >= np.arange(200) * 500_000 - 1_000_000).all()
    assert done.reached()[0] < 2100


def test_a_full_device_is_asked_again() -> None:
    near, far = Memory.pair(capacity=16)
    meter = Meter()

    def drain() -> None:
        while meter.report().total.received < 500 and alive:
            if frames := far.take(timeout=0.01):
                meter.take(overlay.Batch.from_frames(frames), 0)

    alive = [True]
    reader = threading.Thread(target=drain)
    reader.start()
    with near:
        done = send(Sweep(["udp.sport=1-3"]), near, count=500)
    reader.join(20)
    alive.clear()
    far.close()
    assert (done.packets, done.drops) == (500, {})
    report_ = meter.report(sent=500)
    assert report_.clean
    assert (report_.total.duplicated, report_.total.reordered) == (0, 0)


def test_a_device_that_takes_nothing_loses_them_by_name() -> None:
    near, far = Memory.pair(mtu=100)
    with near, far:
        done = send(Sweep(size="80,500"), near, count=20)
    assert done.packets == 10
    assert done.drops == {overlay.Status.MTU_EXCEEDED: 10}


@contextmanager
def metering(*args: object, listening: Callable[[], bool]) -> Iterator[list[dict[str, Any]]]:
    """`overlay meter` as a process that listens; what it said is in the list afterwards."""
    command = [sys.executable, "-m", "overlay", "meter", *map(str, args), "--json"]
    environment = os.environ | {"PYTHONPATH": str(_root())}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    said: list[dict[str, Any]] = []
    try:
        assert until(listening, 60)
        yield said
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        said.append(json.loads(output))
    finally:
        process.kill()
        process.wait()


def _hears(kind: str) -> Callable[[], bool]:
    """Whether a socket of this kind, bound, is in this thread's namespace."""

    def heard() -> bool:
        rows = Path(f"/proc/thread-self/net/{kind}").read_text().splitlines()[1:]
        return any(kind != "packet" or row.split()[5] == "1" for row in rows)

    return heard


linux = pytest.mark.skipif(sys.platform != "linux", reason="devices are Linux's")


@linux
def test_over_udp_sockets() -> None:
    ends = ["--local", "127.0.0.1", "--remote", "127.0.0.2"]
    listening = _hears("udp")
    where = ["--udp", "127.0.0.2", "--count", 2000, "--seconds", 30]
    with network(), metering(*where, listening=listening) as said:
        made = report(
            "generate", "--udp", "--tunnel", "vxlan", "--id", "7-10", *ends,
            "--count", 2000, "--rate", "20kpps",
        )  # fmt: skip
    assert made["packets"] == 2000
    assert 0 < made["reached_pps"] <= 20_100
    assert said[0]["total"]["received"] == 2000
    assert said[0]["clocks_agree"]
    assert [(c["protocol"], c["key"], c["lost"]) for c in said[0]["keys"]] == [
        ("vxlan", key, 0) for key in range(7, 11)
    ]


@linux
@pytest.mark.parametrize("protocol", ["vxlan", "nvgre", "stt"])
def test_over_a_veth_pair(protocol: str) -> None:
    with network():
        ip("ip link add v0 type veth peer name v1")
        quiet("v0", "v1")
        running("v0", "v1")
        with metering(
            "--interface", "v1", "--count", 1000, "--seconds", 30, listening=_hears("packet")
        ) as said:
            made = report(
                "generate", "--interface", "v0", "--tunnel", protocol, "--id", "5000-5001", *ENDS,
                "--local-mac", A.hex(":"), "--remote-mac", B.hex(":"), "--size", "80-1400",
                "--inner", "ip.dst=10.0.0.0/24", "--count", 1000, "--rate", "10kpps",
            )  # fmt: skip
    assert (made["packets"], made["refused"]) == (1000, 0)
    total = said[0]["total"]
    assert (total["received"], total["lost"], total["corrupted"]) == (1000, 0, 0)
    assert said[0]["clocks_agree"]
    assert {c["key"] for c in said[0]["keys"]} == {5000, 5001}


@linux
def test_into_the_kernels_vxlan_and_out_of_it() -> None:
    with network():
        ip("ip link add v0 type veth peer name v1")
        quiet("v0", "v1")
        ip("ip addr add 192.0.2.2/24 dev v1",
           f"ip link set v1 address {B.hex(':')}",
           "ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:0a dev v1",
           "ip link add x type vxlan id 5001 local 192.0.2.2 remote 192.0.2.1 dev v1 dstport 4789",
        )  # fmt: skip
        quiet("x")
        running("v0", "v1")
        vxlan = ["--tunnel", "vxlan", "--id", "5001", *ENDS, "--remote-mac", B.hex(":")]
        with metering(
            "--interface", "x", "--count", 500, "--seconds", 30, listening=_hears("packet")
        ) as frames:
            made = report(
                "generate", "--interface", "v0", *vxlan, "--local-mac", A.hex(":"), "--inner",
                "udp.sport=1-9", "--count", 500, "--rate", "5kpps", "--size", "74-1400",
            )  # fmt: skip
        with metering(
            "--interface", "v0", "--count", 500, "--seconds", 30, listening=_hears("packet")
        ) as outer:
            back = report(
                "generate", "--interface", "x", "--count", 500, "--rate", "5kpps", "--inner",
                "eth.dst=02:00:00:00:00:77", "--inner", "tcp.sport=5-9", "--size", "86-1400",
            )  # fmt: skip
    assert (made["packets"], back["packets"]) == (500, 500)
    assert (frames[0]["total"]["received"], frames[0]["total"]["lost"]) == (500, 0)
    assert frames[0]["keys"][0]["key"] is None
    assert (outer[0]["total"]["received"], outer[0]["total"]["lost"]) == (500, 0)
    assert [(c["protocol"], c["key"]) for c in outer[0]["keys"]] == [("vxlan", 5001)]


@linux
def test_into_a_tap_interface(tmp_path: Path) -> None:
    with network():
        ip("ip tuntap add mode tap name t0")
        quiet("t0")
        where = ["--interface", "t0", "--count", 60, "--seconds", 30]
        with metering(*where, listening=_hears("packet")) as said:
            made = report("generate", "--tap", "t0", "--inner", "vlan.id=1-60", "--count", 60)
    assert (made["packets"], made["sent"]) == (60, {})
    assert made["bytes_of_frames"] == made["bytes_of_packets"] == 60 * 78
    assert said[0]["total"]["received"] == 60


def test_a_protocol_can_be_chosen(tmp_path: Path) -> None:
    generate(tmp_path / "a.pcap", "--tunnel", "nvgre", "--id", "0x5000", *ENDS, "--count", 5)
    chosen = report("meter", tmp_path / "a.pcap", "--protocol", "vxlan")
    assert chosen["total"]["received"] == 5  # the signature is at the packet's end, too
    assert [(c["protocol"], c["key"]) for c in chosen["keys"]] == [(None, None)]


@linux
def test_packets_of_a_sweep_fit_any_device() -> None:
    """What the library's own loop does, beside the command."""
    with network():
        ip("ip link add v0 type veth peer name v1")
        quiet("v0", "v1")
        running("v0", "v1")
        with Packet("v0") as one, Packet("v1") as other:
            done = send(Sweep(["vlan.id=1-100"], size="80-900"), one, count=100)
            meter = Meter()
            batch = overlay.io.device.burst()

            def all_came() -> bool:
                other.recv(batch)
                meter.take(batch, 2**62)
                return meter.report().total.received == 100

            assert until(all_came)
    assert done.packets == 100

"""overlay listen: frames of real senders, files that are whole, an account of what was lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import command
import frames
from lab import need_hosts, need_tap
from mirror import KEY, SOME, Listening, a_host, datagram, send, tunnel, two_hosts
from overlay.io.pcap import open_capture
from overlay.lab.host import Host
from veth import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sockets are Linux's")

SPOKEN = {"vxlan": 4789, "geneve": 6081, "vxlan-gpe": 4790}
over = pytest.mark.parametrize("name", SPOKEN)


@pytest.fixture
def host() -> Iterator[Host]:
    need_hosts()
    with a_host() as made:
        yield made


def vxlan(frame: bytes, key: int = KEY) -> bytes:
    return datagram(tunnel("vxlan", key).encap(frame))


def written(path: Path) -> list[bytes]:
    return [row[0] for row in command.packets(path)]


# -- what comes in --------------------------------------------------------------------


@over
@pytest.mark.parametrize("to", ["127.0.0.1", "::1"])
def test_frames_come_out(host: Host, tmp_path: Path, name: str, to: str) -> None:
    out = tmp_path / "mirror.pcapng"
    port = SPOKEN[name]
    listening = Listening(host, f":{port}", "-w", out, "--count", len(SOME), "--json",
                          ports=(port,))  # fmt: skip
    begun = time.time_ns()
    send(host, [datagram(tunnel(name).encap(frame)) for frame in SOME], port, to)
    said = listening.report(None)
    assert said["packets"] == said["frames"] == said["protocols"][name] == len(SOME)
    assert (said["refused"], said["lost_in_the_kernel"]) == (0, 0)
    got = command.packets(out)
    assert [row[0] for row in got] == SOME
    times = [row[2] for row in got]
    assert times[1:] == sorted(times[1:])
    assert all(begun - 10**9 < when <= time.time_ns() for when in times)
    with open_capture(out) as capture:
        for _ in capture:
            pass
        assert [i.name for i in capture.interfaces] == [
            f"0.0.0.0:{port} {name}", f"[::]:{port} {name}"
        ]  # fmt: skip
    assert {row[3] for row in got} == {int(":" in to)}


def test_a_kernel_mirrors_to_it(tmp_path: Path) -> None:
    """Linux's VXLAN as the mirror: every frame that its device is given, to the last bit."""
    need_hosts()
    with two_hosts() as (sender, receiver):
        sender.ip("link", "add", "vx", "type", "vxlan", "id", str(KEY), "remote", "192.0.2.2",
                  "dstport", "4789")  # fmt: skip
        sender.ip("link", "set", "vx", "addrgenmode", "none")
        sender.ip("link", "set", "vx", "up")
        out = tmp_path / "mirror.pcap"
        listening = Listening(receiver, "192.0.2.2:4789", "-w", out, "--json")
        with sender.entered():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        some = [frames.udp_frame(bytes([n]) * (60 + n)) for n in range(200)]
        with raw:
            raw.bind(("vx", 0))
            for frame in some:
                raw.send(frame)
        size = sum(map(len, some))
        assert until(lambda: any(f.stat().st_size > size for f in tmp_path.iterdir()))
        said = listening.report()
    assert (said["refused"], said["lost_in_the_kernel"]) == (0, 0)
    # The device's own multicast comes too.
    assert [frame for frame in written(out) if frame[:2] != b"\x33\x33"] == some


def test_keys_are_chosen(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "mirror.pcap"
    listening = Listening(host, ":4789", "-w", out, "--id", KEY, "--json", "--count", 1)
    send(host, [vxlan(frames.TCP4, KEY + 1), b"short", vxlan(frames.UDP4)], 4789)
    said = listening.report(None)
    assert written(out) == [frames.UDP4]
    assert said["packets"] == 3
    assert said["drops"] == {"HEADER_TRUNCATED": 1, "UNKNOWN_KEY": 1}


def test_several_ports_and_a_protocol_on_a_port_of_its_own(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "mirror.pcapng"
    listening = Listening(host, "127.0.0.1:4789", "127.0.0.1:8472", "-w", out, "--count", 2,
                          ports=(4789, 8472))  # fmt: skip
    send(host, [vxlan(frames.UDP4)], 4789)
    send(host, [vxlan(frames.TCP4)], 8472)
    assert listening.end(None)[0] == 0
    assert sorted((row[3], row[0]) for row in command.packets(out)) == [
        (0, frames.UDP4), (1, frames.TCP4)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["geneve", "vxlan-gpe"])
def test_packets_without_ethernet_of_a_train(host: Host, tmp_path: Path, name: str) -> None:
    """The kernel gives datagrams of one flow back to back: each has its header all the same."""
    out = tmp_path / "mirror.pcap"
    port = SPOKEN[name]
    listening = Listening(host, f"127.0.0.1:{port}", "-w", out, "--count", 20, "--json",
                          ports=(port,))  # fmt: skip
    some = [frames.udp_frame(bytes([n]) * 100) for n in range(20)]
    datagrams = [datagram(tunnel(name, payload="ip").encap(frame)) for frame in some]
    with host.entered():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.setsockopt(socket.IPPROTO_UDP, 103, len(datagrams[0]))  # UDP_SEGMENT
        s.sendto(b"".join(datagrams), ("127.0.0.1", port))
    assert listening.report(None)["frames"] == 20
    assert written(out) == [bytes(12) + frame[12:] for frame in some]


def test_tunnels_within_tunnels(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "mirror.pcap"
    listening = Listening(host, "-w", out, "--depth", 2, "--count", 2, "--json")
    inner = tunnel("vxlan", 9).encap(frames.TCP4)
    send(host, [vxlan(inner), vxlan(frames.UDP4)], 4789)
    assert listening.report(None)["protocols"] == {"vxlan": 3}
    assert written(out) == [frames.TCP4, frames.UDP4]


# -- where it goes --------------------------------------------------------------------


def test_standard_output_shows_every_frame_at_once(host: Host, tmp_path: Path) -> None:
    listening = Listening(host, "--json")
    assert listening.process.stdout is not None
    copy = tmp_path / "so-far.pcapng"
    have = b""
    os.set_blocking(listening.process.stdout.fileno(), False)

    def seen() -> int:
        nonlocal have
        have += listening.process.stdout.read() or b""  # type: ignore[union-attr]
        copy.write_bytes(have)
        return len(written(copy)) if have else 0

    for n in range(1, 4):
        send(host, [vxlan(SOME[n])], 4789)
        assert until(lambda n=n: seen() == n)
        assert not listening.ended
    status, _, error = listening.end(signal.SIGINT)
    assert status == 0
    assert json.loads(error)["frames"] == 3


def test_it_ends_when_nobody_reads(host: Host) -> None:
    listening = Listening(host)
    assert listening.process.stdout is not None
    assert until(lambda: len(listening.process.stdout.peek()) > 0)  # type: ignore[attr-defined]
    listening.process.stdout.close()
    assert until(lambda: listening.ended)
    assert listening.process.returncode == 141
    assert listening.process.stderr.read() == b""  # type: ignore[union-attr]


def test_a_tap_gets_the_frames(host: Host) -> None:
    need_tap()
    listening = Listening(host, ":4789", "--tap", "mirror0", "--json", "--count", len(SOME))
    assert until(lambda: host.has("mirror0"))
    with host.entered():
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        ear.bind(("mirror0", 3))
    untagged = [frame for frame in SOME if frame != frames.TAGGED]
    with ear:
        ear.settimeout(10)
        send(host, [vxlan(frame) for frame in SOME], 4789)
        got: list[bytes] = []
        while not set(untagged) <= set(got):
            got.append(ear.recv(2000))
    assert listening.report(None)["frames"] == len(SOME)


def test_an_interrupt_leaves_a_whole_file(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "mirror.pcap"
    listening = Listening(host, "-w", out, "--json")
    send(host, [vxlan(frame) for frame in SOME], 4789)
    assert until(lambda: any(f.stat().st_size > 400 for f in tmp_path.iterdir()))
    assert not out.exists()
    assert listening.report(signal.SIGTERM)["frames"] == len(SOME)
    assert written(out) == SOME
    assert list(tmp_path.iterdir()) == [out]


def test_time_ends_it(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "mirror.pcap"
    assert Listening(host, "-w", out, "--seconds", "0.2").end(None)[0] == 0
    assert written(out) == []


def test_rotation(host: Host, tmp_path: Path) -> None:
    """A ring of whole files: none is larger than it may be, and no frame is missing between."""
    listening = Listening(host, "-w", tmp_path / "m.pcap", "--rotate-size", 4000, "--files", 3,
                          "--json")  # fmt: skip
    some = [frames.udp_frame(n.to_bytes(2, "big") * 100) for n in range(200)]
    for frame in some:  # one by one, so that bursts are small
        send(host, [vxlan(frame)], 4789)
        time.sleep(0.001)
    assert until(lambda: len(list(tmp_path.glob("m_*.pcap"))) == 3)
    said = listening.report()
    files = sorted(tmp_path.iterdir())
    assert len(files) == said["files"] == 3
    assert all(file.name.startswith("m_20") and file.stat().st_size <= 4000 for file in files)
    kept = [frame for file in files for frame in written(file)]
    assert kept == some[-len(kept) :]
    assert (said["frames"], said["lost_to_file_errors"]) == (200, 0)


# -- what is lost ---------------------------------------------------------------------


def test_what_the_kernel_dropped_is_counted(host: Host, tmp_path: Path) -> None:
    listening = Listening(host, "127.0.0.1:4789", "-w", tmp_path / "m.pcap", "--json")
    listening.process.send_signal(signal.SIGSTOP)
    host.run(["true"])
    burst = [vxlan(frames.udp_frame(bytes(8000)))] * 1000
    sent = 0
    with host.entered():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        while sent < 40_000 and not dropped(host):
            for data in burst:
                s.sendto(data, ("127.0.0.1", 4789))
            sent += len(burst)
    assert dropped(host)
    listening.process.send_signal(signal.SIGCONT)
    said = listening.report()
    assert said["lost_in_the_kernel"] > 0
    assert said["packets"] + said["lost_in_the_kernel"] == sent
    assert said["frames"] == said["packets"]


def dropped(host: Host) -> int:
    """What the sockets of the host have dropped, by the kernel's own table."""
    with host.entered():
        lines = Path("/proc/thread-self/net/udp").read_text().splitlines()[1:]
    return sum(int(line.split()[-1]) for line in lines)


# -- what is wrong --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["4789"], "no [ADDRESS]:PORT"),
        ([":0"], "no [ADDRESS]:PORT"),
        (["nowhere:4789"], "no IP address"),
        (["--rotate-size", "1M"], "--write FILE"),
        (["-w", "x", "--rotate-size", "0"], "no size"),
        (["-w", "x", "--files", "2"], "--rotate-size"),
        (["--tap", "t", "-w", "x"], "takes the place"),
        ([":4789", "--interface", "lo"], "takes the place"),
        (["--protocol", "stt"], "has no UDP port"),
        (["--reflect", "10.0.0.0/8"], "GENEVE"),
        (["-w", ""], "OUT has no name"),
        (["-w", "/nowhere/x.pcap", "--rotate-size", "1M", "127.0.0.1:47890"], "a folder"),
    ],
)
def test_wrong_usage(args: list[str], says: str) -> None:
    result = command.run("listen", *args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_port_that_is_taken(host: Host, tmp_path: Path) -> None:
    with host.entered():
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with holder:
        holder.bind(("0.0.0.0", 4789))
        status, _, error = Listening(host, "-w", tmp_path / "m.pcap").end(None)
    assert status == 2
    assert error.startswith("overlay: UDP 0.0.0.0 port 4789: the port is taken")
    assert not list(tmp_path.iterdir())

"""Xdp: a queue of an interface by AF_XDP, over veth pairs in namespaces."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import overlay
from namespace import Namespace, powerless
from overlay import Batch, ConfigError, Status
from overlay.io.device import burst
from overlay.io.packet import Packet
from overlay.io.xdp import Xdp
from test_packet import partial, tcp, udp
from veth import (
    ETHERTYPE,
    A,
    B,
    frame,
    host,
    listen,
    network,
    put,
    quiet,
    run,
    running,
    space,
    stream,
    take,
    tunnel,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AF_XDP is Linux's")


@pytest.fixture
def veth() -> Iterator[None]:
    """A pair v0, v1 in a namespace of its own; nobody else speaks there."""
    with network():
        run(f"ip link add v0 address {A.hex(':')} type veth peer name v1 address {B.hex(':')}")
        quiet("v0", "v1")
        running("v0", "v1")
        yield


def has_program(interface: str) -> bool:
    return "xdp" in run(f"ip link show {interface}")


# ---- a port ---------------------------------------------------------------------------


def test_frames_pass_byte_for_byte_and_in_order(veth: None) -> None:
    frames = [frame(i, size) for i, size in enumerate([14, 60, 61, 999, 1514] * 60, 1)]
    frames = [f if len(f) >= 18 else B + A + ETHERTYPE for f in frames]
    tagged = frame(7, 1518, bytes.fromhex("81000123"))
    with Packet("v0") as one, Xdp("v1") as other:
        for source, to in ((one, other), (other, one)):
            for at in range(0, len(frames), 50):
                assert not put(source, frames[at : at + 50]).drops()
            assert not put(source, [tagged]).drops()
            assert take(to, len(frames) + 1) == [*frames, tagged]
        size = sum(map(len, frames)) + len(tagged)
        for stats in (one.stats, other.stats):
            assert (stats.rx_packets, stats.tx_packets) == (301, 301)
            assert (stats.rx_bytes, stats.tx_bytes) == (size, size)
            assert not stats.lost
        assert not other.underlay
        assert (other.mtu, other.mac) == (1500, B)


def test_more_frames_than_it_has_memory_for(veth: None) -> None:
    """Every frame of the memory is used many times, and none is given twice."""
    with Packet("v0") as one, Xdp("v1", frames=64) as other:
        for turn in range(0, 640, 16):
            frames = [frame(turn + i, 200) for i in range(16)]
            put(one, frames)
            assert take(other, 16) == frames
            assert not put(other, frames).drops()
            assert take(one, 16) == frames


def test_what_there_is_no_room_for_stays(veth: None) -> None:
    frames = [frame(i, 1500) for i in range(40)]
    small = Batch.packed(8000, 64, gap=128)
    with Packet("v0") as one, Xdp("v1") as other:
        put(one, frames)
        got: list[bytes] = []
        while len(got) < 40:
            assert select.select([other.fileno()], [], [], 10.0)[0], "what waits is announced"
            assert 0 < other.recv(small) <= 5
            got += small.to_list()
        assert got == frames
        assert not select.select([other.fileno()], [], [], 0)[0]


def test_hostile_rows_are_refused_by_name(veth: None) -> None:
    with Xdp("v0") as one, Packet("v1") as other:
        batch = Batch.from_frames(
            [frame(1), bytes(13), frame(2, 1600), frame(3), frame(4), frame(5, 60000)]
        )
        batch.offset[3] = 2**40
        batch.mss[4] = 1000  # neither TCP nor UDP
        assert one.send(batch) == 1
        assert batch.status.tolist() == [
            Status.OK,
            Status.FRAME_TOO_SHORT,
            Status.MTU_EXCEEDED,
            Status.BAD_ROW,
            Status.DEVICE_REFUSED,
            Status.MTU_EXCEEDED,
        ]
        assert sum(one.stats.lost.values()) == 5
        assert take(other, 1) == [frame(1)]
        cut = Batch.from_frames([frame(5)])
        cut.wire[0] = 100
        assert one.send(cut) == 0
        assert one.stats.lost[Status.FRAME_CUT] == 1


def test_what_the_kernel_lost_is_counted(veth: None) -> None:
    with Packet("v0") as one, Xdp("v1", frames=64) as other:
        sent = sum(one.send(Batch.from_frames([frame(i) for i in range(50)])) for _ in range(4))
        batch = burst()
        assert until(lambda: other.recv(batch))
        got = len(batch)
        assert other.recv(batch) == 0
        assert got == other.stats.rx_packets == 32
        assert other.stats.lost == {Status.DEVICE_OVERRUN: sent - got}


def test_super_frames_are_cut(veth: None) -> None:
    whole = [tcp(30000), udp(6000), udp(20000), tcp(700)]
    batch = Batch.from_frames([partial(f) for f in whole])
    batch.mss[:] = 1400, 1000, 100, 0
    batch.checksum[:] = 2
    with Xdp("v0") as one, Packet("v1") as other:
        run("ethtool -K v1 gro off")
        assert one.send(batch) == 4
        assert not one.stats.lost
        frames = take(other, 22 + 6 + 200 + 1)
    segments = [f for f in frames if f[23] == 6]
    datagrams = [f for f in frames if f[23] == 17]
    assert [len(f) - 54 for f in segments] == [1400] * 21 + [600, 700]
    assert [len(f) - 42 for f in datagrams] == [1000] * 6 + [100] * 200
    assert b"".join(f[42:] for f in datagrams[6:]) == udp(20000)[42:]
    for f in frames:
        pseudo = f[26:34] + struct.pack("!HH", f[23], len(f) - 34)
        assert overlay.checksum(pseudo + f[34:]) == 0


def test_down_and_up(veth: None) -> None:
    with Packet("v0") as one, Xdp("v1") as other:
        run("ip link set v1 down")
        assert put(other, [frame(1), frame(2)]).drops() == {Status.DEVICE_DOWN: 2}
        assert other.stats.lost == {Status.DEVICE_DOWN: 2}
        for _ in range(5):
            assert other.recv(burst()) == 0
        run("ip link set v1 up")
        running("v0", "v1")
        assert not put(one, [frame(3)]).drops()
        assert take(other, 1) == [frame(3)]
        assert not put(other, [frame(4)]).drops()
        assert take(one, 1) == [frame(4)]


def test_an_interface_that_goes(veth: None) -> None:
    with Xdp("v0") as one:
        run("ip link delete v0")
        assert put(one, [frame(1)]).drops() == {Status.DEVICE_DOWN: 1}
        with pytest.raises(OSError, match="No such device"):
            until(lambda: one.recv(burst()))


# ---- the program ------------------------------------------------------------------------


def test_the_program_goes_with_the_device(veth: None) -> None:
    for _ in range(3):
        with Xdp("v0"):
            assert has_program("v0")
        assert until(lambda: not has_program("v0"))


def test_the_program_goes_with_a_killed_owner(veth: None) -> None:
    program = (
        "from overlay.io.xdp import Xdp\n"
        "device = Xdp('v0', protocols=['vxlan'])\n"
        "print('open', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        assert has_program("v0")
        process.send_signal(signal.SIGKILL)
        process.wait(10.0)
    assert until(lambda: not has_program("v0"))


def test_where_the_driver_cannot_the_kernel_runs_the_program(veth: None) -> None:
    """A veth's driver does not with a large MTU; frames that are too large are counted."""
    run("ip link set v0 mtu 9000", "ip link set v1 mtu 9000")
    with Packet("v0") as one, Xdp("v1") as other:
        assert not other.native
        assert "xdpgeneric" in run("ip link show v1")
        assert other.mtu == 3822
        largest = frame(2, 3836)
        assert not put(one, [frame(1), frame(3, 9000), largest]).drops()
        assert take(other, 2) == [frame(1), largest]
        assert other.recv(burst()) == 0
        assert other.stats.lost == {Status.DEVICE_OVERRUN: 1}
        assert put(other, [largest, frame(4, 3837)]).drops() == {Status.MTU_EXCEEDED: 1}
        assert take(one, 1) == [largest]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"interface": "none0"}, "interface"),
        ({"interface": ""}, "interface"),
        ({"interface": "t0"}, "interface"),
        ({"interface": "v0", "queue": 99}, "queue"),
        ({"interface": "v0", "queue": -1}, "queue"),
        ({"interface": "v0", "frames": 1000}, "frames"),
        ({"interface": "v0", "frames": 32}, "frames"),
        ({"interface": "v0", "zero_copy": True}, "zero_copy"),
        ({"interface": "v0", "protocols": ()}, "protocols"),
        ({"interface": "v0", "protocols": ("gre",)}, "protocols"),
        ({"interface": "v0", "protocols": ("stt",), "local": "x"}, "local"),
        ({"interface": "v0", "protocols": ("stt",), "local": ["::1"] * 9}, "local"),
    ],
)
def test_mistakes_are_named(veth: None, arguments: dict[str, object], field: str) -> None:
    run("ip tuntap add t0 mode tun")
    with pytest.raises(ConfigError) as error:
        Xdp(**arguments)  # type: ignore[arg-type]
    assert error.value.field == field
    assert not has_program("v0")


def test_one_at_a_time(veth: None) -> None:
    with Xdp("v0"), pytest.raises(ConfigError) as error:
        Xdp("v0")
    assert error.value.field == "queue"


def test_without_the_right_to(veth: None) -> None:
    done = powerless(
        "import overlay\n"
        "from overlay.io.xdp import Xdp\n"
        "try: Xdp('v0')\n"
        "except overlay.ConfigError as error: print(error.field, error)\n"
    )
    assert done.stdout.startswith("interface"), done.stderr
    assert "CAP_NET_RAW" in done.stdout


# ---- the underlay -------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tag", [None, 100])
@pytest.mark.parametrize("kind", ["vxlan", "nvgre", "stt"])
def test_only_the_tunnels_packets_are_taken(
    veth: None, kind: str, tag: int | None, family: int
) -> None:
    way = tunnel(kind, family, **({} if tag is None else {"outer_vlan": tag}))
    packet = bytes(way.encap(frame(1)))
    others = [
        frame(2),
        udp(100),
        tcp(100),
        bytes(tunnel({"vxlan": "stt"}.get(kind, "vxlan"), family).encap(frame(3))),
        bytes.fromhex("020000000099") + packet[6:],  # another host's
        packet[: (36 if family == 4 else 56) + (0 if tag is None else 4)],  # its port is cut off
    ]
    mine = {4: "192.0.2.2", 6: "2001:db8::2"}[family]
    run("ethtool -K v0 txvlan off", "ethtool -K v1 rxvlan off")
    with Packet("v0") as one, Xdp("v1", protocols=[kind], local=["192.0.2.9", mine]) as two:
        assert two.underlay
        assert two.routed
        with Packet("v1") as kernel:
            put(one, [packet, *others, packet])
            assert take(two, 2) == [packet] * 2
            assert sorted(take(kernel, len(others))) == sorted(others)
    with (
        Packet("v0") as one,
        Xdp("v1", protocols=[kind], local=["192.0.2.9", "::9"]),
        Packet("v1") as kernel,
    ):
        put(one, [packet])
        assert take(kernel, 1) == [packet]


@pytest.mark.parametrize("kind", ["nvgre", "vxlan"])
def test_super_packets_are_cut(veth: None, kind: str) -> None:
    batch = Batch.from_frames([tcp(30000), tcp(500), tcp(1300), tcp(9000)], headroom=128)
    batch.mss[:] = 1400, 0, 0, 1448
    batch.checksum[:] = 2
    overlay.encap_batch(batch, tunnel(kind, 4))
    with (
        Xdp("v0", protocols=[kind]) as one,
        Packet("v1", protocols=[kind], guard=False) as other,
    ):
        assert one.send(batch) == 3
        assert batch.drops() == {Status.MTU_EXCEEDED: 1}
        frames = [bytes(overlay.decap(packet).frame) for packet in take(other, 24)]
    assert [len(f) - 54 for f in frames] == [1400] * 21 + [600, 500, 1300]
    assert b"".join(f[54:] for f in frames[:22]) == tcp(30000)[54:]
    assert frames[22:] == [tcp(500), tcp(1300)]


def test_stt_leaves_in_segments_of_the_path(veth: None) -> None:
    whole = frame(1, 60000)
    for mtu in (1500, 900):
        batch = Batch.from_frames([whole], headroom=128)
        overlay.encap_batch(batch, tunnel("stt", 4))
        with Xdp("v0", protocols=["stt"]) as one, Xdp("v1", protocols=["stt"]) as other:
            if mtu != 1500:
                one.path_mtu("192.0.2.2", mtu)
            assert one.send(batch) == 1
            payload = mtu - 40
            packets = take(other, -(-(len(whole) + 18) // payload))
        assert {len(packet) for packet in packets[:-1]} == {14 + mtu}
        assert whole in b"".join(packet[54:] for packet in packets)


@contextmanager
def tenants(hosts: tuple[Namespace, Namespace]) -> Iterator[tuple[Namespace, Namespace]]:
    """A namespace behind each host: 10.0.0.1 and 10.0.0.2, whose veth's other end is t0."""
    with ExitStack() as undo:
        made = undo.enter_context(space()), undo.enter_context(space())
        for number, (at, tenant) in enumerate(zip(hosts, made, strict=True), 1):
            with at.inside():
                run("ip link add t0 mtu 1400 type veth peer name e0 mtu 1400")
                run(f"ip link set e0 netns /proc/{os.getpid()}/fd/{tenant.fd}")
                quiet("t0")
            with tenant.inside():
                quiet("e0")
                host("e0", f"10.0.0.{number}", True)
        yield made


@pytest.mark.parametrize("kind", ["nvgre", "vxlan", "stt"])
def test_a_vtep_over_it_and_one_over_packet(kind: str) -> None:
    """Ping and TCP both ways, and the interface's other traffic goes on."""
    data = os.urandom(1 << 20)
    with ExitStack() as undo:
        here, there = undo.enter_context(space()), undo.enter_context(space())
        with here.inside():
            run("ip link add u0 type veth peer name u1")
            run(f"ip link set u1 netns /proc/{os.getpid()}/fd/{there.fd}")
        for number, at in enumerate((here, there)):
            with at.inside():
                quiet(f"u{number}")
                run(f"ip addr add 192.0.2.{number + 1}/24 dev u{number}")
        first, second = undo.enter_context(tenants((here, there)))
        switches = []
        for number, at in enumerate((here, there)):
            local = f"192.0.2.{number + 1}"
            with at.inside():
                running(f"u{number}", "t0")
                run(f"ping -c 1 -W 5 192.0.2.{2 - number}")
                device = (
                    Xdp("u0", protocols=[kind], local=local)
                    if number == 0
                    else Packet("u1", protocols=[kind], local=local)
                )
                undo.enter_context(device)
                port = undo.enter_context(Packet("t0"))
                vtep = undo.enter_context(
                    overlay.Vtep(local, tunnel=kind, underlay={kind: device}, seed=1)
                )
                net = vtep.add_network(5001)
                net.add_port(port)
                net.add_remote(f"192.0.2.{2 - number}")
                vtep.start()
                switches.append(vtep)
        with first.inside():
            run("ping -c 3 -i 0.2 -W 5 10.0.0.2")
            server = listen("10.0.0.1")
        with second.inside():
            assert stream("10.0.0.1", data) == hashlib.sha256(data).hexdigest()
            server.join(10.0)
            server = listen("10.0.0.2")
        with first.inside():
            assert stream("10.0.0.2", data) == hashlib.sha256(data).hexdigest()
            server.join(10.0)
        with here.inside():
            assert has_program("u0")
            run("ping -c 2 -i 0.2 -W 5 192.0.2.2")
            assert stream_to_host(there, data)
        for vtep in switches:
            vtep.stop()


def stream_to_host(there: Namespace, data: bytes) -> bool:
    with there.inside():
        server = listen("192.0.2.2")
    same = stream("192.0.2.2", data) == hashlib.sha256(data).hexdigest()
    server.join(10.0)
    return same

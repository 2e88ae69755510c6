"""Udp: sockets as an underlay, over loopback and veth pairs in namespaces of the test's own."""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import overlay
from conftest import missing
from frames import tcp_frame, udp_frame
from namespace import Namespace, powerless
from overlay import VXLAN, Batch, ConfigError, Status
from overlay.io.device import burst
from overlay.io.udp import Udp, UdpError
from veth import put, run, running, space, until
from wire import pattern

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sockets are Linux's")

ENDS = {4: ("127.0.0.1", "127.0.0.2"), 6: ("::1", "fd00::2")}
OVER = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
VXLAN_HEADER = bytes.fromhex("0800000000000700")


@pytest.fixture
def lo() -> Iterator[Namespace]:
    """The test is in a namespace of its own, with loopback addresses of both families."""
    with space() as made, made.inside():
        run("ip addr add fd00::2/128 dev lo nodad")
        # The kernel takes its time to make the route to it.
        assert until(lambda: "fd00::2" in run("ip -6 route show table local"))
        yield made


def pair(family: int, **options: object) -> tuple[Udp, Udp]:
    near, far = ENDS[family]
    return Udp(near, **options), Udp(far)  # type: ignore[arg-type]


def to(family: int, **options: object) -> VXLAN:
    near, far = ENDS[family]
    return VXLAN(vni=7, **{"local": near, "remote": far} | options)  # type: ignore[arg-type]


def flows(count: int, size: int = 100) -> list[bytes]:
    return [udp_frame(pattern(size), sport=1024 + i) for i in range(count)]


def numbered(count: int, size: int) -> list[bytes]:
    """Frames of one flow."""
    return [udp_frame(i.to_bytes(2, "big") + pattern(size - 2)) for i in range(count)]


def encapsulated(frames: list[bytes], tunnel: VXLAN) -> Batch:
    batch = Batch.from_frames(frames)
    assert overlay.encap_batch(batch, tunnel) == len(frames)
    return batch


def send(device: Udp, frames: list[bytes], tunnel: VXLAN) -> Batch:
    batch = encapsulated(frames, tunnel)
    device.send(batch)
    return batch


def take(device: Udp, count: int, batch: Batch | None = None) -> list[bytes]:
    """This many frames, decapsulated."""
    batch = burst(512, 4 << 20) if batch is None else batch
    got: list[bytes] = []

    def enough() -> bool:
        device.recv(batch)
        overlay.decap_batch(batch)
        assert not batch.drops()
        got.extend(batch.to_list())
        return len(got) >= count

    assert until(enough), f"{len(got)} of {count}"
    return got


def plain(family: int, port: int = 4789) -> socket.socket:
    """A socket of the kernel's at the far end."""
    made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    made.settimeout(10)
    made.bind((ENDS[family][1], port))
    return made


# -- there and back --------------------------------------------------------------


@OVER
def test_frames_arrive_whole_and_in_the_order_of_their_flow(lo: Namespace, family: int) -> None:
    near, far = pair(family)
    with near, far:
        frames = [udp_frame(pattern(i), sport=2000 + i % 8) for i in range(1, 600)]
        batch = send(near, frames, to(family))
        assert not batch.drops()
        got = take(far, len(frames))
        assert Counter(got) == Counter(frames)
        for flow in range(8):
            mine = [f for f in frames if f[34:36] == (2000 + flow).to_bytes(2, "big")]
            assert [f for f in got if f[34:36] == (2000 + flow).to_bytes(2, "big")] == mine
        assert near.stats.tx_packets == far.stats.rx_packets == len(frames)
        assert near.stats.tx_bytes == int(batch.length.sum())
        assert near.stats.lost == far.stats.lost == {}


@OVER
def test_a_row_tells_its_outer_headers(lo: Namespace, family: int) -> None:
    near, far = pair(family)
    with near, far:
        send(near, flows(1), to(family, dscp=10))
        batch = burst()
        assert until(lambda: far.recv(batch))
        assert batch.link.tolist() == [3]
        assert bytes(batch[0][:8]) == VXLAN_HEADER
        at = int(batch.outer[0])
        ip = bytes(batch.data[at : at + 48])
        tos, ends, udp = (
            (ip[1], (ip[12:16], ip[16:20]), ip[20:28])
            if family == 4
            else (struct.unpack("!H", ip[:2])[0] >> 4 & 255, (ip[8:24], ip[24:40]), ip[40:48])
        )
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        assert tos == 10 << 2
        assert tuple(socket.inet_ntop(kind, end) for end in ends) == ENDS[family]
        sport, dport, length, _ = struct.unpack("!HHHH", udp)
        assert sport in near.ports
        assert dport == 4789
        assert length == 8 + len(batch[0])
        if family == 4:
            assert overlay.checksum(ip[:20]) == 0
            assert struct.unpack("!H", ip[2:4]) == (28 + len(batch[0]),)


@OVER
def test_any_address_answers_from_the_packet_s_own(lo: Namespace, family: int) -> None:
    near, far = ENDS[family]
    with Udp("0.0.0.0" if family == 4 else "::") as device, Udp(near, 4790) as other:
        send(device, flows(1), to(family, local=far, remote=near, port=4790))
        batch = burst()
        assert until(lambda: other.recv(batch))
        at = int(batch.outer[0]) + (12 if family == 4 else 8)
        source = bytes(batch.data[at : at + (4 if family == 4 else 16)])
        assert source == socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, far)
        send(other, flows(1), to(family))
        assert until(lambda: device.recv(batch))
        at = int(batch.outer[0]) + (16 if family == 4 else 24)
        assert bytes(batch.data[at : at + len(source)]) == source


@OVER
def test_flows_spread_over_the_senders_ports(lo: Namespace, family: int) -> None:
    near, _ = ENDS[family]
    with Udp(near, 4790, senders=8) as device, plain(family) as kernel:
        assert len(set(device.ports)) == 8
        assert all(49152 <= port <= 65535 for port in device.ports)
        frames = flows(64)
        for _ in range(2):
            send(device, frames, to(family))
        ports: dict[bytes, set[int]] = {}
        for _ in range(128):
            payload, address = kernel.recvfrom(2048)
            ports.setdefault(payload[8:], set()).add(address[1])
        assert len(ports) == 64
        assert all(len(used) == 1 for used in ports.values())
        assert set.union(*ports.values()) == set(device.ports)


@OVER
def test_tos_and_ttl_are_the_packets(lo: Namespace, family: int) -> None:
    v4 = family == 4
    level = socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6
    with Udp(ENDS[family][0], 4790) as device, plain(family) as kernel:
        for name in (
            ("IP_RECVTOS", "IP_RECVTTL") if v4 else ("IPV6_RECVTCLASS", "IPV6_RECVHOPLIMIT")
        ):
            kernel.setsockopt(level, getattr(socket, name, 12), 1)
        for dscp, ttl in ((0, 64), (46, 7), (0, 64)):
            send(device, flows(1), to(family, dscp=dscp, ttl=ttl))
            _, told, _, _ = kernel.recvmsg(2048, 256)
            values = [int.from_bytes(value, sys.byteorder) for _, _, value in told]
            assert sorted(values) == sorted((dscp << 2, ttl))


def test_ports_other_than_the_usual(lo: Namespace) -> None:
    with Udp("127.0.0.1", 8472) as device, Udp("127.0.0.2", 8472) as other:
        send(device, flows(3), to(4, port=8472))
        assert len(take(other, 3)) == 3


def test_raw_ip_rows_are_sent_too(lo: Namespace) -> None:
    near, far = pair(4)
    with near, far:
        batch = encapsulated(flows(4), to(4))
        batch.offset[:] += 14
        batch.length[:] -= 14
        batch.wire[:] -= 14
        batch.link[:] = 1
        assert near.send(batch) == 4
        assert Counter(take(far, 4)) == Counter(flows(4))


def test_every_queue_of_a_shared_port_receives(lo: Namespace) -> None:
    with Udp("127.0.0.1") as near, Udp("127.0.0.2", queues=4) as far:
        frames = flows(256)
        send(near, frames, to(4))
        assert len(far.queues) == 4
        assert len(far.ports) == 64
        assert Counter(take(far, 256)) == Counter(frames)
        assert sum(queue.stats[0] > 0 for queue in far.queues) > 1


# -- trains and super-packets ----------------------------------------------------


@OVER
def test_a_train_comes_as_rows_that_share_their_outer_headers(lo: Namespace, family: int) -> None:
    near, far = pair(family)
    with near, far:
        if near.trains != (True, True):
            missing("the kernel's UDP_SEGMENT and UDP_GRO")
        frames = numbered(100, 900)
        assert near.send(encapsulated(frames, to(family))) == 100
        batch = burst(256, 4 << 20)
        assert until(lambda: far.recv(batch))
        assert len(set(batch.outer.tolist())) < len(batch) / 10
        overlay.decap_batch(batch)
        assert batch.to_list() == frames[: len(batch)]


SUPERS = {
    "tcp": lambda version: (tcp_frame(pattern(60000), version, seq=2**32 - 5000), 1398),
    "tcp, small mss": lambda version: (tcp_frame(pattern(30000), version), 100),
    "udp": lambda version: (udp_frame(pattern(60001), version), 1400),
    "one packet": lambda version: (tcp_frame(pattern(500), version), 1398),
}


@OVER
@pytest.mark.parametrize("version", [4, 6], ids=["inner4", "inner6"])
@pytest.mark.parametrize("kind", SUPERS)
@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "none"])
def test_a_super_packet_leaves_as_the_packets_it_stands_for(
    lo: Namespace, family: int, version: int, kind: str, checksum: bool
) -> None:
    frame, mss = SUPERS[kind](version)
    inner = Batch.from_frames([frame])
    inner.mss[0], inner.checksum[0] = mss, 2
    cut = Batch.packed(1 << 20, 1024)
    overlay.segment_batch(inner, cut)
    near, far = pair(family, checksum=checksum)
    with near, far:
        batch = encapsulated([frame], to(family))
        batch.mss[0], batch.checksum[0] = mss, 2
        if family == 6 and not checksum:
            assert near.send(batch) == 1  # what comes apart has no checksum: not received
            return
        assert near.send(batch) == 1
        assert take(far, len(cut)) == cut.to_list()


def test_a_partial_checksum_is_completed(lo: Namespace) -> None:
    near, far = pair(4)
    with near, far:
        frame = tcp_frame(pattern(300))
        partial = frame[:50] + b"\x12\x34" + frame[52:]
        batch = encapsulated([partial], to(4))
        batch.checksum[0] = 2
        assert near.send(batch) == 1
        assert take(far, 1) == [frame]


def test_what_cannot_be_cut_is_refused(lo: Namespace) -> None:
    near, far = pair(4)
    with near, far:
        batch = encapsulated([b"\xff" * 60, tcp_frame(pattern(99)), tcp_frame(b"")], to(4))
        batch.mss[0], batch.checksum[0] = 20, 2
        assert near.send(batch) == 2
        assert batch.status.tolist() == [Status.DEVICE_REFUSED, 0, 0]
        assert near.stats.lost == {Status.DEVICE_REFUSED: 1}


def test_without_checksums_only_trains_have_one(lo: Namespace) -> None:
    with (
        Udp("127.0.0.1", 4790, checksum=False) as device,
        plain(4),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw,
    ):
        raw.settimeout(10)
        sums = []
        for mss in (0, 1000, 0):
            batch = encapsulated([tcp_frame(pattern(2000))], to(4))
            batch.mss[0], batch.checksum[0] = mss, 2 if mss else 0
            assert device.send(batch) == 1
            packet = raw.recv(65536)
            sums.append(struct.unpack("!H", packet[26:28])[0])
        assert sums[0] == sums[2] == 0
        assert sums[1] != 0


# -- room -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "size", "gap"),
    [(1, 1 << 20, 0), (7, 1 << 20, 128), (64, 3000, 0), (64, 70000, 128), (3, 2000, 16)],
)
def test_what_finds_no_room_comes_with_the_next_call(
    lo: Namespace, rows: int, size: int, gap: int
) -> None:
    near, far = pair(4)
    with near, far:
        frames = numbered(150, 1000)
        send(near, frames, to(4))
        assert take(far, 150, Batch.packed(size, rows, gap=gap)) == frames
        assert far.stats.rx_packets == 150
        assert far.stats.lost == {}


def test_what_no_such_batch_can_take_is_counted(lo: Namespace) -> None:
    near, far = pair(4)
    with near, far:
        send(near, [udp_frame(pattern(2000)), udp_frame(pattern(50))], to(4))
        assert len(take(far, 1, Batch.packed(1000, 4))) == 1
        assert far.stats.lost == {Status.NO_ROOM: 1}


def test_hostile_datagrams_of_any_size(lo: Namespace) -> None:
    dice = random.Random(1)
    sizes = [0, 1, 7, 8, 9, 21, 22, 65506, 65507, *(dice.randrange(65508) for _ in range(60))]
    with Udp("127.0.0.2") as far, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        batch = burst(16, 1 << 20)
        for size in sizes:
            payload = dice.randbytes(size)
            kernel.sendto(payload, ("127.0.0.2", 4789))
            assert until(lambda: far.recv(batch))
            assert [bytes(batch[i]) for i in range(len(batch))] == [payload]
            overlay.decap_batch(batch)
        assert far.stats.rx_packets == len(sizes)


def test_a_full_receive_buffer_is_counted(lo: Namespace) -> None:
    with Udp("127.0.0.1") as near, Udp("127.0.0.2", receive_buffer=65536) as far:
        growing = [udp_frame(pattern(500 + i)) for i in range(100)]  # no trains: each counts
        for _ in range(20):
            send(near, growing, to(4))
        lost = far.stats.lost[Status.DEVICE_OVERRUN]
        assert lost > 0
        got = take(far, 2000 - lost)
        assert far.stats.lost == {Status.DEVICE_OVERRUN: lost}
        assert len(got) + lost == near.stats.tx_packets == 2000


# -- what the network says --------------------------------------------------------


@OVER
def test_too_long_for_the_path(lo: Namespace, family: int) -> None:
    run("ip link set lo mtu 1500")
    near, far = pair(family)
    with near, far:
        assert near.mtu == 1500
        long, short = udp_frame(pattern(1600)), udp_frame(pattern(100))
        batch = send(near, [short, long, short], to(family, df=True))
        assert batch.status.tolist() == [0, Status.MTU_EXCEEDED, 0]
        assert take(far, 2) == [short, short]
        batch = encapsulated([tcp_frame(pattern(5000))], to(family, df=True))
        batch.mss[0], batch.checksum[0] = 1600, 2
        near.send(batch)
        assert batch.status.tolist() == [Status.MTU_EXCEEDED]
        assert near.stats.lost == {Status.MTU_EXCEEDED: 2}
        errors = near.errors()
        assert UdpError(ENDS[family][1], 1500) in errors
        assert {error.kind for error in errors} == {"too-big"}
        assert near.errors() == []


def test_without_df_it_goes_in_fragments(lo: Namespace) -> None:
    run("ip link set lo mtu 1500")
    near, far = pair(4)
    with near, far:
        long, short = udp_frame(pattern(1600)), udp_frame(pattern(100))
        frames = [short, long, long, short]
        assert not send(near, frames, to(4, df=False)).drops()
        assert take(far, 4) == frames
        batch = send(near, [long, short], to(4, df=True))
        assert batch.status.tolist() == [Status.MTU_EXCEEDED, 0]


@OVER
def test_no_way_there(lo: Namespace, family: int) -> None:
    with Udp(ENDS[family][0]) as device:
        remote = "192.0.2.9" if family == 4 else "2001:db8::9"
        batch = send(device, flows(3), to(family, remote=remote))
        assert batch.drops() == {Status.UNRESOLVED: 3}
        assert device.stats.lost == {Status.UNRESOLVED: 3}
        assert device.stats.tx_packets == 0


def test_an_answer_of_unreachable_harms_no_other_packet(lo: Namespace) -> None:
    with Udp("127.0.0.1", senders=1) as near, Udp("127.0.0.2") as far:
        for _ in range(50):
            assert not send(near, flows(1), to(4, remote="127.0.0.3")).drops()
            assert not send(near, flows(1), to(4)).drops()
        assert len(take(far, 50)) == 50
        errors = near.errors()
        assert set(errors) == {UdpError("127.0.0.3", None)}
        assert errors[0].kind == "unreachable"


def test_rows_that_are_no_packets_are_refused_by_name(lo: Namespace) -> None:
    with Udp("127.0.0.1") as device:
        good = bytes(encapsulated(flows(1), to(4))[0])
        rows = [b"", good[:13], good[:33], good[:41], good, good[:23] + b"\x2f" + good[24:]]
        rows += [b"\0" * 60, good[:20] + b"\x20\x00" + good[22:], good[:14] + b"\x41" + good[15:]]
        rows.append(bytes(encapsulated(flows(1), to(6))[0]))
        batch = put(device, rows)  # type: ignore[arg-type]
        refused = Status.DEVICE_REFUSED
        assert batch.status.tolist() == [refused] * 4 + [0] + [refused] * 5
        batch = Batch.from_array(batch.data, [0, batch.data.size - 5], [2**31, 6], base=[0, 0])
        assert device.send(batch) == 0
        assert batch.drops() == {Status.BAD_ROW: 2}


def test_rows_with_a_status_are_left_alone(lo: Namespace) -> None:
    near, far = pair(4)
    with near, far:
        batch = encapsulated(flows(3), to(4))
        batch.status[1] = Status.UNKNOWN_KEY
        assert near.send(batch) == 2
        assert batch.status.tolist() == [0, Status.UNKNOWN_KEY, 0]
        assert len(take(far, 2)) == 2
        assert near.stats.lost == {}


# -- multicast -----------------------------------------------------------------------


GROUPS = {4: "239.1.2.3", 6: "ff05::1:3"}


@pytest.fixture
def wire() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces and a veth pair between them, with addresses."""
    with space() as left, space() as right:
        with left.inside():
            run("ip link add u0 type veth peer name u1")
            run(f"ip link set u1 netns /proc/{os.getpid()}/fd/{right.fd}")
        for end, number in ((left, 1), (right, 2)):
            with end.inside():
                run(
                    f"ip addr add 192.0.2.{number}/24 dev u{number - 1}",
                    f"ip addr add 2001:db8::{number}/64 dev u{number - 1} nodad",
                    f"ip link set u{number - 1} up",
                )
        with left.inside():
            running("u0")
        yield left, right


@OVER
@pytest.mark.parametrize("any_address", [False, True], ids=["bound", "any"])
def test_a_group_is_joined_and_left(
    wire: tuple[Namespace, Namespace], family: int, any_address: bool
) -> None:
    left, right = wire
    group, prefix = GROUPS[family], "192.0.2." if family == 4 else "2001:db8::"
    with left.inside():
        near = Udp(prefix + "1")
    with right.inside():
        mine = ("0.0.0.0" if family == 4 else "::") if any_address else prefix + "2"
        far = Udp(mine, interface="u1", queues=2)
    tunnel = to(family, local=prefix + "1", remote=group)
    unicast = to(family, local=prefix + "1", remote=prefix + "2")
    with near, far:
        batch = burst()

        def arrives() -> bool:
            send(near, flows(1), tunnel)
            return until(lambda: far.recv(batch), 0.1)

        assert not arrives()
        with right.inside():
            far.join(group)
            far.join(group)
        assert until(arrives)
        again = burst()
        assert not until(lambda: far.recv(again), 0.05), "once, whatever the queues"
        at = int(batch.outer[0])
        ends = bytes(
            batch.data[at + 16 : at + 20] if family == 4 else batch.data[at + 24 : at + 40]
        )
        assert ends == socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, group)
        send(near, flows(2), unicast)
        assert len(take(far, 2)) == 2
        far.leave(group)
        far.leave(group)
        assert not arrives()
        far.join(group)
        assert until(arrives)
        assert near.stats.lost == {}


def test_groups_are_of_the_device_s_family(lo: Namespace) -> None:
    with Udp("127.0.0.1") as device:
        for group in ("ff05::1", "192.0.2.1", "nonsense"):
            with pytest.raises(ConfigError, match="group"):
                device.join(group)


# -- opening and closing ---------------------------------------------------------------


def test_it_takes_no_root(lo: Namespace) -> None:
    """Nobody in particular sends itself a frame."""
    program = """
import select, overlay
from overlay.io.device import burst
from overlay.io.udp import Udp
device, batch = Udp("127.0.0.1"), overlay.Batch.from_frames([bytes(60)])
overlay.encap_batch(batch, overlay.VXLAN(vni=7, local="127.0.0.1", remote="127.0.0.1"))
assert device.send(batch) == 1
select.select([device.fileno()], [], [], 10)
print(device.recv(burst()))
"""
    done = powerless(program)
    assert done.stdout == "1\n", done.stderr


def test_a_taken_port_is_named(lo: Namespace) -> None:
    with (
        Udp("127.0.0.1"),
        pytest.raises(OSError, match=r"UDP 127\.0\.0\.1 port 4789: the port is taken"),
    ):
        Udp("127.0.0.1")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"local": "192.0.2.77"}, r"192\.0\.2\.77 port 4789: this machine does not have"),
        ({"local": "127.0.0.1", "interface": "nothere"}, "no interface nothere"),
    ],
)
def test_what_the_kernel_refuses_is_explained(
    lo: Namespace, arguments: dict[str, object], match: str
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=match):
        Udp(**arguments)  # type: ignore[arg-type]
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    "bad",
    [
        {"local": "239.0.0.1"},
        {"local": "host"},
        {"port": 0},
        {"port": 65536},
        {"queues": 0},
        {"senders": -1},
        {"senders": 65},
        {"checksum": 1},
        {"receive_buffer": 1},
        {"multicast_ttl": 0},
    ],
    ids=str,
)
def test_bad_arguments(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Udp(**{"local": "127.0.0.1", **bad})  # type: ignore[arg-type]
    assert caught.value.field == next(iter(bad))


def test_a_closed_device_says_so(lo: Namespace) -> None:
    before = os.listdir("/proc/self/fd")
    device = Udp("127.0.0.1", queues=2)
    send(device, flows(5), to(4, remote="127.0.0.1"))
    stats = device.stats
    device.close()
    device.close()
    assert device.stats == stats
    calls: list[Callable[[], object]] = [
        lambda: device.recv(burst()),
        lambda: device.send(Batch.from_frames(flows(1))),
        lambda: device.join("239.0.0.1"),
        device.errors,
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()
    assert os.listdir("/proc/self/fd") == before

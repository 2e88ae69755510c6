"""Packet: an interface as a port and as the underlay, over veth pairs in namespaces."""

from __future__ import annotations

import hashlib
import os
import select
import struct
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import overlay
from overlay import VXLAN, Batch, ConfigError, Status
from overlay.io.device import burst
from overlay.io.packet import FANOUT, Packet
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
    rings,
    run,
    running,
    space,
    stream,
    take,
    tunnel,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AF_PACKET is Linux's")


@pytest.fixture
def veth() -> Iterator[None]:
    """A pair v0, v1 in a namespace of its own; nobody else speaks there."""
    with network():
        run("ip link add v0 type veth peer name v1")
        quiet("v0", "v1")
        running("v0", "v1")
        yield


# ---- a port ---------------------------------------------------------------------------


@rings
def test_frames_pass_byte_for_byte_and_in_order(veth: None, ring: int) -> None:
    frames = [frame(i, size) for i, size in enumerate([14, 60, 61, 999, 1514] * 60, 1)]
    frames = [f if len(f) >= 18 else B + A + ETHERTYPE for f in frames]
    with Packet("v0", ring=ring) as one, Packet("v1", ring=ring) as other:
        for at in range(0, len(frames), 50):
            assert not put(one, frames[at : at + 50]).drops()
        assert take(other, len(frames)) == frames
        assert one.stats.tx_packets == other.stats.rx_packets == len(frames)
        assert one.stats.tx_bytes == other.stats.rx_bytes == sum(map(len, frames))
        assert not one.stats.lost
        assert take(one, 1, 0.05) == []  # what is sent there does not come back


@rings
def test_tags_are_put_back(veth: None, ring: int) -> None:
    tags = [
        b"\x81\x00\x20\x64",
        b"\x81\x00\x00\x00",
        b"\x88\xa8\x0f\xff",
        b"\x88\xa8\x00\x05\x81\x00\x60\x07",
        b"\x81\x00\x00\x05\x81\x00\x00\x06",
    ]
    frames = [frame(i, 80, tag) for i, tag in enumerate(tags)]
    # The longest: a full frame and a tag.
    frames.append(frame(9, 1518, tags[0]))
    with Packet("v0") as one, Packet("v1", ring=ring) as other:
        assert not put(one, frames).drops()
        assert take(other, len(frames)) == frames


@rings
def test_rows_have_headroom(veth: None, ring: int) -> None:
    batch = burst()
    with Packet("v0") as one, Packet("v1", ring=ring) as other:
        put(one, [frame(1), frame(2, 70, b"\x81\x00\x00\x05")])
        assert until(lambda: other.recv(batch))
        assert (batch.offset - batch.base >= 128).all()


def test_what_does_not_fit_comes_with_the_next_call(veth: None) -> None:
    frames = [frame(i, 1500) for i in range(40)]
    small = Batch.packed(8000, 64, gap=128)
    with Packet("v0") as one, Packet("v1") as other:
        put(one, frames)
        got = []
        while len(got) < 40:
            assert select.select([other.fileno()], [], [], 10.0)[0], "what waits is announced"
            assert 0 < other.recv(small) <= 5
            got += small.to_list()
        assert got == frames
        assert not select.select([other.fileno()], [], [], 0)[0]


def test_hostile_rows_are_refused_by_name(veth: None) -> None:
    with Packet("v0") as one, Packet("v1") as other:
        batch = Batch.from_frames([frame(1), bytes(13), frame(2, 1600), frame(3), frame(4)])
        batch.offset[3] = 2**40
        batch.mss[4] = 1000  # neither TCP nor UDP
        assert one.send(batch) == 1
        assert batch.status.tolist() == [
            Status.OK,
            Status.FRAME_TOO_SHORT,
            Status.MTU_EXCEEDED,
            Status.BAD_ROW,
            Status.DEVICE_REFUSED,
        ]
        assert sum(one.stats.lost.values()) == 4
        assert take(other, 1) == [frame(1)]
        cut = Batch.from_frames([frame(5)])
        cut.wire[0] = 100
        assert one.send(cut) == 0
        assert one.stats.lost[Status.FRAME_CUT] == 1


@rings
def test_what_the_kernel_lost_is_counted(veth: None, ring: int) -> None:
    frames = [frame(i, 1514) for i in range(64)]
    with Packet("v0") as one, Packet("v1", ring=ring) as other:
        sent = sum(one.send(Batch.from_frames(frames)) for _ in range(700))
        batch = burst()
        got = 0
        assert until(lambda: other.recv(batch))
        got = len(batch)
        while n := other.recv(batch) or (time.sleep(0.01), other.recv(batch))[1]:
            got += n
        overrun = other.stats.lost.get(Status.DEVICE_OVERRUN, 0)
        assert overrun > 0
        assert got == other.stats.rx_packets == sent - overrun


@rings
def test_down_and_up(veth: None, ring: int) -> None:
    with Packet("v0") as one, Packet("v1", ring=ring) as other:
        run("ip link set v0 down")
        batch = put(one, [frame(1), frame(2)])
        assert batch.drops() == {Status.DEVICE_DOWN: 2}
        assert one.stats.lost == {Status.DEVICE_DOWN: 2}
        for _ in range(5):
            assert one.recv(burst()) == other.recv(burst()) == 0
        assert not select.select([one.fileno(), other.fileno()], [], [], 0)[0], "no busy loop"
        run("ip link set v1 down", "ip link set v0 up", "ip link set v1 up")
        running("v0", "v1")
        assert not put(one, [frame(3)]).drops()
        assert take(other, 1) == [frame(3)]


@rings
def test_an_interface_that_goes(veth: None, ring: int) -> None:
    with Packet("v0", ring=ring) as one:
        run("ip link delete v0")
        assert put(one, [frame(1)]).drops() == {Status.DEVICE_DOWN: 1}
        with pytest.raises(OSError, match="No such device"):
            until(lambda: one.recv(burst()))


def test_mtu_and_mac(veth: None) -> None:
    run("ip link set v0 address 02:00:00:00:00:0a", "ip link set v0 mtu 1400")
    with Packet("v0") as one:
        assert (one.mtu, one.mac) == (1400, A)
        assert not one.underlay
        run("ip link set v0 mtu 1300")
        one.refresh()
        assert one.mtu == 1300


def test_fanout_shares_by_flow(veth: None) -> None:
    flows = []
    for port in range(64):
        udp = struct.pack("!HHHH", 1000 + port, 9, 8 + 18, 0) + bytes(18)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2")
        flows.append(B + A + b"\x08\x00" + ip + udp)
    with Packet("v0") as one, Packet("v1", queues=2) as other:
        for _ in range(4):
            put(one, flows)
        batch = burst(512)
        shares: list[list[bytes]] = [[], []]

        def all_there() -> bool:
            for share, queue in zip(shares, other.queues, strict=True):
                while queue.recv(batch):
                    share += batch.to_list()
            return sum(map(len, shares)) >= 256

        assert until(all_there)
        assert sorted(shares[0] + shares[1]) == sorted(flows * 4)
        assert shares[0]
        assert shares[1]
        assert not set(shares[0]) & set(shares[1])
        assert other.stats.rx_packets == 256


@pytest.mark.parametrize("fanout", FANOUT)
def test_fanout_modes(veth: None, fanout: str) -> None:
    with Packet("v0") as one, Packet("v1", queues=3, fanout=fanout, ring=1 << 20) as other:
        put(one, [frame(i) for i in range(30)])
        assert sorted(take(other, 30)) == sorted(frame(i) for i in range(30))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"interface": "none0"}, "interface"),
        ({"interface": ""}, "interface"),
        ({"interface": "x" * 40}, "interface"),
        ({"interface": "t0"}, "interface"),
        ({"interface": "v0", "queues": 0}, "queues"),
        ({"interface": "v0", "fanout": "x"}, "fanout"),
        ({"interface": "v0", "protocols": ()}, "protocols"),
        ({"interface": "v0", "protocols": ("gre",)}, "protocols"),
        ({"interface": "v0", "protocols": ("stt",), "local": "x"}, "local"),
        ({"interface": "v0", "protocols": ("stt",), "local": ["::1"] * 9}, "local"),
        ({"interface": "v0", "ring": -1}, "ring"),
    ],
)
def test_mistakes_are_named(veth: None, arguments: dict[str, object], field: str) -> None:
    run("ip tuntap add t0 mode tun")
    with pytest.raises(ConfigError) as error:
        Packet(**arguments)  # type: ignore[arg-type]
    assert error.value.field == field


# ---- super-frames by real TCP -----------------------------------------------------------------


@rings
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("offload", [True, False], ids=["tso", "plain"])
def test_tcp_between_two_ports_in_super_frames(ring: int, family: int, offload: bool) -> None:
    """Two hosts, each on a veth; a wire of two Packet ports between them."""
    data = os.urandom(1 << 20) * 4
    addresses = ("10.0.0.1", "10.0.0.2") if family == 4 else ("fd00::1", "fd00::2")
    with space() as second, network():
        run("ip link add a0 type veth peer name a1", "ip link add b0 type veth peer name b1")
        run(f"ip link set b0 netns /proc/{os.getpid()}/fd/{second.fd}")
        quiet("a1", "b1")
        if not offload:
            run("ethtool -K a1 gro off", "ethtool -K b1 tso off gso off")
        host("a0", addresses[0], offload)
        with second.inside():
            host("b0", addresses[1], True)
            server = listen(addresses[1])
        running("a1", "b1")
        stop = threading.Event()
        largest = [0, 0]
        with Packet("a1", ring=ring) as one, Packet("b1", ring=ring) as other:

            def wire() -> None:
                batch = burst(64, 1 << 22)
                while not stop.is_set():
                    for source, sink in ((one, other), (other, one)):
                        if source.recv(batch):
                            largest[0] = max(largest[0], int(batch.length.max()))
                            largest[1] = max(largest[1], int(batch.mss.max()))
                            sink.send(batch)

            thread = threading.Thread(target=wire, daemon=True)
            thread.start()
            try:
                assert stream(addresses[1], data) == hashlib.sha256(data).hexdigest()
            finally:
                stop.set()
                thread.join(10.0)
                server.join(10.0)
            assert set(one.stats.lost) | set(other.stats.lost) <= {Status.DEVICE_OVERRUN}
        if offload:
            assert largest[0] > 20000
            assert 1000 < largest[1] < 1500
        else:
            assert largest == [1514, 0]


# ---- the underlay --------------------------------------------------------------------------------


def fragments(packet: bytes) -> list[bytes]:
    """An IPv4 packet in two."""
    head, payload = packet[:34], packet[34:]
    cut = len(payload) // 16 * 8
    parts = []
    for offset, part, more in ((0, payload[:cut], 0x2000), (cut, payload[cut:], 0)):
        ip = bytearray(head[14:])
        ip[2:4] = (20 + len(part)).to_bytes(2, "big")
        ip[6:8] = (more | offset // 8).to_bytes(2, "big")
        ip[10:12] = bytes(2)
        ip[10:12] = overlay.checksum(bytes(ip)).to_bytes(2, "big")
        parts.append(head[:14] + bytes(ip) + part)
    return parts


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["stt", "nvgre", "vxlan"])
def test_only_the_tunnels_packets_come(veth: None, kind: str, family: int) -> None:
    run(f"ip link set v1 address {B.hex(':')}")
    wanted = [tunnel(kind, family).encap(frame(i, 100)) for i in range(3)]
    others = [
        tunnel(k, family).encap(frame(8, 100)) for k in ("stt", "nvgre", "vxlan") if k != kind
    ]
    elsewhere = bytearray(wanted[0])
    elsewhere[0:6] = bytes.fromhex("020000000099")  # for another station
    tagged = wanted[0][:12] + b"\x81\x00\x00\x05" + wanted[0][12:]  # for an interface above
    not_to = bytearray(wanted[0])
    not_to[33 if family == 4 else 53] = 9  # another address
    pieces = fragments(wanted[0]) if family == 4 else []
    noise = [*others, bytes(elsewhere), tagged, frame(1)]
    with Packet("v0") as one:
        with Packet("v1", protocols=[kind], guard=False) as other:
            assert other.underlay
            put(one, [*noise, *wanted, bytes(not_to), *pieces])
            assert take(other, len(wanted) + 1 + len(pieces)) == [*wanted, bytes(not_to), *pieces]
            assert take(other, 1, 0.05) == []
        local = ["192.0.2.9", "192.0.2.2", "2001:db8::9", "2001:db8::2"]
        with Packet("v1", protocols=[kind], guard=False, local=local) as other:
            put(one, [*noise, bytes(not_to), *wanted])
            not_to[33 if family == 4 else 53] = 9
            assert take(other, len(wanted) + 1)[-len(wanted) :] == wanted


@pytest.mark.parametrize("checksum", [True, False], ids=["complete", "partial"])
@pytest.mark.parametrize("ring", [0, 1 << 22])
@pytest.mark.parametrize("family", [4, 6])
def test_an_stt_frame_of_64_kb_leaves_as_segments(
    veth: None, family: int, ring: int, checksum: bool
) -> None:
    """The other end has no offloads: what comes are segments of the MTU, checksums complete."""
    run(f"ip link set v1 address {B.hex(':')}")
    run("ethtool -K v0 tso off gso off tx off", "ethtool -K v1 gro off")
    big = frame(1, 64000)
    small = frame(2, 60)
    with (
        Packet("v0", protocols=["stt"], guard=False) as one,
        Packet("v1", protocols=["stt"], guard=False, ring=ring) as other,
    ):
        batch = Batch.from_frames([big, small], headroom=128)
        overlay.encap_batch(batch, tunnel("stt", family))
        if not checksum:
            at = 50 if family == 4 else 70
            for row in range(2):
                batch[row][at : at + 2] = bytes(2)
        assert one.send(batch) == 2
        most = 1500 - (40 if family == 4 else 60)
        count = -(-(64000 + 18) // most) + 1
        segments = take(other, count)
        assert len(segments) == count
        assert max(map(len, segments)) == 1514
        assert one.stats.tx_packets == 2
        reassembler = overlay.SttReassembler()
        got = [d for s in segments if (d := reassembler.push(s, 0)) is not None]
        assert [bytes(d.frame) for d in got] == [big, small]
        # By the path's MTU where that is lower.
        one.path_mtu("192.0.2.2" if family == 4 else "2001:db8::2", 1300)
        batch = Batch.from_frames([big, frame(3, 1400)], headroom=128)
        overlay.encap_batch(batch, tunnel("stt", family))
        if not checksum:
            at = 50 if family == 4 else 70
            for row in range(2):
                batch[row][at : at + 2] = bytes(2)
        assert one.send(batch) == 2
        count = -(-(64000 + 18) // (most - 200)) + 2
        segments = take(other, count)
        assert len(segments) == count
        assert max(map(len, segments)) == 1314
        got = [d for s in segments if (d := reassembler.push(s, 0)) is not None]
        assert [bytes(d.frame) for d in got] == [big, frame(3, 1400)]


@rings
def test_an_stt_frame_that_stays_whole(veth: None, ring: int) -> None:
    """Between offloads it comes as it left: one segment, its outer checksum completed."""
    run(f"ip link set v1 address {B.hex(':')}")
    batch = Batch.from_frames([frame(1, 60000)], headroom=128)
    overlay.encap_batch(batch, tunnel("stt", 4))
    with (
        Packet("v0", protocols=["stt"], guard=False) as one,
        Packet("v1", protocols=["stt"], guard=False, ring=ring) as other,
    ):
        assert one.send(batch) == 1
        got = burst()
        assert until(lambda: other.recv(got))
        assert got.mss.tolist() == [0]
        assert bytes(overlay.decap(got[0]).frame) == frame(1, 60000)


def tcp(payload: int, source: int = 1000) -> bytes:
    """A TCP frame with complete checksums."""
    body = bytes(i % 253 for i in range(payload))
    head = struct.pack("!HHIIBBHHH", source, 80, 1, 2, 0x50, 0x18, 512, 0, 0)
    pseudo = b"\n\0\0\1\n\0\0\2" + struct.pack("!HH", 6, 20 + payload)
    check = overlay.checksum(pseudo + head + body)
    ip = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 40 + payload, 1, 0, 64, 6, 0, b"\n\0\0\1", b"\n\0\0\2"
        )
    )
    ip[10:12] = overlay.checksum(bytes(ip)).to_bytes(2, "big")
    return B + A + b"\x08\x00" + bytes(ip) + head[:16] + check.to_bytes(2, "big") + head[18:] + body


def udp(payload: int) -> bytes:
    """A UDP frame, its checksum complete."""
    body = bytes(i % 253 for i in range(payload))
    head = struct.pack("!HHH", 1000, 9, 8 + payload)
    pseudo = b"\n\0\0\1\n\0\0\2" + struct.pack("!HH", 17, 8 + payload)
    check = overlay.checksum(pseudo + head + bytes(2) + body)
    ip = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 28 + payload, 1, 0, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2"
        )
    )
    ip[10:12] = overlay.checksum(bytes(ip)).to_bytes(2, "big")
    return B + A + b"\x08\x00" + bytes(ip) + head + check.to_bytes(2, "big") + body


def partial(whole: bytes) -> bytes:
    """A frame with the pseudo header's sum where its checksum was."""
    at = 34 + (16 if whole[23] == 6 else 6)
    pseudo = whole[26:34] + struct.pack("!HH", whole[23], len(whole) - 34)
    return whole[:at] + (overlay.checksum(pseudo) ^ 0xFFFF).to_bytes(2, "big") + whole[at + 2 :]


def test_super_frames_of_a_port_are_cut(veth: None) -> None:
    """By the kernel; by us what it will not cut: more than 128 datagrams in one."""
    run("ethtool -K v0 tso off gso off tx off", "ethtool -K v1 gro off")
    whole = [tcp(30000), udp(6000), udp(20000), tcp(700)]
    batch = Batch.from_frames([partial(f) for f in whole])
    batch.mss[:] = 1400, 1000, 100, 0
    batch.checksum[:] = 2
    with Packet("v0") as one, Packet("v1") as other:
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


@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "plain"])
def test_super_packets_come_whole_from_the_kernel(checksum: bool) -> None:
    """TCP through the kernel's VXLAN: the packets are not cut on their way to us."""
    data = os.urandom(1 << 20)
    with network():
        run(f"ip link add u0 address {A.hex(':')} type veth peer name u1 address {B.hex(':')}")
        run(
            "ip link set u0 addrgenmode none",
            "ip link set u0 up",
            "ip addr add 192.0.2.1/24 dev u0",
            f"ip neigh replace 192.0.2.2 lladdr {B.hex(':')} dev u0",
            "ip link add x0 address 02:00:00:00:01:01 type vxlan id 7 local 192.0.2.1 "
            f"remote 192.0.2.2 dstport 4789 dev u0 {'udpcsum' if checksum else 'noudpcsum'}",
            "ip link set x0 addrgenmode none",
            "ip link set x0 up",
            "ip addr add 10.0.0.1/24 dev x0",
            "ip neigh replace 10.0.0.2 lladdr 02:00:00:00:01:02 dev x0",
        )
        quiet("u1")
        running("u0", "u1")
        with space() as second:
            run("ip link add b0 address 02:00:00:00:01:02 type veth peer name b1")
            run(f"ip link set b0 netns /proc/{os.getpid()}/fd/{second.fd}")
            quiet("b1")
            with second.inside():
                host("b0", "10.0.0.2", True)
                server = listen("10.0.0.2")
            running("b1")
            stop = threading.Event()
            largest = [0, 0]
            drops: dict[Status, int] = {}
            way = VXLAN(
                local="192.0.2.2", remote="192.0.2.1", vni=7,
                local_mac=B.hex(":"), remote_mac=A.hex(":"),
            )  # fmt: skip
            with (
                Packet("u1", protocols=["vxlan"], guard=False) as underlay,
                Packet("b1") as port,
            ):

                def bridge() -> None:
                    batch = burst(64, 1 << 22)
                    while not stop.is_set():
                        if underlay.recv(batch):
                            largest[0] = max(largest[0], int(batch.length.max()))
                            largest[1] = max(largest[1], int(batch.mss.max()))
                            overlay.decap_batch(batch)
                            drops.update(batch.drops())
                            port.send(batch)
                        if port.recv(batch):
                            overlay.encap_batch(batch, way)
                            underlay.send(batch)
                            drops.update(batch.drops())

                thread = threading.Thread(target=bridge, daemon=True)
                thread.start()
                try:
                    assert stream("10.0.0.2", data) == hashlib.sha256(data).hexdigest()
                finally:
                    stop.set()
                    thread.join(10.0)
                    server.join(10.0)
            assert largest[0] > 10000
            assert largest[1] > 1000
            assert drops == {}


@pytest.mark.parametrize("kind", ["nvgre", "vxlan"])
def test_super_packets_are_cut(veth: None, kind: str) -> None:
    run(f"ip link set v1 address {B.hex(':')}")
    batch = Batch.from_frames([tcp(30000), tcp(500), tcp(1300), tcp(9000)], headroom=128)
    batch.mss[:] = 1400, 0, 0, 1448
    batch.checksum[:] = 2
    overlay.encap_batch(batch, tunnel(kind, 4))
    with (
        Packet("v0", protocols=[kind], guard=False) as one,
        Packet("v1", protocols=[kind], guard=False) as other,
    ):
        assert one.send(batch) == 3
        assert batch.drops() == {Status.MTU_EXCEEDED: 1}
        packets = take(other, 24)
        frames = [bytes(overlay.decap(packet).frame) for packet in packets]
        assert [len(f) - 54 for f in frames] == [1400] * 21 + [600, 500, 1300]
        assert b"".join(f[54:] for f in frames[:22]) == tcp(30000)[54:]
        assert frames[22:] == [tcp(500), tcp(1300)]
        for f in frames:
            pseudo = f[26:34] + struct.pack("!HH", 6, len(f) - 34)
            assert overlay.checksum(pseudo + f[34:]) == 0
        assert one.stats.tx_packets == 3

"""Super-frames: cut to packets, put together again, split behind a tunnel header.

The laws: ``coalesce(segment(super)) == super``, ``segment(coalesce(frames)) == frames``, and a
super-packet split is what encap makes of the packets of its super-frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import frames
import strategies as s
import wire
from conftest import extension
from overlay import NVGRE, STT, VXLAN, Batch, ConfigError, Status, Tunnel
from overlay.codec import Codec

PARTIAL = 2
CWR, URG, ACK, PSH, RST, SYN, FIN = 0x80, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01

# -- super-frames -------------------------------------------------------------------


def partial(frame: bytes) -> bytes:
    """The frame with the sum of its pseudo header, not inverted, in the checksum field."""
    inner = wire.inner(frame)
    l4, end = inner.l4, len(frame)
    at = l4 + (16 if inner.protocol == 6 else 6)
    size = 4 if inner.version == 4 else 16
    start = inner.l3 + (12 if inner.version == 4 else 8)
    src, dst = frame[start : start + size], frame[start + size : start + 2 * size]
    pseudo = wire.pseudo(src, dst, inner.protocol, end - l4)
    return frame[:at] + struct.pack("!H", wire.sum16(pseudo)) + frame[at + 2 :]


def super_frame(
    payload: int,
    *,
    version: int = 4,
    tcp: bool = True,
    flags: int = ACK,
    options: bytes = b"",
    tags: Sequence[tuple[int, int]] = (),
    seq: int = 1000,
    ident: int = 0x115C,
    seed: int = 1,
) -> bytes:
    data = wire.pattern(payload, seed)
    if tcp:
        frame = frames.tcp_frame(data, version, flags=flags, options=options, seq=seq, ident=ident)
    else:
        frame = frames.udp_frame(data, version)
    return partial(wire.tag(frame, *tags))


def batch_of(
    rows: Iterable[bytes], mss: Iterable[int] | int = 0, check: Iterable[int] | int = 0
) -> Batch:
    batch = Batch.from_frames(list(rows))
    batch.mss[:] = mss
    batch.checksum[:] = check
    return batch


def room(size: int = 1 << 18, rows: int = 512, gap: int = 0) -> Batch:
    return Batch.packed(size, rows, gap=gap)


def segment(codec: Codec, frame: bytes, mss: int) -> list[bytes]:
    batch, out = batch_of([frame], mss, PARTIAL), room()
    assert codec.segment_batch(batch, out) == out.count
    assert not batch.drops()
    assert not out.mss.any()
    return out.to_list()


def coalesce(codec: Codec, given: Iterable[bytes]) -> list[tuple[bytes, int, int]]:
    """(frame, mss, checksum) of every row."""
    out = room(1 << 20)
    codec.coalesce_batch(batch_of(given), out)
    return list(zip(out.to_list(), out.mss.tolist(), out.checksum.tolist(), strict=True))


def facts(batch: Batch) -> Any:
    names = "base offset length wire key mss status protocol link checksum origin outer".split()
    return batch.to_list(), [getattr(batch, name).tolist() for name in names]


def check_twins(twins: Sequence[Codec], call: Any) -> None:
    """``call(codec)`` gives two batches; every backend leaves the same in both."""
    first, *others = [[facts(batch) for batch in call(codec)] for codec in twins]
    for other in others:
        assert other == first


OPTIONS = bytes.fromhex("0101080a00000001deadbeef")

super_frames = st.builds(
    super_frame,
    st.integers(2, 4000),
    version=st.sampled_from([4, 6]),
    tcp=st.booleans(),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | CWR, ACK | CWR | PSH | 0x40]),
    options=st.sampled_from([b"", OPTIONS]),
    tags=st.sampled_from([(), ((0x8100, 5),), ((0x88A8, 5), (0x8100, 7))]),
    seq=st.integers(0, 2**32 - 1),
    ident=st.integers(0, 0xFFFF),
    seed=st.integers(0, 255),
)

# -- cut ----------------------------------------------------------------------------


@given(frame=super_frames, mss=st.integers(200, 2000))
def test_packets_have_scapys_sums_and_lengths(codec: Codec, frame: bytes, mss: int) -> None:
    """STT-31, STT-32: deleted and made again by scapy, every derived field is the same."""
    for piece in segment(codec, frame, mss):
        read = Ether(piece)
        for layer, names in [
            (IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)), (UDP, ("len", "chksum"))
        ]:  # fmt: skip
            if read.haslayer(layer):
                for name in names:
                    del read[layer].fields[name]
        assert bytes(read) == piece


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", [(), ((0x88A8, 5), (0x8100, 7))])
def test_a_tcp_super_frame(codec: Codec, version: int, tags: Sequence[tuple[int, int]]) -> None:
    """Sequence, IPv4 ID, CWR on the first only, PSH on the last only; the payload in order."""
    frame = super_frame(
        3500, version=version, tags=tags, flags=ACK | PSH | CWR, seq=2**32 - 1000, ident=0xFFFF,
        options=OPTIONS,
    )  # fmt: skip
    pieces = segment(codec, frame, 1000)
    assert len(pieces) == 4
    l4 = wire.inner(frame).l4
    at = l4 + 32
    assert b"".join(piece[at:] for piece in pieces) == frame[at:]
    assert [len(piece) - at for piece in pieces] == [1000, 1000, 1000, 500]
    sequences = [struct.unpack_from("!I", piece, l4 + 4)[0] for piece in pieces]
    assert sequences == [2**32 - 1000, 0, 1000, 2000]
    assert [piece[l4 + 13] for piece in pieces] == [ACK | CWR, ACK, ACK, ACK | PSH]
    if version == 4:
        numbers = [struct.unpack_from("!H", piece, wire.inner(frame).l3 + 4)[0] for piece in pieces]
        assert numbers == [0xFFFF, 0, 1, 2]
    assert all(wire.complete(piece) == piece for piece in pieces)


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_super_frame(codec: Codec, version: int) -> None:
    pieces = segment(codec, super_frame(2500, version=version, tcp=False), 1200)
    l4 = wire.inner(pieces[0]).l4
    assert [len(piece) - l4 - 8 for piece in pieces] == [1200, 1200, 100]
    lengths = [struct.unpack_from("!H", piece, l4 + 4)[0] for piece in pieces]
    assert lengths == [1208, 1208, 108]


def test_the_largest_super_frame_in_many_pieces(codec: Codec) -> None:
    frame = super_frame(65535 - 40)
    pieces = segment(codec, frame, 1448)
    assert len(pieces) == 46
    assert b"".join(piece[54:] for piece in pieces) == frame[54:]


@pytest.mark.parametrize("check", [0, PARTIAL])
def test_what_is_not_cut_is_completed_or_copied(codec: Codec, check: int) -> None:
    """A partial checksum is completed; without one no byte is touched, right or wrong."""
    wrong = bytearray(frames.TCP4)
    wrong[50] ^= 0xFF
    given = [partial(frames.TCP4), partial(frames.UDP6), bytes(wrong), frames.ARP, b"\1\2"]
    batch, out = batch_of(given, check=check), room()
    batch.mss[0] = 9000
    assert codec.segment_batch(batch, out) == 5
    if check:
        right = [frames.TCP4, frames.UDP6, frames.TCP4, frames.ARP, b"\1\2"]
        assert out.to_list() == right
        assert out.checksum.tolist() == [0, 0, 0, PARTIAL, PARTIAL]  # none was found
    else:
        assert out.to_list() == given
    assert not out.mss.any()


def test_columns_of_packets(codec: Codec) -> None:
    batch, out = batch_of([frames.ARP, super_frame(300)], [0, 100], [0, PARTIAL]), room(gap=9)
    batch.key[:] = 7, 8
    batch.protocol[:] = 3
    assert codec.segment_batch(batch, out) == 4
    assert out.origin.tolist() == [0, 1, 1, 1]
    assert out.key.tolist() == [7, 8, 8, 8]
    assert out.protocol.tolist() == [3] * 4
    assert out.offset[0] == 9


def test_no_room_is_for_the_whole_row(codec: Codec) -> None:
    """A row whose packets do not all fit gives none; the rows after it are tried."""
    frame = super_frame(1000)
    batch = batch_of([frame, frames.ARP], [100, 0], [PARTIAL, 0])
    for out in (room(rows=9), room(size=1400)):
        batch.status[:] = 0
        assert codec.segment_batch(batch, out) == 1
        assert batch.status.tolist() == [Status.NO_ROOM, Status.OK]
        assert out.to_list() == [frames.ARP]
    batch.status[1] = Status.NOT_IP
    batch.status[0] = 0
    assert codec.segment_batch(batch, room()) == 10


def test_rows_that_cannot_be_cut(codec: Codec) -> None:
    frame = super_frame(1000)
    batch, out = batch_of([frame, frame, frame], 100, PARTIAL), room()
    batch.wire[0] += 5
    batch.length[1] = 1 << 31
    batch.wire[1] = 1 << 31
    batch.link[2] = 1
    assert codec.segment_batch(batch, out) == 1
    assert batch.status.tolist() == [Status.FRAME_CUT, Status.BAD_ROW, Status.OK]
    assert out.to_list() == [frame]
    assert out.link.tolist() == [1]


def test_bad_callers(codec: Codec) -> None:
    batch = batch_of([frames.ARP])
    with pytest.raises(ConfigError, match="mtu"):
        codec.segment_batch(batch, room(), mtu=65536)
    with pytest.raises(ConfigError, match="out"):
        codec.segment_batch(batch, batch)
    with pytest.raises(ConfigError, match="out"):
        codec.coalesce_batch(batch, batch)
    with pytest.raises(TypeError):
        codec.coalesce_batch(batch, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("frame", [frames.TCP4, frames.TCP6, frames.UDP4, frames.UDP6])
def test_virtios_partial_checksum(frame: bytes) -> None:
    """Summed from a start to the end; written at an offset from there, if that lies inside."""
    live = extension()
    l4 = wire.inner(frame).l4
    offset = 16 if wire.inner(frame).protocol == 6 else 6
    given = partial(frame)
    assert live.complete(given, l4, offset) == frame
    for outside in (
        (len(frame), 0),
        (len(frame) - 1, 0),
        (l4, len(frame) - l4 - 1),
        (1, 2**32 - 1),
    ):
        assert live.complete(given, *outside) is None
    assert live.complete(bytes(4), 0, 2) == b"\0\0\xff\xff"  # never zero, which says "none"


# -- coalesce -----------------------------------------------------------------------


@given(frame=super_frames, mss=st.integers(150, 2000))
def test_what_was_cut_is_put_together(codec: Codec, frame: bytes, mss: int) -> None:
    """The law, one way: the same super-frame, its checksum partial, its mss the same."""
    pieces = segment(codec, frame, mss)
    whole = coalesce(codec, pieces)
    if len(pieces) == 1:
        assert whole == [(pieces[0], 0, 0)]
    else:
        assert whole == [(frame, mss, PARTIAL)]


@st.composite
def trains(draw: st.DrawFn) -> list[bytes]:
    """Frames of a few flows, most of which follow on; here and there something is changed."""
    train: list[bytes] = []
    for _ in range(draw(st.integers(1, 3))):
        frame, mss = draw(super_frames), draw(st.integers(60, 1500))
        inner = wire.inner(frame)
        at = inner.l4 + ((frame[inner.l4 + 12] >> 4) * 4 if inner.protocol == 6 else 8)
        pieces = [frame[:at] + frame[i : i + mss] for i in range(at, len(frame), mss)][:6]
        train += [_piece(piece, inner, number, mss) for number, piece in enumerate(pieces)]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.integers(0, len(train) - 1))
        kind = draw(st.sampled_from(["byte", "mended", "double", "drop", "swap", "pad", "cut"]))
        frame = train[row]
        at = draw(st.integers(0, min(len(frame), 80) - 1))
        changed = frame[:at] + bytes([frame[at] ^ 1 << draw(st.integers(0, 7))]) + frame[at + 1 :]
        if kind == "byte":
            train[row] = changed
        elif kind == "mended":
            train[row] = _mend(changed)
        elif kind == "double":
            train.insert(row, frame)
        elif kind == "drop" and len(train) > 1:
            train.pop(row)
        elif kind == "swap":
            train[row], train[-1] = train[-1], train[row]
        elif kind == "pad":
            train[row] = frame + bytes(draw(st.integers(1, 3)))
        elif kind == "cut":
            train[row] = frame[: at + 1]
    return train


def _piece(piece: bytes, inner: Any, number: int, mss: int) -> bytes:
    data = bytearray(piece)
    if inner.version == 4:
        ident = struct.unpack_from("!H", data, inner.l3 + 4)[0] + number & 0xFFFF
        struct.pack_into("!HH", data, inner.l3 + 2, len(data) - inner.l3, ident)
    else:
        struct.pack_into("!H", data, inner.l3 + 4, len(data) - inner.l4)
    if inner.protocol == 6:
        seq = struct.unpack_from("!I", data, inner.l4 + 4)[0] + number * mss & 0xFFFFFFFF
        struct.pack_into("!I", data, inner.l4 + 4, seq)
    else:
        struct.pack_into("!H", data, inner.l4 + 4, len(data) - inner.l4)
    return _mend(bytes(data))


def _mend(frame: bytes) -> bytes:
    """The frame with its checksums made right, where it has any."""
    try:
        inner = wire.inner(frame)
        if inner.version == 4:
            head = frame[inner.l3 : inner.l3 + 10] + b"\0\0" + frame[inner.l3 + 12 : inner.l4]
            sum_ = struct.pack("!H", wire.checksum(head))
            frame = frame[: inner.l3 + 10] + sum_ + frame[inner.l3 + 12 :]
        return wire.complete(frame)
    except (struct.error, AssertionError, IndexError, ValueError):
        return frame


@given(train=trains())
def test_what_was_put_together_is_cut_again(codec: Codec, train: list[bytes]) -> None:
    """The law, the other way: whatever the frames are, every byte of them comes back in order."""
    whole, out = room(1 << 20), room(1 << 20)
    codec.coalesce_batch(batch_of(train), whole)
    codec.segment_batch(whole, out)
    assert out.to_list() == train


@given(train=trains(), data=st.data())
def test_coalesce_twins(twins: Sequence[Codec], train: list[bytes], data: st.DataObject) -> None:
    some = st.integers(0, len(train) - 1)
    skipped, keyed, cut = data.draw(some), data.draw(some), data.draw(some)
    size = data.draw(st.sampled_from([1 << 16, 3000]))

    def call(codec: Codec) -> tuple[Batch, Batch]:
        batch, out = batch_of(train), room(size, 64, gap=3)
        batch.status[skipped] = Status.NOT_IP * (skipped % 2)
        batch.key[keyed:] = 5
        batch.wire[cut] += cut % 3 // 2
        codec.coalesce_batch(batch, out)
        return batch, out

    check_twins(twins, call)


CHANGES = {
    "same": ({}, 1),
    "window": ({"window": 511}, 2),
    "ack": ({"ack": 78}, 2),
    "tos": ({"tos": 4}, 2),
    "ece": ({"flags": "AE"}, 2),
    "push": ({"flags": "PA"}, 1),
    "cwr": ({"flags": "AC"}, 2),
    "fin": ({"flags": "FA"}, 2),
    "rst": ({"flags": "RA"}, 2),
    "urg": ({"flags": "UA"}, 2),
    "seq": ({"seq": 1099}, 2),
    "ident": ({"id": 1}, 2),
    "df": ({"ip_flags": 0}, 2),
    "ttl": ({"ttl": 63}, 2),
    "port": ({"dport": 81}, 2),
    "longer": ({"payload": 101}, 2),
    "shorter": ({"payload": 1}, 1),
    "empty": ({"payload": 0}, 2),
    "timestamp": ({"options": [("Timestamp", (2, 1))]}, 2),
    "no options": ({"options": []}, 2),
}


def scapy_frame(seq: int = 1000, **change: Any) -> bytes:
    fields = {"window": 512, "ack": 77, "flags": "A", "dport": 80,
              "options": [("Timestamp", (1, 1)), ("NOP", None), ("NOP", None)]}  # fmt: skip
    fields |= {name: change[name] for name in fields if name in change}
    ip = IP(
        src="10.0.0.1", dst="10.0.0.2", id=change.get("id", 7), ttl=change.get("ttl", 64),
        tos=change.get("tos", 0), flags=change.get("ip_flags", 2),
    )  # fmt: skip
    payload = wire.pattern(change.get("payload", 100))
    made = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip
    return bytes(made / TCP(sport=9, seq=change.get("seq", seq), **fields) / payload)


@pytest.mark.parametrize("name", CHANGES)
def test_which_frames_follow_on(codec: Codec, name: str) -> None:
    """As Linux' GRO: the second of two frames, and how many rows leave."""
    change, rows = CHANGES[name]
    second = scapy_frame(**{"seq": 1100, "id": 8, **change})
    assert len(coalesce(codec, [scapy_frame(), second])) == rows


@pytest.mark.parametrize("flags", ["S", "SA", "FA", "RA", "UA", "PA", "P", ""])
def test_which_frames_nothing_follows(codec: Codec, flags: str) -> None:
    first, second = scapy_frame(flags=flags), scapy_frame(seq=1100, id=8, flags=flags)
    assert coalesce(codec, [first, second]) == [(first, 0, 0), (second, 0, 0)]


def test_nothing_follows_a_short_frame_or_a_push(codec: Codec) -> None:
    a, b = scapy_frame(), scapy_frame(seq=1100, id=8, payload=50)
    c = scapy_frame(seq=1150, id=9, payload=50)
    assert [mss for _, mss, _ in coalesce(codec, [a, b, c])] == [100, 0]
    b, c = scapy_frame(seq=1100, id=8, flags="PA"), scapy_frame(seq=1200, id=9)
    assert [mss for _, mss, _ in coalesce(codec, [a, b, c])] == [100, 0]


def test_at_most_65535_bytes_of_ip(codec: Codec) -> None:
    pieces = segment(codec, super_frame(65000, version=6), 1000)
    more = [frames.tcp_frame(wire.pattern(1000), 6, flags=ACK, seq=1000 + 65000)]
    sizes = [len(frame) for frame, _, _ in coalesce(codec, pieces + more)]
    assert sizes == [14 + 40 + 20 + 65000, 14 + 40 + 20 + 1000]


def test_at_most_64_datagrams(codec: Codec) -> None:
    pieces = segment(codec, super_frame(70 * 100, tcp=False), 100)
    assert [len(frame) - 42 for frame, _, _ in coalesce(codec, pieces)] == [6400, 600]


def test_rows_of_a_run(codec: Codec) -> None:
    """Refused rows between do not count; the key, the protocol and the origin are the run's."""
    pieces = segment(codec, super_frame(500), 100)
    batch, out = batch_of([*pieces[:2], b"", *pieces[2:]]), room()
    batch.status[2] = Status.NOT_IP
    batch.key[:] = 1, 1, 1, 1, 2, 2
    assert codec.coalesce_batch(batch, out) == 2
    assert out.origin.tolist() == [0, 4]
    assert out.key.tolist() == [1, 2]
    assert [len(row) for row in out.to_list()] == [54 + 300, 54 + 200]
    assert batch.status.tolist() == [0, 0, Status.NOT_IP, 0, 0, 0]


def test_no_room_for_a_run(codec: Codec) -> None:
    pieces = segment(codec, super_frame(500), 100)
    batch, out = batch_of([*pieces, frames.ARP]), room(size=200)
    assert codec.coalesce_batch(batch, out) == 1
    assert batch.status.tolist() == [Status.NO_ROOM] * 5 + [0]
    assert out.to_list() == [frames.ARP]


# -- split --------------------------------------------------------------------------

vxlan_or_nvgre = st.one_of(s.tunnels(VXLAN), s.tunnels(NVGRE))


@given(frame=super_frames, mss=st.integers(200, 2000), tunnel=vxlan_or_nvgre, number=s.u64)
@example(super_frame(3000), 1000, VXLAN(vni=1, local="::1", remote="::2"), 2**64 - 1)
def test_a_split_super_packet_is_its_packets_encapsulated(
    codec: Codec, frame: bytes, mss: int, tunnel: Tunnel, number: int
) -> None:
    """Every outer length, ID and checksum: what ``encap_into`` writes for the cut frames."""
    if not s.sendable(tunnel, frame) or (not tunnel.df and tunnel.ip_id is not None):
        return  # a fixed ID is kept by encap; packets of one super-packet count up from it
    pieces, want, out = batch_of(segment(codec, frame, mss)), room(), room()
    codec.encap_into(pieces, want, tunnel, 0, sequence=number)
    packet = batch_of([frame], mss, PARTIAL)
    assert codec.encap_batch(packet, tunnel, sequence=number) == 1
    assert codec.segment_batch(packet, out, 65535) == want.count
    assert out.to_list() == want.to_list()
    assert out.key.tolist() == want.key.tolist()
    assert out.protocol.tolist() == want.protocol.tolist()


@given(frame=s.frames(least=14), tunnel=s.tunnels(STT), mtu=st.integers(100, 9000), number=s.u64)
def test_an_stt_packet_is_split_as_encap_does(
    codec: Codec, frame: bytes, tunnel: Tunnel, mtu: int, number: int
) -> None:
    if not s.sendable(tunnel, frame):
        return
    want, out = room(), room()
    codec.encap_into(batch_of([frame]), want, tunnel, mtu, sequence=number)
    packet = batch_of([frame])
    codec.encap_batch(packet, tunnel, sequence=number)
    packet.data[int(packet.offset[0]) + tunnel.overhead - 18 - 4] ^= 0xFF  # the outer checksum
    assert codec.segment_batch(packet, out, mtu) == max(1, want.count)
    if want.count > 1:
        assert out.to_list() == want.to_list()


@pytest.mark.parametrize("tunnel", [
    VXLAN(vni=5, local="192.0.2.1", remote="192.0.2.2", checksum=True),
    VXLAN(vni=5, local="2001:db8::1", remote="2001:db8::2", outer_vlan=9),
    NVGRE(vsid=5000, local="192.0.2.1", remote="192.0.2.2"),
], ids=["vxlan4", "vxlan6", "nvgre"])  # fmt: skip
def test_a_partial_checksum_behind_a_tunnel_header(codec: Codec, tunnel: Tunnel) -> None:
    """Completed, and the outer UDP checksum with it."""
    packet, out = batch_of([partial(frames.TCP4)], check=PARTIAL), room()
    codec.encap_batch(packet, tunnel)
    assert codec.segment_batch(packet, out, 1500) == 1
    assert codec.decap(out.to_list()[0], "strict").frame == frames.TCP4


def test_packets_beyond_the_mtu(codec: Codec) -> None:
    tunnel = VXLAN(vni=5, local="192.0.2.1", remote="192.0.2.2")
    batch = batch_of([frames.JUMBO, super_frame(3000), super_frame(3000), frames.ARP])
    batch.mss[:] = 0, 1411, 1410, 0
    batch.checksum[:] = 0, PARTIAL, PARTIAL, 0
    codec.encap_batch(batch, tunnel)
    out = room()
    assert codec.segment_batch(batch, out, 1500) == 4
    refused = Status.MTU_EXCEEDED
    assert batch.status.tolist() == [refused, refused, 0, 0]
    assert out.origin.tolist() == [2, 2, 2, 3]


def test_an_mtu_without_room(codec: Codec) -> None:
    stt = STT(context_id=5, local="192.0.2.1", remote="192.0.2.2")
    batch = batch_of([frames.LONG])
    codec.encap_batch(batch, stt)
    assert codec.segment_batch(batch, room(), 40) == 0
    assert batch.status.tolist() == [Status.MTU_EXCEEDED]


@given(data=st.data())
def test_segment_twins(twins: Sequence[Codec], data: st.DataObject) -> None:
    """Frames and packets, whole and damaged, under every column."""
    rows = data.draw(
        st.lists(st.one_of(super_frames, s.frames(), s.corrupted(), trains().map(max)), max_size=4)
    )
    n = len(rows)
    numbers = {
        name: data.draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))
        for name, values in {
            "mss": [0, 1, 100, 1400, 65535],
            "checksum": [0, 1, PARTIAL],
            "protocol": [0, 1, 2, 3, 9],
            "link": [0, 0, 0, 1],
            "status": [0, 0, 0, 5],
        }.items()
    }
    extra = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    mtu = data.draw(st.sampled_from([0, 0, 1, 60, 576, 1500, 65535]))
    tunnel = data.draw(st.none() | s.tunnels())
    size = data.draw(st.sampled_from([1 << 19, 2000]))

    def call(codec: Codec) -> tuple[Batch, Batch]:
        batch, out = batch_of(rows), room(size, 1 << 12, gap=2)
        if tunnel is not None:
            codec.encap_batch(batch, tunnel, sequence=3)
        for name, column in numbers.items():
            if tunnel is None or name not in ("protocol", "link", "status"):
                getattr(batch, name)[:] = column
        batch.wire[:] += np.array(extra, np.uint32)
        codec.segment_batch(batch, out, mtu)
        return batch, out

    check_twins(twins, call)

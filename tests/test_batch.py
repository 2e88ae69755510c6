"""Batches: columns, rows, headroom, and one bad row among good ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
import frames
import laws
import strategies as s
import wire
from overlay import VXLAN, Batch, ConfigError, Profile, Status, Tunnel
from overlay.codec import Codec
from shims import BUILD, TAKES
from test_encap import plain

UDP4, ARP, JUMBO = frames.UDP4, frames.ARP, frames.JUMBO
DTYPES = {
    "data": np.uint8, "base": np.uint64, "offset": np.uint64, "length": np.uint32,
    "wire": np.uint32, "key": np.uint64, "status": np.uint8, "protocol": np.uint8,
    "link": np.uint8, "mss": np.uint16, "origin": np.uint32,
}  # fmt: skip


# -- the structure ---------------------------------------------------------------------------


def test_columns() -> None:
    """Every column has its dtype, is writable, and is as long as there are rows."""
    for batch in (
        Batch.from_frames([UDP4, b"", ARP]),
        Batch(5, 256),
        Batch.packed(1000, 4),
        Batch.from_array(np.zeros(64, np.uint8), [0, 8], [8, 8]),
    ):
        for name, dtype in DTYPES.items():
            column = getattr(batch, name)
            assert column.dtype == dtype, name
            assert column.flags.writeable
            assert name == "data" or column.shape == (batch.count,)
    assert len(Batch.from_frames([])) == 0
    assert Batch.from_frames([]).to_list() == []


def test_columns_are_the_memory_itself() -> None:
    batch = Batch.from_frames([UDP4, ARP])
    batch.length[0] = 20
    assert bytes(batch[0]) == UDP4[:20]
    batch[1][0] = 0xEE
    assert batch.data[int(batch.offset[1])] == 0xEE
    batch.status[0] = Status.IP_LENGTH
    assert [bytes(frame) for frame in batch.frames()] == [bytes(batch[1])]
    assert batch.drops() == {Status.IP_LENGTH: 1}


@given(st.lists(s.frames(), max_size=8), st.integers(0, 200))
def test_from_frames(some: list[bytes], headroom: int) -> None:
    batch = Batch.from_frames(some, headroom=headroom)
    assert batch.to_list() == some
    assert batch.count == len(batch) == len(some)
    assert batch.data.size == sum(map(len, some)) + headroom * len(some)
    assert (batch.offset - batch.base == headroom).all()
    assert batch.length.tolist() == batch.wire.tolist() == [len(frame) for frame in some]


def test_rows_by_number() -> None:
    batch = Batch.from_frames([UDP4, ARP])
    assert bytes(batch[0]) == bytes(batch[-2]) == UDP4
    assert bytes(batch[-1]) == ARP
    for row in (2, -3):
        with pytest.raises(IndexError):
            batch[row]
    batch.offset[0] = 2**63
    with pytest.raises(IndexError, match="outside"):
        batch[0]


def test_append_and_clear(codec: Codec) -> None:
    batch = Batch(3, 256)
    assert (batch.capacity, batch.count, batch.data.size) == (3, 0, 768)
    assert [batch.append(UDP4), batch.append(b""), batch.append(ARP)] == [0, 1, 2]
    with pytest.raises(IndexError, match="full"):
        batch.append(UDP4)
    assert batch.to_list() == [UDP4, b"", ARP]
    assert codec.encap_batch(batch, plain(VXLAN)) == 2
    assert batch.status[1] == Status.FRAME_TOO_SHORT
    batch.clear()
    assert (batch.count, batch.to_list(), batch.drops()) == (0, [], {})
    assert batch.append(ARP) == 0
    assert (batch.status[0], batch.key[0], batch.protocol[0]) == (0, 0, 0)
    assert batch.to_list() == [ARP]


def test_append_refuses_what_does_not_fit() -> None:
    batch = Batch(2, 100, headroom=30)
    batch.append(bytes(70))
    with pytest.raises(ConfigError, match="at most 70 bytes"):
        batch.append(bytes(71))
    assert batch.count == 1
    with pytest.raises(TypeError, match="slots"):
        Batch.packed(100, 1).append(b"x")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Batch(0), "capacity"),
        (lambda: Batch(-1), "capacity"),
        (lambda: Batch(1.5), "capacity"),
        (lambda: Batch(1, 0), "slot"),
        (lambda: Batch(1, 64, headroom=64), "headroom"),
        (lambda: Batch(1, 64, headroom=-1), "headroom"),
        (lambda: Batch.from_frames([b"x"], headroom=-1), "headroom"),
        (lambda: Batch.packed(0, 1), "size"),
        (lambda: Batch.packed(10, 0), "capacity"),
        (lambda: Batch.packed(10, 1, gap=-1), "gap"),
    ],
)
def test_bad_shapes_are_named(make, field: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.field == field


def test_from_array_works_in_place(codec: Codec) -> None:
    data = np.zeros(64 + len(UDP4), np.uint8)
    data[64:] = np.frombuffer(UDP4, np.uint8)
    batch = Batch.from_array(data, [64], [len(UDP4)], base=[0])
    assert codec.encap_batch(batch, plain(VXLAN)) == 1
    assert bytes(data[14:]) == bytes(batch[0])
    assert bytes(data[:14]) == bytes(14)


def test_repr_and_drops() -> None:
    batch = Batch.from_frames([UDP4, ARP, ARP])
    batch.status[:] = [0, Status.IP_LENGTH, Status.IP_LENGTH]
    assert batch.drops() == {Status.IP_LENGTH: 2}
    assert "3 rows, 2 refused" in repr(batch)


# -- encap and decap in place -------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data(), some=st.lists(s.frames(), min_size=1, max_size=6))
def test_batch_equals_single(codec: Codec, data: st.DataObject, some: list[bytes]) -> None:
    laws.check_batch_equals_single(codec, data.draw(s.tunnels()), some)


@settings(max_examples=60)
@given(some=st.lists(s.corrupted(), min_size=1, max_size=6), profile=s.profiles())
def test_decap_batch_equals_single(codec: Codec, some: list[bytes], profile: Profile) -> None:
    laws.check_decap_batch_equals_single(codec, some, profile)


@pytest.mark.parametrize("place", range(5))
def test_one_bad_packet_in_every_position(codec: Codec, protocol: type[Tunnel], place: int) -> None:
    """Open vSwitch's mixed batch: only the invalid one is dropped."""
    good = [BUILD[protocol.name](frames.udp_frame(wire.pattern(n * 100))) for n in range(5)]
    takes = TAKES[protocol.name]
    expected = [codec.decap(packet, **takes).frame for packet in good]
    for bad in (b"", b"\xff" * 100, good[place][:-1], cases.VXLAN4[:44]):
        mixed = [*good[:place], bad, *good[place + 1 :]]
        batch = Batch.from_frames(mixed)
        assert codec.decap_batch(batch, **takes) == 4
        for row in range(5):
            if row == place:
                assert batch.status[row] != Status.OK
                assert bytes(batch[row]) == bad
            else:
                assert batch.status[row] == Status.OK
                assert bytes(batch[row]) == expected[row]
        assert batch.to_list() == expected[:place] + expected[place + 1 :]


@pytest.mark.parametrize("place", range(5))
def test_one_bad_frame_in_every_position(codec: Codec, protocol: type[Tunnel], place: int) -> None:
    some = [frames.udp_frame(wire.pattern(n * 100)) for n in range(5)]
    some[place] = b"too short"
    laws.check_batch_equals_single(codec, plain(protocol), some)


def test_a_status_is_sticky(codec: Codec) -> None:
    """Rows that were refused are left alone by all that follows."""
    batch = Batch.from_frames([UDP4, ARP, UDP4])
    batch.status[1] = Status.UNKNOWN_KEY
    before = int(batch.offset[1])
    assert codec.encap_batch(batch, plain(VXLAN)) == 2
    assert codec.decap_batch(batch) == 2
    assert batch.status.tolist() == [0, Status.UNKNOWN_KEY, 0]
    assert (int(batch.offset[1]), bytes(batch[1])) == (before, ARP)
    out = Batch.packed(4096, 4)
    assert codec.encap_into(batch, out, plain(VXLAN)) == 2
    assert out.origin.tolist() == [0, 2]
    assert batch.status[1] == Status.UNKNOWN_KEY


def test_decap_fills_the_columns(codec: Codec) -> None:
    batch = Batch.from_frames([cases.VXLAN4, cases.NVGRE4, cases.STT4])
    start = batch.offset.copy()
    assert codec.decap_batch(batch) == 3
    assert batch.key.tolist() == [0x123456, 0xABCD, 0x1122334455667788]
    assert batch.protocol.tolist() == [1, 2, 3]
    assert (batch.offset - start).tolist() == [50, 42, 72]
    assert batch.length.tolist() == [len(cases.ICMP4)] * 3
    assert batch.link.tolist() == [0, 0, 0]


def test_decap_of_raw_ip_gives_ethernet(codec: Codec) -> None:
    batch = Batch.from_frames([cases.VXLAN4[14:], cases.NVGRE6[14:]])
    batch.link[:] = 1
    assert codec.decap_batch(batch) == 2
    assert batch.link.tolist() == [0, 0]
    assert batch.to_list() == [cases.ICMP4, cases.ICMP4]


def test_cut_rows(codec: Codec) -> None:
    """What a capture cut keeps its whole length in `wire`, in both directions."""
    batch = Batch.from_frames([cases.VXLAN4[:-10]])
    batch.wire[0] += 10
    assert codec.decap_batch(batch) == 1
    assert (int(batch.length[0]), int(batch.wire[0])) == (len(cases.ICMP4) - 10, len(cases.ICMP4))
    assert codec.encap_batch(batch, plain(VXLAN)) == 1
    assert int(batch.wire[0]) == len(cases.VXLAN4)
    assert wire.parse(bytes(batch[0])).length == len(cases.VXLAN4) - 14
    for tunnel in (plain(VXLAN, checksum=True), cases.tunnel(cases.STT)):
        batch = Batch.from_frames([UDP4[:-10]])
        batch.wire[0] += 10
        assert codec.encap_batch(batch, tunnel) == 0
        assert batch.status[0] == Status.FRAME_CUT
        assert bytes(batch[0]) == UDP4[:-10]


@pytest.mark.parametrize("spare", [0, 1, 7])
def test_headroom_is_enough_or_not(
    codec: Codec, protocol: type[Tunnel], family: int, spare: int
) -> None:
    tunnel = plain(protocol, family, outer_vlan=5)
    batch = Batch.from_frames([UDP4], headroom=tunnel.overhead + spare)
    assert codec.encap_batch(batch, tunnel) == 1
    assert int(batch.offset[0]) == spare
    batch = Batch.from_frames([UDP4], headroom=tunnel.overhead - 1 - spare)
    assert codec.encap_batch(batch, tunnel) == 0
    assert batch.status[0] == Status.NO_HEADROOM
    assert bytes(batch[0]) == UDP4


def test_encap_never_writes_below_base(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    """Nor beyond the frame: what lies around a row belongs to others."""
    tunnel = plain(protocol, family)
    for room in range(tunnel.overhead - 3, tunnel.overhead + 4):
        data = np.full(400, 0xA5, np.uint8)
        offset = 100 + room
        data[offset : offset + len(UDP4)] = np.frombuffer(UDP4, np.uint8)
        before = data.copy()
        batch = Batch.from_array(data, [offset], [len(UDP4)], base=[100])
        done = codec.encap_batch(batch, tunnel)
        assert done == (room >= tunnel.overhead)
        end = offset + len(UDP4)
        assert (data[:100] == 0xA5).all()
        assert (data[end:] == 0xA5).all()
        if not done:
            assert (data == before).all()


def test_nested_tunnels(codec: Codec) -> None:
    """Encap upon encap, and decap as often, in one arena."""
    layers = [plain(VXLAN, vni=1), plain(cases.NVGRE), plain(cases.STT), plain(VXLAN, 6, vni=2)]
    batch = Batch.from_frames([UDP4, frames.TCP6], headroom=300)
    for tunnel in layers:
        assert codec.encap_batch(batch, tunnel) == 2
    for tunnel in reversed(layers):
        assert codec.decap_batch(batch) == 2
        assert batch.key.tolist() == [tunnel.key] * 2
    assert batch.to_list() == [UDP4, frames.TCP6]


# -- rows that point nowhere ---------------------------------------------------------------

TAMPERED = {
    "offset past the data": ("offset", lambda b: b.data.size + 1),
    "offset far past the data": ("offset", lambda b: 2**64 - 1),
    "offset below base": ("offset", lambda b: int(b.base[1]) - 1),
    "length past the data": ("length", lambda b: b.data.size),
    "length of all bits": ("length", lambda b: 2**32 - 1),
    "base above offset": ("base", lambda b: int(b.offset[1]) + 1),
    "base of all bits": ("base", lambda b: 2**64 - 1),
    "wire below length": ("wire", lambda b: int(b.length[1]) - 1),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_columns(codec: Codec, protocol: type[Tunnel], how: str) -> None:
    """A row that does not lie in the data is BAD_ROW, and no byte moves."""
    name, value = TAMPERED[how]
    packets = [BUILD[protocol.name](UDP4)] * 3
    operations = {
        "encap": lambda b: codec.encap_batch(b, plain(protocol)),
        "encap_into": lambda b: codec.encap_into(b, Batch.packed(9999, 9), plain(protocol)),
        "decap": lambda b: codec.decap_batch(b, **TAKES[protocol.name]),
        "push": lambda b: codec.SttReassembler().push_batch(b, Batch.packed(200000, 9), 0.0),
    }
    for operation, run in operations.items():
        if operation == "push" and protocol.name != "stt":
            continue
        batch = Batch.from_frames(packets)
        at = int(batch.offset[1])
        getattr(batch, name)[1] = value(batch)
        assert run(batch) == 2, operation
        assert batch.status.tolist() == [0, Status.BAD_ROW, 0], operation
        assert bytes(batch.data[at : at + len(packets[1])]) == packets[1], operation


@settings(max_examples=60)
@given(data=st.data())
def test_any_columns_are_safe(codec: Codec, data: st.DataObject) -> None:
    """Whatever a user writes to the columns, nothing outside the data is touched."""
    number = st.integers(0, 400) | st.integers(0, 2**64 - 1)
    arena = np.frombuffer(bytearray(b"\xa5" * 64 + cases.VXLAN4 * 3 + b"\xa5" * 64), np.uint8)
    inside = arena[64:-64]
    batch = Batch.from_array(inside, [50, 108], [58, 108], base=[0, 108])
    for row in range(2):
        for name, limit in [("base", 64), ("offset", 64), ("length", 32), ("wire", 32)]:
            if data.draw(st.booleans()):
                getattr(batch, name)[row] = data.draw(number) & (2**limit - 1)
        batch.link[row] = data.draw(st.integers(0, 255))
        batch.status[row] = data.draw(st.sampled_from([0, 0, 1]))
    tunnel = data.draw(s.tunnels())
    for operation in data.draw(st.permutations(["encap", "decap", "into"])):
        if operation == "encap":
            codec.encap_batch(batch, tunnel)
        elif operation == "decap":
            codec.decap_batch(batch, data.draw(s.profiles()))
        else:
            codec.encap_into(batch, Batch.packed(500, 3), tunnel, 0)
    assert (arena[:64] == 0xA5).all()
    assert (arena[-64:] == 0xA5).all()


# -- many tunnels ---------------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data(), some=st.lists(s.frames(), min_size=1, max_size=6))
def test_many_tunnels(codec: Codec, data: st.DataObject, some: list[bytes]) -> None:
    """Row i by tunnels[index[i]], as if each were alone."""
    tunnels = data.draw(st.lists(s.tunnels(), min_size=1, max_size=4))
    index = data.draw(
        st.lists(st.integers(0, len(tunnels) - 1), min_size=len(some), max_size=len(some))
    )
    single = [
        laws.outcome(lambda t=tunnels[k], f=f, i=i: codec.encap(t, f, sequence=3 + i))
        for i, (f, k) in enumerate(zip(some, index, strict=True))
    ]
    batch = Batch.from_frames(some, headroom=max(tunnel.overhead for tunnel in tunnels))
    done = codec.encap_batch(batch, tunnels, np.array(index), sequence=3)
    assert done == sum(isinstance(one, bytes) for one in single)
    for row, one in enumerate(single):
        if isinstance(one, Status):
            assert batch.status[row] == one
            assert bytes(batch[row]) == some[row]
        else:
            assert bytes(batch[row]) == one
            assert batch.key[row] == tunnels[index[row]].key


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i4", "i8", ">u4"])
def test_index_of_any_integer_type(codec: Codec, dtype: str) -> None:
    tunnels = [plain(VXLAN, vni=n) for n in range(3)]
    batch = Batch.from_frames([UDP4] * 4)
    assert codec.encap_batch(batch, tunnels, np.array([2, 0, 1, 2], dtype)) == 4
    assert batch.key.tolist() == [2, 0, 1, 2]
    batch = Batch.from_frames([UDP4] * 2)
    assert codec.encap_batch(batch, tuple(tunnels), [1, 2]) == 2
    strided = np.array([0, 9, 1, 9])[::2]
    assert codec.encap_batch(Batch.from_frames([UDP4] * 2), tunnels, strided) == 2


@pytest.mark.parametrize(
    "index",
    [[0, 2], [-1, 0], [0], [0, 1, 0], [], 0, [[0, 1]], [0.0, 1.0], ["a", "b"], [2**40, 0],
     [True, False], None],
    ids=repr,
)  # fmt: skip
def test_a_bad_index_touches_no_row(codec: Codec, index: object) -> None:
    tunnels = [plain(VXLAN, vni=n) for n in range(2)]
    batch = Batch.from_frames([UDP4, ARP])
    before = batch.data.copy()
    with pytest.raises(ConfigError, match="index"):
        codec.encap_batch(batch, tunnels, index)
    assert (batch.data == before).all()
    assert batch.to_list() == [UDP4, ARP]
    assert batch.status.tolist() == [0, 0]


def test_bad_arguments(codec: Codec) -> None:
    batch = Batch.from_frames([UDP4])
    with pytest.raises(ConfigError, match="index"):
        codec.encap_batch(batch, plain(VXLAN), [0])
    with pytest.raises(TypeError, match="Tunnel"):
        codec.encap_batch(batch, ["vxlan"], [0])
    with pytest.raises(TypeError, match="Batch"):
        codec.encap_batch([UDP4], plain(VXLAN))
    with pytest.raises(TypeError, match="Batch"):
        codec.decap_batch([UDP4])
    with pytest.raises(TypeError, match="Batch"):
        codec.encap_into(batch, [], plain(VXLAN))
    assert codec.encap_batch(Batch.from_frames([]), [], []) == 0


# -- into another batch ----------------------------------------------------------------------------


def test_encap_into_leaves_the_frames(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    """Packed one after another, with their origin; the input keeps every byte."""
    some = [UDP4, ARP, b"short", JUMBO]
    batch, out = Batch.from_frames(some, headroom=0), Batch.packed(20000, 8)
    before = batch.data.copy()
    tunnel = plain(protocol, family)
    assert codec.encap_into(batch, out, tunnel, sequence=7) == 3
    assert (batch.data == before).all()
    assert batch.status.tolist() == [0, 0, Status.FRAME_TOO_SHORT, 0]
    assert out.to_list() == [
        codec.encap(tunnel, frame, sequence=7 + n) for n, frame in enumerate((UDP4, ARP, JUMBO))
    ]
    assert out.origin.tolist() == [0, 1, 3]
    assert out.key.tolist() == [tunnel.key] * 3
    assert out.protocol.tolist() == [tunnel.number] * 3
    assert out.used == sum(out.length.tolist())
    assert (out.base == out.offset).all()
    starts = np.cumsum([0, *out.length.tolist()[:-1]])
    assert (out.offset == starts).all()


def test_a_gap_is_left_before_each_packet(codec: Codec) -> None:
    out = Batch.packed(1000, 3, gap=16)
    assert out.gap == 16
    assert codec.encap_into(Batch.from_frames([UDP4, ARP]), out, plain(VXLAN)) == 2
    assert out.offset.tolist() == [16, 16 + int(out.length[0]) + 16]
    assert out.used == int(out.offset[1]) + int(out.length[1])
    assert (out.data[:16] == 0).all()


def test_output_is_appended(codec: Codec) -> None:
    out = Batch.packed(4096, 4)
    for n in range(2):
        codec.encap_into(Batch.from_frames([UDP4, ARP]), out, plain(VXLAN, ip_id=n))
    packets = [codec.encap(plain(VXLAN, ip_id=n), f) for n in range(2) for f in (UDP4, ARP)]
    assert out.to_list() == packets
    out.clear()
    assert (out.count, out.used) == (0, 0)


def test_no_room_can_be_done_again(codec: Codec, protocol: type[Tunnel]) -> None:
    """A row for which there is no room gets NO_ROOM and can be done later."""
    tunnel = plain(protocol)
    whole = [codec.encap(tunnel, f, sequence=0) for f in (UDP4, ARP)]
    for room, capacity in [(len(whole[0]), 5), (len(whole[0]) + len(whole[1]) - 1, 5), (9999, 1)]:
        batch, out = Batch.from_frames([UDP4, ARP]), Batch.packed(room, capacity)
        assert codec.encap_into(batch, out, tunnel, sequence=0) == 1
        assert batch.status.tolist() == [0, Status.NO_ROOM]
        assert out.to_list() == whole[:1]
        batch.status[0], batch.status[1] = Status.UNKNOWN_KEY, Status.OK
        out = Batch.packed(9999, 5)
        assert codec.encap_into(batch, out, tunnel, sequence=0) == 1
        assert out.to_list() == whole[1:]
        assert out.origin.tolist() == [1]


def test_rows_after_one_without_room_are_tried(codec: Codec) -> None:
    batch, out = Batch.from_frames([UDP4, JUMBO, ARP]), Batch.packed(400, 8)
    tunnel = plain(VXLAN, df=False)
    assert codec.encap_into(batch, out, tunnel, sequence=5) == 2
    assert batch.status.tolist() == [0, Status.NO_ROOM, 0]
    assert out.origin.tolist() == [0, 2]
    assert [wire.parse(packet).ident for packet in out.to_list()] == [5, 6]


def test_segments_without_room_are_not_begun(codec: Codec) -> None:
    """A frame's segments are written all or not at all."""
    tunnel = plain(cases.STT)
    need = sum(map(len, codec.packets(tunnel, frames.LONG, 1500)))
    for room, capacity, written in [(need, 3, 3), (need - 1, 3, 0), (need, 2, 0)]:
        batch, out = Batch.from_frames([frames.LONG]), Batch.packed(room, capacity)
        assert codec.encap_into(batch, out, tunnel, 1500) == written
        assert out.count == written
        assert batch.status[0] == (Status.OK if written else Status.NO_ROOM)


def test_encap_into_minds_the_mtu(codec: Codec) -> None:
    batch, out = Batch.from_frames([UDP4, JUMBO, ARP]), Batch.packed(20000, 8)
    assert codec.encap_into(batch, out, plain(VXLAN), 1500) == 2
    assert batch.status.tolist() == [0, Status.MTU_EXCEEDED, 0]
    assert out.origin.tolist() == [0, 2]

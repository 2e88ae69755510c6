"""All backends agree: on bytes, on numbers, on reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import laws
import model
import strategies as s
from overlay import STT, Batch, Profile, Tunnel
from overlay.codec import Codec


@given(tunnel=s.tunnels(), frame=s.frames(), sequence=s.u64)
def test_encap(twins: Sequence[Codec], tunnel: Tunnel, frame: bytes, sequence: int) -> None:
    laws.check_twins_agree(twins, lambda c: c.encap(tunnel, frame, sequence=sequence))


@given(tunnel=s.tunnels(), frame=s.frames(), mtu=st.integers(100, 4000), sequence=s.u64)
def test_packets(
    twins: Sequence[Codec], tunnel: Tunnel, frame: bytes, mtu: int, sequence: int
) -> None:
    mtu += tunnel.overhead  # room for the options of GENEVE
    laws.check_twins_agree(twins, lambda c: c.packets(tunnel, frame, mtu, sequence=sequence))


@given(packet=s.corrupted(), profile=s.profiles())
def test_decap(twins: Sequence[Codec], packet: bytes, profile: Profile) -> None:
    laws.check_twins_agree(twins, lambda c: c.decap(packet, profile))


@given(packet=s.corrupted(), profile=s.profiles(), data=st.data())
def test_decap_of_captures(
    twins: Sequence[Codec], packet: bytes, profile: Profile, data: st.DataObject
) -> None:
    """Cut by the capture, beginning with IP, or of another link layer."""
    cut = data.draw(st.integers(0, len(packet)))
    link = data.draw(st.sampled_from([0, 0, 0, 1, 1, 2]))
    if link == 1:
        packet = packet[14:]
    here = packet[:cut] if data.draw(st.booleans()) else packet
    laws.check_twins_agree(
        twins, lambda c: c.decap(here, profile, link=link, wire_length=len(packet))
    )


@given(packet=s.corrupted(), profile=s.profiles())
def test_describe(twins: Sequence[Codec], packet: bytes, profile: Profile) -> None:
    """The tunnel that is read from the outer headers, and the packet that it builds."""

    def rebuild(codec: Codec) -> Any:
        result = codec.decap(packet, profile)
        if model.refusal(result.tunnel, result.frame):
            return result.tunnel, None
        return result.tunnel, codec.encap(result.tunnel, result.frame, sequence=0)

    laws.check_twins_agree(twins, rebuild)


@given(tunnels=st.lists(s.tunnels(), min_size=1, max_size=3),
       some=st.lists(s.frames(), max_size=6), sequence=s.u64, data=st.data())  # fmt: skip
def test_batches(
    twins: Sequence[Codec], tunnels: list[Tunnel], some: list[bytes], sequence: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    """Encap, then decap, in place: every column and every byte."""
    index = data.draw(
        st.lists(st.integers(0, len(tunnels) - 1), min_size=len(some), max_size=len(some))
    )
    headroom = data.draw(st.sampled_from([0, 40, 60, 100, 128]))
    profile = data.draw(s.profiles())
    cuts = [data.draw(st.sampled_from([0, 0, 0, 1, 30])) for _ in some]
    sizes = [data.draw(st.sampled_from([0, 0, 1, 100, 1448])) for _ in some]
    checksums = [data.draw(st.sampled_from([0, 0, 1, 2])) for _ in some]

    def run(codec: Codec) -> Any:
        batch = Batch.from_frames(some, headroom=headroom)
        for row, cut in enumerate(cuts):
            batch.wire[row] += cut
        batch.mss[:], batch.checksum[:] = sizes, checksums
        done = codec.encap_batch(batch, tunnels, index, sequence=sequence)
        packets = laws.columns(batch)
        arena = batch.data.tobytes()
        undone = codec.decap_batch(batch, profile)
        return done, packets, arena, undone, laws.columns(batch), batch.data.tobytes()

    laws.check_twins_agree(twins, run)


@given(packets=st.lists(s.corrupted(), min_size=1, max_size=4), profile=s.profiles(),
       data=st.data())  # fmt: skip
def test_decap_of_rows(
    twins: Sequence[Codec], packets: list[bytes], profile: Profile, data: st.DataObject
) -> None:
    """Rows of every link type, a datagram from a socket among them; and every column after."""
    links = [data.draw(st.sampled_from([0, 0, 1, 2, 3, 3])) for _ in packets]
    outer = [data.draw(st.sampled_from([0, 14, 40, 300, 2**40, 2**64 - 1])) for _ in packets]
    sizes = [data.draw(st.sampled_from([0, 0, 700])) for _ in packets]
    checksums = [data.draw(st.sampled_from([0, 0, 2])) for _ in packets]

    def run(codec: Codec) -> Any:
        batch = Batch.from_frames(packets)
        batch.link[:], batch.outer[:] = links, outer
        batch.mss[:], batch.checksum[:] = sizes, checksums
        for row, link in enumerate(links):
            skip = min(int(batch.length[row]), {1: 14, 3: 42}.get(link, 0))
            batch.offset[row] += skip
            batch.length[row] -= skip
            batch.wire[row] -= skip
        done = codec.decap_batch(batch, profile)
        return done, laws.columns(batch), batch.data.tobytes()

    laws.check_twins_agree(twins, run)


@given(tunnel=s.tunnels(), some=st.lists(s.frames(), max_size=5), sequence=s.u64,
       mtu=st.just(0) | st.integers(60, 3000), size=st.integers(1, 20000),
       capacity=st.integers(1, 30), gap=st.sampled_from([0, 0, 16]),
       mss=st.sampled_from([0, 0, 536]), checksum=st.sampled_from([0, 0, 1, 2]))  # fmt: skip
def test_encap_into(
    twins: Sequence[Codec], tunnel: Tunnel, some: list[bytes], sequence: int, mtu: int, size: int,
    capacity: int, gap: int, mss: int, checksum: int,
) -> None:  # fmt: skip
    """Packed output: what is written, what had no room, and the marks of both batches."""

    def run(codec: Codec) -> Any:
        batch = Batch.from_frames(some, headroom=0)
        batch.mss[:], batch.checksum[:] = mss, checksum
        out = Batch.packed(size, capacity, gap=gap)
        written = codec.encap_into(batch, out, tunnel, mtu, sequence=sequence)
        return written, laws.columns(batch), laws.columns(out), out.used

    laws.check_twins_agree(twins, run)


@given(frame=s.frames(), mss=st.integers(0, 2000))
def test_segments(twins: Sequence[Codec], frame: bytes, mss: int) -> None:
    laws.check_twins_agree(twins, lambda c: c.segments(frame, mss))


@given(frame=s.frames(least=14), seed=s.u64)
def test_hash_and_checksum(twins: Sequence[Codec], frame: bytes, seed: int) -> None:
    laws.check_twins_agree(twins, lambda c: (c.flow_hash(frame, seed), c.checksum(frame)))


@given(stream=s.streams(), profile=s.profiles(), timeout=st.sampled_from([0.5, 5.0, 30.0]))
def test_reassembly(
    twins: Sequence[Codec], stream: s.Stream, profile: Profile, timeout: float
) -> None:
    """Every push: the frame or the reason, and all counts after it."""

    def run(codec: Codec) -> Any:
        reassembler = codec.SttReassembler(timeout, 65536, profile=profile)
        now, told = 0.0, []
        for packet, wait in stream.arrivals:
            now += wait
            told.append((laws.outcome(lambda p=packet, t=now: reassembler.push(p, t)),
                         reassembler.stats))  # fmt: skip
        return told, reassembler.expire(now + timeout), reassembler.stats

    laws.check_twins_agree(twins, run)


@given(streams=st.lists(s.streams(), min_size=1, max_size=3), room=st.integers(1, 20000),
       junk=s.corrupted(), partial=st.booleans())  # fmt: skip
def test_reassembly_of_batches(
    twins: Sequence[Codec], streams: list[s.Stream], room: int, junk: bytes, partial: bool
) -> None:
    """Statuses, delivered rows and counts, with an output that may be too small."""
    packets = [packet for stream in streams for packet, _ in stream.arrivals]

    def run(codec: Codec) -> Any:
        reassembler = codec.SttReassembler(30.0, 65536, partial=partial)
        batch, out = Batch.from_frames([*packets, junk]), Batch.packed(room, 4, gap=16)
        done = reassembler.push_batch(batch, out, 1.0)
        return done, laws.columns(batch), laws.columns(out), out.used, reassembler.stats

    laws.check_twins_agree(twins, run)


@given(tunnel=s.tunnels(STT), frame=s.frames(least=14), mtu=st.integers(100, 1500), data=st.data())
def test_one_segments_and_another_reassembles(
    twins: Sequence[Codec], tunnel: STT, frame: bytes, mtu: int, data: st.DataObject
) -> None:
    """STT-39: any backend's segments, in any order, through any backend."""
    if model.refusal(tunnel, frame):
        return
    sender, receiver = data.draw(st.permutations(twins))[:2]
    packets = sender.packets(tunnel, frame, mtu)
    if len(packets) < 40:
        packets = data.draw(st.permutations(packets))
    laws.check_reassembles(receiver, packets, model.decapped(tunnel, frame))

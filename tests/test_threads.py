"""Many threads at once give what one gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import frames
import wire
from overlay import STT, VXLAN, Batch, Tunnel
from overlay.codec import Codec
from test_encap import plain

THREADS, ROWS = 8, 200
SOME = [frames.UDP4, frames.TCP6, frames.ARP, frames.TCP4] * (ROWS // 4)


def test_batches_from_many_threads(codec: Codec, protocol: type[Tunnel]) -> None:
    """One tunnel, shared; a batch each."""
    tunnel = plain(protocol)

    def work(n: int) -> tuple[list[bytes], list[bytes]]:
        batch = Batch.from_frames(SOME)
        assert codec.encap_batch(batch, tunnel, sequence=n * ROWS) == ROWS
        packets = batch.to_list()
        assert codec.decap_batch(batch) == ROWS
        return packets, batch.to_list()

    expected = [work(n) for n in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(3):
            assert list(pool.map(work, range(THREADS))) == expected


def test_single_calls_from_many_threads(codec: Codec, protocol: type[Tunnel]) -> None:
    """An encoder made by the first thread that asks serves them all."""
    tunnel = plain(protocol, df=True)

    def work(frame: bytes) -> bytes:
        return codec.decap(codec.encap(tunnel, frame)).frame

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, SOME * 4)) == SOME * 4


def test_counters_never_repeat(codec: Codec) -> None:
    """STT-5: frame IDs from many threads are all different."""
    tunnel = plain(STT)

    def work(n: int) -> list[bytes]:
        if n % 3 == 0:
            batch = Batch.from_frames([frames.ARP] * 50)
            codec.encap_batch(batch, tunnel)
            return batch.to_list()
        if n % 3 == 1:
            return codec.encap_many(tunnel, [frames.ARP] * 50)
        return [codec.encap(tunnel, frames.ARP) for _ in range(50)]

    with ThreadPoolExecutor(THREADS) as pool:
        packets = [packet for some in pool.map(work, range(24)) for packet in some]
    assert len({packet[42:46] for packet in packets}) == len(packets) == 1200


def test_reassemblers_in_many_threads(codec: Codec) -> None:
    frame = wire.pattern(5000)

    def work(n: int) -> list[bytes]:
        reassembler = codec.SttReassembler()
        packets = [p for k in range(20) for p in wire.stt_segments(frame, 1440, frame_id=k + n)]
        results = [reassembler.push(packet, 0.0) for packet in packets]
        return [result.frame for result in results if result]

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [[frame] * 20] * THREADS


def test_one_reassembler_shared(codec: Codec) -> None:
    """Pushes from many threads to one reassembler lose nothing."""
    reassembler = codec.SttReassembler(memory=1 << 24)

    def work(n: int) -> int:
        frame = frames.udp_frame(wire.pattern(3000, n))
        packets = wire.stt_segments(frame, 700, frame_id=n)
        results = [reassembler.push(packet, 0.0) for packet in packets]
        frames_back = [result.frame for result in results if result]
        assert frames_back == [frame]
        return len(packets)

    with ThreadPoolExecutor(THREADS) as pool:
        pushed = sum(pool.map(work, range(200)))
    stats = reassembler.stats
    assert (stats.segments, stats.frames, stats.pending, stats.memory) == (pushed, 200, 0, 0)


def test_one_profile_and_many_keys(codec: Codec) -> None:
    packets = [codec.encap(plain(VXLAN, vni=n), frames.ARP) for n in range(100)]

    def work(n: int) -> list[int]:
        batch = Batch.from_frames(packets)
        codec.decap_batch(batch, keys=range(n))
        return batch.status.tolist()

    with ThreadPoolExecutor(THREADS) as pool:
        for n, statuses in enumerate(pool.map(work, range(40))):
            assert statuses == [0] * n + [50] * (100 - n)

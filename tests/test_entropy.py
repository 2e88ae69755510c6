"""The flow hash and what comes of it: source ports, FlowIDs, flow labels."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given

import frames
import model
import strategies as s
import wire
from overlay import NVGRE, STT, VXLAN, Batch, ConfigError
from overlay.codec import Codec
from test_encap import plain

FLOWS = 100_000
#: The chi-square quantile that one good hash in a million exceeds, by degrees of freedom.
LIMIT = {15: 56.5, 63: 131.0, 255: 381.0}


def flows(count: int, version: int = 4) -> Batch:
    """Frames of distinct flows that differ as real ones do: hosts of a subnet, ports in a row."""
    template = np.frombuffer(frames.udp_frame(b"", version), np.uint8)
    rows = np.tile(template, (count, 1))
    n = np.arange(count)
    last, l4 = (29, 34) if version == 4 else (37, 54)
    rows[:, last] = n % 250
    rows[:, l4] = (32768 + n // 250) >> 8
    rows[:, l4 + 1] = (32768 + n // 250) & 0xFF
    return Batch.from_frames(list(rows))


def chi_square(values: np.ndarray, paths: int) -> float:
    seen = np.bincount(values, minlength=paths)
    expected = len(values) / paths
    return float(((seen - expected) ** 2 / expected).sum())


def sent_ports(codec: Codec, batch: Batch, **fields: object) -> np.ndarray:
    codec.encap_batch(batch, plain(VXLAN, **fields))
    at = batch.offset.astype(np.int64) + 34
    return batch.data[at].astype(np.int64) << 8 | batch.data[at + 1]


@given(frame=s.frames(least=14), seed=s.u64)
def test_the_hash_is_the_contracts(codec: Codec, frame: bytes, seed: int) -> None:
    """COM-8, STT-3: the same on every machine, and in every backend."""
    assert codec.flow_hash(frame, seed) == model.flow_hash(frame, seed)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, None])
def test_bad_seeds(codec: Codec, seed: object) -> None:
    with pytest.raises(ConfigError, match="seed"):
        codec.flow_hash(frames.UDP4, seed)


@pytest.mark.parametrize("version", [4, 6])
def test_ports_spread_over_paths(codec: Codec, version: int) -> None:
    """VXLAN-12, VXLAN-13, STT-3: 100,000 flows over 16 and 64 equal paths, and over the range."""
    ports = sent_ports(codec, flows(FLOWS, version))
    assert ports.min() >= 49152
    assert ports.max() <= 65535
    assert len(np.unique(ports)) > 16000
    for paths in (16, 64, 256):
        assert chi_square(ports % paths, paths) < LIMIT[paths - 1]
        high = (ports - 49152) * paths >> 14
        assert chi_square(high, paths) < LIMIT[paths - 1]


def test_a_port_range_is_used_whole(codec: Codec) -> None:
    """Both ends are given out, and nothing else; ranges may be any."""
    for low, high in [(5, 5), (7, 8), (0, 65535), (60000, 60010)]:
        ports = sent_ports(codec, flows(5000), source_port=(low, high))
        assert low <= ports.min() <= ports.max() <= high
        if high - low < 100:
            assert len(np.unique(ports)) == high - low + 1


def sent_flow_ids(codec: Codec, batch: Batch) -> np.ndarray:
    codec.encap_batch(batch, plain(NVGRE))
    return batch.data[batch.offset.astype(np.int64) + 41].astype(np.int64)


def test_flow_ids_spread(codec: Codec) -> None:
    """NVGRE-8: at least 200 of 256 values over 10,000 flows."""
    assert len(np.unique(sent_flow_ids(codec, flows(10_000)))) >= 200


def test_flow_ids_spread_evenly(codec: Codec) -> None:
    ids = sent_flow_ids(codec, flows(10_000))
    assert chi_square(ids, 256) < LIMIT[255]


def test_flow_labels_spread(codec: Codec, protocol) -> None:
    """RFC 6438: over IPv6 the flow label tells flows apart too."""
    batch = flows(5000)
    codec.encap_batch(batch, plain(protocol, 6))
    at = batch.offset.astype(np.int64) + 15
    labels = (batch.data[at].astype(np.int64) & 15) << 16
    labels |= batch.data[at + 1].astype(np.int64) << 8 | batch.data[at + 2]
    assert len(np.unique(labels)) > 4950
    assert chi_square(labels % 16, 16) < LIMIT[15]


def test_a_seed_changes_the_ports(codec: Codec) -> None:
    """The port is seen on the wire; the seed keeps it from telling too much."""
    plain_ports = sent_ports(codec, flows(2000))
    seeded = sent_ports(codec, flows(2000), seed=0xDEADBEEF)
    assert np.count_nonzero(plain_ports == seeded) < 20
    assert np.array_equal(seeded, sent_ports(codec, flows(2000), seed=0xDEADBEEF))


def test_seeds_are_independent(codec: Codec) -> None:
    """Every seed spreads one frame elsewhere, and all bits of the hash move."""
    hashes = [codec.flow_hash(frames.UDP4, seed) for seed in range(1000)]
    assert len(set(hashes)) == 1000
    for bit in range(64):
        ones = sum(h >> bit & 1 for h in hashes)
        assert 400 < ones < 600


@pytest.mark.parametrize("tags", [(), ((0x8100, 5),), ((0x88A8, 6), (0x8100, 7))])
@pytest.mark.parametrize("version", [4, 6])
def test_one_flow_one_port(codec: Codec, version: int, tags) -> None:
    """COM-8, NVGRE-9, STT-3: what changes from packet to packet of a flow changes nothing."""
    hashes = set()
    for n in range(20):
        frame = frames.tcp_frame(
            wire.pattern(n * 50), version, tos=n * 13 % 256, seq=n * 7919, flags=n + 1, ident=n
        )
        hashes.add(codec.flow_hash(wire.tag(frame, *tags)))
    assert len(hashes) == 1
    # The tag is not part of an IP flow.
    assert hashes == {codec.flow_hash(frames.tcp_frame(b"", version))}


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_of_one_datagram_share_a_port(codec: Codec, version: int) -> None:
    """COM-9: the first fragment, which has ports, hashes like the rest."""
    pieces = [
        frames.fragment_frame(flags, version, wire.pattern(64, flags))
        for flags in (0x2000, 0x2008, 0x0010)
    ]
    assert len({codec.flow_hash(piece) for piece in pieces}) == 1


def test_every_part_of_the_flow_counts(codec: Codec) -> None:
    for version in (4, 6):
        base = codec.flow_hash(frames.udp_frame(b"x", version))
        other = "10.1.0.9" if version == 4 else "fd00:1::9"
        changed = [
            frames.udp_frame(b"x", version, sport=5001),
            frames.udp_frame(b"x", version, dport=6001),
            frames.udp_frame(b"x", version, src=other),
            frames.udp_frame(b"x", version, dst=other),
            frames.tcp_frame(b"x", version, sport=5000, dport=6000),
        ]
        assert len({base, *map(codec.flow_hash, changed)}) == 6
    arps = [wire.ethernet(bytes(46), 0x0806, dst=f"02:00:00:00:00:{n:02x}") for n in range(50)]
    arps += [wire.ethernet(bytes(46), 0x0806, src=f"02:00:00:00:00:{n:02x}") for n in range(50)]
    arps += [wire.ethernet(bytes(46), kind) for kind in range(0x88B5, 0x88B8)]
    arps += [wire.tag(frames.ARP, (0x8100, vid)) for vid in range(1, 50)]
    assert len({codec.flow_hash(arp) for arp in arps}) == len(arps)


def test_packets_of_a_flow_leave_by_one_port(codec: Codec) -> None:
    """VXLAN-12, STT-2, STT-3: whatever the length, the call and the moment."""
    for protocol in (VXLAN, STT):
        tunnel = plain(protocol)
        packets = [codec.encap(tunnel, frames.udp_frame(wire.pattern(n))) for n in range(50)]
        packets += codec.encap_many(tunnel, [frames.udp_frame(wire.pattern(n)) for n in range(50)])
        assert len({struct.unpack_from("!H", packet, 34) for packet in packets}) == 1

"""Columnar inspection: what decap would say, and the outer headers, without a byte changed."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cases
import frames
import strategies as s
import wire
from overlay import GRE, Batch, CaptureError, ConfigError, Fact, Profile, Status, Tunnel
from overlay.codec import Codec
from overlay.columns import WORDS
from overlay.io import record
from overlay.io.columns import read_columns
from overlay.io.pcap import CaptureWriter, open_capture
from test_encap import plain

OUTER = (
    "outer", "family", "source", "destination", "ip_protocol", "tos", "ttl", "source_port",
    "destination_port", "ip_id", "flow_label", "outer_tci",
)  # fmt: skip


def batch_of(packets: Sequence[bytes], link: int = 0) -> Batch:
    batch = Batch.from_frames(packets, headroom=0)
    batch.link[:] = link
    return batch


@given(
    packets=st.lists(s.corrupted() | st.binary(max_size=80), max_size=4),
    profile=s.profiles(),
    link=st.sampled_from([0, 0, 0, 1, 2, 3]),
    cut=st.integers(0, 60),
    data=st.data(),
)
def test_twins_agree(
    twins: Sequence[Codec], packets: list[bytes], profile: Profile, link: int, cut: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    """Every column of every row, of any bytes, cut anywhere, of any link layer."""
    if link == 1:
        packets = [packet[14:] for packet in packets]
    batch = batch_of(packets, link)
    rows = len(packets)
    if rows:
        batch.wire[:] += cut % 3
        batch.length[0] -= min(cut, int(batch.length[0]))
        at = data.draw(st.integers(0, batch.data.size + 8))
        batch.outer[:] = at
        batch.status[rows - 1] = data.draw(st.sampled_from([0, 0, 0, 7]))
        if data.draw(st.integers(0, 9)) == 0:
            batch.offset[0] = batch.data.size
    before = batch.data.tobytes(), batch.offset.tobytes(), batch.status.tobytes()
    first, *others = [
        codec.inspect_batch(batch, profile, flow_hash=True, seed=5, origin=7) for codec in twins
    ]
    assert before == (batch.data.tobytes(), batch.offset.tobytes(), batch.status.tobytes())
    for other in others:
        assert other.names == first.names
        for name in first.names:
            assert getattr(other, name).tolist() == getattr(first, name).tolist(), name


@given(packets=st.lists(s.corrupted(), min_size=1, max_size=4), profile=s.profiles())
def test_says_what_decap_says(codec: Codec, packets: list[bytes], profile: Profile) -> None:
    batch = batch_of(packets)
    columns = codec.inspect_batch(batch, profile)
    changed = batch_of(packets)
    codec.decap_batch(changed, profile)
    assert (columns.offset == batch.offset).all()
    assert columns.status.tolist() == changed.status.tolist()
    for row in np.flatnonzero(changed.status == 0):
        assert columns.key[row] == changed.key[row]
        assert columns.protocol[row] == changed.protocol[row]
        lies_over = columns.flags[row] & Fact.IP and columns.protocol[row] == GRE.number
        assert changed.outer[row] == (0 if lies_over else columns.outer[row])
        end = columns.frame_offset[row] + columns.frame_length[row]
        assert end == changed.offset[row] + changed.length[row]


def test_facts_of_a_packet(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    """Each column against the tunnel that made the packet."""
    tunnel = plain(protocol, family, ttl=9, dscp=46, source_port=50000, outer_vlan=7, outer_pcp=5)
    packet = codec.encap(tunnel, frames.UDP4)
    known: dict[str, Any] = {"protocols": ("gre",)} if protocol is GRE else {}
    found = codec.inspect_batch(batch_of([packet]), flow_hash=True, **known)
    assert found.status[0] == Status.OK
    assert (found.protocol[0], found.key[0]) == (protocol.number, tunnel.key)
    assert (found.family[0], found.ttl[0], found.tos[0] >> 2) == (family, 9, 46)
    assert found.addresses("source")[0] == tunnel.local
    assert found.addresses("destination")[0] == tunnel.remote
    outer = wire.parse(packet)
    assert found.outer[0] == outer.l3
    assert found.ip_protocol[0] == outer.protocol
    ports = outer.protocol in (6, 17)
    assert found.source_port[0] == (50000 if ports else 0)
    assert found.destination_port[0] == (int.from_bytes(outer.body[2:4], "big") if ports else 0)
    assert found.outer_tci[0] == 5 << 13 | 7
    assert found.flags[0] & Fact.TAGGED
    assert bool(found.flags[0] & Fact.DF) == (family == 4)
    assert (found.length[0], found.wire[0]) == (len(packet), len(packet))
    at, size = int(found.frame_offset[0]), int(found.frame_length[0])
    assert packet[at : at + size] == frames.UDP4
    assert found.frame_wire[0] == len(frames.UDP4)
    assert found.flow_hash[0] == codec.flow_hash(frames.UDP4)


def test_refused_rows_keep_their_outer_header(codec: Codec) -> None:
    """Every case of a refused packet: the outer facts are all there, or none is."""
    good = 0
    for case in cases.DECAP:
        batch = batch_of([case.packet], case.link)
        batch.wire[:] = len(case.packet) if case.wire_length is None else case.wire_length
        found = codec.inspect_batch(batch, case.profile, **case.options)
        assert found.status[0] == case.status, case
        good += bool(found.family[0] and found.addresses("source")[0])
        if not found.family[0]:
            assert all(not getattr(found, name).any() for name in OUTER)
    assert good > len(cases.DECAP) // 2


@pytest.mark.parametrize("keys", [{1}, None])
def test_the_key_of_an_unknown_network_is_known(codec: Codec, keys: set[int] | None) -> None:
    batch = batch_of([wire.vxlan(frames.UDP4, vni=77)])
    found = codec.inspect_batch(batch, Profile.of("rfc", keys=keys))
    assert found.status[0] == (Status.OK if keys is None else Status.UNKNOWN_KEY)
    assert (found.key[0], found.protocol[0]) == (77, 1)
    assert bool(found.frame_length[0]) == (keys is None)


def test_checksums(codec: Codec, family: int) -> None:
    """A checksum is said to be verified only where it was."""
    packet = wire.vxlan(frames.UDP4, check=-1, family=family)
    both = Fact.CHECKSUM | Fact.VERIFIED
    assert codec.inspect_batch(batch_of([packet])).flags[0] & both == both
    lenient = codec.inspect_batch(batch_of([packet]), "lenient")
    assert lenient.flags[0] & both == Fact.CHECKSUM
    bad = packet[:-1] + bytes([packet[-1] ^ 1])
    refused = codec.inspect_batch(batch_of([bad]))
    assert refused.status[0] == Status.UDP_CHECKSUM
    assert refused.flags[0] & both == Fact.CHECKSUM
    cut = batch_of([packet])
    cut.length[:] -= 1
    assert codec.inspect_batch(cut).flags[0] & (both | Fact.CUT) == Fact.CHECKSUM | Fact.CUT


def test_fragments(codec: Codec) -> None:
    found = codec.inspect_batch(batch_of([frames.fragment_frame(0x2000), frames.fragment_frame(3)]))
    assert found.status.tolist() == [Status.IP_FRAGMENT] * 2
    assert (found.flags & Fact.FRAGMENT).all()
    assert (found.family == 4).all()
    assert not found.source_port.any()


def test_memory_that_cannot_be_written(codec: Codec, tmp_path: Path) -> None:
    """What is mapped read-only is inspected where it lies: a write would end the process."""
    path = tmp_path / "packet"
    packets = [wire.vxlan(frames.UDP4, vni=9, check=-1), wire.stt(frames.TAGGED, tci=0x1005), b"a"]
    path.write_bytes(b"".join(packets))
    batch = record.empty(np.memmap(path, np.uint8, "r"), 3, Batch(3))
    ends = np.cumsum([len(packet) for packet in packets])
    batch._rows(0, ends - [len(packet) for packet in packets], np.diff(ends, prepend=0), ends)
    batch.wire[:] = batch.length
    found = codec.inspect_batch(batch, "lenient", dscp="uniform")
    assert found.status.tolist() == [0, 0, Status.ETHERNET_TRUNCATED]


def test_memory_is_used_again(codec: Codec) -> None:
    batch = batch_of([wire.vxlan(frames.UDP4, vni=n) for n in range(100)])
    first = codec.inspect_batch(batch)
    kept = first.copy()
    second = codec.inspect_batch(batch_of([wire.nvgre(frames.UDP4)] * 3), into=first)
    assert np.shares_memory(second.key, first.key)
    assert len(second) == 3
    assert kept.key.tolist() == list(range(100))
    assert len(codec.inspect_batch(batch_of([b""] * 1000), into=first)) == 1000


def test_wrong_use(codec: Codec) -> None:
    batch = batch_of([b""])
    with pytest.raises(TypeError, match="Batch"):
        codec.inspect_batch([b""])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="flow_hash"):
        codec.inspect_batch(batch, flow_hash=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed"):
        codec.inspect_batch(batch, flow_hash=True, seed=-1)
    with pytest.raises(ConfigError, match="profile"):
        codec.inspect_batch(batch, "loose")
    with pytest.raises(AttributeError, match="flow_hash"):
        _ = codec.inspect_batch(batch).flow_hash


def test_columns(codec: Codec) -> None:
    """Rows are taken as numpy takes them; a dictionary is ready for a table."""
    packets = [wire.vxlan(frames.UDP4, vni=1, family=4), wire.vxlan(frames.UDP4, vni=2, family=6)]
    columns = codec.inspect_batch(batch_of([*packets, b""]))
    assert columns[columns.family == 6].key.tolist() == [2]
    assert columns[1:].key.tolist() == [2, 0]
    assert columns[[1, 0]].key.tolist() == [2, 1]
    assert len(columns.concatenate([columns, columns[:1]])) == 4
    table = columns.to_dict()
    assert {array.shape for array in table.values()} == {(3,)}
    assert table["source"].tolist() == [wire.LOCAL[4], wire.LOCAL[6], ""]
    assert ipaddress.ip_address(table["destination"][1]).version == 6
    assert "key" in dir(columns)
    with pytest.raises(TypeError, match="rows"):
        columns[0]


# -- captures ---------------------------------------------------------------------------


def packets_of_a_capture() -> list[bytes]:
    return [wire.vxlan(frames.UDP4, vni=n) for n in range(300)] + [frames.ARP]


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_columns_of_a_capture(tmp_path: Path, suffix: str) -> None:
    """Facts, times and places in the file of every packet, in bursts of any size."""
    packets = packets_of_a_capture()
    path = tmp_path / f"in.{suffix}"
    times = 1_700_000_000_000_000_000 + 1000 * np.arange(len(packets))
    with CaptureWriter(path, suffix) as writer:  # type: ignore[arg-type]
        writer.write(batch_of(packets), times)
    parts = [part.copy() for part in read_columns(path, burst_bytes=4096, flow_hash=True)]
    assert len(parts) > 3
    found = parts[0].concatenate(parts)
    assert found.number.tolist() == list(range(301))
    assert found.time.tolist() == times.tolist()
    assert found.key.tolist() == [*range(300), 0]
    assert found.status.tolist() == [0] * 300 + [Status.NOT_IP]
    assert not found.interface.any()
    data = path.read_bytes()
    for packet, at, outer in zip(packets, found.offset.tolist(), found.outer.tolist(), strict=True):
        assert data[at : at + len(packet)] == packet
        assert outer == (0 if packet == frames.ARP else at + 14)
    at, size = int(found.frame_offset[7]), int(found.frame_length[7])
    assert data[at : at + size] == frames.UDP4


def test_a_capture_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(wire.pcap(packets_of_a_capture())[:-1])
    parts = read_columns(path)
    assert len(next(parts)) == 300
    with pytest.raises(CaptureError, match="cut short"):
        next(parts)


def test_an_open_capture_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(wire.pcap(packets_of_a_capture()))
    with open_capture(path) as capture:
        assert sum(len(part) for part in read_columns(capture, "lenient")) == 301
        assert capture.packets == 301
    with pytest.raises(ConfigError, match="profile"):
        read_columns(path, "loose")


def test_the_layout_is_that_of_c(twins: Sequence[Codec]) -> None:
    compiled = [codec for codec in twins if hasattr(codec, "core")]
    assert compiled
    for codec in compiled:
        assert codec.core.sizes()["ov_columns"] == 8 * len(WORDS)  # type: ignore[attr-defined]

"""Captures: what is in the file is in the batch, exactly; and any bytes end well."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay import Batch, CaptureError, ConfigError
from overlay.codec import Codec
from overlay.io import record
from overlay.io.pcap import Capture, CaptureWriter, Interface, open_capture

NS = 1_000_000_000
PACKETS = [bytes(range(n)) for n in (60, 0, 1, 64, 77, 200)]
TIMES = [1_700_000_000 * NS + n * 1_234_567_000 for n in range(len(PACKETS))]


def classic(
    packets: list[bytes] = PACKETS, *, order: str = "<", nano: bool = False, network: int = 1,
    cut: int = 0,
) -> bytes:  # fmt: skip
    """A classic file, built by hand; each packet was `cut` bytes longer on the wire."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    made = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, network)
    for packet, time in zip(packets, TIMES, strict=False):
        fraction = time % NS // (1 if nano else 1000)
        made += struct.pack(order + "IIII", time // NS, fraction, len(packet), len(packet) + cut)
        made += packet
    return made


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str = "<", linktype: int = 1, snaplen: int = 0, **options: bytes) -> bytes:
    codes = {"name": 2, "resolution": 9, "fcs": 13, "offset": 14}
    body = struct.pack(order + "HHI", linktype, 0, snaplen)
    for name, value in options.items():
        body += struct.pack(order + "HH", codes[name], len(value)) + value + bytes(-len(value) % 4)
    return block(order, 1, body + bytes(4))


def enhanced(order: str, number: int, ticks: int, packet: bytes, wire: int | None = None) -> bytes:
    wire = len(packet) if wire is None else wire
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), wire)
    return block(order, 6, head + packet)


def small_pcapng() -> bytes:
    return (
        section() + interface() + enhanced("<", 0, 5_000_000, b"abc") + block("<", 0xBAD, b"what")
        + block("<", 3, struct.pack("<I", 5) + b"12345") + enhanced("<", 0, 6_000_000, b"xy")
    )  # fmt: skip


def everything(capture: Capture) -> dict[str, list[Any]]:
    """All that a capture says of its packets."""
    said: dict[str, list[Any]] = {"data": [], "wire": [], "link": [], "time": [], "interface": []}
    for burst in capture:
        assert burst.first == len(said["data"])
        said["data"] += [bytes(burst.batch[row]) for row in range(len(burst))]
        said["wire"] += burst.batch.wire.tolist()
        said["link"] += burst.batch.link.tolist()
        said["time"] += burst.timestamps.tolist()
        said["interface"] += burst.interface.tolist()
    return said


def read(data: bytes, **options: Any) -> dict[str, list[Any]]:
    return everything(open_capture(io.BytesIO(data), **options))


class Trickle:
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file, self._step = io.BytesIO(data), step

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, self._step))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_classic_files_are_read_exactly(order: str, nano: bool, tmp_path: Path) -> None:
    data = classic(order=order, nano=nano, cut=3)
    said = read(data)
    assert said["data"] == PACKETS
    assert said["wire"] == [len(packet) + 3 for packet in PACKETS]
    assert said["time"] == TIMES
    assert said["link"] == [0] * len(PACKETS)
    (tmp_path / "a.pcap").write_bytes(data)
    batch = Batch.from_pcap(tmp_path / "a.pcap")
    assert batch.to_list() == PACKETS
    assert batch.wire.tolist() == said["wire"]


@pytest.mark.parametrize(
    ("linktype", "link"),
    [(1, 0), (101, 1), (12, 1), (14, 1), (228, 1), (229, 1), (113, 2), (0, 2), (147, 2)],
)
def test_link_types(linktype: int, link: int, tmp_path: Path) -> None:
    assert read(classic(network=linktype))["link"] == [link] * len(PACKETS)
    blocks = section() + interface(linktype=linktype) + enhanced("<", 0, 0, b"abc")
    assert read(blocks)["link"] == [link]
    (tmp_path / "a.pcap").write_bytes(classic(network=linktype))
    assert Batch.from_pcap(tmp_path / "a.pcap").link.tolist() == [link] * len(PACKETS)


def test_the_frame_check_sequence_is_no_part_of_a_frame() -> None:
    """COM-22: where the file says that packets end with an FCS, it is taken off."""
    packet = bytes(64)
    network = 1 | 0x0400_0000 | 2 << 28
    said = read(classic([packet, packet[:2]], network=network))
    assert [len(data) for data in said["data"]] == [60, 0]
    cut = read(classic([packet], network=network, cut=10))  # the FCS is in what was cut
    assert [len(data) for data in cut["data"]] == [64]
    assert cut["wire"] == [70]
    blocks = section() + interface(fcs=b"\4") + enhanced("<", 0, 0, packet)
    assert [len(data) for data in read(blocks)["data"]] == [60]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_blocks_sections_and_interfaces(order: str) -> None:
    other = ">" if order == "<" else "<"
    data = (
        section(order)
        + interface(order, 1, name=b"eth0")
        + interface(order, 101, resolution=b"\x09", name=b"tun0")
        + block(order, 0x0BAD, b"unknown blocks are skipped")
        + enhanced(order, 1, 7_000_000_001, b"raw", wire=1000)
        + enhanced(order, 0, 8_000_001, b"ether")
        + block(order, 2, struct.pack(order + "HHIIII", 1, 9, 1, 5, 3, 4) + b"old")
        + section(other)
        + interface(other, 1, snaplen=4)
        + block(other, 3, struct.pack(other + "I", 6) + b"simp")
        + enhanced(other, 0, 3_000_000, b"last")
    )
    said = read(data)
    assert said["data"] == [b"raw", b"ether", b"old", b"simp", b"last"]
    assert said["wire"] == [1000, 5, 4, 6, 4]
    assert said["link"] == [1, 0, 1, 0, 0]
    assert said["interface"] == [1, 0, 1, 2, 2]
    assert said["time"] == [7_000_000_001, 8_000_001_000, (1 << 32) + 5, 0, 3 * NS]
    capture = open_capture(io.BytesIO(data))
    list(capture)
    assert [i.name for i in capture.interfaces] == ["eth0", "tun0", ""]


@pytest.mark.parametrize(
    ("resolution", "ticks", "time"),
    [
        (0, 5, 5 * NS), (3, 5001, 5_001_000_000), (6, 5_000_001, 5_000_001_000), (9, 7, 7),
        (12, 7_999, 7), (19, 10**19 + 1, NS), (127, 2**64 - 1, 0),
        (0x80 | 10, 1536, 1_500_000_000), (0x80 | 32, 3 << 31, 1_500_000_000),
        (0x80 | 63, 3 << 62, 1_500_000_000), (0x80, 2, 2 * NS), (0xFF, 2**64 - 1, 0),
        (0, 2**64 - 1, 2**63 - 1), (3, 2**63, 2**63 - 1), (6, 2**64 - 1, 2**63 - 1),
    ],
)  # fmt: skip
def test_clocks_of_any_resolution(resolution: int, ticks: int, time: int) -> None:
    head = section() + interface(resolution=bytes([resolution]))
    assert read(head + enhanced("<", 0, ticks, b"x"))["time"] == [time]


def test_clock_offsets() -> None:
    for offset in (100, -100, 2**40, -(2**40)):
        head = section() + interface(offset=struct.pack("<q", offset))
        expected = max(-(2**63), min(2**63 - 1, offset * NS + NS))
        assert read(head + enhanced("<", 0, 1_000_000, b"x"))["time"] == [expected]


@pytest.mark.parametrize("step", [1, 7, 100, 5000])
@pytest.mark.parametrize("burst", [64, 1 << 20])
def test_a_pipe_gives_what_a_file_gives(step: int, burst: int) -> None:
    for data in (classic(), classic([bytes(5000), b"", bytes(70)]), small_pcapng()):
        pipe: Any = Trickle(data, step)
        assert everything(open_capture(pipe, burst_bytes=burst)) == read(data)


def test_records_larger_than_a_burst() -> None:
    packets = [bytes(10), bytes(300_000), bytes(10)]
    assert read(classic(packets), burst_bytes=100)["data"] == packets


def test_a_mapping_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(classic())
    batch = Batch.from_pcap(path)
    batch.data[:] = 0xFF
    assert path.read_bytes() == classic()


@pytest.mark.parametrize("make", [classic, small_pcapng])
def test_cut_at_every_byte(make: Any, tmp_path: Path) -> None:
    """The packets before the cut, then an error with file, byte and reason."""
    data = make()
    whole = read(data)["data"]
    path = tmp_path / "cut.pcap"
    ends = []
    for size in range(len(data)):
        path.write_bytes(data[:size])
        said: list[bytes] = []
        try:
            with open_capture(path) as capture:
                for burst in capture:
                    said += [bytes(burst.batch[row]) for row in range(len(burst))]
            ends.append(size)
        except CaptureError as error:
            assert str(path) in str(error)
            assert "byte " in str(error)
        assert said == whole[: len(said)]
    # Only cuts between records go unnoticed.
    if make is classic:
        assert len(ends) == len(PACKETS)
    with pytest.raises(CaptureError):
        Batch.from_pcap(path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"hello, world, this is a text file", "neither pcap nor pcapng"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "zstd"),
        (classic()[:10], "cut short"),
        (classic([]) + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF), "not believed"),
        (section() + struct.pack("<II", 6, 0) + bytes(40), "block length 0"),
        (section() + struct.pack("<II", 6, 13) + bytes(40), "block length 13"),
        (section() + struct.pack("<II", 6, 0xFFFFFFFC) + bytes(40), "not believed"),
        (section() + enhanced("<", 0, 0, b"abc"), "interface 0"),
        (section() + interface() + enhanced("<", 5, 0, b"abc"), "interface 5"),
        (section() + block("<", 1, b""), "interface description"),
        (section() + interface() + block("<", 6, bytes(8)), "enhanced packet block"),
        (section() + interface() + block("<", 3, b""), "simple packet block"),
        (section() + interface() + block("<", 2, bytes(8)), "packet block"),
        (
            section() + interface()
            + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 0xFFFFFFFF, 0) + b"abcd"),
            "room for 4",
        ),
        (b"\n\r\r\n" + struct.pack("<II", 28, 0) + bytes(40), "byte-order magic"),
        (section() + interface() * 65537, "more than 65536 interfaces"),
    ],
)  # fmt: skip
def test_hostile_lengths_are_named(data: bytes, why: str) -> None:
    with pytest.raises(CaptureError, match=why):
        read(data)


def test_packets_before_a_broken_block_are_given() -> None:
    data = section() + interface() + enhanced("<", 0, 0, b"good")
    capture = open_capture(io.BytesIO(data + struct.pack("<II", 6, 0) + bytes(40)))
    bursts = iter(capture)
    assert bytes(next(bursts).batch[0]) == b"good"
    with pytest.raises(CaptureError, match=f"byte {len(data)}:"):
        next(bursts)


_SEEDS = [classic([b"abcd", b"", b"xyz"]), small_pcapng(), classic([b"abcd"], order=">", nano=True)]


@given(
    seed=st.sampled_from(_SEEDS),
    holes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8),
    extra=st.binary(max_size=40),
)
def test_any_bytes_are_packets_or_an_error(
    seed: bytes, holes: list[tuple[int, int]], extra: bytes
) -> None:
    """Whatever a file holds: rows inside the data, or a CaptureError."""
    data = bytearray(seed + extra)
    for place, value in holes:
        data[place % len(data)] = value
    try:
        for burst in open_capture(io.BytesIO(bytes(data))):
            ends = burst.batch.offset + burst.batch.length
            assert int(ends.max()) <= burst.batch.data.size
            assert (burst.batch.wire >= burst.batch.length).all()
            assert burst.timestamps.dtype == np.int64
    except CaptureError as error:
        assert "byte " in str(error)


# -- writing -------------------------------------------------------------------


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_what_is_written_is_read_again(form: Any, nano: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    batch = Batch.from_frames(PACKETS)
    batch.wire[:] += np.uint32(5)
    times = np.array(TIMES) + (1 if nano or form == "pcapng" else 0)
    with CaptureWriter(path, form, nanosecond=nano) as writer:
        assert writer.write(batch, times) == len(PACKETS)
    with open_capture(path) as capture:
        assert capture.format == form
        said = everything(capture)
    assert said["data"] == PACKETS
    assert said["wire"] == [len(packet) + 5 for packet in PACKETS]
    assert said["time"] == times.tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with path.open("rb") as file:  # and by a reader of other authors
        theirs = [bytes(data) for _, data in dpkt.pcap.UniversalReader(file)]
    assert theirs == PACKETS


def test_refused_rows_are_not_written() -> None:
    batch = Batch.from_frames(PACKETS)
    batch.status[1] = 5
    out = io.BytesIO()
    with CaptureWriter(out) as writer:
        assert writer.write(batch) == len(PACKETS) - 1
    assert read(out.getvalue())["data"] == PACKETS[:1] + PACKETS[2:]


def test_interfaces_are_kept() -> None:
    out = io.BytesIO()
    ports = [Interface(1, name="left"), Interface(1, name="right")]
    with CaptureWriter(out, "pcapng", interfaces=ports) as writer:
        writer.write(Batch.from_frames(PACKETS), TIMES, [n % 2 for n in range(len(PACKETS))])
        with pytest.raises(ConfigError, match="interface"):
            writer.write(Batch.from_frames(PACKETS), TIMES, 2)
    assert read(out.getvalue())["interface"] == [0, 1, 0, 1, 0, 1]
    capture = open_capture(io.BytesIO(out.getvalue()))
    list(capture)
    assert [i.name for i in capture.interfaces] == ["left", "right"]


def test_timestamps_beyond_the_format_are_held() -> None:
    out = io.BytesIO()
    with CaptureWriter(out) as writer:
        writer.write(Batch.from_frames([b"a", b"b"]), [-5, 2**62])
    assert read(out.getvalue())["time"] == [0, (2**32 - 1) * NS + NS - 1]


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with CaptureWriter(path) as writer:
            writer.write(Batch.from_frames(PACKETS))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.pcap"]


def test_bad_options_are_named() -> None:
    with pytest.raises(ConfigError, match="format"):
        CaptureWriter(io.BytesIO(), "cap")  # type: ignore[arg-type]


# -- the twins of the record functions ------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_scan_is_the_same_in_every_backend(codec: Codec, order: str) -> None:
    scan = getattr(codec, "pcap_scan", record._scan)
    for cut in range(len(classic())):
        data = np.frombuffer(bytearray(classic(order=order)[: len(classic()) - cut]), np.uint8)
        for rows in (2, 100):
            results = []
            for function in (scan, record._scan):
                batch, stamps = record.empty(data, rows), np.zeros(rows, np.uint64)
                end = function(batch, 24, order == ">", stamps)
                results.append([
                    end, stamps.tolist(), batch.offset.tolist(), batch.base.tolist(),
                    batch.length.tolist(), batch.wire.tolist(), batch.status.tolist(),
                ])  # fmt: skip
            assert results[0] == results[1]


def test_pack_and_stamp_are_the_same_in_every_backend(codec: Codec) -> None:
    batch = Batch.from_frames(PACKETS)
    batch.status[2] = 9
    batch.wire[:] += np.uint32(7)
    stamps = np.arange(len(PACKETS), dtype=np.uint64) << np.uint64(30)
    results = []
    for name in ("pcap_pack", None):
        out = Batch.packed(4096, 100, gap=record.HEADER)
        pack = record._pack if name is None else getattr(codec, "pcap_pack", record._pack)
        stamp = record._stamp if name is None else getattr(codec, "pcap_stamp", record._stamp)
        pack(batch, out)
        stamp(out, stamps)
        results.append((out.to_list(), out.origin.tolist(), out.data[: out.used].tobytes()))
    assert results[0] == results[1]


def test_a_burst_goes_out_as_it_lies(tmp_path: Path) -> None:
    """write_in_place gives the same file as write: whole bursts, and bursts with gaps."""
    path = tmp_path / "in.pcap"
    with CaptureWriter(path, nanosecond=True) as writer:
        packets = [bytes([i]) * (14 + 7 * i) for i in range(20)]
        writer.write(Batch.from_frames(packets), np.arange(20) * 1_000_000_007)
    for refused in ([], [0], [7, 8], [19], list(range(20))):
        files = []
        for name in ("write_all", "write_in_place"):
            out = tmp_path / f"{name}.pcap"
            with open_capture(path) as capture, CaptureWriter(out) as writer:
                for burst in capture:
                    burst.batch.status[refused] = 1
                    verb = getattr(writer, name)
                    assert verb(burst.batch, writer.times(burst), burst.interface) == (
                        20 - len(refused)
                    )
                assert writer.packets == 20 - len(refused)
            files.append(out.read_bytes())
        assert files[0] == files[1]

"""`overlay decap` in full: fragments, filters, tunnels within tunnels, what is kept of them."""

from __future__ import annotations

import csv
import io
import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import frames
import overlay
import wire
from command import packets, report, run, shell, write
from conftest import missing
from overlay import VXLAN

ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
START = 1_700_000_000  # of command.write, in whole seconds


def vxlan(vni: int = 5001, **fields: Any) -> VXLAN:
    return VXLAN(**{"vni": vni, **ENDS, "source_port": 51515, "ip_id": 7, "df": False, **fields})


def fragments_of(packet: bytes, size: int = 1000) -> list[bytes]:
    """The packet as fragments of this much payload, by hand; IPv4 without options."""
    ip, payload = packet[14:34], packet[34:]
    parts = []
    for at in range(0, len(payload), size):
        piece = payload[at : at + size]
        word = at // 8 | (0x2000 if at + size < len(payload) else 0)
        head = ip[:2] + (20 + len(piece)).to_bytes(2, "big") + ip[4:6] + word.to_bytes(2, "big")
        head += ip[8:10] + bytes(2) + ip[12:]
        head = head[:10] + wire.checksum(head).to_bytes(2, "big") + head[12:]
        parts.append(packet[:14] + head + piece)
    return parts


BIG = frames.udp_frame(wire.pattern(3000))


def lost(said: dict[str, Any]) -> int:
    return int(sum(said["drops"].values()))


# -- fragments ----------------------------------------------------------------------------


def test_fragments_are_reassembled(tmp_path: Path) -> None:
    """In any order, among others; the frame comes when its packet is whole."""
    parts = fragments_of(vxlan().encap(BIG))
    other = vxlan(2).encap(frames.TCP4)
    source = write(tmp_path / "in.pcap", [parts[2], other, parts[0], *parts[3:], parts[1]])
    out = tmp_path / "out.pcap"
    said = report("decap", source, out)
    assert [row[0] for row in packets(out)] == [frames.TCP4, BIG]
    assert (said["fragments"], said["fragments_joined"]) == (4, 4)
    assert (said["packets"], said["frames"], said["refused"]) == (5, 2, 0)
    assert said["packets"] - said["fragments_joined"] + said["packets_of_fragments"] == 2
    said = report("decap", source, out, "--fragments", "drop")
    assert said["drops"] == {"IP_FRAGMENT": 4}


def test_ipv6_fragments(tmp_path: Path) -> None:
    from test_fragment import pieces

    datagram = struct.pack("!4H2I", 5, 4789, 16 + len(BIG), 0, 8 << 24, 9 << 8) + BIG
    parts = pieces(datagram, 1480, version=6)
    said = report("decap", write(tmp_path / "in.pcap", parts), tmp_path / "out.pcap",
                  "--profile", "lenient")  # fmt: skip
    assert (said["frames"], said["protocols"]) == (1, {"vxlan": 1})


def test_fragments_that_never_become_a_packet_are_counted(tmp_path: Path) -> None:
    first, *rest = fragments_of(vxlan().encap(BIG))
    twice = fragments_of(vxlan(ip_id=8).encap(BIG))
    bad = [*twice[:2], twice[0][:-1] + b"\xff"]
    source = write(tmp_path / "in.pcap", [first, *rest[:-1], *bad, first])
    said = report("decap", source, tmp_path / "out.pcap")
    assert said["frames"] == 0
    assert lost(said) == said["packets"] == said["refused"]
    assert said["drops"]["FRAGMENT_TIMEOUT"] == 3
    assert said["drops"]["FRAGMENT_OVERLAP"] == 4


def test_time_is_the_captures(tmp_path: Path) -> None:
    """What comes after half a minute comes too late, however fast it is read."""
    parts = fragments_of(vxlan().encap(BIG), 2000)
    times = [START * 10**9, (START + 31) * 10**9]
    with overlay.io.pcap.CaptureWriter(tmp_path / "in.pcap") as writer:
        writer.write(overlay.Batch.from_frames(parts), times)
    said = report("decap", tmp_path / "in.pcap", tmp_path / "out.pcap")
    assert said["drops"] == {"FRAGMENT_TIMEOUT": 2}


def test_stt_segments_in_fragments(tmp_path: Path) -> None:
    frame = frames.tcp_frame(wire.pattern(6000))
    tunnel = overlay.STT(context_id=1, **ENDS, df=False, ip_id=100)
    parts = [part for p in tunnel.packets(frame, 3000) for part in fragments_of(p, 800)]
    random.Random(1).shuffle(parts)
    out = tmp_path / "out.pcapng"
    said = report("decap", write(tmp_path / "in.pcap", parts), out)
    assert [row[0] for row in packets(out)] == [frame]
    assert said["stt_frames_reassembled"] == 1


# -- filters ------------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Packets 0 to 3: of two networks and four ends; 4 is none of a tunnel."""
    tunnels = [
        vxlan(1), vxlan(0x20, local="192.0.2.77"), vxlan(0x21, local="2001:db8::1",
        remote="2001:db8::2", df=True, ip_id=None), vxlan(500, remote="198.51.100.9"),
    ]  # fmt: skip
    return write(tmp_path / "in.pcap", [*(t.encap(frames.TCP4) for t in tunnels), frames.ARP])


@pytest.mark.parametrize(
    ("options", "keys", "filtered"),
    [
        (["--outer", "192.0.2.1"], [1, 500], {"outer": 3}),
        (["--outer", "192.0.2.0/24"], [1, 0x20, 500], {"outer": 2}),
        (["--outer", "2001:db8::/32"], [0x21], {"outer": 4}),
        (["--local", "192.0.2.77", "--local", "2001:db8::1"], [0x20, 0x21], {"local": 3}),
        (["--remote", "198.51.100.0/24"], [500], {"remote": 4}),
        (["--local", "192.0.2.1", "--remote", "192.0.2.2"], [1], {"local": 3, "remote": 1}),
        (["--outer", "0.0.0.0/0"], [1, 0x20, 500], {"outer": 2}),
        (["--after", "1700000000.125"], [0x21, 500], {"time": 2}),
        (["--before", "2023-11-14T22:13:20.125Z"], [1, 0x20], {"time": 3}),
        (["--after", "2023-11-14T23:13:20.124+01:00", "--before", START + 1],
         [0x20, 0x21, 500], {"time": 1}),
    ],
)  # fmt: skip
def test_filters(
    several: Path, tmp_path: Path, options: list[object], keys: list[int], filtered: dict[str, int]
) -> None:
    """What is left out is neither written nor refused, and is counted."""
    table = tmp_path / "table.csv"
    said = report("decap", several, tmp_path / "out.pcap", "--columns", table, *options)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [int(row["key"]) for row in rows if row["key"]] == keys
    assert said["filtered"] == filtered
    assert said["packets"] == said["frames"] + said["refused"] + sum(filtered.values())


def test_ids(several: Path, tmp_path: Path) -> None:
    """Several numbers and ranges."""
    out = tmp_path / "out.pcap"
    said = report("decap", several, out, "--id", "0x20-0x21", "--id", 500)
    assert said["frames"] == 3
    assert said["drops"] == {"UNKNOWN_KEY": 1, "NOT_IP": 1}


@pytest.mark.parametrize(
    "options",
    [
        ["--id", "5-4"], ["--id", "x"], ["--id", "0-0xffffffff"], ["--outer", "192.0.2.0/33"],
        ["--local", "here"], ["--after", "tomorrow"], ["--depth", "17"], ["--depth", "most"],
        ["--fragments", "keep"], ["--metadata", "comment"], ["--columns", "table.xlsx"],
        ["--columns", "nowhere/table.csv"],
    ],
)  # fmt: skip
def test_mistakes(several: Path, tmp_path: Path, options: list[str]) -> None:
    """One line that names the option, and no file."""
    result = run("decap", several, tmp_path / "out.pcap", *options)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert options[0] in line or options[1] in line
    assert [path.name for path in tmp_path.iterdir()] == ["in.pcap"]


# -- what is kept --------------------------------------------------------------------------


def test_comments(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """tshark shows a comment for each tunnel, the outermost first; frames are as they are."""
    nvgre = overlay.NVGRE(
        vsid=0x5001, local="2001:db8::1", remote="2001:db8::2", outer_vlan=7, dscp=46, ttl=9
    )
    source = write(
        tmp_path / "in.pcap",
        [vxlan().encap(nvgre.encap(frames.TCP4)), *fragments_of(vxlan(9).encap(BIG))],
    )
    out = tmp_path / "out.pcapng"
    said = report("decap", source, out, "--depth", "all")
    assert said["nested"] == 1
    command = [tool("tshark"), "-r", str(out), "-T", "json", "-e", "frame.comment"]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [packet["_source"]["layers"]["frame.comment"] for packet in shown] == [
        [
            "vxlan vni=5001 192.0.2.1:51515 > 192.0.2.2:4789 ttl=64 dscp=0",
            "nvgre vsid=20481 2001:db8::1 > 2001:db8::2 ttl=9 dscp=46 vlan=7",
        ],
        ["vxlan vni=9 192.0.2.1:51515 > 192.0.2.2:4789 ttl=64 dscp=0"],
    ]
    assert [row[0] for row in packets(out)] == [frames.TCP4, BIG]
    report("decap", source, out, "--metadata", "none")
    assert b"vni=" not in out.read_bytes()


def test_depth_is_bounded(tmp_path: Path) -> None:
    """What is deeper than 16 tunnels is left in its tunnel."""
    packet = frames.TCP4
    for vni in range(20):
        packet = vxlan(vni).encap(packet)
    out = tmp_path / "out.pcap"
    said = report("decap", write(tmp_path / "in.pcap", [packet]), out, "--depth", "all")
    assert (said["protocols"], said["nested"]) == ({"vxlan": 16}, 15)
    assert overlay.decap(packets(out)[0][0]).key == 3


# -- tables --------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A packet of every kind, and what is none."""
    keys = {"erspan": 0x101}
    tunnels = [
        kind(**{kind.key_field: keys.get(name, 0x5001), **ENDS, "outer_vlan": 9})
        for name, kind in overlay.PROTOCOLS.items()
    ]
    made = [t.encap(frames.TCP4) for t in tunnels]
    return write(tmp_path / "in.pcap", [*made, *fragments_of(vxlan().encap(BIG)), b"", frames.ARP])


def test_parquet_and_csv_say_the_same(source: Path, tmp_path: Path) -> None:
    try:
        from pyarrow import parquet
    except ImportError:
        missing("pyarrow")
    for name in ("t.csv", "t.parquet"):
        report("decap", source, tmp_path / "out.pcap", "--columns", tmp_path / name)
    table = parquet.read_table(tmp_path / "t.parquet")
    flat = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    times = table["time"].cast("int64").to_numpy().view("M8[ns]")
    assert [row["time"] for row in flat] == [str(time).replace("T", " ") for time in times]
    wide = table.drop_columns(["time"]).to_pylist()
    assert len(flat) == len(wide) == len(overlay.PROTOCOLS) + 6
    for one, other in zip(wide, flat, strict=True):
        del other["time"]
        texts = [str(value).lower() if isinstance(value, bool) else str(value or 0) for value in
                 one.values()]  # fmt: skip
        assert list(one) == list(other)
        assert [text or "0" for text in other.values()] == texts
    assert wide[0]["status"] == "OK"
    assert (wide[0]["source"], wide[0]["outer_vlan"]) == ("192.0.2.1", 9)
    taken = ["nvgre" if name == "gre" else name for name in overlay.PROTOCOLS]  # it has a key
    assert [row["protocol"] for row in wide[: len(taken)]] == taken


def _without_pyarrow(*args: object) -> subprocess.CompletedProcess[bytes]:
    code = "import sys; sys.modules['pyarrow'] = None; from overlay.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def test_without_pyarrow(source: Path, tmp_path: Path) -> None:
    """CSV is the same byte for byte; Parquet is refused in one line, and nothing is left."""
    report("decap", source, tmp_path / "out.pcap", "--columns", tmp_path / "one.csv")
    out = tmp_path / "new.pcap"
    done = _without_pyarrow("decap", source, out, "--columns", tmp_path / "two.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    out.unlink()
    refused = _without_pyarrow("decap", source, out, "--columns", tmp_path / "t.parquet")
    assert refused.returncode == 2
    [line] = refused.stderr.decode().splitlines()
    assert "overlay-dataplane[arrow]" in line
    assert not out.exists()


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_table_that_cannot_be_written_whole_is_not_left_behind(
    source: Path, tmp_path: Path, name: str
) -> None:
    """The disk is full for files above some size."""
    many = tmp_path / "many.pcap"
    many.write_bytes(wire.pcap([vxlan(n).encap(frames.TCP4) for n in range(1000)]))
    before = set(tmp_path.iterdir())
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "from overlay.cli import main; main()"
    )
    words = ["decap", many, "/dev/null", "--columns", tmp_path / name]
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert name in line
    assert set(tmp_path.iterdir()) == before


# -- real captures --------------------------------------------------------------------------


def test_real_captures_as_tshark_reads_them(
    shared: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """Keys, ends, ports and TTLs of every packet that decap takes."""
    wanted = ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "udp.srcport", "udp.dstport",
              "ip.ttl", "ipv6.hlim", "vxlan.vni")  # fmt: skip
    seen = 0
    for path in sorted(shared.glob("captures/**/*.pcap")):
        table = tmp_path / "t.csv"
        args = ["--columns", table, "--profile", "lenient", "--protocol", "vxlan"]
        if run("decap", path, tmp_path / "out.pcap", *args).exit_code:
            continue  # it is no whole capture
        rows = list(csv.DictReader(table.read_text().splitlines()))
        if all(row["status"] != "OK" for row in rows):
            continue
        command = [tool("tshark"), "-r", str(path), "-T", "fields", "-E", "occurrence=f"]
        command += [word for name in wanted for word in ("-e", name)]
        text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        shown = list(csv.reader(io.StringIO(text), delimiter="\t"))
        assert len(shown) == len(rows)
        for row, said in zip(rows, shown, strict=True):
            v4, v6, ports = said[:2], said[2:4], said[4:6]
            if row["status"] != "OK" or not said[8]:
                continue
            seen += 1
            ends = v4 if ":" not in row["source"] else v6
            assert [row["source"], row["destination"]] == ends, path
            assert [row["source_port"], row["destination_port"]] == ports
            assert row["ttl"] == (said[6] if ends == v4 else said[7])
            assert int(row["key"]) == int(said[8], 0)
    assert seen > 100


def test_a_pipe(several: Path) -> None:
    """Standard input and output; the tally goes to stderr."""
    done = shell("decap", "-", "-", "--json", input=several.read_bytes())
    assert done.returncode == 0
    assert json.loads(done.stderr)["frames"] == 4

"""`overlay rewrite`: files in, files out; real captures; what tshark makes of the result."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import command
import frames
import overlay
import wire
from overlay import STT, VXLAN, Batch, Profile, Rewriter, Rule
from overlay.io.pcap import CaptureWriter, Interface, open_capture
from test_captures import FILES
from test_tshark import AS_STT, GOOD, VERIFY

TUNNEL = VXLAN(vni=5001, local="192.0.2.1", remote="192.0.2.2", checksum=True)
SOME = [frames.UDP4, frames.UDP6, frames.TCP4, frames.TCP6, frames.ARP]
LENIENT = Profile.of("lenient", ecn="rfc6040")


@pytest.fixture
def tunnelled(tmp_path: Path) -> Path:
    """Packets of two networks, and frames in none."""
    other = VXLAN(vni=77, local="192.0.2.3", remote="192.0.2.4")
    packets = [*TUNNEL.encap_many(SOME), *other.encap_many(SOME), *SOME]
    return command.write(tmp_path / "in.pcap", packets)


# -- the command ---------------------------------------------------------------------


def test_options_make_a_rule(tunnelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    said = command.report(
        "rewrite", tunnelled, out, "--protocol", "vxlan", "--key", "5000-0x1400",
        "--map-key", "5001:6001", "--set-source", "198.51.100.0/24", "--set-vlan", 9,
        "--set-dscp", "46", "--set-source-port", "entropy",
    )  # fmt: skip
    assert {name: said[name] for name in ("packets", "written", "rewritten", "unchanged")} == {
        "packets": 15, "written": 15, "rewritten": 5, "unchanged": 10,
    }  # fmt: skip
    before, after = command.packets(tunnelled), command.packets(out)
    assert before[5:] == after[5:]
    for (old, wire_length, when, _), (new, grown, still, _) in zip(
        before[:5], after[:5], strict=True
    ):
        found = overlay.decap(new)
        assert (found.frame, found.key) == (overlay.decap(old).frame, 6001)
        assert (found.tunnel.local, found.tunnel.outer_vlan) == ("198.51.100.1", 9)
        assert (grown, still) == (wire_length + 4, when)


def test_rules_of_a_file(tunnelled: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nkey = 77\nto = "nvgre"\nset-key = 0x5001\n[[rule]]\nkey = 5001\nto = "stt"\n'
    )
    out = tmp_path / "out.pcapng"
    said = command.report("rewrite", tunnelled, out, "--rules", rules)
    assert (said["by_rule_1"], said["by_rule_2"], said["refused"]) == (5, 5, 0)
    found = [overlay.decap(p) for p, *_ in command.packets(out)[:10]]
    assert [f.protocol for f in found] == ["stt"] * 5 + ["nvgre"] * 5
    assert [f.frame for f in found] == SOME * 2


def test_refused_packets(tunnelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    ask = ["rewrite", tunnelled, out, "--key", 77, "--to", "nvgre"]
    said = command.report(*ask)
    assert said["drops"] == {"NVGRE_VSID": 5}
    assert command.packets(out) == command.packets(tunnelled)
    assert command.run(*ask, "--strict").exit_code == 1
    assert command.report(*ask, "--drop-refused")["written"] == 10
    said = command.report(*ask, "--tunnel-field", "allow-reserved-vsid=true")
    assert said["refused"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --rules FILE, or the options of one rule"),
        (["--set-key", "x"], "--set-key x: expected"),
        (["--map-key", "5"], "--map-key 5: expected two parts"),
        (["--set-source", "192.0.2.1/24"], "--set-source 192.0.2.1/24: expected"),
        (["--to", "nvgre", "--tunnel-field", "port=1"], "--tunnel port: expected"),
        (["--set-key", 1, "--mtu", 20], "--mtu 20: expected"),
        (["--rules", "/nonexistent"], "/nonexistent: No such file"),
        (["--rules", "/nonexistent", "--set-key", 1], "give --rules FILE, or"),
    ],
)
def test_wrong_options(tunnelled: Path, tmp_path: Path, options: list[str], said: str) -> None:
    out = tmp_path / "out.pcap"
    result = command.run("rewrite", tunnelled, out, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_a_wrong_rule_of_a_file_is_named(tunnelled: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    for text, said in (("[[rule]]\nset-ttl = 300\n", "rule 1: set-ttl"), ("[[rule", "TOML")):
        rules.write_text(text)
        result = command.run("rewrite", tunnelled, tmp_path / "out", "--rules", rules)
        assert result.exit_code == 2
        assert said in result.stderr


def test_a_broken_capture_is_named_and_what_was_whole_is_written(
    tunnelled: Path, tmp_path: Path
) -> None:
    tunnelled.write_bytes(tunnelled.read_bytes()[:-3])
    out = tmp_path / "out.pcap"
    result = command.run("rewrite", tunnelled, out, "--set-ttl", 9)
    assert result.exit_code == 2
    assert f"{tunnelled}: byte " in result.stderr
    assert len(command.packets(out)) == 14


def test_pipes(tunnelled: Path, tmp_path: Path) -> None:
    done = command.shell(
        "rewrite", "-", "-", "--set-key", 7, "--json", input=tunnelled.read_bytes()
    )
    assert done.returncode == 0
    assert json.loads(done.stderr)["rewritten"] == 10
    out = tmp_path / "out.pcap"
    out.write_bytes(done.stdout)
    assert [overlay.decap(p).key for p, *_ in command.packets(out)[:10]] == [7] * 10


def test_link_types_and_interfaces_are_kept(tmp_path: Path) -> None:
    packets = [TUNNEL.encap(frames.UDP4), TUNNEL.encap(frames.UDP4)[14:], b"\x01\x02\x03"]
    links = [Interface(linktype=1, name="a"), Interface(linktype=101, name="b"),
             Interface(linktype=147, name="c")]  # fmt: skip
    source, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    with CaptureWriter(source, "pcapng", interfaces=links) as writer:
        writer.write(Batch.from_frames(packets), 5, [0, 1, 2])
    for rule in (["--set-key", 7], ["--to", "nvgre", "--set-key", 0x5001]):
        said = command.report("rewrite", source, out, *rule)
        assert (said["rewritten"], said["unchanged"]) == (2, 1)
        with open_capture(out) as capture:
            bursts = [(b.batch.link.tolist(), b.interface.tolist(), b.batch.to_list())
                      for b in capture]  # fmt: skip
            kept = [(i.linktype, i.name) for i in capture.interfaces]
        assert kept == [(1, "a"), (101, "b"), (147, "c")]
        assert bursts[0][:2] == ([0, 1, 2], [0, 1, 2])
        assert bursts[0][2][2] == packets[2]
        assert overlay.decap(bursts[0][2][1], link=1).frame == frames.UDP4
    result = command.run("rewrite", source, tmp_path / "out.pcap", "--set-key", 7)
    assert result.exit_code == 2
    assert "more than one link type" in result.stderr
    raw = tmp_path / "raw.pcap"
    raw.write_bytes(wire.pcap([packets[1]], linktype=101))
    command.report("rewrite", raw, tmp_path / "out.pcap", "--set-key", 7)
    with open_capture(tmp_path / "out.pcap") as capture:
        assert capture.interfaces[0].linktype == 101


def test_cut_packets_keep_their_length_on_the_wire(tmp_path: Path) -> None:
    packet = TUNNEL.encap(frames.JUMBO)
    batch = Batch.from_frames([packet[:100]])
    batch.wire[:] = len(packet)
    source, out = tmp_path / "in.pcap", tmp_path / "out.pcap"
    with CaptureWriter(source) as writer:
        writer.write(batch)
    command.report("rewrite", source, out, "--to", "nvgre")
    [(data, size, _, _)] = command.packets(out)
    assert (len(data), size) == (92, len(packet) - 8)


def test_segments_are_written_in_their_place(tmp_path: Path) -> None:
    stt = STT(context_id=5001, local="192.0.2.1", remote="192.0.2.2")
    source, out = tmp_path / "in.pcap", tmp_path / "out.pcap"
    command.write(source, [frames.UDP4, *stt.packets(frames.JUMBO, 1500), frames.UDP4])
    said = command.report("rewrite", source, out, "--to", "stt", "--mtu", 600)
    assert said["stt_frames_reassembled"] == 1
    rewritten = command.packets(out)
    assert len(rewritten) > 12
    assert rewritten[0][0] == rewritten[-1][0] == frames.UDP4
    assert {when for _, _, when, _ in rewritten[1:-1]} == {rewritten[1][2]}
    assert all(size <= 614 for _, size, _, _ in rewritten[1:-1])


# -- witnesses --------------------------------------------------------------------------


def test_tshark_finds_nothing_wrong(tool: Callable[[str], str], tmp_path: Path) -> None:
    """Every field that is set, every checksum, in place and through another protocol."""
    fields = [
        "ip.src", "ipv6.src", "ip.ttl", "ip.dsfield.dscp", "vxlan.vni", "gre.key",
        "stt.context_id", "ip.checksum.status", "udp.checksum.status", "_ws.malformed",
    ]  # fmt: skip
    source, out = tmp_path / "in.pcap", tmp_path / "out.pcap"
    command.write(source, TUNNEL.encap_many(SOME))
    asked = [
        (["--set-key", 9, "--checksums", "keep"], {"vxlan.vni": "9", "udp.checksum.status": GOOD}),
        (["--set-key", 9], {"vxlan.vni": "9", "udp.checksum.status": GOOD}),
        (["--to", "nvgre"], {"gre.key": None}),
        (["--to", "stt"], {"stt.context_id": "0x0000000000001389"}),
        (
            ["--to", "vxlan", "--set-source", "2001:db8::5", "--set-destination", "2001:db8::6"],
            {"ipv6.src": "2001:db8::5", "udp.checksum.status": GOOD},
        ),
    ]
    for options, expected in asked:
        command.report("rewrite", source, out, *options, "--set-ttl", 33, "--set-dscp", 46)
        ask = [tool("tshark"), "-n", "-r", str(out), "-T", "fields", "-E", "occurrence=f"]
        ask += [*VERIFY, *AS_STT, *(word for field in fields for word in ("-e", field))]
        done = subprocess.run(ask, capture_output=True, text=True, check=True)
        rows = [dict(zip(fields, line.split("\t"), strict=True))
                for line in done.stdout.splitlines()]  # fmt: skip
        assert len(rows) == len(SOME)
        for row in rows:
            assert row["_ws.malformed"] == ""
            if "ipv6.src" not in expected:
                assert (row["ip.src"], row["ip.ttl"], row["ip.dsfield.dscp"]) == (
                    "192.0.2.1", "33", "46",
                )  # fmt: skip
                assert row["ip.checksum.status"] == GOOD
            for name, value in expected.items():
                assert row[name] == value if value else row[name]


@pytest.mark.skipif(not FILES, reason="the captures are missing")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("to", ["vxlan", "nvgre", "stt"])
def test_real_captures_are_translated(path: Path, to: str) -> None:
    """What decap takes gives the same frame after; what it refuses is left as it is."""
    rule = Rule(to=to, set_key=0x5001, tunnel={"inner_vlan": "keep"} if to == "nvgre" else {})
    rewriter = Rewriter([rule])
    translated = 0
    with open_capture(path) as capture:
        for burst in capture:
            before = [bytes(burst.batch[row]) for row in range(len(burst))]
            links, wires = burst.batch.link.tolist(), burst.batch.wire.tolist()
            out = rewriter.rewrite(burst.batch, burst.timestamps)
            for place, row in enumerate(out.origin.tolist()):
                old, new = before[row], bytes(out[place])
                if old == new:
                    continue
                was = overlay.decap(old, LENIENT, link=links[row], wire_length=wires[row])
                now = overlay.decap(new, LENIENT, link=links[row], wire_length=int(out.wire[place]))
                assert (now.protocol, now.key) == (to, 0x5001)
                assert now.frame == (wire.untag(was.frame) if to == "nvgre" else was.frame)
                translated += 1
    rewriter.finish()
    stats = rewriter.stats
    assert stats.packets == stats.rewritten + stats.unchanged + sum(stats.refused.values())
    assert translated <= stats.rewritten

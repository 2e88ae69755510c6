"""``overlay bench`` and ``overlay mtu --cloud``: arithmetic that can be checked by hand,
figures that are there, and a comparison that tells change from noise."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

import overlay
from command import run
from overlay import PROTOCOLS
from overlay.cost import CLOUDS, SIZES, Figure, Row, Setting, compare, overhead
from overlay.cost.overhead import tunnel_for


def test_every_setting_is_measured(tmp_path: Path) -> None:
    file, plot, web = (tmp_path / name for name in ("b.json", "b.png", "b.html"))
    result = run(
        "bench", "--seconds", "0.5", "--json", file, "--plot", plot, "--html", web, "--no-peers",
        "--gso",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = json.loads(file.read_text())
    ours = [row for row in said["results"] if row["contender"] == f"overlay {overlay.backend}"]
    assert {row["protocol"] for row in ours} == set(PROTOCOLS)
    assert len([row for row in ours if row["way"] != "gso"]) == len(PROTOCOLS) * len(SIZES) * 2
    for row in ours:
        for verb in ("encap", "decap"):
            if verb in row:
                assert 0 < row[verb]["low"] <= row[verb]["ns"] <= row[verb]["high"]
                assert row[verb]["mpps"] == pytest.approx(1e3 / row[verb]["ns"])
    assert {"processor", "system", "python", "backend", "checksum"} <= set(said["machine"])
    assert plot.read_bytes().startswith(b"\x89PNG")
    page = web.read_text()
    assert "http" not in page.replace("http-equiv", "")  # it needs nothing else
    assert said["machine"]["system"] in page
    assert all(protocol in page for protocol in PROTOCOLS)


def test_peers_are_timed_where_they_are(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    result = run("bench", "--seconds", "0.5", "--protocol", "vxlan", "--json", file)
    assert result.exit_code == 0, result.output
    names = {row["contender"] for row in json.loads(file.read_text())["results"]}
    assert {"scapy", "dpkt", "overlay reference"} <= names


def test_the_arithmetic() -> None:
    """64 bytes on 10 Gbit/s: 88 bytes a frame on the wire, and 50 more in VXLAN."""
    said = overhead(tunnel_for(PROTOCOLS["vxlan"]), (64,))
    assert said.bytes == 50
    assert said.percent == pytest.approx(100 * 50 / 114)
    assert said.bare_pps == pytest.approx(10e9 / 8 / 88)
    assert said.packets_per_second == pytest.approx(10e9 / 8 / 138)
    assert said.goodput == pytest.approx(said.packets_per_second * 512)


def test_overhead_without_timing() -> None:
    result = run("bench", "--overhead", "--ip", "both", "--json")
    rows = json.loads(result.stdout)["overhead"]
    found = {(row["protocol"], row["family"]): row["overhead_bytes"] for row in rows}
    assert found["vxlan", 4] == 50
    assert found["vxlan", 6] == 70
    assert found["nvgre", 4] == 42
    assert found["stt", 6] == 92
    assert found["erspan", 4] == 50
    assert json.loads(result.stdout)["results"] == []


def _rows(ns: float, spread: float) -> list[Row]:
    setting = Setting("vxlan", 4, False, "64", "batch")
    figure = Figure(ns, ns * (1 - spread), ns * (1 + spread), 5)
    return [Row("overlay native", setting, 64, {"encap": figure})]


@pytest.mark.parametrize(
    ("before", "after", "spread", "matters"),
    [(10, 10.2, 0.001, False), (10, 12, 0.01, True), (10, 12, 0.1, False), (12, 10, 0.01, True)],
)
def test_change_and_noise(before: float, after: float, spread: float, matters: bool) -> None:
    (change,) = compare(_rows(before, spread), _rows(after, spread))
    assert change.matters == matters
    assert change.ratio == pytest.approx(after / before)


def test_two_files_are_compared(tmp_path: Path) -> None:
    files = []
    for name, ns in (("old", 10.0), ("new", 15.0)):
        file = tmp_path / f"{name}.json"
        said = {"machine": {"python": name}, "results": [r.as_dict() for r in _rows(ns, 0.01)]}
        file.write_text(json.dumps(said))
        files.append(str(file))
    result = run("bench", "--compare", *files)
    assert result.exit_code == 0, result.output
    assert "1 of 1 figures changed" in result.stdout
    assert "+50.0 %" in result.stdout
    assert "not the same python: old and new" in result.stdout
    (change,) = json.loads(run("bench", "--compare", *files, "--json").stdout)["changes"]
    assert change["ratio"] == pytest.approx(1.5)
    assert change["matters"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"machine": {}, "results": [{}]}', "\0"])
def test_what_are_no_results(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    result = run("bench", "--compare", file, file)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "bad.json" in result.stderr


@pytest.mark.skipif(
    "CI" not in os.environ and not os.access("/proc/self/ns/net", os.R_OK), reason="no namespaces"
)
def test_the_kernel_is_a_contender() -> None:
    result = run(
        "bench", "--seconds", "2", "--protocol", "vxlan", "--no-peers", "--kernel", "--json"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (row,) = [r for r in json.loads(result.stdout)["results"] if r["contender"] == "kernel"]
    assert row["way"] == "path"
    assert row["path"]["mpps"] > 0


@pytest.mark.parametrize("cloud", list(CLOUDS))
def test_mtu_of_a_cloud(cloud: str) -> None:
    place = CLOUDS[cloud]
    assert place.source.startswith("https://")
    assert place.outside <= place.mtu <= place.most
    said = json.loads(run("mtu", "vxlan", "--cloud", cloud, "--json").stdout)
    assert said["underlay_mtu"] == place.mtu
    assert said["inner_mtu"] == place.mtu - 50
    assert said["cloud"]["inner_mtu_at_most"] == place.most - 50
    assert said["cloud"]["inner_mtu_outside"] == place.outside - 50
    shown = run("mtu", "vxlan", "--cloud", cloud).stdout
    assert place.source in shown
    assert dataclasses.asdict(place)["name"] in shown

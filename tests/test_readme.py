"""What README.md and the guides show is run as it stands there.

The Python blocks of a page run in order in one namespace; every console line
that begins with `$ overlay` runs as a process.  Both start in a folder that
holds `frames.pcap`, `packets.pcap` and, with mistakes, `overlay.toml`.  `ctl`
and `top` ask a VTEP that runs for them; `listen` has a host of its
own, for a moment, and what its output is piped to is left out.
"""

from __future__ import annotations

import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

import overlay
from overlay.lab.host import Host
from pages import blocks
from service import BLUE, GREEN, Service, make_host

ROOT = Path(__file__).parent.parent
MISTAKES = """\
[vtep]
local = "192.0.2.1"
tunnel = "vxlan"
workers = 2



[[network]]
id = 5001
name = "blue"
tunnel = "stt"
ageing = "soon"
[[network.port]]
tap = "tap0"
vln = 100
"""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.rst"))]
PAGES = [page for page in PAGES if page.parent.name != "cookbook"]  # test_cookbook runs these


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for line, text, _ in blocks(page, "console"):
            for number, shown in enumerate(text.splitlines()):
                if shown.startswith("$ overlay ") and "--check" not in shown:
                    yield f"{page.name}:{line + number}", shown.removeprefix("$ overlay ")


def write_pcap(path: Path, packets: list[bytes]) -> None:
    """A classic pcap file of Ethernet packets, a millisecond apart."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, packet in enumerate(packets):
            file.write(struct.pack("<IIII", 0, number * 1000, len(packet), len(packet)))
            file.write(packet)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ends = {"local": "192.0.2.1", "remote": "192.0.2.2"}
    tunnels: list[overlay.Tunnel] = [
        overlay.VXLAN(vni=5001, **ends),
        overlay.NVGRE(vsid=0x5001, **ends),
        overlay.STT(context_id=5001, **ends),
    ]
    frames = [bytes(12) + b"\x08\x06" + bytes(46 + n) for n in range(10)]
    write_pcap(tmp_path / "frames.pcap", frames)
    write_pcap(tmp_path / "packets.pcap", [t.encap(frame) for t in tunnels for frame in frames])
    (tmp_path / "overlay.toml").write_text(MISTAKES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(overlay.__file__).parent.parent))
    return tmp_path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    host = make_host("readme")
    with Service(tmp_path_factory.mktemp("service"), host, BLUE + GREEN) as service:
        yield service.start()
    host.close()


@pytest.fixture(scope="module")
def apart() -> Iterator[Host]:
    host = make_host("apart")
    yield host
    host.close()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name
)
def test_python_blocks_run(page: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, text, _ in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + text, str(page), "exec"), namespace)


@pytest.mark.parametrize(("where", "command"), list(commands()))
def test_console_commands_run(
    folder: Path, where: str, command: str, request: pytest.FixtureRequest
) -> None:
    words = shlex.split(command, comments=True)
    if words[0] in ("ctl", "top"):
        words[1:1] = ["--socket", str(request.getfixturevalue("running").socket)]
    elsewhere: AbstractContextManager[object] = nullcontext()
    if words[0] == "listen":
        words = [*words[: (*words, "|").index("|")], "--seconds", "0.2"]
        elsewhere = request.getfixturevalue("apart").entered()
    with elsewhere:
        result = subprocess.run(
            [sys.executable, "-m", "overlay", *words], errors="replace",
            cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert result.returncode == 0, f"{where}: {result.stderr}"


def test_mistakes_in_a_configuration_are_shown_as_they_are(folder: Path) -> None:
    [shown] = [
        text
        for _, text, _ in blocks(ROOT / "docs/configuration.rst", "console")
        if text.startswith("$ overlay run overlay.toml --check\n")
    ]
    result = subprocess.run(
        [sys.executable, "-m", "overlay", "run", "overlay.toml", "--check"],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.splitlines() == shown.strip().splitlines()[1:]


def test_relative_links_lead_somewhere() -> None:
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

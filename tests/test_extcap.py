"""overlay extcap: what Wireshark asks it, and what tshark then shows."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import command
import frames
from lab import need_hosts
from mirror import KEY, ROOT, SOME, a_host, bound, datagram, send, tunnel, two_hosts
from overlay.cli.extcap import personal_folder
from overlay.lab.host import Host
from veth import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="live devices are Linux's")

BOTH = ["overlay", "overlay_interface"]
PATIENCE = 60.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose Wireshark knows of nothing yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "WIRESHARK_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture
def host() -> Iterator[Host]:
    need_hosts()
    with a_host() as made:
        yield made


def said(*args: str) -> list[str]:
    result = command.run("extcap", *args)
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


# -- the protocol ---------------------------------------------------------------------


def test_interfaces() -> None:
    first, *rest = said("--extcap-interfaces", "--extcap-version=4.2")
    assert re.fullmatch(r"extcap \{version=[\d.]+\}\{display=overlay\}", first)
    assert [re.findall(r"\{value=(\w+)\}", line) for line in rest] == [[name] for name in BOTH]
    assert said("--extcap-version") == [first, *rest]


@pytest.mark.parametrize("name", BOTH)
def test_one_link_type(name: str) -> None:
    assert said("--extcap-dlts", "--extcap-interface", name) == [
        "dlt {number=1}{name=EN10MB}{display=Ethernet}"
    ]


@pytest.mark.parametrize("name", BOTH)
def test_every_option_of_the_dialog_is_one_of_the_command(name: str) -> None:
    """And its sentences have the form that Wireshark reads."""
    lines = said("--extcap-config", "--extcap-interface", name)
    numbers = []
    for line in lines:
        kind, fields = line.split(" ", 1)
        found = re.findall(r"\{(\w+=.+?)\}(?=\{|$)", fields)
        assert "".join(f"{{{field}}}" for field in found) == fields
        if kind == "arg":
            numbers.append(int(re.findall(r"\{number=(\d+)\}", fields)[0]))
            call = re.findall(r"\{call=--(\w+)\}", fields)[0]
            assert call in [param.name for param in _command().params]
        else:
            assert kind == "value"
            assert f"{{arg={numbers[-1]}}}" in fields
    assert numbers == list(range(len(numbers)))


def _command() -> Any:
    from overlay.cli.extcap import command as found

    return found


@pytest.mark.parametrize("name", BOTH)
def test_no_capture_filter_is_one(name: str) -> None:
    """Wireshark takes what is printed for what is wrong with a filter."""
    assert said("--extcap-interface", name, "--extcap-capture-filter", "tcp port 80")
    assert said("--extcap-interface", name, "--extcap-capture-filter", "") == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "nothing to do"),
        (["--no-such"], "No such option"),
        (["--extcap-dlts", "--extcap-interface", "eth0"], "no interface eth0"),
        (["--capture", "--extcap-interface", "overlay"], "--fifo"),
        (["--capture", "--extcap-interface", "overlay", "--fifo", "x",
          "--extcap-capture-filter", "tcp"], "no capture filters"),
        (["--capture", "--extcap-interface", "overlay", "--fifo", "x", "--protocol", "stt"],
         "--protocol stt"),
        (["--capture", "--extcap-interface", "overlay", "--fifo", "x", "--keys", "5,x"],
         "neither a number nor a range"),
        (["--capture", "--extcap-interface", "overlay", "--fifo", "x", "--address", "here"],
         "address"),
        (["--capture", "--extcap-interface", "overlay", "--fifo", "x", "--profile", "kind"],
         "profile"),
        (["--capture", "--extcap-interface", "overlay_interface", "--fifo", "x",
          "--device", "nothing0"], "an interface that is here"),
        (["--capture", "--extcap-interface", "overlay_interface", "--fifo", "x",
          "--device", "lo", "--port", "5"], "protocol over UDP"),
    ],
)  # fmt: skip
def test_wrong_usage(args: list[str], says: str, tmp_path: Path) -> None:
    result = command.run("extcap", *[str(tmp_path / "x") if word == "x" else word for word in args])
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_a_later_wireshark_may_add_does_no_harm() -> None:
    assert said("--extcap-interfaces", "--extcap-of-tomorrow=1")


# -- installing -----------------------------------------------------------------------


def test_install_and_uninstall(tmp_path: Path) -> None:
    folder = tmp_path / "an extcap"
    assert str(folder / "overlay") in said("--install", "--dir", str(folder))[0]
    said("--install", "--dir", str(folder))  # anew, after an upgrade
    assert [file.name for file in folder.iterdir()] == ["overlay"]
    ask = [folder / "overlay", "--extcap-interfaces"]
    cwd = tmp_path / "cwd"
    (cwd / "overlay").mkdir(parents=True)  # a folder of our name where Wireshark was started
    done = subprocess.run(ask, capture_output=True, text=True, cwd=cwd, check=True)
    assert done.stdout.splitlines() == said("--extcap-interfaces")
    said("--uninstall", "--dir", str(folder))
    assert not list(folder.iterdir())
    assert command.run("extcap", "--uninstall", "--dir", folder).exit_code == 2


def test_what_another_made_stays(tmp_path: Path) -> None:
    other = tmp_path / "overlay"
    other.write_text("#!/bin/sh\n")
    for what in ("--install", "--uninstall"):
        result = command.run("extcap", what, "--dir", tmp_path)
        assert result.exit_code == 2
        assert "not made by overlay" in result.stderr
    assert other.read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize(
    ("version", "folders", "where"),
    [
        ("4.0.17", "Personal configuration:\t{home}/.config/wireshark\n",
         ".config/wireshark/extcap"),
        ("4.4.1", "Personal configuration:\t{home}/.config/wireshark\n",
         ".local/lib/wireshark/extcap"),
        ("4.6.0", "Personal Extcap path:\t{home}/elsewhere\n", "elsewhere"),
    ],
)  # fmt: skip
def test_the_folder_of_each_wireshark(
    home: Path, monkeypatch: pytest.MonkeyPatch, version: str, folders: str, where: str
) -> None:
    """Programs that say what these versions say, for only one can be installed."""
    tools = home / "bin"
    tools.mkdir()
    text = folders.format(home=home)
    (tools / "tshark").write_text(
        '#!/bin/sh\n[ "$1" = --version ] && '
        f'echo "TShark (Wireshark) {version}." || echo "{text}"\n'
    )
    (tools / "tshark").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    assert personal_folder() == home / where


# -- with tshark ----------------------------------------------------------------------


def tshark(tool: Callable[[str], str], host: Host, *args: str) -> subprocess.Popen[str]:
    fields = ["-T", "fields", "-e", "frame.len", "-e", "ip.src", "-e", "frame.interface_name"]
    with host.entered():
        return subprocess.Popen(
            [tool("tshark"), *args, *fields], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


def shown(process: subprocess.Popen[str]) -> list[list[str]]:
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    return [line.split("\t") for line in out.splitlines()]


def test_tshark_lists_it_and_captures(tool: Callable[[str], str], host: Host, home: Path) -> None:
    said("--install")
    listed = subprocess.run([tool("tshark"), "-D"], capture_output=True, text=True, check=True)
    assert [name for name in BOTH if f" {name} (" in listed.stdout] == BOTH
    some = [frames.udp_frame(bytes(100 + n)) for n in range(5)]
    process = tshark(tool, host, "-i", "overlay", "-c", "5")
    try:
        assert until(lambda: bound(host, 4789) == {4, 6}, PATIENCE)
        send(host, [datagram(tunnel("vxlan").encap(frame)) for frame in some], 4789)
        rows = shown(process)
    finally:
        process.kill()
    assert [int(row[0]) for row in rows] == [len(frame) for frame in some]
    assert {row[2] for row in rows} == {"overlay"}
    assert until(lambda: not bound(host, 4789), PATIENCE)  # it ended with tshark


def test_tshark_at_an_interface(tool: Callable[[str], str], home: Path) -> None:
    """Whatever the tunnel; the options come from preferences as the dialog would set them."""
    need_hosts()
    said("--install")
    with two_hosts() as (sender, receiver):
        process = tshark(tool, receiver, "-i", "overlay_interface", "-c", "2",
                         "-o", "extcap.overlay_interface.device:v0",
                         "-o", f"extcap.overlay_interface.keys:{KEY}, 7")  # fmt: skip
        try:
            assert until(lambda: _listens(receiver), PATIENCE)
            put(sender, [
                tunnel("vxlan", 8).encap(SOME[0]),
                tunnel("nvgre").encap(SOME[0]),
                tunnel("vxlan", 7).encap(SOME[2]),
            ])  # fmt: skip
            rows = shown(process)
        finally:
            process.kill()
    assert [int(row[0]) for row in rows] == [len(SOME[0]), len(SOME[2])]


def _listens(host: Host) -> bool:
    """Whether a packet socket takes every frame of an interface."""
    with host.entered():
        return "0003" in Path("/proc/thread-self/net/packet").read_text()


def put(host: Host, packets: list[bytes]) -> None:
    with host.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with raw:
        raw.bind(("v0", 0))
        for packet in packets:
            raw.send(packet)

"""The command line: its streams, and how it ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import ENDS, VXLAN, packets, run, shell, write

# -- streams and ends ------------------------------------------------------------


def test_pipes(capture: Path, tmp_path: Path) -> None:
    there = shell("encap", "-", "-", *VXLAN, input=capture.read_bytes())
    assert there.returncode == 0
    assert b"packets written" in there.stderr
    back = shell("decap", "-", tmp_path / "back.pcap", input=there.stdout)
    assert back.returncode == 0
    assert b"frames written" in back.stdout
    assert back.stderr == b""  # no progress bar in a pipe
    assert packets(tmp_path / "back.pcap") == packets(capture)


def test_a_cut_capture_is_finished_and_reported(capture: Path, tmp_path: Path) -> None:
    count = len(packets(capture))
    data = capture.read_bytes()[:-3]
    capture.write_bytes(data)
    out = tmp_path / "out.pcap"
    result = shell("encap", capture, out, *VXLAN)
    assert result.returncode == 2
    assert len(packets(out)) == count - 1
    [line] = result.stderr.decode().splitlines()
    assert str(capture) in line
    assert "cut short" in line
    result = shell("show", out, "--json")
    assert len(result.stdout.splitlines()) == count - 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["encap", "IN", "OUT"], "--tunnel"),
        (["encap", "IN", "OUT", "--tunnel", "vxlan", "--id", "16777216", *ENDS], "--id 16777216"),
        (["encap", "IN", "OUT", "--tunnel", "vxlan", "--id", "x", *ENDS], "'x' is not a number"),
        (["encap", "IN", "OUT", *VXLAN, "--local", "::1"], "--remote 192.0.2.2"),
        (["encap", "IN", "OUT", *VXLAN, "--ttl", "256"], "--ttl 256"),
        (["encap", "IN", "OUT", *VXLAN, "--flow-id", "1"], "--flow-id is no option of vxlan"),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "9-8"], "--source-port"),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "a"], "--source-port"),
        (["encap", "IN", "OUT", *VXLAN, "--mtu", "36"], "--mtu 36"),
        (["encap", "NONE", "OUT", *VXLAN], "No such file"),
        (["encap", "IN", "/there/is/none/x", *VXLAN], "No such file"),
        (["decap", "IN", "OUT", "--id", "-1"], "--id -1"),
        (["decap", "TEXT", "OUT"], "neither pcap nor pcapng"),
        (["decap", "EMPTY", "OUT"], "empty"),
        (["decap", "DIRECTORY", "OUT"], "directory"),
        (["decap", "IN", "DIRECTORY"], "directory"),
        (["show", "TEXT"], "neither pcap nor pcapng"),
        (["check", "TEXT"], "neither pcap nor pcapng"),
        (["encap", "IN", "", *VXLAN], "OUT has no name"),
        (["show", ""], "IN has no name"),
        (["encap", "IN", "/there/is/none/x", *VXLAN], "overlay: /there/is/none/x: "),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "1" * 5000], "--source-port"),
        (["encap", "IN", "OUT", *VXLAN, "--source-port", "\u0661"], "--source-port"),
        (["decap", "IN", "OUT", "--port", "0x" + "f" * 5000], "--port"),
        (["mtu", "vxlan", "--underlay", "10"], "--underlay 10: expected an integer in 50..65535"),
        (["mtu", "nothing"], "'PROTOCOL': 'nothing'"),
        (["there-is-no-such-command"], "there-is-no-such-command"),
    ],
)
def test_mistakes_are_one_line(args: list[str], said: str, capture: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no capture, is it?")
    (tmp_path / "empty").touch()
    out = tmp_path / "out.pcap"
    places = {
        "IN": capture, "OUT": out, "NONE": tmp_path / "none", "TEXT": tmp_path / "text",
        "EMPTY": tmp_path / "empty", "DIRECTORY": tmp_path,
    }  # fmt: skip
    result = run(*[places.get(arg, arg) for arg in args])
    if args[0] == "check" and "native backend" in result.stderr:
        pytest.skip("the native backend is missing")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("overlay: ")
    assert said in line
    assert result.stdout == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGINT, 130, b"overlay: interrupted\n"),
        (signal.SIGTERM, 143, b""),
        (signal.SIGHUP, 129, b""),
    ],
)
def test_nothing_stays_after_an_interrupt(
    number: int, status: int, words: bytes, capture: Path, tmp_path: Path
) -> None:
    """A run that is stopped in the middle leaves the target as it was."""
    out = tmp_path / "here" / "out.pcap"
    out.parent.mkdir()
    command = [sys.executable, "-m", "overlay", "encap", "-", str(out), *VXLAN]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever started the tests may have had SIGHUP ignored, as nohup does.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stdin is not None
    process.stdin.write(capture.read_bytes())
    process.stdin.flush()
    while not list(out.parent.iterdir()):  # until it has begun
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said == words
    assert list(out.parent.iterdir()) == []


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    source = write(tmp_path / "in.pcap", [bytes(60)] * 20000)
    process = subprocess.Popen(
        [sys.executable, "-m", "overlay", "show", str(source)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


BENCH = ["bench", "--seconds", "0.5", "--protocol", "vxlan", "--no-peers"]


@pytest.mark.parametrize(
    "args",
    [
        ["--help"], ["--version"], [], ["mtu", "--help"], ["mtu", "vxlan"], ["completion", "bash"],
        ["demo"], BENCH, [*BENCH, "--json"],
        ["encap", "IN", "-", *VXLAN], ["show", "IN"], ["decap", "IN", "OUT"], ["check", "IN"],
    ],
)  # fmt: skip
def test_where_nobody_reads(args: list[str], capture: Path, tmp_path: Path) -> None:
    """A closed pipe ends every command alike: never as if packets had been refused."""
    places = {"IN": capture, "OUT": tmp_path / "out.pcap"}
    read, written = os.pipe()
    os.close(read)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "overlay", *[str(places.get(arg, arg)) for arg in args]],
            stdout=written, stderr=subprocess.PIPE, check=False, timeout=60,
        )  # fmt: skip
    finally:
        os.close(written)
    if args[:1] == ["check"] and b"native backend" in process.stderr:
        pytest.skip("the native backend is missing")
    assert (process.returncode, process.stderr) == (141, b"")


def bash(line: str, *args: object) -> subprocess.CompletedProcess[bytes]:
    """The command with redirections: ``line`` follows it."""
    command = ["bash", "-c", f'exec "$@" {line}', "bash", sys.executable, "-m", "overlay"]
    return subprocess.run([*command, *map(str, args)], capture_output=True, check=False, timeout=60)


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


@pytest.mark.parametrize("args", [["mtu", "vxlan"], ["demo"], ["--help"], ["encap", "-", "-"]])
def test_a_closed_standard_output(args: list[str]) -> None:
    result = bash(">&-", *args)
    assert result.returncode == 2
    assert result.stderr == b"overlay: standard output is closed\n"


def test_a_closed_standard_input() -> None:
    result = bash("<&-", "show", "-")
    assert result.returncode == 2
    assert result.stderr == b"overlay: standard input is closed\n"


@needs_full
@pytest.mark.parametrize("line", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("args", [["mtu", "nosuch"], ["show", "/there/is/none"]])
def test_an_error_that_cannot_be_said(line: str, args: list[str]) -> None:
    assert bash(line, *args).returncode == 2


@needs_full
def test_a_full_disk_is_named(capture: Path, tmp_path: Path) -> None:
    result = shell("encap", capture, "/dev/full", *VXLAN)
    assert result.returncode == 2
    assert result.stderr == b"overlay: /dev/full: No space left on device\n"
    for args in (["mtu", "vxlan"], ["show", capture], ["encap", capture, "-", *VXLAN]):
        result = bash(">/dev/full", *args)
        assert result.returncode == 2
        assert result.stderr == b"overlay: <stdout>: No space left on device\n"
    out = tmp_path / "there" / "out.pcap"
    out.parent.mkdir()
    source = write(tmp_path / "large.pcap", [bytes(1000)] * 1000)
    command = [sys.executable, "-m", "overlay", "encap", str(source), str(out), *VXLAN]
    result = subprocess.run(
        ["bash", "-c", 'ulimit -f 1 && exec "$@"', "bash", *command],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.decode() == f"overlay: {out}: File too large\n"
    assert list(out.parent.iterdir()) == []


def test_output_may_replace_its_input_and_keeps_its_mode(capture: Path) -> None:
    before = packets(capture)
    os.chmod(capture, 0o640)
    assert run("encap", capture, capture, *VXLAN).exit_code == 0
    assert run("decap", capture, capture).exit_code == 0
    assert packets(capture) == before
    assert stat.S_IMODE(capture.stat().st_mode) == 0o640

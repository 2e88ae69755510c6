"""``overlay run``, its control socket, ``ctl`` and ``top``: processes in hosts of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command import run
from conftest import missing
from overlay.lab.host import Host
from overlay.service.control import CLIENTS, REQUEST
from overlay.service.rate import rates
from service import BLUE, GREEN, PATIENCE, Service, capabilities, make_host, until

NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


@pytest.fixture
def host() -> Iterator[Host]:
    made = make_host("a")
    yield made
    made.close()


@pytest.fixture
def service(tmp_path: Path, host: Host) -> Iterator[Service]:
    """A service that is not started yet."""
    with Service(tmp_path, host, BLUE + GREEN) as found:
        yield found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that several tests look at; each leaves it as it was."""
    host = make_host("shared")
    with Service(tmp_path_factory.mktemp("service"), host, BLUE + GREEN) as found:
        yield found.start("--log-level", "debug")
        assert found.stop() == 0
    host.close()


def numbers(host: Host) -> dict[str, int]:
    """The interfaces of a host by name; one that was made again has another number."""
    links = json.loads(host.ip("-json", "link"))
    return {link["ifname"]: link["ifindex"] for link in links}


def opened(host: Host, interface: str) -> socket.socket:
    """Sends into and receives from a port, as what is behind it does."""
    with host.entered():
        found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        found.bind((interface, 0))
    found.settimeout(PATIENCE)
    return found


def frame(number: int, src: int, dst: bytes = b"\xff" * 6) -> bytes:
    """A frame of a local experimental EtherType, which nobody answers."""
    return dst + bytes([2, 0, 0, 0, 1, src]) + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(46)


def received(sock: socket.socket, count: int) -> list[int]:
    """The numbers of the next ``count`` test frames that come out of a port."""
    found = []
    while len(found) < count:
        data, address = sock.recvfrom(65536)
        if data[12:14] == b"\x88\xb5" and address[2] != socket.PACKET_OUTGOING:
            found.append(int.from_bytes(data[14:18], "big"))
    return found


# -- a life ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_life(service: Service, host: Host, number: int) -> None:
    service.launch()
    ready = service.notice("READY=1")
    assert "STATUS=2 networks, 4 ports, 3 remotes" in ready
    assert {"tap0", "tap1", "tap2"} <= set(numbers(host))
    mode = os.lstat(service.socket)
    assert stat.S_ISSOCK(mode.st_mode)
    assert stat.S_IMODE(mode.st_mode) == 0o660
    assert service.stop(number) == 0
    service.notice("STOPPING=1")
    assert not service.socket.exists()
    assert not {"tap0", "tap1", "tap2"} & set(numbers(host))
    words = re.findall(r'level=(\w+) message=("[^"]*"|\S+)', service.log)
    assert words == [
        ("info", "running"),
        ("info", '"asked to stop"'),
        ("info", "draining"),
        ("info", "stopped"),
    ]


def test_killed_and_started_again(service: Service, host: Host) -> None:
    service.start()
    service.stop(signal.SIGKILL)
    assert service.socket.exists()  # stale
    service.start()
    assert [network["id"] for network in service.ctl("list")] == [5001, 5002]
    # A second one finds the first, and leaves it alone.
    with service.log_file.open("w"):
        pass
    second = host.run([sys.executable, "-m", "overlay", "run", str(service.path)], check=False)
    assert second.returncode == 2
    assert second.stderr == f"overlay: {service.socket}: another VTEP answers there\n"
    assert len(service.ctl("list")) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('local = "u0"', 'local = "u7"', "u7"),
        ('tap = "tap1"', 'interface = "u7"', "u7"),
        ("127.0.0.1:9472", "198.51.100.1:9472", "metrics 198.51.100.1:9472: "),
        ('metrics = "127.0.0.1:9472"', 'user = "no-such-user"', "user='no-such-user'"),
        ('"SOCKET"', '"/proc/nowhere/ctl.sock"', "/proc/nowhere"),
    ],
)
def test_what_cannot_be_set_up_is_one_line(
    service: Service, host: Host, old: str, new: str, said: str
) -> None:
    service.configure((BLUE + GREEN).replace(old, new))
    process = service.launch()
    assert process.wait(PATIENCE) == 2
    (line,) = service.log.splitlines()
    assert line.startswith("overlay: ")
    assert said in line
    assert not service.socket.exists()
    assert set(numbers(host)) == {"lo", "u0", "u1"}


# -- what it tells -----------------------------------------------------------------------


def test_notices_of_an_abstract_socket_and_the_watchdog(service: Service) -> None:
    service._env["WATCHDOG_USEC"] = "200000"
    service.listen(f"@overlay-test-{os.getpid()}")
    service.start()
    service.notice("WATCHDOG=1")
    service.notice("WATCHDOG=1")
    service.process.send_signal(signal.SIGHUP)
    lines = service.notice("RELOADING=1")
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", lines[1])
    service.notice("READY=1")
    service.stop()
    service.notice("STOPPING=1")


def test_log_as_json(service: Service) -> None:
    service.start("--log-format", "json", "--log-level", "debug")
    service.stop()
    rows = [json.loads(line) for line in service.log.splitlines()]
    (first,) = [row for row in rows if row["message"] == "running"]
    assert first["level"] == "info"
    assert first["networks"] == 2
    assert first["local"] == "192.0.2.1"
    assert all({"time", "level", "message"} <= set(row) for row in rows)


def test_log_in_the_journal(service: Service) -> None:
    service.log_file.touch()
    status = service.log_file.stat()
    service._env["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    service.start()
    service.stop()
    assert all(line.startswith("<6>level=info message=") for line in service.log.splitlines())


def test_metrics(running: Service) -> None:
    with running.host.entered(), urllib.request.urlopen("http://127.0.0.1:9472/metrics") as got:
        text = got.read().decode()
    for line in (
        "overlay_networks 2.0",
        'overlay_frames_total{direction="in",network="5001",port="tap0",tunnel="vxlan"}',
        'overlay_remote_bytes_total{direction="out",network="5002",protocol="vxlan",'
        'remote="192.0.2.2",tunnel="vxlan"}',
        'overlay_fdb_entries{network="5001",tunnel="vxlan"}',
        'overlay_build_info{backend="native",version="',
        "overlay_reassembly_",
        "overlay_fragments_",
    ):
        assert f"\n{line}" in text, line
    names = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    for name, kind in names:
        assert kind in ("counter", "gauge")
        assert name.endswith("_total") == (kind == "counter"), name


# -- ctl and top ---------------------------------------------------------------------------


def test_list(running: Service) -> None:
    blue, green = running.ctl("list")
    assert (blue["id"], blue["name"], blue["tunnel"], blue["mtu"]) == (5001, "blue", "vxlan", 1450)
    assert [(port["name"], port["vlan"]) for port in green["ports"]] == [
        ("tap2", None),
        ("tap0.7", 7),
    ]
    assert [(r["address"], r["relay"]) for r in blue["remotes"]] == [
        ("192.0.2.2", False),
        ("192.0.2.3", True),
    ]
    assert running.ctl("list", "green") == [green]
    assert running.ctl("list", "vxlan:5002") == [green]
    shown = run("ctl", "--socket", running.socket, "list").stdout
    assert "vxlan 5001 blue" in shown
    assert "port tap0.7" in shown
    assert "relay" in shown


def test_fdb_and_neighbors(running: Service) -> None:
    def macs() -> dict[str, Any]:
        return {row["mac"]: row for row in running.ctl("fdb", "blue")}

    assert macs()["02:00:00:00:00:01"]["remote"] == "192.0.2.2"
    running.ctl("add", "fdb", "blue", "02:00:00:00:00:05", "--port", "tap1")
    assert macs()["02:00:00:00:00:05"]["port"] == "tap1"
    assert macs()["02:00:00:00:00:05"]["static"] is True
    running.ctl("remove", "fdb", "blue", "02:00:00:00:00:05")
    assert "02:00:00:00:00:05" not in macs()
    assert "02:00:00:00:00:05" in running.ctl(
        "remove", "fdb", "blue", "02:00:00:00:00:05", status=2
    )
    running.ctl("add", "neighbor", 5001, "10.0.0.9", "02:00:00:00:00:05")
    found = {row["ip"]: row["mac"] for row in running.ctl("neighbors", 5001)}
    assert found == {"10.0.0.1": "02:00:00:00:00:01", "10.0.0.9": "02:00:00:00:00:05"}
    running.ctl("remove", "neighbor", 5001, "10.0.0.9")
    assert len(running.ctl("neighbors", 5001)) == 1
    for words in (["fdb", "blue"], ["neighbors", "blue"], ["stats"], ["stats", "blue"]):
        result = run("ctl", "--socket", running.socket, *words)
        assert result.exit_code == 0
        assert result.stdout


def test_networks_ports_and_remotes_come_and_go(running: Service) -> None:
    before = running.ctl("list")
    running.ctl("add", "network", "0x1388", "--name", "red", "--remote", "192.0.2.2")
    running.ctl("add", "port", "red", "--tap", "tap7")
    running.ctl("add", "port", "red", "--tap", "tap0", "--vlan", 9)
    running.ctl("add", "remote", "red", "192.0.2.9", "--no-flood")
    (red,) = running.ctl("list", 5000)
    assert [port["name"] for port in red["ports"]] == ["tap7", "tap0.9"]
    assert [(r["address"], r["flood"]) for r in red["remotes"]] == [
        ("192.0.2.2", True),
        ("192.0.2.9", False),
    ]
    assert "tap7" in numbers(running.host)
    running.ctl("remove", "port", "red", "tap7")
    assert "tap7" not in numbers(running.host)
    running.ctl("remove", "remote", "red", "192.0.2.9")
    running.ctl("remove", "network", "red")
    assert running.ctl("list") == before
    assert "tap0" in numbers(running.host)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "mauve"], "network='mauve': expected the id or the name of a network"),
        (["add", "network", 5001], "network=5001: expected no network that is here"),
        (["add", "network", 1 << 24], "id: got 16777216, expected for vxlan, an integer in"),
        (["add", "network", 5, "--mtu", 5], "mtu: got 5, expected an integer in 68..65535"),
        (["add", "port", "blue"], "needs one of tap and interface"),
        (["add", "port", "blue", "--tap", "tap0"], "port='tap0'"),
        (["add", "port", "blue", "--interface", "u7"], "u7"),
        (["add", "remote", "blue", "192.0.2.2"], "remote='192.0.2.2'"),
        (["add", "remote", "blue", "2001:db8::1"], "2001:db8::1"),
        (["add", "fdb", "blue", "02:00:00:00:00:07"], "needs one of remote and port"),
        (["add", "fdb", "blue", "02:00:00:00:00:07", "--port", "x"], "port='x'"),
        (["add", "fdb", "blue", "x", "--port", "tap0"], "mac: got"),
        (["remove", "port", "blue", "x"], "port='x'"),
        (["remove", "remote", "blue", "192.0.2.77"], "address='192.0.2.77'"),
        (["flush", "blue", "--remote", "192.0.2.77"], "remote='192.0.2.77'"),
    ],
)
def test_a_refusal_is_one_line(running: Service, words: list[object], said: str) -> None:
    before = running.ctl("list")
    (line,) = running.ctl(*words, status=2).splitlines()
    assert line.startswith("overlay: ")
    assert said in line
    assert running.ctl("list") == before


def test_traffic_is_seen(running: Service) -> None:
    """Frames through two ports: learned, counted, told, shown, flushed."""
    with running.client() as client, opened(running.host, "tap0") as one, opened(
        running.host, "tap1"
    ) as two:  # fmt: skip
        events = client.events()
        with running.client() as asking:
            before = asking.ask("stats")
            for number in range(10):
                one.send(frame(number, src=1))
            assert received(two, 10) == list(range(10))
            two.send(frame(99, src=2, dst=bytes([2, 0, 0, 0, 1, 1])))
            assert received(one, 1) == [99]
            after = asking.ask("stats")
        learned = set()
        while not {"02:00:00:00:01:01", "02:00:00:00:01:02"} <= learned:
            event = next(events)
            if event["kind"] == "learned":
                learned.add(event["mac"])
                assert event["network"] == 5001
    entries = {row["mac"]: row for row in running.ctl("fdb", "blue")}
    assert entries["02:00:00:00:01:01"]["port"] == "tap0"
    assert entries["02:00:00:00:01:02"]["port"] == "tap1"
    assert entries["02:00:00:00:01:02"]["static"] is False
    rate = rates(before, after)["networks"][0]
    seconds = rates(before, after)["seconds"]
    assert round(rate["port"][0]["in_pps"] * seconds) >= 10
    assert round(rate["port"][1]["out_pps"] * seconds) >= 10
    shown = run("ctl", "--socket", running.socket, "fdb", "blue").stdout
    assert "port tap1" in shown
    assert running.ctl("flush", "blue", "--port", "tap1")["removed"] >= 1
    left = {row["mac"] for row in running.ctl("fdb", "blue")}
    assert "02:00:00:00:01:02" not in left
    assert {"02:00:00:00:01:01", "02:00:00:00:00:01"} <= left


def test_events_as_lines(running: Service) -> None:
    command = [sys.executable, "-m", "overlay", "ctl", "--socket", str(running.socket)]
    with subprocess.Popen(
        [*command, "events", "--count", "1"], stdout=subprocess.PIPE, text=True
    ) as watcher, opened(running.host, "tap2") as port:  # fmt: skip
        for number in range(1, 200):
            port.send(frame(0, src=number))
            try:
                out, _ = watcher.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                continue
    assert re.fullmatch(r"\d\d:\d\d:\d\d learned .*network=\d+ .*\n", out), out


def test_top(running: Service) -> None:
    result = run("top", "--socket", running.socket, "--once", "--interval", "0.1")
    assert result.exit_code == 0
    for words in ("in bit/s", "vxlan 5001 blue", "port tap0.7", "remote 192.0.2.3"):
        assert words in result.stdout
    result = run("top", "--socket", running.socket, "--once", "--interval", "0.1", "--json")
    found = json.loads(result.stdout)
    assert {network["id"] for network in found["networks"]} == {5001, 5002}
    assert found["seconds"] >= 0.1


@pytest.mark.parametrize("words", [["ctl", "list"], ["top", "--once"]])
def test_nobody_answers(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "none.sock"
    result = run(words[0], "--socket", path, *words[1:])
    assert result.exit_code == 2
    assert result.stderr == f"overlay: {path}: no VTEP answers there: is 'overlay run' running?\n"


# -- the protocol ---------------------------------------------------------------------------


def answers(service: Service, sent: bytes, count: int) -> list[dict[str, Any]]:
    """What comes back for raw bytes, ``count`` lines of it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(service.socket))
        client.sendall(sent)
        with client.makefile("rb") as file:
            return [json.loads(file.readline()) for _ in range(count)]


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        (b"hello\n", "request", "expected JSON"),
        (b"\xff\xfe\n", "request", "expected JSON"),
        (b"[1]\n", "request", "expected a JSON object"),
        (b"[" * 60_000 + b"\n", "request", "expected"),
        (b"{}\n", "command", "expected one of list, stats"),
        (b'{"command": []}\n', "command", "expected one of"),
        (b'{"command": "list", "request": {}}\n', "request", "expected a number or a string"),
        (b'{"command": "list", "netwrk": 1}\n', "netwrk", "no such field; list has network"),
        (b'{"command": "fdb.list"}\n', "network", "it is missing"),
        (b'{"command": "fdb.list", "network": []}\n', "network", "the id or the name"),
        (b'{"command": "network.add", "id": 9, "port": [3]}\n', "port[0]", "expected a table"),
        (b'{"command": "network.add", "id": 9, "tunnel": 3}\n', "tunnel", "expected one of"),
        (b'{"command": "fdb.flush", "network": 5001, "static": 3}\n', "static", "true or false"),
        (b'{"command": "fdb.flush", "network": 5001, "port": []}\n', "port", "a port of this"),
        (b'{"command": "port.remove", "network": 5001, "name": {}}\n', "port", "a port of this"),
        (b'{"command": "fdb.add", "network": 5001, "mac": 1, "port": "tap0"}\n', "mac", "a MAC"),
    ],
)  # fmt: skip
def test_bad_requests(running: Service, sent: bytes, field: str, said: str) -> None:
    """An answer that says why; the connection goes on."""
    wrong, right = answers(running, sent + b'{"request": "x", "command": "version"}\n', 2)
    assert wrong["ok"] is False
    assert wrong["error"]["field"] == field
    assert said in wrong["error"]["message"]
    assert right["request"] == "x"
    assert right["result"]["backend"] == "native"


def test_a_request_without_an_end(running: Service) -> None:
    (answer,) = answers(running, b"x" * (REQUEST + 1), 1)
    assert answer["error"]["message"] == f"a request has at most {REQUEST} bytes"
    assert len(running.ctl("list")) == 2


def test_requests_at_once_are_answered_in_order(running: Service) -> None:
    sent = b"".join(b'{"request": %d, "command": "version"}\n' % number for number in range(3000))
    assert [answer["request"] for answer in answers(running, sent, 3000)] == list(range(3000))


def test_too_many_clients(running: Service) -> None:
    there = []
    try:
        for _ in range(CLIENTS):
            there.append(running.client())
            assert there[-1].ask("version")
        with running.client() as late, pytest.raises(OSError, match=r"closed|reset|Broken"):
            late.ask("version")
    finally:
        for client in there:
            client.close()
    until(lambda: run("ctl", "--socket", running.socket, "list").exit_code == 0)


def test_a_client_that_does_not_read_holds_nobody(running: Service) -> None:
    """A long answer waits for its reader, while others are served; then it comes whole."""
    with running.client() as client:
        for number in range(4_000):
            mac = (0x02_00_01_00_00_00 + number).to_bytes(6, "big").hex(":")
            client._socket.sendall(
                json.dumps({"command": "fdb.add", "network": 5002, "mac": mac, "port": "tap2"})
                .encode() + b"\n"
            )  # fmt: skip
            client._read()
        with running.client() as slow:
            slow._socket.sendall(b'{"request": 1, "command": "fdb.list", "network": 5002}\n' * 5)
            assert client.ask("version")
            assert len(client.ask("list")) == 2
            for _ in range(5):
                count, more = 0, True
                while more:
                    answer = slow._read()
                    count += len(answer["result"])
                    more = answer.get("more", False)
                assert count >= 4_000
        assert client.ask("fdb.flush", network=5002, static=True)["removed"] >= 4_000


# -- reload -------------------------------------------------------------------------------------


def test_reload_touches_only_what_changed(service: Service, host: Host) -> None:
    service.start()
    before = numbers(host)
    # A static entry: its network's ports stay.
    service.reload((BLUE + GREEN).replace("02:00:00:00:00:01", "02:00:00:00:00:03"))
    assert numbers(host) == before
    macs = {row["mac"] for row in service.ctl("fdb", "blue") if "remote" in row}
    assert macs == {"02:00:00:00:00:03"}
    assert [row["mac"] for row in service.ctl("neighbors", "blue")] == ["02:00:00:00:00:03"]
    # A TAP: that one alone.
    service.reload((BLUE + GREEN).replace('tap = "tap1"', 'tap = "tap9"'))
    after = numbers(host)
    assert "tap1" not in after
    assert "tap9" in after
    assert {name: after[name] for name in ("tap0", "tap2")} == {
        name: before[name] for name in ("tap0", "tap2")
    }
    # An option, in place; what is fixed at birth makes the network anew, its devices open.
    changed = BLUE.replace('name = "blue"', 'name = "navy"\nmtu = 1300\nlearn = false')
    service.reload(changed + GREEN)
    (navy,) = service.ctl("list", "navy")
    assert (navy["mtu"], navy["learn"]) == (1300, False)
    links = {link["ifname"]: link["mtu"] for link in json.loads(host.ip("-json", "link"))}
    assert (links["tap1"], links["tap2"]) == (1300, 1450)  # made here, as their networks are
    assert numbers(host)["tap0"] == before["tap0"]
    assert {row["mac"] for row in service.ctl("fdb", "navy") if "remote" in row} == {
        "02:00:00:00:00:01"
    }
    # A network goes, its devices with it; what was added by control stays.
    service.ctl("add", "network", 77)
    service.reload(BLUE)
    assert [network["id"] for network in service.ctl("list")] == [77, 5001]
    assert "tap2" not in numbers(host)
    assert numbers(host)["tap0"] == before["tap0"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("relay = true", "relay = 3", "overlay.toml:9: network[0].remotes[1].relay: got 3"),
        ('tap = "tap1"', 'interface = "u7"', "u7"),
        ("127.0.0.1:9472", "198.51.100.1:9472", "metrics 198.51.100.1:9472"),
        ('name = "blue"', 'name = "navy"\ngroup = "ff05::1"', "ff05::1"),
    ],
)
def test_a_bad_reload_changes_nothing(
    service: Service, host: Host, old: str, new: str, said: str
) -> None:
    service.start()
    before = service.ctl("list"), numbers(host)
    changed = (
        GREEN.replace("5002", "5009") + "static = [{mac = '02:00:00:00:00:07', port='tap2'}]\n"
    )
    service.reload((BLUE + changed).replace(old, new))
    assert (service.ctl("list"), numbers(host)) == before
    (line,) = [line for line in service.log.splitlines() if "level=error" in line]
    assert "old" in line
    assert said in line
    # What is said to the one who asks by ctl is the same.
    assert said.partition("[1].")[2] in service.ctl("reload", status=2)
    service.reload(BLUE + changed)
    assert [network["id"] for network in service.ctl("list")] == [5001, 5009]


def test_options_that_wait_and_those_that_do_not(service: Service, host: Host) -> None:
    service.start()
    moved = BLUE.replace("9472", "9473").replace("[[network]]", "workers = 2\n[[network]]")
    service.reload(moved.replace("SOCKET", "SOCKET2") + GREEN)
    assert "key=vtep.workers" in service.log
    assert not service.socket.exists()
    service.socket = Path(f"{service.socket}2")
    assert len(service.ctl("list")) == 2
    with host.entered():
        with urllib.request.urlopen("http://127.0.0.1:9473/metrics") as answer:
            assert b"overlay_networks 2.0" in answer.read()
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen("http://127.0.0.1:9472/metrics")


def test_a_reload_in_mid_traffic_loses_nothing(service: Service, host: Host) -> None:
    """Frames of one network flow while another comes, changes and goes."""
    service.start()
    with opened(host, "tap0") as one, opened(host, "tap1") as two:
        two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        sent = 0
        for config in (BLUE, BLUE + GREEN.replace("tap2", "tap3"), BLUE, BLUE + GREEN):
            service.configure(config)
            service.process.send_signal(signal.SIGHUP)
            for _ in range(250):
                one.send(frame(sent, src=1))
                sent += 1
            service.notice("READY=1")
        assert received(two, sent) == list(range(sent))


# -- privileges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ports", "kept"),
    [
        ("", "[{ tap = 'tap0' }]", NET_ADMIN),
        ("", "[{ interface = 'u1' }]", NET_ADMIN | NET_RAW),
        ("", "[]", 0),
        ("drop_privileges = 'all'", "[{ tap = 'tap0' }, { interface = 'u1' }]", 0),
        ("user = 'nobody'", "[{ tap = 'tap0' }]", NET_ADMIN),
        ("user = 'nobody'\ndrop_privileges = 'all'", "[{ tap = 'tap0' }]", 0),
    ],
)
def test_capabilities_are_given_up(service: Service, options: str, ports: str, kept: int) -> None:
    if os.getuid() != 0 or "nobody" not in Path("/etc/passwd").read_text():
        missing("root")
    service.listen(f"@overlay-test-{os.getpid()}")  # one that every user may write to
    service.configure(
        f"[vtep]\nlocal = '192.0.2.1'\ncontrol = 'SOCKET'\nworkers = 2\n{options}\n"
        f"[[network]]\nid = 5001\nremotes = ['192.0.2.2']\nport = {ports}\n"
    )
    service.start()
    threads = capabilities(service.process.pid)
    assert len(threads) >= 3
    for thread in threads:
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert thread[name] == kept, name
        assert thread["CapInh"] == thread["CapAmb"] == 0
        assert thread["NoNewPrivs"] == 1
        assert (thread["Uid"] == 0) == ("nobody" not in options)
    assert len(service.ctl("list")) == 1
    if kept == 0 and "tap0" in ports:  # what needs one is refused, and nothing else happens
        assert "tap8" in service.ctl("add", "port", 5001, "--tap", "tap8", status=2)
        assert len(service.ctl("list")[0]["ports"]) == ports.count("{")
    assert service.stop() == 0


def test_privileges_are_kept_where_that_is_asked(service: Service) -> None:
    mine = capabilities(os.getpid())[0]
    service.configure(BLUE.replace("[vtep]", "[vtep]\ndrop_privileges = 'none'"))
    service.start()
    assert all(thread["CapEff"] == mine["CapEff"] for thread in capabilities(service.process.pid))


# -- the unit ------------------------------------------------------------------------


def test_the_unit_is_one(tmp_path: Path) -> None:
    result = run("run", "--print-unit")
    assert result.exit_code == 0
    for line in ("Type=notify", "ExecReload=", "RuntimeDirectory=overlay", "WatchdogSec="):
        assert line in result.stdout
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    unit = tmp_path / "overlay.service"
    unit.write_text(result.stdout)
    checked = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")

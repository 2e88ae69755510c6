"""HealthCheck: what load balancers ask, and what anybody else may try."""

from __future__ import annotations

import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest

from overlay.io import health
from overlay.io.health import HealthCheck
from veth import space, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


@pytest.fixture
def check() -> Iterator[HealthCheck]:
    with space() as made, made.inside(), HealthCheck(8080) as running:
        yield running


def ask(request: bytes, address: str = "127.0.0.1") -> bytes:
    """What it says until it ends the connection."""
    with socket.create_connection((address, 8080), 10) as s:
        s.sendall(request)
        said = b""
        while chunk := s.recv(4096):
            said += chunk
        return said


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_http(check: HealthCheck, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:8080/any/path?x", timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"ok\n")
    assert until(lambda: check.answered == 1)


def test_head_has_no_body(check: HealthCheck) -> None:
    said = ask(b"HEAD / HTTP/1.0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n")


def test_a_request_in_pieces(check: HealthCheck) -> None:
    with socket.create_connection(("127.0.0.1", 8080), 10) as s:
        for piece in (b"G", b"ET / HT", b"TP/1.1\r\nHost: x\r", b"\n\r", b"\n"):
            s.sendall(piece)
        assert s.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_plain_tcp_is_accepted(check: HealthCheck) -> None:
    with socket.create_connection(("127.0.0.1", 8080), 10):
        pass
    assert until(lambda: check.accepted == 1)
    assert check.answered == 0


def test_what_is_no_http_has_no_answer(check: HealthCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SECONDS", 0.2)
    assert ask(b"\x16\x03\x01\x02\x00\x01\x00" * 3000) == b""
    assert ask(b"POST / HTTP/1.1\r\n\r\n") == b""
    assert ask(b"GET") == b""


def test_a_head_without_end_is_cut_off(check: HealthCheck) -> None:
    with socket.create_connection(("127.0.0.1", 8080), 10) as s:
        s.sendall(b"GET /" + bytes(health.REQUEST - 5))
        assert len(check._visitors) < 2
        s.sendall(bytes(2))
        with suppress(ConnectionResetError):
            assert s.recv(1) == b""
        assert check.answered == 0


def test_a_crowd_that_says_nothing_keeps_nobody_out(check: HealthCheck) -> None:
    crowd = [socket.create_connection(("127.0.0.1", 8080), 10) for _ in range(200)]
    try:
        assert until(lambda: check.accepted == 200)
        assert ask(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert len(check._visitors) <= health.CONNECTIONS
    finally:
        for visitor in crowd:
            visitor.close()


def test_closed_twice_and_the_port_is_free(check: HealthCheck) -> None:
    check.close()
    check.close()
    with HealthCheck(8080, "127.0.0.1"):
        assert b"ok" in ask(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(OSError, match="TCP port 8080"):
            HealthCheck(8080, "127.0.0.1")

"""HealthCheck: answers the health checks of a load balancer.

In a thread of its own, with bounded memory and descriptors whoever connects.
What must not live here: what health is; that the process runs is all that is said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
import time

from overlay.address import ip_address
from overlay.tunnel import integer

__all__ = ["HealthCheck"]

CONNECTIONS = 64  # at once; one more ends the oldest
SECONDS = 5.0  # that a connection may last
REQUEST = 8192  # bytes of a request's head

_METHODS = (b"GET ", b"HEAD ")
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
    b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
)
_BODY = b"ok\n"


class _Visitor:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.until = time.monotonic() + SECONDS
        self.head = b""
        self.silent = False  # it speaks no HTTP: what it says is not kept


class HealthCheck:
    """A TCP port that accepts connections, and answers GET and HEAD with 200.

    At most 64 connections at once, five seconds and 8 KiB each; what is no HTTP request
    is accepted and left without an answer.

    :param port: 1..65535, or 0 for any that is free.
    :param address: to listen at; ``None``: at all of them.

    Raises :class:`OSError` where the port cannot be had.
    """

    def __init__(self, port: int, address: str | None = None) -> None:
        integer("port", port, 0, 65535)
        self._listener = _listen(port, None if address is None else ip_address("address", address))
        self._listener.setblocking(False)
        #: The port.
        self.port: int = self._listener.getsockname()[1]
        #: Connections that were accepted, and requests that were answered.
        self.accepted = self.answered = 0
        self._stop, self._stopped = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._visitors: dict[socket.socket, _Visitor] = {}  # oldest first
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="health check", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            now = time.monotonic()
            for visitor in [v for v in self._visitors.values() if v.until <= now]:
                self._end(visitor)
            waits = [v.until - now for v in self._visitors.values()]
            for key, _ in self._selector.select(min(waits, default=None)):
                if key.fileobj is self._stopped:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._visitors:
                    self._read(self._visitors[key.fileobj])

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                for visitor in list(self._visitors.values()):
                    self._end(visitor)
                time.sleep(0.1)  # it waits still
            return
        self.accepted += 1
        connection.setblocking(False)
        if len(self._visitors) == CONNECTIONS:
            self._end(next(iter(self._visitors.values())))
        self._visitors[connection] = _Visitor(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, visitor: _Visitor) -> None:
        try:
            said = visitor.connection.recv(REQUEST)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._end(visitor)
            return
        if visitor.silent:
            return
        head = visitor.head = visitor.head + said
        if not any(head[: len(method)] == method[: len(head)] for method in _METHODS):
            visitor.head, visitor.silent = b"", True
        elif b"\r\n\r\n" in head or b"\n\n" in head:
            with contextlib.suppress(OSError):
                visitor.connection.send(_HEAD + (b"" if head.startswith(b"HEAD") else _BODY))
                self.answered += 1
                visitor.connection.shutdown(socket.SHUT_WR)
            self._end(visitor)
        elif len(head) > REQUEST:
            self._end(visitor)

    def _end(self, visitor: _Visitor) -> None:
        self._selector.unregister(visitor.connection)
        del self._visitors[visitor.connection]
        visitor.connection.close()

    def close(self) -> None:
        """Answer no more.  A second call does nothing."""
        if not self._thread.is_alive():
            return
        self._stop.send(b"x")
        self._thread.join()
        for visitor in list(self._visitors.values()):
            self._end(visitor)
        self._selector.close()
        for end in (self._listener, self._stop, self._stopped):
            end.close()

    def __enter__(self) -> HealthCheck:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen(port: int, address: str | None) -> socket.socket:
    """A listening socket; with no address, of both families where the host has them."""
    both = address is None and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in (address or "") else socket.AF_INET
    try:
        return socket.create_server(
            (address or "", port), family=family, dualstack_ipv6=both, backlog=CONNECTIONS
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"health check at TCP port {port}: {why}") from None

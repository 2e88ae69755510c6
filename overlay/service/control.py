"""Control: the UNIX socket by which a running VTEP is asked and told.

Lives here: the socket, its clients and the lines between them.  What must not:
what a command does (command).

Requests and answers are JSON, one object a line.  Guarantees: no client can
make the process wait or hold more than its share of memory; one that does not
read is given no more, and loses events, counted, before it loses anything else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import json
import os
import selectors
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Any

from overlay import ConfigError, OverlayError

from .config import InvalidConfig
from .log import log

__all__ = ["CLIENTS", "REQUEST", "Control", "refusal"]

CLIENTS = 64  # at once
REQUEST = 1 << 16  # bytes of a request's line
_BACKLOG = 1 << 18  # bytes that wait for a client before it gets no more

#: A request's answer: one result, or several pieces of it.
Answer = Iterator[Any]
Execute = Callable[[dict[str, Any], "Client"], Answer]


def refusal(error: Exception) -> dict[str, Any]:
    """An exception as the protocol's ``error``."""
    if isinstance(error, InvalidConfig):
        first = error.mistakes[0]
        return {"field": first.key or None, "message": first.message}
    if isinstance(error, ConfigError):
        said: dict[str, Any] = {"field": error.field, "expected": error.expected}
        value = error.value
        plain = value is None or isinstance(value, (bool, int, float, str))
        return said | {"value": value if plain else str(value), "message": str(error)}
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return {"field": None, "message": where + error.strerror}
    return {"field": None, "message": str(error) or type(error).__name__}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"


class Client:
    """One connection.  ``watching``: whether it is sent events."""

    def __init__(self, control: Control, connection: socket.socket, who: dict[str, int]) -> None:
        self.who = who
        self.watching = False
        self._control = control
        self._socket = connection
        self._in = bytearray()
        self._out = bytearray()
        self._answer: tuple[Any, Answer] | None = None
        self._lost = 0
        self._ended = False  # it will ask no more
        connection.setblocking(False)
        self._mask = selectors.EVENT_READ
        control.selector.register(connection, self._mask, self.serve)

    def serve(self, mask: int) -> None:
        """Read, answer and write what can be without waiting."""
        try:
            if mask & selectors.EVENT_READ and len(self._in) <= REQUEST:
                data = self._socket.recv(REQUEST)
                self._in += data
                self._ended |= not data
            self._go_on()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _go_on(self) -> None:
        """Answer until there is nothing to do, or nobody who reads it."""
        while True:
            self._write()
            if len(self._out) > _BACKLOG:
                break
            if self._answer is not None:
                self._advance(*self._answer)
            elif b"\n" in self._in:
                line, _, rest = bytes(self._in).partition(b"\n")
                self._in = bytearray(rest)
                if line.strip():
                    self._ask(line)
            else:
                break
        if len(self._in) > REQUEST and b"\n" not in self._in:
            said = {"field": None, "message": f"a request has at most {REQUEST} bytes"}
            self._out += _line({"request": None, "ok": False, "error": said})
            self._in.clear()
            self._ended = True
            self._write()
        if self._ended and self._answer is None and not self._out:
            self.close()
            return
        wanted = 0 if self._ended or len(self._in) > REQUEST else selectors.EVENT_READ
        wanted |= selectors.EVENT_WRITE if self._out or self._answer else 0
        if wanted != self._mask and wanted:
            self._mask = wanted
            self._control.selector.modify(self._socket, wanted, self.serve)

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                del self._out[: self._socket.send(self._out)]

    def _ask(self, line: bytes) -> None:
        number = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ConfigError("request", request, "a JSON object")
            number = request.pop("request", None)
            if not isinstance(number, (int, str, type(None))):
                raise ConfigError("request", number, "a number or a string")
            self._answer = number, self._control.execute(request, self)
        except RecursionError:
            self._refuse(number, ConfigError("request", "[[[...", "less depth"))
        except ConfigError as error:
            self._refuse(number, error)
        except ValueError:
            self._refuse(number, ConfigError("request", line[:60].decode("latin-1"), "JSON"))

    def _advance(self, number: Any, answer: Answer) -> None:
        """The answer's next piece."""
        try:
            piece = next(answer)
        except StopIteration:
            self._answer = None
        except (OverlayError, OSError, MemoryError) as error:
            self._refuse(number, error)
        except Exception as error:  # the VTEP goes on
            log("error", "a request failed", exception=repr(error), **self.who)
            self._refuse(number, error)
        else:
            more = isinstance(piece, More)
            said = {"request": number, "ok": True, "result": piece.rows if more else piece}
            self._out += _line({**said, "more": True} if more else said)

    def _refuse(self, number: Any, error: Exception) -> None:
        self._answer = None
        self._out += _line({"request": number, "ok": False, "error": refusal(error)})

    def tell(self, line: bytes) -> None:
        """An event."""
        if len(self._out) > _BACKLOG:
            self._lost += 1
            return
        if self._lost:
            self._out += _line({"event": {"kind": "lost", "count": self._lost}})
            self._lost = 0
        self._out += line
        try:
            self._go_on()
        except OSError:
            self.close()

    def close(self) -> None:
        if self in self._control.clients:
            self._control.clients.remove(self)
            self._control.selector.unregister(self._socket)
            self._socket.close()


class More:
    """A piece of a long answer; others follow, the last one is no ``More``."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows


def in_pieces(rows: Iterator[Any], size: int = 1000) -> Answer:
    """A long list as an answer in pieces."""
    piece: list[Any] = []
    for row in rows:
        if len(piece) == size:
            yield More(piece)
            piece = []
        piece.append(row)
    yield piece


def _bind(path: str) -> socket.socket:
    """A listening socket at this path, where nobody else answers."""
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o755, exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # of two that start at once, one finds the other
        _replace(path)
        mask = os.umask(0o117)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        listener.listen(CLIENTS)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        error.filename = error.filename or path
        raise
    finally:
        os.close(held)
    return listener


def _replace(path: str) -> None:
    """Remove a socket that nobody answers at; what else is there stays, and is an error."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "is there, and is no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except TimeoutError:
            pass
    raise OSError(errno.EADDRINUSE, "another VTEP answers there", path)


class Control:
    """The socket at ``path``; ``execute`` answers the requests of all its clients.

    Raises OSError where the socket cannot be, or another process answers.
    """

    def __init__(
        self,
        path: str,
        selector: selectors.BaseSelector,
        execute: Execute,
        *,
        group: str | None = None,
        owner: int = -1,
    ) -> None:
        try:
            number = grp.getgrnam(group).gr_gid if group else -1
        except KeyError:
            raise ConfigError("control_group", group, "a group of this host") from None
        self.path = path
        self.selector = selector
        self.execute = execute
        self.clients: list[Client] = []
        self._listener = _bind(path)
        self._inode = os.lstat(path).st_ino
        if number >= 0 or owner >= 0:
            os.chown(path, owner, number)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, gid = struct.unpack("3i", raw)
        who = {"pid": pid, "uid": uid, "gid": gid}
        if len(self.clients) >= CLIENTS:
            log("warning", "a client was refused: there are too many", limit=CLIENTS, **who)
            connection.close()
            return
        log("debug", "a client is here", **who)
        self.clients.append(Client(self, connection, who))

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event to those who watch."""
        watchers = [client for client in self.clients if client.watching]
        if watchers:
            line = _line({"event": event})
            for client in watchers:
                client.tell(line)

    def close(self) -> None:
        """Send everybody away, and remove the socket if it is still this one."""
        for client in list(self.clients):
            client.close()
        self.selector.unregister(self._listener)
        self._listener.close()
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)

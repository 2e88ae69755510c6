"""Client: asks a running VTEP by its control socket.

Lives here: one connection and its questions.  What must not: how an answer is shown.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from overlay import OverlayError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT", "Client", "RefusedError"]

#: Where ``overlay run`` listens unless its configuration says otherwise.
DEFAULT = "/run/overlay/ctl.sock"


class RefusedError(OverlayError):
    """The VTEP refused a request; ``error`` is the protocol's: field, message and more."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.error = error
        super().__init__(_sentence(error))


def _sentence(error: dict[str, Any]) -> str:
    field, message = error.get("field"), str(error.get("message"))
    return message if not field or message.startswith(str(field)) else f"{field}: {message}"


class Client:
    """A connection to the control socket at ``path``; a context manager.

    Raises OSError naming the path where nobody answers.
    """

    def __init__(self, path: str = DEFAULT, timeout: float | None = 30) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            reason = error.strerror or "no answer"
            if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
                reason = "no VTEP answers there: is 'overlay run' running?"
            raise OSError(error.errno, reason, path) from None
        self._path = path
        self._file = self._socket.makefile("rb")
        self._number = 0

    def _read(self) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except TimeoutError:
            raise OSError(None, "no answer in time", self._path) from None
        if not line:
            raise OSError(None, "the VTEP closed the connection", self._path)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, command: str, fields: dict[str, Any]) -> Iterator[Any]:
        self._number += 1
        given = {name: value for name, value in fields.items() if value is not None}
        request = {"request": self._number, "command": command, **given}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "event" in answer:
                continue
            if not answer["ok"]:
                raise RefusedError(answer["error"])
            yield answer["result"]
            if not answer.get("more"):
                return

    def ask(self, command: str, /, **fields: Any) -> Any:
        """The whole answer; fields that are None are not sent.

        Raises :class:`RefusedError`, and OSError when the VTEP goes away.
        """
        pieces = list(self._ask(command, fields))
        return pieces[0] if len(pieces) == 1 else [row for piece in pieces for row in piece]

    def events(self, **fields: Any) -> Iterator[dict[str, Any]]:
        """Events from now on, as long as the VTEP is there."""
        self.ask("events", **fields)
        self._socket.settimeout(None)
        while True:
            answer = self._read()
            if "event" in answer:
                yield answer["event"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

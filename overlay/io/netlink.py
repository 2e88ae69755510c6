"""Netlink: questions to the kernel about links, addresses, routes and neighbours.

Lives here: messages and their attributes, as bytes.  What must not: what they mean.
A socket asks about the network namespace of the thread that made it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

__all__ = ["Message", "Netlink", "attribute", "attributes", "messages"]

REQUEST, ACK, REPLACE, DUMP, CREATE = 0x1, 0x4, 0x100, 0x300, 0x400

_HEADER = struct.Struct("=IHHII")
_ERROR, _DONE = 2, 3
_RECEIVE = 1 << 16
_TIMEOUT = 10.0


class Message(NamedTuple):
    type: int
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """The messages in what a socket gave; what is cut short ends them."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        yield Message(kind, data[at + _HEADER.size : at + length])
        at += length + 3 & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in these bytes by their type; the last of a type counts."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


class Netlink:
    """A socket that asks and waits for the answer.

    :param groups: multicast groups to listen to, as a bit mask; then it is for
        :meth:`socket.socket.recv`, not for :meth:`ask`.
    """

    def __init__(self, groups: int = 0) -> None:
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self.socket.settimeout(_TIMEOUT)
        self.socket.bind((0, groups))
        self._sequence = 0

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        """The kernel's answers to one request; :class:`OSError` where it refuses."""
        self._sequence += 1
        length = _HEADER.size + len(body)
        flags |= REQUEST | (0 if flags & DUMP == DUMP else ACK)
        self.socket.send(_HEADER.pack(length, kind, flags, self._sequence, 0) + body)
        answers: list[Message] = []
        while True:
            data = self.socket.recv(_RECEIVE)
            if _HEADER.unpack_from(data)[3] != self._sequence:
                continue  # to an earlier one, which was given up
            for message in messages(data):
                if message.type == _DONE:
                    return answers
                if message.type == _ERROR:
                    (number,) = struct.unpack_from("=i", message.body)
                    if number:
                        raise OSError(-number, os.strerror(-number))
                    return answers
                answers.append(message)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

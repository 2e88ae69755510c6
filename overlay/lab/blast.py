"""Blast: frames as fast as one thread can give them to a device, and how many arrived.

Lives here: sendmmsg(2) on an AF_PACKET socket.  What must not: what the frames mean.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass

from .host import Host, LabError
from .peer import TENANT, Peer

__all__ = ["Blast", "blast", "frames", "rate"]

_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20
_SO_SNDBUFFORCE = 32


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("length", ctypes.c_uint),
    )


@dataclass(frozen=True)
class Blast:
    """``sent`` and ``received`` frames in ``seconds``."""

    sent: int
    received: int
    seconds: float

    @property
    def mpps(self) -> float:
        """Million frames a second, received."""
        return self.received / self.seconds / 1e6


def frames(sender: Peer, receiver: Peer, size: int = 64, flows: int = 64) -> list[bytes]:
    """UDP frames of ``size`` bytes without FCS, of so many flows.

    They are for the receiver's MAC, but for an address that no one has: its
    tenant counts and forgets them.
    """
    made = []
    for flow in range(flows):
        payload = bytes(size - 14 - 20 - 8)
        udp = struct.pack(">HHHH", 10000 + flow, 9, 8 + len(payload), 0) + payload
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0,
            socket.inet_aton(sender.address()), socket.inet_aton("10.77.0.250"),
        )  # fmt: skip
        total = sum(struct.unpack(">10H", ip))
        total = (total & 0xFFFF) + (total >> 16)
        total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        macs = bytes.fromhex(receiver.mac.replace(":", "") + sender.mac.replace(":", ""))
        made.append(macs + b"\x08\x00" + ip[:10] + total.to_bytes(2, "big") + ip[12:] + udp)
    return made


class Sender:
    """Sends the same frames over and over from a thread of its own, until it is stopped."""

    def __init__(
        self, host: Host, device: str, frames: list[bytes], *, burst: int = 256,
        limit: float | None = None,
    ) -> None:  # fmt: skip
        """limit: frames a second at most, None for as many as go."""
        with host.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((device, 0))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        try:  # root's alone: more than the system's limit
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 8 << 20)
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self._buffers = [ctypes.create_string_buffer(frame, len(frame)) for frame in frames]
        self._vectors = (_Vector * burst)()
        self._messages = (_Message * burst)()
        for i in range(burst):
            buffer = self._buffers[i % len(frames)]
            self._vectors[i].base = ctypes.addressof(buffer)
            self._vectors[i].length = len(buffer)
            self._messages[i].vectors = ctypes.pointer(self._vectors[i])
            self._messages[i].vector_count = 1
        self._burst, self._limit = burst, limit
        self.sent = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._error: OSError | None = None

    def _send(self) -> None:
        sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        descriptor, start = self._socket.fileno(), time.monotonic()
        while not self._stopped.is_set():
            if self._limit and self.sent > self._limit * (time.monotonic() - start):
                time.sleep(0.0002)
                continue
            done = sendmmsg(descriptor, self._messages, self._burst, 0)
            if done >= 0:
                self.sent += done
            elif (number := ctypes.get_errno()) not in (11, 105):  # EAGAIN, ENOBUFS
                self._error = OSError(number, os.strerror(number))
                return

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop; an error of the socket is raised here."""
        self._stopped.set()
        self._thread.join()
        self._socket.close()
        if self._error is not None:
            raise LabError(f"a blast: {self._error}")


def blast(
    host: Host, device: str, frames: list[bytes], receiver: Host, counted: str = TENANT,
    *, seconds: float = 1.0, limit: float | None = None,
) -> Blast:  # fmt: skip
    """Send frames on a device for a while; how many the receiver's device counts as received."""
    sender = Sender(host, device, frames, limit=limit)
    sender.start()
    try:
        time.sleep(0.2)  # the first ones are learned from
        sent, begin = sender.sent, time.monotonic()
        before = receiver.devices()[counted]["rx_packets"]
        time.sleep(seconds)
        received = receiver.devices()[counted]["rx_packets"] - before
        return Blast(sender.sent - sent, received, time.monotonic() - begin)
    finally:
        sender.stop()


def rate(sender: Peer, receiver: Peer, *, size: int = 64, seconds: float = 1.0) -> Blast:
    """Small frames from tenant to tenant."""
    return blast(
        sender.host, TENANT, frames(sender, receiver, size), receiver.host, seconds=seconds
    )

"""Wire: a raw socket on a device of a host, for frames that are made and read by hand.

Lives here: frames out, and frames in as they were on the wire.  What must not:
what they mean.  It needs no extension; :mod:`overlay.io.packet` is for speed.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from .host import Host, LabError
from .topology import UNDERLAY

__all__ = ["Seen", "Wire"]

_ETH_P_ALL = 0x0003
_SOL_PACKET, _STATISTICS, _AUXDATA, _IGNORE_OUTGOING = 263, 6, 8, 23
_VLAN_VALID, _TPID_VALID, _CSUM_NOT_READY = 1 << 4, 1 << 6, 1 << 3
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_OUTGOING = 4  # of a frame that the host itself sends


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that passed the device at ``time`` (ns since 1970), and whether the host sent it.

    partial: its L4 checksum is only begun; whoever takes it from the device finishes it.
    """

    frame: bytes
    time: int
    outgoing: bool
    partial: bool = False


class Wire:
    """Frames of a device of ``host``, whole, with the VLAN tags that the kernel takes off.

    host: None for the namespace of the calling thread.

    both: what the host itself sends is seen too; else only what arrives.
    buffer: bytes that may wait in the kernel.
    """

    def __init__(
        self,
        host: Host | None,
        device: str = UNDERLAY,
        *,
        both: bool = False,
        buffer: int = 1 << 22,
    ) -> None:
        self.host, self.device = host, device
        with contextlib.nullcontext() if host is None else host.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            put = self._socket.setsockopt
            put(_SOL_PACKET, _AUXDATA, 1)
            if not both:
                put(_SOL_PACKET, _IGNORE_OUTGOING, 1)
            put(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            with contextlib.suppress(OSError):  # without the right to it the default stays
                put(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
            self._socket.bind((device, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise self._said(error) from None

    def __repr__(self) -> str:
        return f"<Wire {self.device} of {self.host.name if self.host else 'this host'}>"

    def _said(self, error: OSError) -> LabError:
        where = f"host {self.host.name}: " if self.host else ""
        return LabError(f"{where}{self.device}: {error.strerror}")

    def fileno(self) -> int:
        """The socket, for ``select``."""
        return self._socket.fileno()

    def send(self, *frames: bytes) -> None:
        """Send the frames as they are, Ethernet header first, FCS not."""
        try:
            for frame in frames:
                self._socket.send(frame)
        except OSError as error:
            raise self._said(error) from None

    def take(self, wait: float = 5.0) -> Seen | None:
        """The next frame, or None if none comes within ``wait`` seconds."""
        self._socket.settimeout(max(wait, 0.0))
        try:
            frame, extra, _, origin = self._socket.recvmsg(1 << 18, 256)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError as error:
            raise self._said(error) from None
        moment, partial = 0, False
        for level, kind, data in extra:
            if level == _SOL_PACKET and kind == _AUXDATA:
                frame = _tagged(frame, data)
                partial = bool(int.from_bytes(data[:4], sys.byteorder) & _CSUM_NOT_READY)
            elif level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack_from("@qq", data)
                moment = seconds * 10**9 + nanoseconds
        return Seen(frame, moment or time.time_ns(), origin[2] == _OUTGOING, partial)

    def receive(self, wait: float = 5.0) -> bytes | None:
        """The bytes of the next frame, or None if none comes within ``wait`` seconds."""
        seen = self.take(wait)
        return None if seen is None else seen.frame

    def expect(self, accept: Callable[[bytes], object], wait: float = 5.0) -> bytes | None:
        """The first frame that ``accept`` says yes to, others passed over; None if none comes."""
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            seen = self.take(left)
            if seen is not None and accept(seen.frame):
                return seen.frame
        return None

    def lost(self) -> int:
        """The frames that did not fit the buffer since this was last asked."""
        counters = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        return int.from_bytes(counters[4:8], sys.byteorder)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _tagged(frame: bytes, auxiliary: bytes) -> bytes:
    """The frame with the outermost tag, which the kernel tells of apart."""
    status = int.from_bytes(auxiliary[:4], sys.byteorder)
    if not status & _VLAN_VALID:
        return frame
    tci, tpid = struct.unpack_from("=HH", auxiliary, 16)
    return (
        frame[:12] + struct.pack("!HH", tpid if status & _TPID_VALID else 0x8100, tci) + frame[12:]
    )

"""Tracer: a device that writes down all that passes another one."""

from __future__ import annotations

import os
import struct
import time
from typing import Literal

import numpy as np

from overlay.batch import Batch
from overlay.errors import Status

from .block import Interface
from .device import Device, DeviceStats
from .tally import inside
from .writer import CaptureWriter

__all__ = ["Tracer"]

_ETHERNET, _RAW_IP, _OTHER, _DATAGRAM = range(4)  # of the column of link types
_IPV4, _IPV6 = 4, 6
_PORT = 4789


class Tracer(Device):
    """What ``device`` does, with every packet of both ways in a pcapng file.

    Each packet has a timestamp and its direction: inbound from recv, outbound
    before send, whether or not the device then takes it.  Super-frames and
    partial checksums are written as they pass, as a capture of a kernel's
    interface shows them; a datagram from a socket with its IP header and a UDP
    header made up, source port 0.

    The file takes its name when the tracer is closed, and the device with it.
    Where it cannot be written whole nothing is left behind, the traffic goes
    on, and :meth:`close` raises the error.

    :param device: any device.
    :param path: of the file, pcapng.
    """

    def __init__(self, device: Device, path: str | os.PathLike[str]) -> None:
        self.device = device
        self.mac = device.mac
        self.underlay = device.underlay
        interfaces = [Interface(1, name="frames"), Interface(101, name="packets")]
        self._writer: CaptureWriter | None = CaptureWriter(path, "pcapng", interfaces=interfaces)
        self._error: OSError | None = None

    @property
    def mtu(self) -> int:  # type: ignore[override]
        """The device's."""
        return self.device.mtu

    def recv(self, batch: Batch) -> int:
        """As the device's."""
        rows = self.device.recv(batch)
        if rows:
            self._trace(batch, "in")
        return rows

    def send(self, batch: Batch) -> int:
        """As the device's."""
        self._trace(batch, "out")
        return self.device.send(batch)

    def _trace(self, batch: Batch, direction: Literal["in", "out"]) -> None:
        if self._writer is None:
            return
        now = time.time_ns()
        try:
            link = batch.link
            kept = inside(batch) & (batch.status == Status.OK) & (link != _OTHER)
            if kept.all() and not link.any():
                self._writer.write(batch, now, direction=direction)
                return
            # A batch of its own, so that the statuses stay what they are.
            rows = np.flatnonzero(kept).tolist()
            packets = [_packet(batch, i) if link[i] == _DATAGRAM else batch[i] for i in rows]
            copy = Batch.from_frames(packets, headroom=0)
            self._writer.write(copy, now, (link[kept] != _ETHERNET) * 1, direction=direction)
        except OSError as error:
            self._error = error
            self._writer.discard()
            self._writer = None

    def fileno(self) -> int:
        """The device's."""
        return self.device.fileno()

    @property
    def stats(self) -> DeviceStats:
        """The device's."""
        return self.device.stats

    def close(self) -> None:
        """Close the device, and finish the file.  Raises OSError if that could not be written."""
        self.device.close()
        writer, self._writer = self._writer, None
        error, self._error = self._error, None
        if writer is not None:
            writer.close()
        if error is not None:
            raise error

    def __repr__(self) -> str:
        return f"<Tracer of {self.device!r}>"


def _packet(batch: Batch, row: int) -> bytes:
    """The IP packet around a datagram's payload; headers that are not in the data are zero."""
    payload = bytes(batch[row])
    at = int(batch.outer[row])
    ip = bytearray(batch.data[at : at + 40].tobytes()) if at < batch.data.size else bytearray(40)
    length = 8 + int(batch.wire[row])
    udp = struct.pack("!HHHH", 0, _PORT, min(length, 0xFFFF), 0)
    if ip[0] >> 4 == _IPV6 and len(ip) == 40:
        struct.pack_into("!HB", ip, 4, min(length, 0xFFFF), 17)
        return bytes(ip) + udp + payload
    ip = ip[:20].ljust(20, b"\0")
    ip[0] = _IPV4 << 4 | 5
    struct.pack_into("!H", ip, 2, min(20 + length, 0xFFFF))
    ip[9] = 17
    return bytes(ip) + udp + payload

"""Memory: two devices, joined in memory.

What one end sends, the other receives, in order; for tests, for switches
within one process, and to measure without a kernel.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from overlay.address import mac_address, mac_bytes
from overlay.batch import Batch
from overlay.tunnel import boolean, integer

from .device import QueueDevice, burst, live

if TYPE_CHECKING:
    from overlay.codec import Buffer

__all__ = ["Memory"]

_BURST = 64


class Memory(QueueDevice):
    """One end of a pair; :meth:`pair` makes both.

    Rows pass whole, with ``mss``, ``checksum``, ``link``, ``protocol``,
    ``key`` and ``wire``: a super-frame that one end sends is the one that the
    other receives.  Each end may be used by a thread of its own.  Rows that
    find the queue full get ``DEVICE_FULL``, packets above the MTU
    ``MTU_EXCEEDED``, and all of them ``DEVICE_DOWN`` where the other end is
    closed; what was sent before that can still be received.
    """

    @classmethod
    def pair(
        cls,
        *,
        capacity: int = 1024,
        size: int | None = None,
        mtu: int = 1500,
        underlay: bool = False,
        segments: bool = False,
        mac: str | bytes | tuple[str | bytes, str | bytes] | None = None,
    ) -> tuple[Memory, Memory]:
        """Both ends of a new pair.

        :param capacity: rows that may wait for either end, at least 1.
        :param size: bytes that may wait for either end, rounded up to a power
            of two and at least 256 KiB; by default room for ``capacity`` rows
            of 2 kB.
        :param mtu: IP bytes of the largest packet that passes, 68..65535;
            super-frames stand for packets that fit.
        :param underlay: whether the pair carries outer packets.
        :param segments: whether super-frames are cut on send, to whole packets that fit the
            MTU (and STT packets to segments), and partial checksums are completed.
        :param mac: of the first end, or a pair with one for each.
        """
        capacity = integer("capacity", capacity, 1, 2**24)
        size = 2048 * capacity if size is None else integer("size", size, 1, 2**40)
        mtu = integer("mtu", mtu, 68, 65535)
        boolean("underlay", underlay)
        boolean("segments", segments)
        macs = mac if isinstance(mac, tuple) else (mac, None)
        first, second = (bytes(6) if m is None else mac_bytes(mac_address("mac", m)) for m in macs)
        queues = live().memory_pair(capacity, size, mtu, underlay, segments, first, second)
        one, other = (cls([queue], underlay=underlay) for queue in queues)
        return one, other

    def put(self, frames: Iterable[Buffer]) -> int:
        """Send these frames; returns how many went."""
        return self.send(Batch.from_frames(frames, headroom=0))

    def take(self, most: int | None = None, timeout: float = 0.0) -> list[bytes]:
        """Receive frames, as bytes.

        :param most: how many at most; all that wait if not given.
        :param timeout: seconds to wait for the first frame, or where ``most``
            is given for as many.
        """
        deadline = time.monotonic() + timeout
        frames: list[bytes] = []
        while most is None or len(frames) < most:
            batch = burst(_BURST if most is None else min(_BURST, most - len(frames)))
            if self.recv(batch):
                frames += batch.to_list()
            elif (most is None and frames) or not self._wait(deadline - time.monotonic()):
                break
        return frames

    def _wait(self, seconds: float) -> bool:
        """Whether something may have come within so many seconds."""
        if seconds <= 0:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(min(seconds, 3600) * 1000))

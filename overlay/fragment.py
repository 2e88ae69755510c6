"""Fragments: outer IP fragments to whole packets, in bounded memory, by an explicit clock.

Lives here: the interface to every backend and what it counts.  What must not:
any byte of a packet.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .batch import Batch
from .codec import byte_view, nanoseconds
from .errors import ConfigError, DecapError, Status
from .tunnel import integer

if TYPE_CHECKING:
    from .codec import Buffer

__all__ = ["FragmentReassembler", "FragmentStats"]

_MOST = 2**63 - 1  # nanoseconds


@dataclasses.dataclass(frozen=True)
class FragmentStats:
    """Counts of a :class:`FragmentReassembler`, of fragments but for the last three.

    ``taken``: pushed; ``joined``: given, in whole packets; ``overlaps``: lost, since a
    fragment of the datagram overlaps another (RFC 5722), or is an exact duplicate;
    ``limits``: lost to the bound of memory; ``timeouts``: lost to time; ``refused``: wrong
    in themselves, or of datagrams whose ECN marks contradict (RFC 3168, 5.3); ``held``:
    here now.  ``taken`` is the sum of the others.  ``packets`` given; ``pending``
    datagrams, and ``memory`` in bytes, in use now.
    """

    taken: int = 0
    joined: int = 0
    overlaps: int = 0
    limits: int = 0
    timeouts: int = 0
    refused: int = 0
    held: int = 0
    packets: int = 0
    pending: int = 0
    memory: int = 0


class FragmentReassembler(ABC):
    """Reassembly of outer IPv4 and IPv6 fragments (RFC 791, RFC 8200 4.5).

    A packet is given only when every byte of it has come exactly once.

    :param timeout: seconds from a datagram's first fragment until it is given up.
    :param memory: bytes of payload held at most, in pages of 2048; when it is short, the
        source that has most of it loses its oldest datagram.  At least 262144.
    """

    def __init__(self, timeout: float = 30.0, memory: int = 4 << 20) -> None:
        if nanoseconds(timeout) == 0:
            raise ConfigError("timeout", timeout, "seconds, above 0")
        self.timeout = float(timeout)
        self.memory = integer("memory", memory, 262144, 2**40)
        self._now = 0

    def push(self, packet: Buffer, now: float, *, link: int = 0) -> bytes | None:
        """Take one packet; the whole packet if it completes one, None if it is held.

        A packet that is no fragment is given as it is.

        :param now: seconds of any clock; what runs backwards is the latest time.
        :param link: 0 for Ethernet, 1 where the packet begins with IP.
        :raises DecapError: the fragment is lost; ``error.status`` says why.
        """
        view = byte_view(packet, "packet")
        batch = Batch.from_frames([view], headroom=0)
        batch.link[0] = integer("link", link, 0, 255)
        batch.status[0] = Status.IP_FRAGMENT
        out = Batch.packed(66000, 1)
        self.push_batch(batch, out, nanoseconds(now))
        status = Status(int(batch.status[0]))
        if status is Status.IP_FRAGMENT:
            return bytes(view)
        if status is Status.FRAGMENT_HELD:
            return None
        if status:
            raise DecapError(status)
        return bytes(out[0])

    def push_batch(self, batch: Batch, out: Batch, times: npt.ArrayLike) -> int:
        """Take every row whose status is ``IP_FRAGMENT``; append whole packets to ``out``.

        The rows get OK (completed a packet), ``FRAGMENT_HELD``, or why they are lost;
        ``IP_FRAGMENT`` stays where the headers are not in order.  ``out.origin`` holds
        the row that completed a packet.

        :param times: nanoseconds, one a row or one for all; what runs backwards is the
            latest time before it.
        :returns: the packets.
        """
        if not isinstance(batch, Batch):
            raise TypeError(f"batch must be a Batch, not {type(batch).__name__}")
        if not batch.count:
            return 0
        given = np.asarray(times)
        if given.dtype.kind not in "iu" or given.shape not in ((), (batch.count,)):
            raise ConfigError("times", f"<{given.dtype}, shape {given.shape}>", "one integer a row")
        held = np.clip(np.broadcast_to(given, batch.count), self._now, _MOST)
        clock = np.maximum.accumulate(held).astype(np.uint64)
        self._now = int(clock[-1])
        return self._push(batch, out, clock)

    def expire(self, now: float) -> int:
        """Give up the datagrams whose time is over; the fragments lost."""
        self._now = max(self._now, nanoseconds(now))
        return self._expire(self._now)

    @abstractmethod
    def _push(self, batch: Batch, out: Batch, now: npt.NDArray[np.uint64]) -> int:
        """:meth:`push_batch` with checked times that do not run backwards."""

    @abstractmethod
    def _expire(self, now: int) -> int:
        """:meth:`expire` in nanoseconds."""

    @property
    @abstractmethod
    def stats(self) -> FragmentStats:
        """The counts so far."""

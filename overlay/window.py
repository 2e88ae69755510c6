"""The receiver's side of GRE's sequence numbers (RFC 2890 2.2): which packets to take.

Lives here: numbers.  Must not: packets; decap tells a packet's number as its
tunnel's ``sequence``, and takes it whatever that is.
"""

from __future__ import annotations

from typing import Literal

from .tunnel import integer

__all__ = ["Arrival", "GreWindow"]

Arrival = Literal["in order", "ahead", "late", "duplicate", "old"]

_NUMBERS = 1 << 32
_HALF = 1 << 31


class GreWindow:
    """What has arrived of one tunnel's numbers, and how the next one stands to it.

    One window a tunnel and direction.  Each number is told once to :meth:`receive`::

        window = overlay.GreWindow(size=64)
        if window.receive(d.tunnel.sequence) in ("duplicate", "old"):
            ...  # RFC 2890 2.2: silently discarded

    :param size: how many numbers before the highest one are remembered, 0..65536: so far a
        packet may be overtaken and still be taken.  0, as RFC 2890 has it, takes none that
        was overtaken.
    :param first: the number that the sender is known to begin with; None takes any.
    """

    def __init__(self, size: int = 0, *, first: int | None = None) -> None:
        self.size = integer("size", size, 0, 1 << 16)
        #: The highest number taken so far, modulo 2**32; None before the first.
        self.last: int | None = None
        # Bit n: the number n before the last has arrived.
        self._seen = 0
        if first is not None:
            self.last = (integer("first", first, 0, _NUMBERS - 1) - 1) % _NUMBERS
            self._seen = (1 << self.size + 1) - 1  # nothing before it is to come

    def receive(self, number: int) -> Arrival:
        """How a packet of this number stands; it has arrived after that.

        - ``"in order"``: the next one, or the first of all;
        - ``"ahead"``: some before it are missing;
        - ``"late"``: one of those that were missing, within the window;
        - ``"duplicate"``: it has been here;
        - ``"old"``: before the window: late or a duplicate, nobody can tell.

        The first three are taken.  Numbers wrap at 2**32; what is up to 2**31 - 1 before
        the last is before it, all else after.
        """
        number = integer("number", number, 0, _NUMBERS - 1)
        if self.last is None:
            self.last, self._seen = number, 1
            return "in order"
        behind = (self.last - number) % _NUMBERS
        if behind >= _HALF:
            ahead = _NUMBERS - behind
            kept = 0 if ahead > self.size else self._seen << ahead
            self.last, self._seen = number, (kept | 1) & ((1 << self.size + 1) - 1)
            return "in order" if ahead == 1 else "ahead"
        if behind > self.size:
            return "old"
        if self._seen >> behind & 1:
            return "duplicate"
        self._seen |= 1 << behind
        return "late"

    def __repr__(self) -> str:
        return f"GreWindow(size={self.size}, last={self.last})"

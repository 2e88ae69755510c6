"""The internet checksum: sum, complement, update, pseudo header (RFC 1071, 1624, 768, 8200).

Numbers only.  Nothing here knows where in a packet a checksum lies.
"""

from __future__ import annotations

import struct

__all__ = ["checksum", "fold", "ones_sum", "pseudo_header", "update"]


def fold(total: int) -> int:
    """A sum with its carries added back in, until it fits 16 bits (RFC 1071 1)."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ones_sum(data: bytes) -> int:
    """The folded sum of the 16-bit words; an odd last byte counts as its high half."""
    if len(data) % 2:
        data += b"\0"
    return fold(sum(struct.unpack(f"!{len(data) // 2}H", data)))


def checksum(data: bytes) -> int:
    """What goes into a checksum field: the complement of the sum (RFC 1071)."""
    return ~ones_sum(data) & 0xFFFF


def update(check: int, old: int, new: int) -> int:
    """The checksum after one 16-bit word changed: HC' = ~(~HC + ~m + m') (RFC 1624 eq. 3)."""
    return ~fold((~check & 0xFFFF) + (~old & 0xFFFF) + new) & 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """The pseudo header of UDP and TCP.

    The layout is that of RFC 8200 8.1, for both families::

        +---------------------+
        |   Source Address    |   4 or 16 bytes
        +---------------------+
        | Destination Address |   4 or 16 bytes
        +---------------------+
        | Upper-Layer Length  |   4 bytes
        +----------+----------+
        |   zero   |  Next H. |   3 + 1 bytes
        +----------+----------+

    Over IPv4 addresses its sum is that of RFC 768's, which differs only in
    the place and the width of the same numbers.
    """
    return source + destination + struct.pack("!II", length, protocol)

"""The flow hash of an inner frame and the entropy that is drawn from it.

RFC 7348 5, RFC 7637 3.2, RFC 6438.  Never hashed: what a router or a sender
changes within a flow (TTL, DSCP, ECN, IP ID, checksums, sequence numbers).
"""

from __future__ import annotations

from collections.abc import Iterable

from overlay.tunnel import Tunnel

from .inner import SCTP, TCP, UDP, recognise

__all__ = ["flow_hash", "flow_id", "flow_label", "mix", "source_port"]

# ---- constants ---------------------------------------------------------------

_K0 = 0x9E3779B97F4A7C15
_K1 = 0xD1B54A32D192ED03
_K2 = 0x8CB92BA72F3D8DD7
_K3 = 0x9FB21C651E98DF25
_MASK = 2**64 - 1
_EXTENSIONS = (0, 43, 44, 60)  # hop-by-hop, routing, fragment, destination options

# ---- hash --------------------------------------------------------------------


def flow_hash(frame: bytes, seed: int = 0) -> int:
    """The 64-bit flow hash of a frame."""
    inner = recognise(frame)
    ports = _l4(frame)
    if inner.version == 4:
        pairs = [(_little(frame, inner.l3 + 12, 8), ports)]
    elif inner.version == 6:
        at = inner.l3 + 8
        pairs = [
            (_little(frame, at, 8), _little(frame, at + 8, 8)),
            (_little(frame, at + 16, 8), _little(frame, at + 24, 8)),
            (ports, 0),
        ]
    else:
        rest = _little(frame, 8, 4) | inner.ethertype << 32 | inner.vid << 48
        pairs = [(_little(frame, 0, 8), rest)]

    return mix(pairs, seed)


def mix(pairs: Iterable[tuple[int, int]], seed: int = 0) -> int:
    """The hash of pairs of 64-bit numbers."""
    state = seed
    for a, b in pairs:
        state = _fold(a ^ state ^ _K0, b ^ _K1)
    return _fold(state ^ _K2, _K3)


def _l4(frame: bytes) -> int:
    """Ports and protocol; 0 where another fragment of the packet would not show them."""
    inner = recognise(frame)
    if inner.fragment or (inner.version == 6 and inner.protocol in _EXTENSIONS):
        return 0
    ports = 0
    if inner.protocol in (TCP, UDP, SCTP) and len(frame) >= inner.l4 + 4:
        ports = _little(frame, inner.l4, 4)
    return ports | inner.protocol << 32


def _fold(a: int, b: int) -> int:
    product = a * b
    return product >> 64 ^ product & _MASK


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


# ---- entropy -----------------------------------------------------------------


def source_port(tunnel: Tunnel, h: int) -> int:
    """The UDP or TCP source port of a flow."""
    low, high = 49152, 65535  # RFC 7348 5, the dynamic range of RFC 6335
    if isinstance(tunnel.source_port, tuple):
        low, high = tunnel.source_port
    elif tunnel.source_port is not None:
        low = high = tunnel.source_port
    return low + ((h & 0xFFFFFFFF) * (high - low + 1) >> 32)


def flow_id(h: int) -> int:
    """The FlowID of a flow (RFC 7637 3.2)."""
    return h >> 56


def flow_label(h: int) -> int:
    """The IPv6 flow label of a flow (RFC 6438)."""
    return h >> 36 & 0xFFFFF

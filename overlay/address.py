"""Addresses as users write them, made canonical.  Values only, no I/O."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from .errors import ConfigError

__all__ = ["ip_address", "is_multicast", "mac_address", "mac_bytes", "multicast_mac"]

_MAC = re.compile(r"[0-9a-f]{2}([:-]?)(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", re.ASCII)
_MAC_DOTTED = re.compile(r"(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}", re.ASCII)


def mac_address(field: str, value: object) -> str:
    """The canonical form, ``"02:00:5e:00:00:01"``, of a MAC address.

    Takes six bytes or the usual spellings (``:``, ``-``, ``.``, none).
    Raises :class:`ConfigError` naming ``field``.
    """
    if isinstance(value, (bytes, bytearray)) and len(value) == 6:
        return value.hex(":")
    if isinstance(value, str):
        text = value.lower()
        if _MAC.fullmatch(text) or _MAC_DOTTED.fullmatch(text):
            return bytes.fromhex(re.sub(r"[:.-]", "", text)).hex(":")
    raise ConfigError(field, value, "a MAC address such as '02:00:5e:00:00:01'")


def mac_bytes(canonical: str) -> bytes:
    """The six bytes of a canonical MAC address."""
    return bytes.fromhex(canonical.replace(":", ""))


def ip_address(field: str, value: object) -> str:
    """The canonical text of an IPv4 or IPv6 address.

    Takes text, :mod:`ipaddress` objects, or 4 or 16 bytes.  Zone ids
    (``fe80::1%eth0``) are refused: they are not on the wire.
    Raises :class:`ConfigError` naming ``field``.
    """
    if isinstance(value, (str, bytes, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        address = _parse(value)
        if address is not None and getattr(address, "scope_id", None) is None:
            return str(address)
    raise ConfigError(field, value, "an IPv4 or IPv6 address")


@lru_cache(maxsize=4096)
def _parse(value: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    # The few addresses of an underlay come again and again.
    try:
        return ipaddress.ip_address(value)  # type: ignore[arg-type]
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def is_multicast(canonical: str) -> bool:
    """Whether the address is an IPv4 or IPv6 group."""
    return ipaddress.ip_address(canonical).is_multicast


def multicast_mac(canonical: str) -> str:
    """The Ethernet group address of an IP group (RFC 1112 6.4, RFC 2464 7)."""
    packed = ipaddress.ip_address(canonical).packed
    if len(packed) == 4:
        return bytes([0x01, 0x00, 0x5E, packed[1] & 0x7F, packed[2], packed[3]]).hex(":")
    return (b"\x33\x33" + packed[12:]).hex(":")

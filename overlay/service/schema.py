"""Schema: the keys of a configuration, and what each may be.

Lives here: one entry a key.  What must not: files and lines (config), and what
is done with a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from overlay import ConfigError
from overlay.address import ip_address, is_multicast, mac_address
from overlay.switch import SWITCHED
from overlay.tunnel import boolean, choice, integer

__all__ = ["REQUIRED", "SECTIONS", "TUNNEL_OPTIONS", "Key", "Section"]

Check = Callable[[str, object], Any]
REQUIRED: Any = object()

_NAME = re.compile(r"[^\s/\x00-\x1f\x7f]{1,15}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


class Key(NamedTuple):
    """A key: how its value is checked, and what it is when it is not given."""

    check: Check
    default: Any = None


class Section(NamedTuple):
    """A table: its keys, and the tables within it that may come more than once."""

    keys: Mapping[str, Key]
    tables: tuple[str, ...] = ()


# -- checks: (field, value) -> the value, or ConfigError ----------------------


def number(low: int, high: int) -> Check:
    return lambda field, value: integer(field, value, low, high)


def word(*allowed: str) -> Check:
    return lambda field, value: choice(field, value, allowed)


def flag(field: str, value: object) -> bool:
    try:
        return boolean(field, value)
    except ConfigError:
        raise ConfigError(field, value, "true or false") from None


def seconds(field: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e9:
        return float(value)
    raise ConfigError(field, value, "seconds in 0..1000000000; 0 is for ever")


def clamp(field: str, value: object) -> bool | int:
    try:
        return value if isinstance(value, bool) else integer(field, value, 88, 65495)
    except ConfigError:
        raise ConfigError(field, value, "true, false, or an MSS in 88..65495") from None


def label(field: str, value: object) -> str:
    if isinstance(value, str) and _LABEL.fullmatch(value):
        return value
    raise ConfigError(field, value, "1 to 64 printable characters")


def device_name(field: str, value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value) and value not in (".", ".."):
        return value
    raise ConfigError(field, value, "an interface name of 1 to 15 characters")


def address_or_interface(field: str, value: object) -> str:
    try:
        local = ip_address(field, value)
    except ConfigError:
        try:
            return device_name(field, value)
        except ConfigError:
            raise ConfigError(field, value, "an IP address or an interface name") from None
    if is_multicast(local):
        raise ConfigError(field, value, "an address of this host, not a group")
    return local


def unicast(field: str, value: object) -> str:
    address = ip_address(field, value)
    if is_multicast(address) or address in ("0.0.0.0", "::"):
        raise ConfigError(field, value, "the IP address of one host")
    return address


def multicast(field: str, value: object) -> str:
    address = ip_address(field, value)
    if not is_multicast(address):
        raise ConfigError(field, value, "a multicast group such as '239.1.1.1'")
    return address


def host_mac(field: str, value: object) -> str:
    mac = mac_address(field, value)
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ConfigError(field, value, "the MAC address of one host, not a group or zero")
    return mac


def path(field: str, value: object) -> str:
    fits = isinstance(value, str) and "\0" not in value and len(value.encode()) <= 107  # sun_path
    if isinstance(value, str) and fits and value[:1] in ("", "/"):
        return value
    raise ConfigError(field, value, "an absolute path of at most 107 bytes, or '' for none")


def endpoint(field: str, value: object) -> str:
    """``host:port`` or ``[host]:port``, the host an IP address."""
    match = re.fullmatch(r"(?:\[(.+)\]|([^:\[\]]+)):(\d{1,5})", str(value), re.ASCII)
    try:
        if match and isinstance(value, str) and int(match[3]) <= 65535:
            host = ip_address(field, match[1] or match[2])
            return f"[{host}]:{int(match[3])}" if ":" in host else f"{host}:{int(match[3])}"
    except ConfigError:
        pass
    raise ConfigError(field, value, "an address and port such as '127.0.0.1:9472'")


def account(field: str, value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", value):
        return value
    raise ConfigError(field, value, "the name of an account")


_TUNNEL = word(*SWITCHED)
_ID = number(0, 2**64 - 1)  # SWITCHED says what of it each tunnel takes

_FOR_ALL = ("ttl", "dscp", "ecn", "df", "ip_id", "flow_label", "source_port", "inner_vlan")
#: What a network or a remote may set of its tunnels: fields of their classes.
TUNNEL_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "vxlan": _FOR_ALL,
    "nvgre": (*_FOR_ALL, "flow_id"),
    "stt": _FOR_ALL,
}


def options(field: str, value: object) -> dict[str, Any]:
    """Its fields are checked later, with the tunnel that they belong to."""
    if isinstance(value, dict):
        return value
    raise ConfigError(field, value, "a table of the tunnel's options")


#: Every table of the configuration by its name, ``[[network.port]]`` as ``network.port``.
SECTIONS: Mapping[str, Section] = {
    "": Section({}, ("vtep", "network")),
    "vtep": Section(
        {
            "local": Key(address_or_interface, REQUIRED),
            "tunnel": Key(_TUNNEL, "vxlan"),
            "underlay": Key(device_name),
            "mtu": Key(number(576, 65535)),
            "port": Key(number(1, 65535), 4789),
            "checksum": Key(flag, True),
            "workers": Key(number(1, 64), 1),
            "networks": Key(number(1, 65534), 16384),
            "macs": Key(number(1, 1 << 28), 1 << 20),
            "neighbors": Key(number(1, 1 << 24), 65536),
            "reassembly": Key(number(1 << 16, 1 << 36), 16 << 20),
            "profile": Key(word("rfc", "strict", "lenient"), "rfc"),
            "fragments": Key(word("reassemble", "drop"), "reassemble"),
            "control": Key(path, "/run/overlay/ctl.sock"),
            "control_group": Key(account),
            "metrics": Key(endpoint),
            "user": Key(account),
            "drop_privileges": Key(word("unused", "all", "none"), "unused"),
        }
    ),
    "network": Section(
        {
            "id": Key(_ID, REQUIRED),
            "name": Key(label),
            "tunnel": Key(_TUNNEL),
            "mtu": Key(number(68, 65535)),
            "learn": Key(flag, True),
            "ageing": Key(seconds, 300.0),
            "suppress_arp": Key(flag, False),
            "limit": Key(number(1, 1 << 30)),
            "accept": Key(word("listed", "any"), "listed"),
            "mss_clamp": Key(clamp, False),
            "gbp": Key(number(0, 0xFFFF)),
            "group": Key(multicast),
            "options": Key(options),
        },
        ("remotes", "port", "static", "neighbor"),
    ),
    "network.remotes": Section(
        {
            "address": Key(unicast, REQUIRED),
            "tunnel": Key(_TUNNEL),
            "key": Key(_ID),
            "relay": Key(flag, False),
            "flood": Key(flag, True),
            "options": Key(options),
        }
    ),
    "network.port": Section(
        {
            "tap": Key(device_name),
            "interface": Key(device_name),
            "vlan": Key(number(1, 4094)),
            "mac": Key(host_mac),
            "name": Key(label),
            "queues": Key(number(1, 64)),
        }
    ),
    "network.static": Section(
        {
            "mac": Key(host_mac, REQUIRED),
            "remote": Key(unicast),
            "port": Key(label),
            "sticky": Key(flag, False),
        }
    ),
    "network.neighbor": Section(
        {
            "ip": Key(unicast, REQUIRED),
            "mac": Key(host_mac, REQUIRED),
            "router": Key(flag, False),
        }
    ),
}

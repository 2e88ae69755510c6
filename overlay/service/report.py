"""Report: what a VTEP is and what it counts, as plain values for JSON.

Lives here: the one place that reads the counters for people: control, metrics,
ctl and top show what it gives.  What must not: how any of them shows it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import overlay

from .plant import Member, Plant, place_of

if TYPE_CHECKING:
    from overlay.switch import Event, NetworkStats, Remote, Traffic

__all__ = ["event", "fdb", "listing", "neighbors", "stats"]


def _traffic(traffic: Traffic) -> dict[str, int]:
    return traffic._asdict()


def _drops(drops: Mapping[overlay.Status, int]) -> dict[str, int]:
    return {status.name: count for status, count in drops.items() if count}


def _network(stats: NetworkStats) -> dict[str, Any]:
    return {
        "ports": _traffic(stats.ports),
        "tunnels": _traffic(stats.tunnels),
        "copies": stats.copies,
        "answers": stats.answers,
        "drops": _drops(stats.drops),
        "macs": stats.macs,
    }


def head(member: Member) -> dict[str, Any]:
    """What names a network."""
    return {"id": member.spec.id, "tunnel": member.spec.tunnel, "name": member.spec.name}


def is_listed(member: Member, remote: Remote) -> bool:
    """Whether the remote was asked for, and not met (accept = "any")."""
    there = (remote.address, remote.protocol) in member.remotes
    return there or remote.address == member.spec.group


def _chosen(plant: Plant, members: list[Member] | None) -> list[Member]:
    """The members, or all of them in the order of their ids."""
    if members is not None:
        return members
    return sorted(plant.members.values(), key=lambda member: (member.spec.id, member.spec.tunnel))


def listing(plant: Plant, members: list[Member] | None = None) -> list[dict[str, Any]]:
    """Networks, all or some, with their ports and remotes; no counters."""
    return [
        {
            **head(member),
            "mtu": member.live.mtu,
            "learn": member.live.learn,
            "ageing": member.live.ageing,
            "suppress_arp": member.live.suppress_arp,
            "limit": member.live.limit,
            "accept": member.live.accept,
            "mss_clamp": member.live.mss_clamp,
            "gbp": member.spec.gbp,
            "group": member.spec.group,
            "macs": len(member.live.fdb),
            "ports": [
                {"name": spec.name, "tap": spec.tap, "interface": spec.interface,
                 "vlan": spec.vlan, "mac": spec.mac, "mtu": live.device.mtu}
                for spec, live in list(member.ports.values())
            ],
            "remotes": [
                {"address": live.address, "tunnel": live.protocol, "key": live.tunnel.key,
                 "relay": live.relay, "flood": live.flood, "mtu": live.mtu,
                 "resolved": live.resolved, "listed": is_listed(member, live)}
                for live in member.live.remotes
            ],
        }
        for member in _chosen(plant, members)
    ]  # fmt: skip


def stats(plant: Plant, members: list[Member] | None = None) -> dict[str, Any]:
    """Every counter, of all networks or of some; ``time`` is monotonic, in seconds."""
    found = plant.vtep.stats
    return {
        "time": time.monotonic(),
        "total": _network(found.total),
        "unknown": _network(found.unknown),
        "networks": [
            {
                **head(member),
                **_network(member.live.stats),
                "port": [
                    {"name": name, **_traffic(live.stats)}
                    for name, (_, live) in list(member.ports.items())
                ],
                "remote": [
                    {
                        "address": live.address,
                        "tunnel": live.protocol,
                        "listed": is_listed(member, live),
                        **_traffic(live.stats),
                    }
                    for live in member.live.remotes
                ],
            }
            for member in _chosen(plant, members)
        ],
        "fdb": dict(found.fdb),
        "neighbors": dict(found.neighbors),
        "reassembly": dict(found.reassembly),
        "fragments": dict(found.fragments),
        "devices": {
            name: {**dataclasses.asdict(device), "lost": _drops(device.lost)}
            for name, device in found.devices.items()
        },
        "events_lost": found.events_lost,
    }


def fdb(member: Member) -> Iterator[dict[str, Any]]:
    """The entries of a network's MAC table."""
    for entry in member.live.fdb:
        yield {
            "mac": entry.mac, **place_of(entry.where), "static": entry.static,
            "sticky": entry.sticky, "age": round(entry.age, 3),
        }  # fmt: skip


def neighbors(member: Member) -> Iterator[dict[str, Any]]:
    """The entries of a network's neighbour table."""
    for entry in member.live.neighbors:
        yield {
            "ip": entry.ip, "mac": entry.mac, "static": entry.static, "router": entry.router,
            "vlan": entry.vlan, "age": entry.age,
        }  # fmt: skip


def event(found: Event) -> dict[str, Any]:
    """An event; what is not set is left out."""
    network = found.network
    said = {
        "kind": found.kind,
        "time": found.time,
        "network": network.key if network else None,
        "mac": found.mac,
        "where": place_of(found.where) if found.where else None,
        "previous": place_of(found.previous) if found.previous else None,
        "status": found.status.name if found.status is not None else None,
        "address": found.address,
        "tunnel": found.tunnel or (network.tunnel if network else None),
        "mtu": found.mtu,
        "text": found.text,
    }
    return {name: value for name, value in said.items() if value is not None}

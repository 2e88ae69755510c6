"""Rate: what happened between two reports, per second."""

from __future__ import annotations

from typing import Any

__all__ = ["rates"]

_ENDS = {"port": ("name",), "remote": ("address", "tunnel")}


def _traffic(old: dict[str, int], new: dict[str, int], seconds: float) -> dict[str, float]:
    """Packets and bits a second, both ways; a counter that began anew counts from 0."""
    found = {}
    for way in ("in", "out"):
        for unit, name, size in (("frames", "pps", 1), ("bytes", "bps", 8)):
            now, then = new[f"{way}_{unit}"], old.get(f"{way}_{unit}", 0)
            found[f"{way}_{name}"] = size * (now - then if now >= then else now) / seconds
    return found


def _drops(old: dict[str, int], new: dict[str, int], seconds: float) -> list[dict[str, Any]]:
    """By reason, the most frequent first."""
    rows = [
        {"reason": reason, "count": count, "pps": max(0, count - old.get(reason, 0)) / seconds}
        for reason, count in new.items()
    ]
    return sorted(rows, key=lambda row: (-row["pps"], -row["count"], row["reason"]))


def rates(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The second of two ``stats`` reports as rates since the first.

    What the first has not is taken to have begun at 0.
    """
    seconds = max(new["time"] - old["time"], 1e-6)
    before = {(row["tunnel"], row["id"]): row for row in old["networks"]}
    networks = []
    for row in new["networks"]:
        then = before.get((row["tunnel"], row["id"]), {})
        shown: dict[str, Any] = {name: row[name] for name in ("id", "tunnel", "name", "macs")}
        for side in ("ports", "tunnels"):
            shown[side] = _traffic(then.get(side, {}), row[side], seconds)
        for end, names in _ENDS.items():
            was = {tuple(one[name] for name in names): one for one in then.get(end, [])}
            shown[end] = [
                {name: one[name] for name in names}
                | _traffic(was.get(tuple(one[name] for name in names), {}), one, seconds)
                for one in row[end]
            ]
        shown["drops"] = _drops(then.get("drops", {}), row["drops"], seconds)
        networks.append(shown)
    return {
        "seconds": seconds,
        "networks": networks,
        "total": {
            side: _traffic(old["total"][side], new["total"][side], seconds)
            for side in ("ports", "tunnels")
        },
        "unknown": _drops(old["unknown"]["drops"], new["unknown"]["drops"], seconds),
    }

"""Picture: a topology and its peers, drawn in plain text."""

from __future__ import annotations

from .peer import TENANT, Peer
from .topology import UNDERLAY

__all__ = ["draw"]

_GAP = "   "


def draw(peers: list[Peer]) -> str:
    """Hosts side by side: the tenant above, the end point, the underlay below."""
    boxes = [_box(peer) for peer in peers]
    joined = len(peers) == 2
    lines = []
    for row in zip(*boxes, strict=True):
        gap = "---" if joined and UNDERLAY in row[0][:8] else _GAP
        lines.append(gap.join(row).rstrip())
    if not joined:
        width = len(boxes[0][0])
        middle = (" " * (width // 2) + "|").ljust(width)
        lines.append(_GAP.join([middle] * len(peers)).rstrip())
        lines.append(" switch ".center(len(peers) * (width + len(_GAP)) - len(_GAP), "="))
    return "\n".join(lines)


def _box(peer: Peer) -> list[str]:
    segment, topology = peer.segment, peer.topology
    content = [
        f"{TENANT}  {peer.address(4)}  {peer.address(6)}",
        f"    {peer.mac}",
        f"    MTU {peer.mtu}",
        " |",
        f"{peer.kind}: {segment.tunnel} {segment.key}",
        " |",
        f"{UNDERLAY}  {topology.address(peer.host)}  {topology.address(peer.host, 6)}",
    ]
    width = 26
    return [
        f"+- host {peer.host.name} ".ljust(width + 3, "-") + "+",
        *(f"| {line.ljust(width)} |" for line in content),
        "+" + "-" * (width + 2) + "+",
    ]

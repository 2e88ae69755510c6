"""Kernel: what Linux's own VXLAN takes, end to end, between two namespaces of this machine.

Another quantity than a contender's: sending, encap, a veth pair, decap and receiving, of
frames that are not looked at by anybody.  Needs the rights to make network namespaces.
"""

from __future__ import annotations

from .meter import Figure, Row, Setting

__all__ = ["path"]


def path(seconds: float, rounds: int = 5, *, family: int = 4, size: int = 64) -> Row:
    """Frames of one size through the kernel's VXLAN; the verb is ``"path"``.

    :raises overlay.lab.LabError: namespaces cannot be made here.
    """
    from overlay.lab.blast import rate
    from overlay.lab.peer import KernelVxlan, Segment
    from overlay.lab.topology import Topology

    setting = Setting("vxlan", family, family == 6, str(size), "path")
    segment = Segment("vxlan", 5001, version=family, checksum=setting.checksum)
    with Topology() as topology:
        one, other = (KernelVxlan(topology, host, segment) for host in topology.hosts)
        one.start()
        other.start()
        blasts = [rate(one, other, size=size, seconds=seconds) for _ in range(rounds)]
    samples = [1e9 * blast.seconds / max(1, blast.received) for blast in blasts]
    return Row("kernel", setting, size, {"path": Figure.of(samples)})

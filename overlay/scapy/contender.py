"""Contender: scapy, as its documentation shows it, for the meter of :mod:`overlay.cost`."""

from __future__ import annotations

from overlay.cost.contender import loops
from overlay.cost.meter import Setting, Task

__all__ = ["Scapy"]


class Scapy:
    """VXLAN by scapy's own layers."""

    name = "scapy"

    def tasks(self, setting: Setting) -> list[Task]:
        if (setting.protocol, setting.checksum, setting.way) != ("vxlan", False, "single"):
            return []
        from scapy.layers import vxlan
        from scapy.layers.inet import IP, UDP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.l2 import Ether
        from scapy.packet import Packet, Raw

        def outer() -> Packet:
            if setting.family == 4:
                return IP(src="192.0.2.1", dst="192.0.2.2", flags="DF", id=0)
            return IPv6(src="2001:db8::1", dst="2001:db8::2")

        def encap(frame: bytes) -> bytes:
            ethernet = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00")
            udp = UDP(sport=49152, dport=4789, chksum=0)
            shim = vxlan.VXLAN(vni=0x123456, flags="Instance")
            return bytes(ethernet / outer() / udp / shim / Raw(frame))

        def decap(packet: bytes) -> bytes:
            return bytes(Ether(packet)[vxlan.VXLAN].payload)

        return loops(self.name, setting, encap, decap)

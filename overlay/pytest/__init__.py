"""For tests of tunnels: packets that are compared by field, and the plugin's fixtures.

    from overlay.pytest import Packet, assert_packets_equal

    def test_vxlan(overlay_golden):
        packet = Packet(tunnel.encap(frame))
        assert packet == Packet(expected)
        overlay_golden(packet)

pytest loads the fixtures, all of them named ``overlay_...``, by itself
(:mod:`overlay.pytest.plugin`); nothing here is imported by ``import overlay``.
"""

from __future__ import annotations

from .packet import Packet, assert_packets_equal, read_capture

__all__ = ["Packet", "assert_packets_equal", "read_capture"]

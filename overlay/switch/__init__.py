"""The live VTEP: a learning switch per network, between devices and tunnels.

What lives here: the control of the data plane, which runs in C.  What must
not: packet loops, the bytes of any header.
"""

from .event import Event
from .network import Network, Port, Remote
from .protocol import SWITCHED
from .stats import NetworkStats, Traffic, VtepStats
from .vtep import Vtep

__all__ = [
    "SWITCHED",
    "Event",
    "Network",
    "NetworkStats",
    "Port",
    "Remote",
    "Traffic",
    "Vtep",
    "VtepStats",
]

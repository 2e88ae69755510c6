"""The protocols that the live switch speaks.

What lives here: one list.  What must not: anything that is done by it.
"""

from __future__ import annotations

from overlay.tunnel import NVGRE, STT, VXLAN, Tunnel

__all__ = ["SWITCHED"]

#: By name.  The library's other protocols are for packets and captures.
SWITCHED: dict[str, type[Tunnel]] = {cls.name: cls for cls in (VXLAN, NVGRE, STT)}

"""The data plane of L2 overlays: VXLAN, NVGRE, STT, GENEVE, VXLAN-GPE, GRE and ERSPAN.

    >>> import overlay
    >>> t = overlay.VXLAN(vni=5001, local="192.0.2.1", remote="192.0.2.2")
    >>> packet = t.encap(bytes(60))
    >>> overlay.decap(packet).key
    5001

The whole public API is here by name; the documentation explains it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._backend import codec as _codec
from .batch import Batch
from .check import Difference, check
from .codec import Decapsulated, Reassembler, ReassemblyStats
from .columns import Columns, Fact
from .errors import (
    BackendError,
    CaptureError,
    ConfigError,
    DecapError,
    EncapError,
    MTUExceeded,
    OverlayError,
    Status,
)
from .fragment import FragmentReassembler as _FragmentReassembler
from .fragment import FragmentStats
from .profile import Profile
from .rule import Rule, load_rules
from .tunnel import (
    ERSPAN,
    GRE,
    NVGRE,
    PROTOCOLS,
    STT,
    VXLAN,
    VXLANGPE,
    Geneve,
    GeneveOption,
    Tunnel,
)
from .window import GreWindow

if TYPE_CHECKING:
    from .rewrite import Rewriter as Rewriter
    from .rewrite import RewriteStats as RewriteStats
    from .switch import Event as Event
    from .switch import Network as Network
    from .switch import Port as Port
    from .switch import Remote as Remote
    from .switch import Vtep as Vtep

__version__ = "0.1.0"

__all__ = [
    "ERSPAN",
    "GRE",
    "NVGRE",
    "PROTOCOLS",
    "STT",
    "VXLAN",
    "VXLANGPE",
    "BackendError",
    "Batch",
    "CaptureError",
    "Columns",
    "ConfigError",
    "DecapError",
    "Decapsulated",
    "Difference",
    "EncapError",
    "Fact",
    "FragmentReassembler",
    "FragmentStats",
    "Geneve",
    "GeneveOption",
    "GreWindow",
    "MTUExceeded",
    "OverlayError",
    "Profile",
    "ReassemblyStats",
    "Rule",
    "Status",
    "SttReassembler",
    "Tunnel",
    "backend",
    "check",
    "checksum",
    "coalesce_batch",
    "decap",
    "decap_batch",
    "decap_many",
    "encap_batch",
    "flow_hash",
    "inspect_batch",
    "load_rules",
    "segment_batch",
]

#: The backend in use: ``"native"``, ``"cffi"`` or ``"reference"``.
backend: str = _codec.name

FragmentReassembler: type[_FragmentReassembler] = _codec.FragmentReassembler
SttReassembler: type[Reassembler] = _codec.SttReassembler

# Bound once: one call less on the way to every packet.
checksum = _codec.checksum
coalesce_batch = _codec.coalesce_batch
decap = _codec.decap
decap_batch = _codec.decap_batch
decap_many = _codec.decap_many
encap_batch = _codec.encap_batch
flow_hash = _codec.flow_hash
inspect_batch = _codec.inspect_batch
segment_batch = _codec.segment_batch


def __getattr__(name: str) -> Any:
    # The twins and the live VTEP are imported when somebody asks for them.
    if name in ("native", "reference", "switch"):
        import importlib

        return importlib.import_module(f"overlay.{name}")
    if name in ("RewriteStats", "Rewriter"):
        from . import rewrite

        return getattr(rewrite, name)
    if name in ("Event", "Network", "Port", "Remote", "Vtep"):
        from . import switch

        return getattr(switch, name)
    raise AttributeError(f"module 'overlay' has no attribute {name!r}")

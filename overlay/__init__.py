"""The data plane of L2 overlays: VXLAN, NVGRE and STT.

    >>> import overlay
    >>> t = overlay.VXLAN(vni=5001, local="192.0.2.1", remote="192.0.2.2")
    >>> packet = t.encap(bytes(60))
    >>> overlay.decap(packet).key
    5001

The whole public API is here by name; the documentation explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ._backend import codec as _codec
from .batch import Batch
from .check import Difference, check
from .codec import Decapsulated, Reassembler, ReassemblyStats
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
from .profile import Profile
from .tunnel import NVGRE, PROTOCOLS, STT, VXLAN, Tunnel

if TYPE_CHECKING:
    import numpy.typing as npt

    from .codec import Buffer

__version__ = "0.1.0"

__all__ = [
    "NVGRE",
    "PROTOCOLS",
    "STT",
    "VXLAN",
    "BackendError",
    "Batch",
    "CaptureError",
    "ConfigError",
    "DecapError",
    "Decapsulated",
    "Difference",
    "EncapError",
    "MTUExceeded",
    "OverlayError",
    "Profile",
    "ReassemblyStats",
    "Status",
    "SttReassembler",
    "Tunnel",
    "backend",
    "check",
    "checksum",
    "decap",
    "decap_batch",
    "decap_many",
    "encap_batch",
    "flow_hash",
]

#: The backend in use: ``"native"``, ``"cffi"`` or ``"reference"``.
backend: str = _codec.name

SttReassembler: type[Reassembler] = _codec.SttReassembler


def decap(packet: Buffer, profile: str | Profile = "rfc", **options: Any) -> Decapsulated:
    """The frame, the key and the tunnel of one packet; finds the protocol.

    :param packet: an outer packet, a C-contiguous buffer of bytes.
    :param profile: ``"rfc"``, ``"strict"``, ``"lenient"`` or a :class:`Profile`.
    :param options: fields of the profile to change; ``link=1`` where the
        packet begins with IP; ``wire_length``, where a capture cut it.
    :raises DecapError: the packet was refused; ``error.status`` says why.
    """
    return _codec.decap(packet, profile, **options)


def decap_many(
    packets: Iterable[Buffer], profile: str | Profile = "rfc", **options: Any
) -> list[Decapsulated | DecapError]:
    """:func:`decap` of each packet, with the error in the refused places."""
    return _codec.decap_many(packets, profile, **options)


def decap_batch(batch: Batch, profile: str | Profile = "rfc", **options: Any) -> int:
    """Decap every row in place, in one call without the GIL; returns the rows done.

    Rows whose ``status`` is not OK are left alone.  A row that is refused gets
    its ``status`` and keeps its bytes; a row that is done gets ``key``,
    ``protocol`` and the inner frame's ``offset`` and ``length``.
    """
    return _codec.decap_batch(batch, profile, **options)


def encap_batch(
    batch: Batch, tunnels: Tunnel | Sequence[Tunnel], index: npt.ArrayLike | None = None
) -> int:
    """Encap every row in place: row i by ``tunnels[index[i]]``, or all by one tunnel.

    :param index: integers of shape ``(batch.count,)``, each below ``len(tunnels)``.
    :returns: the rows done; the others have their ``status``.
    :raises ConfigError: before any row is touched.
    """
    return _codec.encap_batch(batch, tunnels, index)


def flow_hash(frame: Buffer, seed: int = 0) -> int:
    """The 64-bit flow hash of an inner frame, from which all entropy comes."""
    return _codec.flow_hash(frame, seed)


def checksum(data: Buffer) -> int:
    """The internet checksum (RFC 1071) of ``data``, 0..0xFFFF."""
    return _codec.checksum(data)


def __getattr__(name: str) -> Any:
    # The twins are imported when somebody asks for them.
    if name in ("native", "reference"):
        import importlib

        return importlib.import_module(f"overlay.{name}")
    raise AttributeError(f"module 'overlay' has no attribute {name!r}")

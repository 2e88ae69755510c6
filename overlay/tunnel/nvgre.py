"""NVGRE as a value: what the NVGRE header is asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from overlay.errors import ConfigError

from .base import Tunnel, boolean

__all__ = ["NVGRE"]


@dataclass(frozen=True, kw_only=True, repr=False)
class NVGRE(Tunnel):
    """NVGRE (RFC 7637).

    :param vsid: the network, 0x001000..0xFFFFFE (RFC 7637 3.4).
    :param flow_id: the FlowID, 0..255; None takes it from the flow hash.
    :param allow_reserved_vsid: lets ``vsid`` be any 24-bit number.
    """

    name: ClassVar[str] = "nvgre"
    number: ClassVar[int] = 2
    key_field: ClassVar[str] = "vsid"
    _shim: ClassVar[int] = 8
    vsid: int
    flow_id: int | None = None
    allow_reserved_vsid: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        boolean("allow_reserved_vsid", self.allow_reserved_vsid)
        self._integer("vsid", 0, 0xFFFFFF)
        if not self.allow_reserved_vsid and not 0x1000 <= self.vsid <= 0xFFFFFE:
            raise ConfigError(
                "vsid", self.vsid, "0x1000..0xFFFFFE, or any with allow_reserved_vsid=True"
            )
        if self.flow_id is not None:
            self._integer("flow_id", 0, 255)

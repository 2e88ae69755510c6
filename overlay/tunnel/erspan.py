"""ERSPAN as a value: what the GRE and ERSPAN headers are asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from overlay.errors import ConfigError

from .base import Tunnel, boolean, choice, integer
from .gre import NO_KEY

__all__ = ["ERSPAN"]

_SECOND = ("vlan", "cos", "encapsulation", "truncated", "session_id", "sequence")
_OF_TYPE: dict[int, tuple[str, ...]] = {
    1: (),
    2: (*_SECOND, "index"),
    3: (*_SECOND, "timestamp", "security_group", "hardware", "direction", "granularity"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class ERSPAN(Tunnel):
    """ERSPAN: mirrored frames over GRE (draft-foschiano-erspan-03).

    Type I is GRE of protocol 0x88BE and the frame, with no other field and so no session:
    its :attr:`key` is :data:`~overlay.tunnel.NO_KEY`.  Type II puts 8 bytes between them,
    and type III, of protocol 0x22EB, 12.

    :param session_id: the mirroring session, 0..1023.
    :param type: 1, 2 or 3.
    :param vlan: VLAN of the mirrored frame, 0..4095.
    :param cos: its priority, 0..7.
    :param encapsulation: 0..3; type II: how the frame was tagged (En); type III: whether
        it is whole, bad, short or oversized (BSO).
    :param truncated: the T bit: the frame was cut.
    :param sequence: the GRE sequence number of the first packet, 0..0xFFFFFFFF, from
        which a tunnel counts up by one a packet.
    :param index: type II: the port index, 0..0xFFFFF.
    :param timestamp: type III: when the frame was mirrored, 0..0xFFFFFFFF.
    :param security_group: type III: the security group tag, 0..65535.
    :param hardware: type III: the mirroring engine's ID, 0..63.
    :param direction: type III: ``"ingress"`` or ``"egress"``.
    :param granularity: type III: the unit of ``timestamp``, 0..3.
    """

    name: ClassVar[str] = "erspan"
    number: ClassVar[int] = 7
    key_field: ClassVar[str] = "session_id"
    session_id: int = 0
    type: int = 2
    vlan: int = 0
    cos: int = 0
    encapsulation: int = 0
    truncated: bool = False
    sequence: int = 0
    index: int = 0
    timestamp: int = 0
    security_group: int = 0
    hardware: int = 0
    direction: Literal["ingress", "egress"] = "ingress"
    granularity: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._integer("session_id", 0, 1023)
        self._integer("type", 1, 3)
        self._integer("vlan", 0, 4095)
        self._integer("cos", 0, 7)
        self._integer("encapsulation", 0, 3)
        boolean("truncated", self.truncated)
        self._integer("sequence", 0, 0xFFFFFFFF)
        self._integer("index", 0, 0xFFFFF)
        self._integer("timestamp", 0, 0xFFFFFFFF)
        self._integer("security_group", 0, 0xFFFF)
        self._integer("hardware", 0, 63)
        choice("direction", self.direction, ("ingress", "egress"))
        self._integer("granularity", 0, 3)
        for name in {field for fields in _OF_TYPE.values() for field in fields}:
            default = type(self).__dataclass_fields__[name].default
            if name not in _OF_TYPE[self.type] and getattr(self, name) != default:
                raise ConfigError(name, getattr(self, name), f"{default!r} with type={self.type}")

    @property
    def key(self) -> int:
        """The session, or :data:`~overlay.tunnel.NO_KEY` for type I."""
        return NO_KEY if self.type == 1 else self.session_id

    def _shim_length(self) -> int:
        return (4, 4 + 4 + 8, 4 + 4 + 12)[integer("type", self.type, 1, 3) - 1]

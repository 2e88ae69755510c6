"""VXLAN as a value: what the VXLAN header is asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from overlay.errors import ConfigError

from .base import MISSING, Tunnel, boolean

__all__ = ["VXLAN"]


@dataclass(frozen=True, kw_only=True, repr=False)
class VXLAN(Tunnel):
    """VXLAN (RFC 7348), with the group-policy extension (draft-smith-vxlan-group-policy).

    :param vni: the network, 0..0xFFFFFF.
    :param port: UDP destination port, 0..65535.
    :param checksum: whether to compute the outer UDP checksum; by default not
        over IPv4 (RFC 7348 5) and always over IPv6 (RFC 8200 8.1).
    :param gbp: group policy id, 0..65535, or None for plain VXLAN.
    :param gbp_dont_learn: the D bit: the egress must not learn.
    :param gbp_applied: the A bit: the policy has been applied.
    """

    name: ClassVar[str] = "vxlan"
    number: ClassVar[int] = 1
    key_field: ClassVar[str] = "vni"
    _shim: ClassVar[int] = 8 + 8
    vni: int
    port: int = 4789
    checksum: bool = MISSING
    gbp: int | None = None
    gbp_dont_learn: bool = False
    gbp_applied: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._integer("vni", 0, 0xFFFFFF)
        self._integer("port", 0, 65535)
        boolean("checksum", self.checksum)
        boolean("gbp_dont_learn", self.gbp_dont_learn)
        boolean("gbp_applied", self.gbp_applied)
        if self.gbp is not None:
            self._integer("gbp", 0, 0xFFFF)
        elif self.gbp_dont_learn or self.gbp_applied:
            raise ConfigError("gbp", None, "a policy id in 0..65535, since a GBP flag is set")

    def _derived(self) -> dict[str, object]:
        return {**super()._derived(), "checksum": self.family == 6}

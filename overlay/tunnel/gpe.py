"""VXLAN-GPE as a value: what the VXLAN-GPE header is asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Tunnel, boolean, payload_is_ip

__all__ = ["VXLANGPE"]


@dataclass(frozen=True, kw_only=True, repr=False)
class VXLANGPE(Tunnel):
    """VXLAN with the Generic Protocol Extension (draft-ietf-nvo3-vxlan-gpe-13).

    :param vni: the network, 0..0xFFFFFF.
    :param port: UDP destination port, 0..65535.
    :param checksum: whether to compute the outer UDP checksum.
    :param payload: ``"ethernet"`` carries the frame (next protocol 3); ``"ip"`` the IP
        packet in it (next protocol 1 or 2), without its Ethernet header and tags.
    """

    name: ClassVar[str] = "vxlan-gpe"
    number: ClassVar[int] = 5
    key_field: ClassVar[str] = "vni"
    _shim: ClassVar[int] = 8 + 8
    vni: int
    port: int = 4790
    checksum: bool = True
    payload: Literal["ethernet", "ip"] = "ethernet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._integer("vni", 0, 0xFFFFFF)
        self._integer("port", 0, 65535)
        boolean("checksum", self.checksum)
        payload_is_ip(self.payload)

    def _replaced(self) -> int:
        return 14 if self.payload == "ip" else 0

"""GENEVE as a value: what the GENEVE header and its options are asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from overlay.errors import ConfigError

from .base import Tunnel, boolean, payload_is_ip
from .option import MAX_OPTIONS, GeneveOption

__all__ = ["Geneve"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Geneve(Tunnel):
    """GENEVE (RFC 8926).

    :param vni: the network, 0..0xFFFFFF.
    :param port: UDP destination port, 0..65535.
    :param checksum: whether to compute the outer UDP checksum (RFC 8926 3.3).
    :param options: the options in their order, 252 bytes of them at most; the C bit is set
        if any is critical.
    :param oam: the O bit: the packet is for the other end's control plane.
    :param payload: ``"ethernet"`` carries the frame (protocol type 0x6558); ``"ip"``
        the IP packet in it, without its Ethernet header and tags.
    """

    name: ClassVar[str] = "geneve"
    number: ClassVar[int] = 4
    key_field: ClassVar[str] = "vni"
    _shim: ClassVar[int] = 8 + 8
    vni: int
    port: int = 6081
    checksum: bool = True
    options: tuple[GeneveOption, ...] = ()
    oam: bool = False
    payload: Literal["ethernet", "ip"] = "ethernet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._integer("vni", 0, 0xFFFFFF)
        self._integer("port", 0, 65535)
        boolean("checksum", self.checksum)
        boolean("oam", self.oam)
        payload_is_ip(self.payload)
        try:
            self._put("options", tuple(self.options))
        except TypeError:
            raise ConfigError("options", self.options, "GeneveOptions") from None
        for option in self.options:
            if not isinstance(option, GeneveOption):
                raise ConfigError("options", option, "a GeneveOption")
        if len(self.option_bytes) > MAX_OPTIONS:
            size = f"<{len(self.option_bytes)} bytes>"
            raise ConfigError("options", size, f"at most {MAX_OPTIONS} bytes, headers included")

    @property
    def option_bytes(self) -> bytes:
        """The options as they are on the wire."""
        return b"".join(map(bytes, self.options))

    def _shim_length(self) -> int:
        return self._shim + len(self.option_bytes)

    def _replaced(self) -> int:
        return 14 if self.payload == "ip" else 0

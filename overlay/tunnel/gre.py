"""Plain GRE as a value: what the GRE header is asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import MISSING, Tunnel, boolean, payload_is_ip

__all__ = ["GRE", "NO_KEY"]

#: The key of a tunnel without one, which is another tunnel than that of key 0 (RFC 2890 2.1).
NO_KEY = 1 << 32


@dataclass(frozen=True, kw_only=True, repr=False)
class GRE(Tunnel):
    """GRE (RFC 2784, RFC 2890) that carries Ethernet, as the kernel's gretap does, or IP.

    :param key: the key, 0..0xFFFFFFFF, or None for a header without one; it is
        :data:`NO_KEY` (2**32) then.
    :param checksum: whether the header has a checksum, of itself and the payload.
    :param sequence: the number of the first packet, 0..0xFFFFFFFF, from which a tunnel
        counts up by one a packet (RFC 2890 2.2); None for a header without numbers.
        Where several tunnels encap one batch, the numbers are those of its rows.
    :param payload: ``"ethernet"`` carries the frame (protocol type 0x6558); ``"ip"``
        the IP packet in it, without its Ethernet header and tags.
    """

    name: ClassVar[str] = "gre"
    number: ClassVar[int] = 6
    key_field: ClassVar[str] = "key"
    #: :attr:`key` of a tunnel without one.
    NO_KEY: ClassVar[int] = NO_KEY
    key: int = MISSING  # pyright: ignore[reportIncompatibleMethodOverride]
    checksum: bool = False
    sequence: int | None = None
    payload: Literal["ethernet", "ip"] = "ethernet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key != NO_KEY:
            self._integer("key", 0, 0xFFFFFFFF, or_else=", or None for no key")
        boolean("checksum", self.checksum)
        if self.sequence is not None:
            self._integer("sequence", 0, 0xFFFFFFFF, or_else=" or None")
        payload_is_ip(self.payload)

    def _derived(self) -> dict[str, object]:
        return {**super()._derived(), "key": NO_KEY}

    def _shim_length(self) -> int:
        return 4 + 4 * (self.checksum + (self.key != NO_KEY) + (self.sequence is not None))

    def _replaced(self) -> int:
        return 14 if self.payload == "ip" else 0

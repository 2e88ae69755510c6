"""STT as a value: what the STT header is asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from overlay.errors import ConfigError

from .base import Tunnel, choice

__all__ = ["STT"]


@dataclass(frozen=True, kw_only=True, repr=False)
class STT(Tunnel):
    """STT, the Stateless Transport Tunneling Protocol (draft-davie-stt-08).

    :param context_id: the network, 0..2**64-1.
    :param inner_checksum: what the header says of the inner L4 checksum:
        ``"unknown"``; ``"verified"`` (flag C); or ``"partial"`` (flag P), in
        which case the field is left for the receiver to complete.  The
        caller vouches for the frame's checksum: it is not looked at.
    :param mss: with ``"partial"``, the L4 payload of the packets that the
        receiver cuts a longer inner TCP packet into, 0..65535; 0 for no cut.
    :param frame_id: the frame ID (the TCP acknowledgement field), 0..2**32-1;
        None counts up from a random start.
    """

    name: ClassVar[str] = "stt"
    number: ClassVar[int] = 3
    key_field: ClassVar[str] = "context_id"
    _shim: ClassVar[int] = 20 + 18
    context_id: int
    inner_checksum: Literal["unknown", "verified", "partial"] = "unknown"
    mss: int = 0
    frame_id: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._integer("context_id", 0, 2**64 - 1)
        choice("inner_checksum", self.inner_checksum, ("unknown", "verified", "partial"))
        self._integer("mss", 0, 65535)
        if self.mss and self.inner_checksum != "partial":
            raise ConfigError("mss", self.mss, "0 unless inner_checksum='partial'")
        if self.frame_id is not None:
            self._integer("frame_id", 0, 2**32 - 1)

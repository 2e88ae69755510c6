"""Device: how a device under test is driven: packets in on either side, packets out.

Lives here: what every device can do, and the package's own codec as one, in memory.
What must not: interfaces and namespaces, which are in interfaces.py and namespaces.py.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import overlay
from overlay import PROTOCOLS, Profile, Tunnel

from .packet import Setting

__all__ = ["CodecDevice", "Device"]


class Device(abc.ABC):
    """Something with an underlay side and a tenant side, in one setting.

    name: what it is called in reports.  version: of what it runs, if that is known.
    delayed: whether what it does may take time; what is in memory is done at once.
    """

    name = ""
    version = ""
    delayed = True
    setting: Setting

    @abc.abstractmethod
    def send(self, side: str, packets: Sequence[bytes]) -> None:
        """Packets in on a side, ``"underlay"`` or ``"tenant"``, Ethernet header first."""

    @abc.abstractmethod
    def take(self, side: str, wait: float) -> bytes | None:
        """The next packet out of a side; None if none comes within ``wait`` seconds."""

    def drain(self) -> None:
        """Forget what has come and was not taken."""
        for side in ("underlay", "tenant"):
            while self.take(side, 0.0) is not None:
                pass

    def reset(self) -> None:  # noqa: B027 - not every device remembers something
        """Forget what earlier cases left behind, where that can be asked for."""

    def close(self) -> None:  # noqa: B027 - not every device holds something
        """Let go of it."""

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class CodecDevice(Device):
    """This package's codec as a device: decap towards the tenant, encap towards the underlay.

    :param profile: the name of the receive profile.
    :param inner_vlan: what is done with inner VLAN tags, by both directions: ``"keep"``
        leaves them; ``"refuse"`` takes them off on the way in and drops tagged frames on
        the way out, as RFC 7348 6.1 would have it.
    """

    name = "codec"
    version = f"overlay {overlay.__version__} ({overlay.backend})"
    delayed = False

    def __init__(self, setting: Setting, *, profile: str = "rfc", inner_vlan: str = "keep") -> None:
        self.setting = setting
        refuse = inner_vlan == "refuse"
        self.profile = Profile(
            base=profile,  # type: ignore[arg-type]
            protocols=(setting.protocol,),
            keys=frozenset({setting.key}),
            inner_vlan="reject" if refuse else "keep",
            options=frozenset(),
        )
        kind = PROTOCOLS[setting.protocol]
        fields: dict[str, Any] = {kind.key_field: setting.key}
        if refuse:
            fields["inner_vlan"] = "strip"
        self.tunnel: Tunnel = kind(
            local=setting.device, remote=setting.tester, local_mac=setting.device_mac,
            remote_mac=setting.tester_mac, **fields,
        )  # fmt: skip
        self._reassembler = overlay.SttReassembler(profile=self.profile)
        self._out: dict[str, deque[bytes]] = {"underlay": deque(), "tenant": deque()}

    def send(self, side: str, packets: Sequence[bytes]) -> None:
        if side == "tenant":
            for frame in packets:
                self._out["underlay"] += self.encap(frame)
        else:
            for packet in packets:
                self._out["tenant"] += self.decap(packet)

    def encap(self, frame: bytes) -> list[bytes]:
        """The packets of a frame; none if it is refused."""
        try:
            return self.tunnel.packets(frame)
        except overlay.EncapError:
            return []

    def decap(self, packet: bytes) -> list[bytes]:
        """The frames of a packet; none if it is refused."""
        try:
            if self.setting.protocol == "stt":
                whole = self._reassembler.push(packet, 0.0)
            else:
                whole = overlay.decap(packet, profile=self.profile)
        except overlay.DecapError:
            return []
        return [] if whole is None else whole.segments()

    def take(self, side: str, wait: float) -> bytes | None:  # noqa: ARG002 - nothing takes time
        return self._out[side].popleft() if self._out[side] else None

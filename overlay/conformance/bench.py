"""Bench: what a case can do with a device: send, look, and be sure that it is alive.

Silence is only taken for a refusal between two signs of life: a plain packet
that comes through before, and one after.  What must not: any protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import packet
from .case import Fault, Unjudged
from .device import Device
from .outer import Outer, read
from .packet import Setting

__all__ = ["Bench", "Probe"]

#: What every frame of the tester carries, with a number after it.
_MARK = b"\xc0\x4f\x0c\x3d"
_TOKEN = len(_MARK) + 4


@dataclass(frozen=True)
class Probe:
    """Packets for the device's underlay side, and the frame that must come of them, or None.

    alive_only: whatever it does with them is right, if it lives on.
    """

    name: str
    packets: tuple[bytes, ...]
    frame: bytes | None
    alive_only: bool = False


class Bench:
    """A device and a case that is being tried on it.

    :param wait: seconds within which a live device must have passed a packet.
    :param grace: seconds that what should not come is waited for, after the sign of life.
    """

    def __init__(self, device: Device, *, wait: float = 2.0, grace: float = 0.03) -> None:
        self.device, self.wait = device, wait
        self.grace = grace if device.delayed else 0.0
        self._count = 0

    @property
    def setting(self) -> Setting:
        """Who is who."""
        return self.device.setting

    # -- making -----------------------------------------------------------

    def token(self) -> bytes:
        """Bytes that no other frame has."""
        self._count += 1
        return _MARK + self._count.to_bytes(4, "big")

    def frame(self, **how: Any) -> bytes:
        """An inner frame for the device's tenant, as :func:`.packet.udp_frame`, of a new flow."""
        token = self.token()
        how.setdefault("flow", self._count)
        return packet.udp_frame(self.setting.far, self.setting.near, token, **how)

    def from_tenant(self, **how: Any) -> bytes:
        """An inner frame of the device's tenant, of a new flow."""
        token = self.token()
        how.setdefault("flow", self._count)
        return packet.udp_frame(self.setting.near, self.setting.far, token, **how)

    def not_ip(self, *, to_device: bool = True, size: int = 46) -> bytes:
        """An inner frame that is not IP, of ``size`` bytes of payload."""
        near, far = self.setting.near, self.setting.far
        to, by = (near, far) if to_device else (far, near)
        return packet.ethernet(to, by, packet.EXPERIMENT, self.token().ljust(size, b"\x5a"))

    def outer(self, frame: bytes, **how: Any) -> bytes:
        """The packet that carries ``frame``, as :func:`.packet.outer`."""
        return packet.outer(self.setting, frame, **how)

    # -- decap ------------------------------------------------------------

    def passes(self, name: str = "it", frame: bytes | None = None, **how: Any) -> Probe:
        """A packet whose frame must come through as it is."""
        frame = self.frame() if frame is None else frame
        return Probe(name, (self.outer(frame, **how),), frame)

    def refused(self, name: str = "it", frame: bytes | None = None, **how: Any) -> Probe:
        """A packet whose frame must not come through."""
        frame = self.frame() if frame is None else frame
        return Probe(name, (self.outer(frame, **how),), None)

    def decap(self, *probes: Probe) -> None:
        """Send them all, and raise :class:`Fault` for what did not end as it must."""
        heard = self._heard(probes)
        late = [p for p in probes if p.frame is not None and not _with(_token(p), heard)]
        if late:  # a packet can get lost on the way once
            heard += self._heard(late)
        faults = [fault for probe in probes if (fault := self._fault(probe, heard))]
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise Fault(faults[0] + more)

    def either(self, probe: Probe) -> None:
        """As :meth:`decap`, but nothing at all may come of it too."""
        heard = self._heard([probe])
        if _with(_token(probe), heard) and (fault := self._fault(probe, heard)):
            raise Fault(fault)

    def _heard(self, probes: Iterable[Probe]) -> list[bytes]:
        """What came to the tenant for these probes, the signs of life left out."""
        self.device.drain()
        before, after = self.frame(), self.frame()
        if not self._alive(before) and not self._alive(self.frame()):
            raise Unjudged("a plain packet did not come through before it")
        for probe in probes:
            self.device.send("underlay", probe.packets)
        self.device.send("underlay", [self.outer(after)])
        heard = self._take("tenant", lambda frames: bool(_with(_own(after), frames)))
        if not _with(_own(after), heard) and not self._alive(self.frame()):
            raise Fault("no plain packet comes through after it")
        wanted = [p for p in probes if p.frame is not None]
        heard += self._take(
            "tenant",
            lambda frames: (
                bool(wanted)
                and all(_with(_token(p), heard + frames) for p in wanted)
                and len(wanted) == len(tuple(probes))
            ),
            self.grace,
        )
        return [frame for frame in heard if self._mine(frame) and not _with(_own(after), [frame])]

    def _mine(self, frame: bytes) -> bool:
        return _MARK in frame or frame[6:12] == packet.mac(self.setting.far)

    def _alive(self, frame: bytes) -> bool:
        self.device.send("underlay", [self.outer(frame)])
        return bool(_with(_own(frame), self._take("tenant", lambda f: bool(_with(_own(frame), f)))))

    def _fault(self, probe: Probe, heard: list[bytes]) -> str | None:
        if probe.alive_only:
            return None
        token = _token(probe)
        if token is None:  # too short to carry one
            stray = [frame for frame in heard if _MARK not in frame]
            return f"{probe.name}: a frame of {len(stray[0])} bytes came of it" if stray else None
        came = _with(token, heard)
        if probe.frame is None:
            return f"{probe.name}: passed on" if came else None
        if not came:
            return f"{probe.name}: dropped"
        if len(came) > 1 and len(set(came)) > 1:
            return f"{probe.name}: {len(came)} frames came of it"
        if came[0] != probe.frame:
            return f"{probe.name}: {_difference(probe.frame, came[0])}"
        return None

    def _take(
        self, side: str, enough: Callable[[list[bytes]], bool], wait: float | None = None
    ) -> list[bytes]:
        """What comes to a side until it is enough, or the time is up."""
        end = time.monotonic() + (self.wait if wait is None else wait)
        heard: list[bytes] = []
        while not enough(heard):
            one = self.device.take(side, max(end - time.monotonic(), 0.0))
            if one is not None:
                heard.append(one)
            elif not self.device.delayed or time.monotonic() >= end:
                break
            if time.monotonic() > end + 1.0:  # something never stops
                break
        return heard

    # -- encap ------------------------------------------------------------

    def encap(self, frames: Sequence[bytes]) -> list[Outer]:
        """The packet that the device makes of each of its tenant's frames.

        :raises Unjudged: not even a plain frame made a packet.
        :raises Fault: one of these frames made none, or several.
        """
        self._wake()
        made = []
        for number, outers in enumerate(self._encapped_all(frames), 1):
            if not outers:
                raise Fault(f"frame {number} of {len(frames)}: no packet came of it")
            made.append(outers[0])
        return made

    def encapped(self, frame: bytes) -> list[Outer]:
        """The packets that the device makes of one frame, after a sign of life; perhaps none."""
        self._wake()
        found: list[Outer] = []
        for _ in range(2):  # a frame can get lost on the way once
            life = self.from_tenant()
            found, alive = self._packets([frame, life], last=life)
            if not alive:
                raise Fault("no plain frame makes a packet after it")
            if found:
                break
        return found

    def _wake(self) -> None:
        self.device.drain()
        for _ in range(3):  # it may first ask for our address
            if self._packets([self.from_tenant()])[0]:
                return
        raise Unjudged("a plain frame of the tenant made no packet")

    def _encapped_all(self, frames: Sequence[bytes]) -> list[list[Outer]]:
        found = self._packets(frames)
        again = [i for i, outers in enumerate(found) if not outers]
        if again:
            life = self.from_tenant()
            more = self._packets([*(frames[i] for i in again), life], last=life)
            for i, outers in zip(again, more, strict=False):
                found[i] = outers
        return found

    def _packets(self, frames: Sequence[bytes], last: bytes | None = None) -> list[list[Outer]]:
        tokens = [_own(frame) for frame in frames]
        heard: list[bytes] = []
        for start in range(0, len(frames), 32):  # no more than any queue holds
            some = tokens[start : start + 32]
            self.device.send("tenant", frames[start : start + 32])
            done = [_own(last)] if last is not None and _own(last) in some else some
            heard += self._take("underlay", partial(_all_in, done))
        outers = [o for one in heard if (o := read(self.setting, one)) is not None]
        return [[o for o in outers if token is not None and token in o.packet] for token in tokens]


def _all_in(tokens: Sequence[bytes | None], frames: list[bytes]) -> bool:
    return all(_with(token, frames) for token in tokens)


def _own(frame: bytes) -> bytes | None:
    at = frame.find(_MARK)
    return frame[at : at + _TOKEN] if at >= 0 and at + _TOKEN <= len(frame) else None


def _token(probe: Probe) -> bytes | None:
    return _own(b"".join(probe.packets) if probe.frame is None else probe.frame)


def _with(token: bytes | None, frames: Iterable[bytes]) -> list[bytes]:
    return [] if token is None else [frame for frame in frames if token in frame]


def _difference(right: bytes, came: bytes) -> str:
    """Where two frames differ, in words."""
    from overlay.layout import frame_fields, name_at

    at = next((i for i, (a, b) in enumerate(zip(right, came, strict=False)) if a != b), -1)
    if at < 0:
        return f"the frame came with {len(came)} bytes, not {len(right)}"
    name = name_at(frame_fields(right), at)
    return f"{name} came as {came[at]:#04x}, not {right[at]:#04x}, at byte {at}"

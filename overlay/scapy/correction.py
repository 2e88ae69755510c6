"""Correction: for a while, scapy's VXLAN, GENEVE and ERSPAN as their documents have them.

Lives here: each difference, beside what it is put right by.  Must not:
anything that stays when the block is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from scapy.contrib.erspan import ERSPAN, ERSPAN_I, ERSPAN_III, ERSPAN_PlatformSpecific
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from .entropy import Derived, source_port
from .stt import STT

__all__ = ["corrected"]

_GPE = {IP: 1, IPv6: 2}
_ETHERTYPE = {IP: 0x0800, IPv6: 0x86DD}
_GPE_PORT = 4790
_ABSENT = object()

_lock = threading.Lock()
_depth = 0
_saved: list[tuple[type, str, Any]] = []


@contextmanager
def corrected(*, checksum: bool = False) -> Iterator[None]:
    """Within the block scapy builds and reads tunnels as their documents have them.

    Only what a packet leaves open is different: a field that is given stays.  It
    holds for the whole process, blocks may lie within each other, and the
    end of the outermost puts everything back.  A packet is built when its bytes are
    asked for: ask within the block.

    :param checksum: whether VXLAN over IPv4 has a UDP checksum, which SHOULD be
        zero there (RFC 7348 5).  The outermost block decides.
    """
    global _depth
    with _lock:
        if not _depth:
            for owner, name, value in _corrections(checksum):
                _saved.append((owner, name, owner.__dict__.get(name, _ABSENT)))
                setattr(owner, name, value)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            while not _depth and _saved:
                owner, name, value = _saved.pop()
                if value is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, value)


def _corrections(checksum: bool) -> Iterator[tuple[type, str, Any]]:
    for layer, settle in ((VXLAN, _settle_vxlan), (GENEVE, _settle_geneve)):
        yield layer, "_overload_fields", _without_udp(layer)
        yield layer, "add_underlayer", _then(layer.add_underlayer, settle)
        yield layer, "add_payload", _then(layer.add_payload, settle)
    yield VXLAN, "answers", _answers_vxlan
    yield GENEVE, "post_build", _mark_critical(GENEVE.post_build)
    yield GeneveOptions, "post_build", _fill_option
    yield UDP, "answers", _between_ports(UDP.answers, UDP, (VXLAN, GENEVE))
    yield TCP, "answers", _between_ports(TCP.answers, TCP, (STT,))
    yield TCP, "hashret", _hash_stt(TCP.hashret)
    if not checksum:
        yield UDP, "post_build", _without_checksum(UDP.post_build)
    sequenced = {**ERSPAN_III._overload_fields, GRE: {"proto": 0x22EB, "seqnum_present": 1}}
    yield ERSPAN_III, "_overload_fields", sequenced
    for upper, more in ((Ether, 0), (ERSPAN_PlatformSpecific, 1)):
        ethernet = {**upper._overload_fields, ERSPAN_III: {"o": more, "p": 1}}
        yield upper, "_overload_fields", ethernet
    yield ERSPAN, "dispatch_hook", classmethod(_erspan_type(ERSPAN.dispatch_hook))


def _without_udp(layer: Any) -> dict[Any, Any]:
    return {lower: given for lower, given in layer._overload_fields.items() if lower is not UDP}


def _then(verb: Callable[..., None], settle: Callable[[Any], None]) -> Callable[..., None]:
    def both(self: Any, other: Any) -> None:
        verb(self, other)
        settle(self)

    return both


def _settle_vxlan(vxlan: Any) -> None:
    """The P bit is of VXLAN-GPE, and so is its port; the G bit of a group policy."""
    lower = vxlan.underlayer if isinstance(vxlan.underlayer, UDP) else None
    inner = next((kind for kind in _GPE if isinstance(vxlan.payload, kind)), None)
    gpe = inner is not None or (lower is not None and lower.fields.get("dport") == _GPE_PORT)
    if gpe:
        following = _GPE[inner] if inner else 3
        vxlan.overloaded_fields = {"flags": 0x0C, "NextProtocol": following}
    elif {"gpid", "gpflags"} & vxlan.fields.keys():
        vxlan.overloaded_fields = {"flags": 0x88}
    else:
        vxlan.overloaded_fields = {}
    if lower is not None:
        lower.overloaded_fields = Derived(
            sport=source_port(lambda: vxlan.payload, lambda: _ethertype(vxlan)),
            dport=_GPE_PORT if gpe else 4789,
        )


def _settle_geneve(geneve: Any) -> None:
    if isinstance(geneve.underlayer, UDP):
        geneve.underlayer.overloaded_fields = Derived(
            sport=source_port(lambda: geneve.payload, lambda: _ethertype(geneve)), dport=6081
        )


def _ethertype(tunnel: Any) -> int | None:
    return next((e for kind, e in _ETHERTYPE.items() if isinstance(tunnel.payload, kind)), None)


def _answers_vxlan(self: Any, other: Any) -> int:
    """An answer is of the same network."""
    if not isinstance(other, VXLAN) or other.vni != self.vni:
        return 0
    return int(self.payload.answers(other.payload))


def _mark_critical(build: Callable[..., bytes]) -> Callable[..., bytes]:
    """The C bit, where an option is critical (RFC 8926 3.4)."""

    def post_build(self: Any, p: bytes, pay: bytes) -> bytes:
        if "critical" not in self.fields and any(o.type & 0x80 for o in self.options):
            p = p[:1] + bytes([p[1] | 0x40]) + p[2:]
        return build(self, p, pay)

    return post_build


def _fill_option(self: Any, p: bytes, pay: bytes) -> bytes:
    """Options are of whole words (RFC 8926 3.5), and keep their reserved bits."""
    if self.length is None:
        p += bytes(-len(p) % 4)
        p = p[:3] + bytes([p[3] & 0xE0 | (len(p) // 4 - 1) & 0x1F]) + p[4:]
    return p + pay


def _between_ports(
    answers: Callable[..., int], lower: type, tunnels: tuple[type, ...]
) -> Callable[..., int]:
    """The source ports of the two ways of a tunnel have nothing to do with each other."""

    def either(self: Any, other: Any) -> int:
        of_tunnel = isinstance(self.payload, tunnels) and isinstance(other, lower)
        return int(self.payload.answers(other.payload)) if of_tunnel else answers(self, other)

    return either


def _hash_stt(hashret: Callable[..., bytes]) -> Callable[..., bytes]:
    def either(self: Any) -> bytes:
        if isinstance(self.payload, STT):
            return bytes(self.payload.hashret())
        return hashret(self)

    return either


def _without_checksum(build: Callable[..., bytes]) -> Callable[..., bytes]:
    def post_build(self: Any, p: bytes, pay: bytes) -> bytes:
        built = build(self, p, pay)
        open_ = self.chksum is None and isinstance(self.payload, VXLAN)
        if open_ and isinstance(self.underlayer, IP):
            return built[:6] + b"\0\0" + built[8:]
        return built

    return post_build


def _erspan_type(dispatch: Callable[..., Any]) -> Callable[..., Any]:
    """Without a sequence number it is of type I, whatever the frame begins with."""

    def hook(_: Any, pkt: bytes | None = None, *args: Any, **options: Any) -> Any:
        lower: Packet | None = options.get("_underlayer")
        if pkt and isinstance(lower, GRE) and lower.proto == 0x88BE and not lower.seqnum_present:
            return ERSPAN_I
        return dispatch(pkt, *args, **options)

    return hook

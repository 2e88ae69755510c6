"""What the contract says encap gives, computed the slow way from `wire`.

A third opinion beside the twins: it knows the tunnel's fields and the RFCs'
layouts, and nothing of any backend.
"""

from __future__ import annotations

import struct

import shims
import wire
from overlay import ERSPAN, GRE, NVGRE, STT, VXLAN, VXLANGPE, Geneve, Status, Tunnel

_M64 = 2**64 - 1
K0, K1 = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
K2, K3 = 0x8CB92BA72F3D8DD7, 0x9FB21C651E98DF25


def flow_hash(frame: bytes, seed: int = 0) -> int:
    """The flow hash of an inner frame, as docs/internals/contract.rst defines it."""
    it = wire.inner(frame)
    state = seed

    def fold(a: int, b: int) -> int:
        return (a * b >> 64) ^ (a * b & _M64)

    def absorb(a: int, b: int) -> None:
        nonlocal state
        state = fold(a ^ state ^ K0, b ^ K1)

    def word(at: int, size: int = 8) -> int:
        return int.from_bytes(frame[at : at + size], "little")

    l4 = it.protocol << 32
    if it.protocol in (wire.TCP, wire.UDP, wire.SCTP) and len(frame) >= it.l4 + 4:
        l4 |= word(it.l4, 4)
    if it.fragment or it.extension:
        l4 = 0
    if it.version == 4:
        absorb(word(it.l3 + 12), l4)
    elif it.version == 6:
        absorb(word(it.l3 + 8), word(it.l3 + 16))
        absorb(word(it.l3 + 24), word(it.l3 + 32))
        absorb(l4, 0)
    else:
        vid = it.tags[0][1] & 0xFFF if it.tags else 0
        absorb(word(0), word(8, 4) | it.ethertype << 32 | vid << 48)
    return fold(state ^ K2, K3)


def source_port(tunnel: Tunnel, frame: bytes) -> int:
    low, high = 49152, 65535
    if isinstance(tunnel.source_port, tuple):
        low, high = tunnel.source_port
    elif tunnel.source_port is not None:
        return tunnel.source_port
    return low + ((flow_hash(frame, tunnel.seed) & 0xFFFFFFFF) * (high - low + 1) >> 32)


def is_ip(tunnel: Tunnel) -> bool:
    """Whether the tunnel carries the IP packet of a frame, and no Ethernet."""
    return getattr(tunnel, "payload", "ethernet") == "ip"


def ethertype(frame: bytes) -> int:
    (value,) = struct.unpack_from("!H", frame, 12)
    return int(value)


def carried(tunnel: Tunnel, frame: bytes) -> tuple[bytes, int]:
    """The inner frame as the payload holds it, and the TCI that moved to the STT header.

    Where IP is carried, the frame whose IP packet it is.
    """
    if tunnel.inner_vlan == "reject":
        return frame, 0
    if tunnel.inner_vlan == "strip" or isinstance(tunnel, NVGRE) or is_ip(tunnel):
        return wire.untag(frame), 0
    if isinstance(tunnel, STT) and frame[12:14] == b"\x81\x00":
        (tci,) = struct.unpack_from("!H", frame, 14)
        return wire.untag(frame, 1), tci & 0xEFFF | 0x1000
    return frame, 0


def _needed(tunnel: Tunnel, frame: bytes) -> int:
    """The least length of a frame with these tags."""
    moved = 2
    if tunnel.inner_vlan == "reject":
        moved = 0
    elif tunnel.inner_vlan == "keep" and not isinstance(tunnel, NVGRE) and not is_ip(tunnel):
        moved = 1 if isinstance(tunnel, STT) and frame[12:14] == b"\x81\x00" else 0
    least = 14
    while moved and len(frame) >= least and _tagged(frame, least - 2):
        least += 4
        moved -= 1
    return least


def _tagged(frame: bytes, at: int = 12) -> bool:
    return frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8")


def refusal(tunnel: Tunnel, frame: bytes) -> Status:
    """Why encap refuses this frame; OK if it does not."""
    if len(frame) < _needed(tunnel, frame):
        return Status.FRAME_TOO_SHORT
    inside, _ = carried(tunnel, frame)
    if (tunnel.inner_vlan == "reject" and _tagged(frame)) or (
        isinstance(tunnel, NVGRE) and _tagged(inside)
    ):
        return Status.FRAME_TAGGED
    if is_ip(tunnel):
        least = {0x0800: 20, 0x86DD: 40}.get(ethertype(inside))
        if least is None or len(inside) < 14 + least:
            return Status.FRAME_NOT_IP
    after_ip = len(inside) + tunnel._shim_length() - (14 if is_ip(tunnel) else 0)
    if after_ip + (20 if tunnel.family == 4 else 0) > 65535:
        return Status.FRAME_TOO_LONG
    if isinstance(tunnel, STT) and len(inside) + 18 > 65535:
        return Status.FRAME_TOO_LONG
    return Status.OK


def tos(tunnel: Tunnel, frame: bytes) -> int:
    theirs = wire.inner(frame).tos
    dscp = theirs >> 2 if tunnel.dscp == "inherit" else int(tunnel.dscp)
    return dscp << 2 | (theirs & 3 if tunnel.ecn == "rfc6040" else 0)


def stt_frame(tunnel: STT, frame: bytes) -> bytes:
    """The STT header and the frame behind it."""
    inside, tci = carried(tunnel, frame)
    flags = l4_offset = mss = 0
    it = wire.inner(inside)
    if wire.offloadable(inside):
        if tunnel.inner_checksum == "verified":
            flags = 0x01
        elif tunnel.inner_checksum == "partial" and it.l4 <= 255:
            tcp = it.protocol == wire.TCP
            flags = 0x02 | (0x04 if it.version == 4 else 0) | (0x08 if tcp else 0)
            l4_offset = it.l4
            if tcp:
                data = it.end - it.l4 - (inside[it.l4 + 12] >> 4) * 4
                mss = tunnel.mss if data > tunnel.mss else 0
            inside = _pseudo_sum(inside)
    header = wire.stt_header(tunnel.context_id, flags=flags, l4_offset=l4_offset, mss=mss, tci=tci)
    return header + inside


def _pseudo_sum(frame: bytes) -> bytes:
    """The frame with the sum of its pseudo header where the L4 checksum was."""
    it = wire.inner(frame)
    at = it.l4 + (16 if it.protocol == wire.TCP else 6)
    src, size = (it.l3 + 12, 4) if it.version == 4 else (it.l3 + 8, 16)
    head = wire.pseudo(
        frame[src : src + size], frame[src + size : src + 2 * size], it.protocol, it.end - it.l4
    )
    return frame[:at] + struct.pack("!H", wire.sum16(head)) + frame[at + 2 :]


def encap(tunnel: Tunnel, frame: bytes, sequence: int = 0) -> bytes | Status:
    """The one packet of a frame, or why there is none."""
    status = refusal(tunnel, frame)
    if status:
        return status
    h = flow_hash(frame, tunnel.seed)
    fields: dict[str, object] = {"tos": tos(tunnel, frame), "ttl": tunnel.ttl}
    if tunnel.family == 4:
        ident = tunnel.ip_id
        if ident is None:
            ident = 0 if tunnel.df else sequence & 0xFFFF
        fields |= {"ident": ident, "flags": 0x4000 if tunnel.df else 0}
    else:
        label = tunnel.flow_label
        fields["flow_label"] = h >> 36 & 0xFFFFF if label is None else label
    eth: dict[str, object] = {"dst": tunnel.remote_mac, "src": tunnel.local_mac}
    if tunnel.outer_vlan is not None:
        tci = tunnel.outer_pcp << 13 | tunnel.outer_dei << 12 | tunnel.outer_vlan
        eth["tags"] = ((0x8100, tci),)
    outer = {
        "family": tunnel.family,
        "ip_fields": fields,
        "eth_fields": eth,
        "src": tunnel.local,
        "dst": tunnel.remote,
    }
    inside, _ = carried(tunnel, frame)
    if isinstance(tunnel, VXLAN):
        flags, reserved = 0x08, 0
        if tunnel.gbp is not None:
            flags |= 0x80
            reserved = tunnel.gbp_dont_learn << 22 | tunnel.gbp_applied << 19 | tunnel.gbp
        return wire.vxlan(
            inside, vni=tunnel.vni, flags=flags, reserved24=reserved, port=tunnel.port,
            sport=source_port(tunnel, frame), check=-1 if tunnel.checksum else 0, **outer,
        )  # fmt: skip
    if isinstance(tunnel, NVGRE):
        flow = h >> 56 if tunnel.flow_id is None else tunnel.flow_id
        return wire.nvgre(inside, vsid=tunnel.vsid, flow_id=flow, **outer)
    if not isinstance(tunnel, STT):
        return _newer(tunnel, frame, inside, sequence, outer)
    whole = stt_frame(tunnel, frame)
    ack = sequence & 0xFFFFFFFF if tunnel.frame_id is None else tunnel.frame_id
    return wire.stt_segment(
        whole, frame_length=len(whole), offset=0, frame_id=ack,
        sport=source_port(tunnel, frame), **outer,
    )  # fmt: skip


def _newer(
    tunnel: Tunnel, frame: bytes, inside: bytes, sequence: int, outer: dict[str, object]
) -> bytes:
    """The packet of GENEVE, VXLAN-GPE, GRE and ERSPAN, outer headers given."""
    proto = 0x6558
    if is_ip(tunnel):
        inside, proto = inside[14:], ethertype(inside)
    if isinstance(tunnel, Geneve):
        options = b"".join(shims.option(o.option_class, o.type, o.data) for o in tunnel.options)
        flags = 0x80 * tunnel.oam | 0x40 * any(o.type >= 0x80 for o in tunnel.options)
        return shims.geneve(
            inside, vni=tunnel.vni, options=options, flags=flags, proto=proto, port=tunnel.port,
            sport=source_port(tunnel, frame), check=None if tunnel.checksum else 0, **outer,
        )  # fmt: skip
    if isinstance(tunnel, VXLANGPE):
        return shims.gpe(
            inside, vni=tunnel.vni, following={0x6558: 3, 0x0800: 1, 0x86DD: 2}[proto],
            port=tunnel.port, sport=source_port(tunnel, frame),
            check=None if tunnel.checksum else 0, **outer,
        )  # fmt: skip
    number = None if tunnel.sequence is None else (tunnel.sequence + sequence) % 2**32
    if isinstance(tunnel, GRE):
        key = None if tunnel.key == 2**32 else tunnel.key
        return shims.gretap(
            inside, key=key, sequence=number, summed=tunnel.checksum, proto=proto, **outer
        )
    assert isinstance(tunnel, ERSPAN)
    last = 0x8000 | tunnel.hardware << 4 | tunnel.granularity << 1
    last |= 8 if tunnel.direction == "egress" else 0
    header = {
        "vlan": tunnel.vlan, "cos": tunnel.cos, "en": tunnel.encapsulation,
        "truncated": tunnel.truncated, "index": tunnel.index, "timestamp": tunnel.timestamp,
        "group": tunnel.security_group, "last": last,
    }  # fmt: skip
    return shims.erspan(
        inside, tunnel.type, session=tunnel.session_id, sequence=number, header=header, **outer
    )


def decapped(tunnel: Tunnel, frame: bytes) -> bytes:
    """The frame that the other end gets back."""
    inside, tci = carried(tunnel, frame)
    if is_ip(tunnel):
        return bytes(12) + inside[12:]
    if isinstance(tunnel, STT):
        it = wire.inner(inside)
        if tunnel.inner_checksum == "partial" and wire.offloadable(inside) and it.l4 <= 255:
            inside = wire.complete(inside)
        if tci & 0x1000:
            inside = wire.tag(inside, (0x8100, tci & 0xEFFF))
    return inside

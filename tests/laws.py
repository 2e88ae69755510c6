"""What must hold of every tunnel, frame and backend.  Tests call these."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import model
import wire
from overlay import (
    ERSPAN,
    GRE,
    NVGRE,
    STT,
    VXLAN,
    VXLANGPE,
    Batch,
    DecapError,
    Decapsulated,
    EncapError,
    Geneve,
    Profile,
    Status,
    Tunnel,
)
from overlay.codec import Codec

T = TypeVar("T")


def outcome(call: Callable[[], T]) -> T | Status:
    """What the call gives, or the status that it raises."""
    try:
        return call()
    except (EncapError, DecapError) as error:
        assert error.status is not Status.OK
        return error.status


def refused(codec: Codec, packet: bytes, profile: str | Profile = "rfc", **options: Any) -> Status:
    """The status with which decap refuses the packet; OK if it takes it."""
    result = outcome(lambda: codec.decap(packet, profile, **options))
    return result if isinstance(result, Status) else Status.OK


# -- one packet ---------------------------------------------------------------------


def check_outer_valid(tunnel: Tunnel, frame: bytes, packet: bytes) -> wire.Outer:
    """Every outer field of `packet` is what `tunnel` asked for, and all sums and lengths hold."""
    outer = wire.parse(packet)
    assert (outer.dst_mac, outer.src_mac) == (tunnel.remote_mac, tunnel.local_mac)
    if tunnel.outer_vlan is None:
        assert outer.tci is None
    else:
        assert outer.tci == (tunnel.outer_pcp << 13 | tunnel.outer_dei << 12 | tunnel.outer_vlan)
    assert (outer.src, outer.dst, outer.ttl) == (tunnel.local, tunnel.remote, tunnel.ttl)
    assert outer.length == len(packet) - outer.l3
    assert outer.tos == model.tos(tunnel, frame)
    if outer.family == 4:
        assert wire.checksum(outer.header) == 0
        assert outer.flags == (0x4000 if tunnel.df else 0)
    elif tunnel.flow_label is not None:
        assert outer.flow_label == tunnel.flow_label
    inside, tci = model.carried(tunnel, frame)
    assert len(packet) == len(inside) + tunnel.overhead
    body = outer.body
    if isinstance(tunnel, VXLAN):
        check_udp(tunnel, outer)
        flags, reserved, vni = body[8], body[9:12], int.from_bytes(body[12:15], "big")
        assert (vni, body[15]) == (tunnel.vni, 0)
        if tunnel.gbp is None:
            assert (flags, reserved) == (0x08, bytes(3))
        else:
            bits = tunnel.gbp_dont_learn << 6 | tunnel.gbp_applied << 3
            assert (flags, reserved) == (0x88, bytes([bits]) + tunnel.gbp.to_bytes(2, "big"))
        assert body[16:] == inside
    elif isinstance(tunnel, NVGRE):
        assert outer.protocol == 47
        assert body[:7] == bytes.fromhex("20006558") + tunnel.vsid.to_bytes(3, "big")
        if tunnel.flow_id is not None:
            assert body[7] == tunnel.flow_id
        assert body[8:] == inside
        assert struct.unpack_from("!H", body, 8 + 12)[0] not in wire.TPIDS
    elif isinstance(tunnel, STT):
        assert outer.protocol == 6
        sport, dport, seq, _, doff, flags, window, _, urgent = struct.unpack_from(
            "!HHIIBBHHH", body
        )
        check_source_port(tunnel, sport)
        assert (dport, seq) == (7471, (18 + len(inside)) << 16)
        assert (doff, flags, window, urgent) == (0x50, 0x18, 0, 0)
        assert wire.checksum(outer.pseudo + body) == 0
        version, stt_flags, l4_offset, zero, mss, their_tci, context, padding = struct.unpack_from(
            "!BBBBHHQH", body, 20
        )
        assert (version, zero, padding) == (0, 0, 0)
        assert (context, their_tci) == (tunnel.context_id, tci)
        assert stt_flags & 3 != 3
        assert not mss or stt_flags & 2
        if not stt_flags & 2:
            assert (stt_flags & ~1, l4_offset, mss) == (0, 0, 0)
            assert body[38:] == inside
    elif isinstance(tunnel, (Geneve, VXLANGPE)):
        check_udp(tunnel, outer)
        assert body.endswith(inside[14:] if model.is_ip(tunnel) else inside)
    elif isinstance(tunnel, (GRE, ERSPAN)):
        assert outer.protocol == 47
        if tunnel.name == "gre" and tunnel.checksum:
            assert wire.checksum(body) == 0
        assert body.endswith(inside[14:] if model.is_ip(tunnel) else inside)
    return outer


def check_udp(tunnel: Tunnel, outer: wire.Outer) -> None:
    """The UDP header is what the tunnel asked for."""
    assert outer.protocol == 17
    sport, dport, length, check = struct.unpack_from("!HHHH", outer.body)
    check_source_port(tunnel, sport)
    assert (dport, length) == (tunnel.port, len(outer.body))
    if tunnel.checksum:
        assert check != 0
        assert wire.checksum(outer.pseudo + outer.body) == 0
    else:
        assert check == 0


def check_source_port(tunnel: Tunnel, port: int) -> None:
    """The port is the tunnel's, or lies in its range."""
    if isinstance(tunnel.source_port, int):
        assert port == tunnel.source_port
    else:
        low, high = tunnel.source_port or (49152, 65535)
        assert low <= port <= high


def check_roundtrip(codec: Codec, tunnel: Tunnel, frame: bytes, sequence: int = 5) -> None:
    """What encap takes is valid, decap gives it back, and the described tunnel rebuilds it."""
    packet = outcome(lambda: codec.encap(tunnel, frame, sequence=sequence))
    if isinstance(packet, Status):
        assert packet == model.refusal(tunnel, frame)
        return
    assert model.refusal(tunnel, frame) is Status.OK
    check_outer_valid(tunnel, frame, packet)
    result = codec.decap(packet, profile_for(tunnel))
    assert result.frame == model.decapped(tunnel, frame)
    assert result.key == tunnel.key
    assert result.protocol == tunnel.name
    assert result.mss == (getattr(tunnel, "mss", 0) if result.mss else 0)
    assert result.wire_length == len(result.frame)
    check_describes(tunnel, result)
    # No STT tunnel leaves a tag in the frame: it would move this one to its header.
    tag_stays = isinstance(tunnel, STT) and packet[tunnel.overhead + 12 :][:2] == b"\x81\0"
    if wire.parse(packet).tos & 3 == wire.inner(result.frame).tos & 3 and not tag_stays:
        assert codec.encap(result.tunnel, result.frame) == packet


def profile_for(tunnel: Tunnel, base: str = "rfc", **options: Any) -> Profile:
    """A profile that takes what this tunnel sends."""
    if isinstance(tunnel, (VXLAN, VXLANGPE, Geneve)):
        port = {"vxlan": "vxlan_port", "vxlan-gpe": "gpe_port", "geneve": "geneve_port"}[
            tunnel.name
        ]
        options = {port: tunnel.port, "protocols": [tunnel.name], **options}
        if tunnel.family == 6 and not tunnel.checksum:
            options = {"zero_checksum6": ((tunnel.remote, tunnel.local),), **options}
    if isinstance(tunnel, Geneve):
        known = [(o.option_class, o.type) for o in tunnel.options]
        options = {"options": known, **options}
        if tunnel.oam:
            base, options = "lenient", {"ecn": "rfc6040", "verify_checksums": True, **options}
    if isinstance(tunnel, GRE):
        options = {"protocols": ["gre"], **options}
    return Profile.of(base, **{"payload": "any" if model.is_ip(tunnel) else "ethernet", **options})


def check_describes(tunnel: Tunnel, result: Decapsulated) -> None:
    """`result.tunnel` has the outer fields that `tunnel` fixed."""
    described = result.tunnel
    assert type(described) is type(tunnel)
    derived = {"dscp", "ecn", "ip_id", "flow_label", "source_port", "inner_vlan", "seed"}
    derived |= {"flow_id", "allow_reserved_vsid", "inner_checksum", "mss", "frame_id", "sequence"}
    if tunnel.family == 6:
        derived.add("df")
    for field in dataclasses.fields(tunnel):
        if field.name not in derived:
            assert getattr(described, field.name) == getattr(tunnel, field.name), field.name


def check_encap_follows_model(codec: Codec, tunnel: Tunnel, frame: bytes, sequence: int) -> None:
    """Encap gives the very bytes, or the very status, that the contract says."""
    got = outcome(lambda: codec.encap(tunnel, frame, sequence=sequence))
    assert got == model.encap(tunnel, frame, sequence)


def check_garbage_is_refused(codec: Codec, data: bytes, profile: str | Profile = "rfc") -> None:
    """Any bytes: decapsulated within bounds, or refused with a status; never altered."""
    buffer = bytearray(data)
    result = outcome(lambda: codec.decap(buffer, profile))
    assert buffer == data
    if isinstance(result, Status):
        assert result is not Status.OK
    else:
        assert 14 <= len(result.frame) <= len(data) + 14
        assert data.startswith(result.header[:14])


# -- batches ---------------------------------------------------------------------------


def rows(batch: Batch) -> list[bytes]:
    """The bytes of every row, refused or not."""
    return [bytes(batch[row]) for row in range(len(batch))]


def check_batch_equals_single(
    codec: Codec, tunnel: Tunnel, frames: Sequence[bytes], sequence: int = 9
) -> None:
    """A row of a batch gets what a call of its own gives, in both directions."""
    single = [
        outcome(lambda f=frame, i=i: codec.encap(tunnel, f, sequence=sequence + i))
        for i, frame in enumerate(frames)
    ]
    batch = Batch.from_frames(frames, headroom=tunnel.overhead + 9)
    done = codec.encap_batch(batch, tunnel, sequence=sequence)
    assert done == sum(isinstance(one, bytes) for one in single)
    for i, (one, row) in enumerate(zip(single, rows(batch), strict=True)):
        if isinstance(one, Status):
            assert batch.status[i] == one
            assert row == frames[i]
        else:
            assert batch.status[i] == Status.OK
            assert row == one
            assert batch.key[i] == tunnel.key
            assert batch.protocol[i] == tunnel.number
            assert batch.wire[i] == batch.length[i] == len(row)
    check_decap_batch_equals_single(
        codec, [one for one in single if isinstance(one, bytes)], profile_for(tunnel)
    )


def check_decap_batch_equals_single(
    codec: Codec, packets: Sequence[bytes], profile: str | Profile = "rfc"
) -> None:
    """Rows of a batch are decapsulated, or refused, as single packets are."""
    if not packets:
        return
    single = [outcome(lambda p=packet: codec.decap(p, profile)) for packet in packets]
    batch = Batch.from_frames(packets)
    done = codec.decap_batch(batch, profile)
    assert done == sum(isinstance(one, Decapsulated) for one in single)
    for i, (one, row) in enumerate(zip(single, rows(batch), strict=True)):
        if isinstance(one, Status):
            assert batch.status[i] == one, Status(batch.status[i])
            assert row == packets[i]
        else:
            assert batch.status[i] == Status.OK, Status(batch.status[i])
            if batch.checksum[i] == 2:  # left partial: no more than that field differs
                assert len(row) == len(one.frame)
                differs = [
                    at for at, (a, b) in enumerate(zip(row, one.frame, strict=True)) if a != b
                ]
                assert not differs or differs[-1] - differs[0] <= 1
            else:
                assert row == one.frame
            assert (batch.key[i], batch.mss[i]) == (one.key, one.mss)
            assert batch.wire[i] == one.wire_length


# -- STT --------------------------------------------------------------------------------


def check_segments(
    tunnel: STT, frame: bytes, packets: Sequence[bytes], mtu: int
) -> list[wire.Outer]:
    """The packets are one frame's STT segments: fitting, equal, in order and complete."""
    most = mtu - (40 if tunnel.family == 4 else 60)
    whole = model.stt_frame(tunnel, frame)
    outers = [wire.parse(packet) for packet in packets]
    ports, ids, position = set(), set(), 0
    for n, outer in enumerate(outers):
        last = n == len(outers) - 1
        assert outer.length <= mtu
        assert wire.checksum(outer.pseudo + outer.body) == 0
        if outer.family == 4:
            assert wire.checksum(outer.header) == 0
            assert outer.ident == (outers[0].ident + n) & 0xFFFF
        sport, dport, seq, ack, doff, flags, window, _, urgent = struct.unpack_from(
            "!HHIIBBHHH", outer.body
        )
        payload = outer.body[20:]
        assert (dport, doff, window, urgent) == (7471, 0x50, 0, 0)
        assert flags == (0x18 if last else 0x10)
        assert seq == len(whole) << 16 | position
        assert len(payload) == most or (last and 0 < len(payload) < most)
        assert payload == whole[position : position + len(payload)]
        position += len(payload)
        ports.add(sport)
        ids.add(ack)
    assert position == len(whole)
    assert len(ports) == len(ids) == 1
    return outers


def check_reassembles(codec: Codec, packets: Iterable[bytes], frame: bytes, **options: Any) -> None:
    """Pushed in this order, the packets give this frame once, and leave nothing behind."""
    reassembler = codec.SttReassembler(**options)
    results = [reassembler.push(packet, 1.0) for packet in packets]
    frames = [result.frame for result in results if result is not None]
    assert frames == [frame]
    assert reassembler.stats.frames == 1
    assert (reassembler.stats.pending, reassembler.stats.memory) == (0, 0)


# -- twins --------------------------------------------------------------------------------


def check_twins_agree(twins: Sequence[Codec], call: Callable[[Codec], Any]) -> Any:
    """Every backend gives the same value, or refuses for the same reason."""
    first, *others = [outcome(lambda c=codec: call(c)) for codec in twins]
    for codec, other in zip(twins[1:], others, strict=True):
        assert other == first, f"{codec.name} and {twins[0].name} differ"
    return first


def columns(batch: Batch) -> dict[str, Any]:
    """Everything a batch says, as values that compare."""
    names = "offset length wire key status protocol link mss checksum outer origin".split()
    return {"rows": rows(batch), **{name: getattr(batch, name).tolist() for name in names}}

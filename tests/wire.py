"""Packets by hand, with struct alone: the tests' own reading of the RFCs.

Builders that can set any field wrong, and parsers that believe nothing.  It
shares no line with the package, so that it can witness against it.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

LOCAL = {4: "192.0.2.1", 6: "2001:db8:1::1"}
REMOTE = {4: "198.51.100.2", 6: "2001:db8:2::2"}
LOCAL_MAC, REMOTE_MAC = "02:00:5e:00:00:01", "02:00:5e:00:00:02"
TPIDS = (0x8100, 0x88A8)
TCP, UDP, GRE, SCTP, ICMP = 6, 17, 47, 132, 1

Tags = Iterable[tuple[int, int]]  # (TPID, TCI), outermost first


# -- sums and addresses ---------------------------------------------------------


def sum16(data: bytes) -> int:
    """The folded one's complement sum of `data`, not inverted."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    """The RFC 1071 checksum, as a naive twin computes it."""
    return sum16(data) ^ 0xFFFF


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def pseudo(src: bytes, dst: bytes, protocol: int, length: int) -> bytes:
    """The pseudo header of RFC 768/793 or RFC 8200 8.1."""
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, protocol, length)
    return src + dst + struct.pack("!II", length, protocol)


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes without a short period."""
    state = (seed * 2654435761 + 12345) & 0xFFFFFFFF
    block = bytearray()
    for _ in range(min(length, 509)):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        block.append(state >> 16 & 0xFF)
    return bytes(block * (length // max(1, len(block)) + 1))[:length]


# -- layers -----------------------------------------------------------------------


def ethernet(
    payload: bytes,
    ethertype: int,
    *,
    dst: str = REMOTE_MAC,
    src: str = LOCAL_MAC,
    tags: Tags = (),
) -> bytes:
    stack = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return mac(dst) + mac(src) + stack + struct.pack("!H", ethertype) + payload


def ipv4(
    payload: bytes,
    protocol: int,
    src: str = LOCAL[4],
    dst: str = REMOTE[4],
    *,
    tos: int = 0,
    ident: int = 0,
    flags: int = 0x4000,
    ttl: int = 64,
    options: bytes = b"",
    version: int = 4,
    ihl: int | None = None,
    total: int | None = None,
    check: int | None = None,
) -> bytes:
    words = 5 + len(options) // 4
    header = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s",
            version << 4 | (words if ihl is None else ihl),
            tos,
            (words * 4 + len(payload) if total is None else total) & 0xFFFF,
            ident,
            flags,
            ttl,
            protocol,
            0,
            packed(src),
            packed(dst),
        )
        + options
    )
    struct.pack_into("!H", header, 10, checksum(bytes(header)) if check is None else check)
    return bytes(header) + payload


def ipv6(
    payload: bytes,
    protocol: int,
    src: str = LOCAL[6],
    dst: str = REMOTE[6],
    *,
    tos: int = 0,
    flow_label: int = 0,
    ttl: int = 64,
    version: int = 6,
    extensions: Iterable[tuple[int, bytes]] = (),
    total: int | None = None,
) -> bytes:
    """`extensions`: (type, all bytes after the next-header byte), in order."""
    chain = list(extensions)
    kinds = [kind for kind, _ in chain] + [protocol]
    body = b"".join(
        bytes([following]) + rest for following, (_, rest) in zip(kinds[1:], chain, strict=True)
    )
    body += payload
    return (
        struct.pack(
            "!IHBB16s16s",
            version << 28 | tos << 20 | flow_label,
            (len(body) if total is None else total) & 0xFFFF,
            kinds[0],
            ttl,
            packed(src),
            packed(dst),
        )
        + body
    )


def ip(payload: bytes, protocol: int, src: str, dst: str, **fields: Any) -> bytes:
    build = ipv6 if ":" in src else ipv4
    return build(payload, protocol, src, dst, **fields)


def udp(
    payload: bytes,
    sport: int,
    dport: int,
    src: str,
    dst: str,
    *,
    length: int | None = None,
    check: int | None = None,
) -> bytes:
    """`check`: the field, or None for the right one."""
    size = 8 + len(payload) if length is None else length
    datagram = bytearray(struct.pack("!HHHH", sport, dport, size, 0) + payload)
    if check is None:
        over = pseudo(packed(src), packed(dst), UDP, size) + bytes(datagram)
        check = checksum(over) or 0xFFFF
    struct.pack_into("!H", datagram, 6, check)
    return bytes(datagram)


def tcp(
    payload: bytes,
    sport: int,
    dport: int,
    src: str,
    dst: str,
    *,
    seq: int = 0,
    ack: int = 0,
    flags: int = 0x18,
    window: int = 0,
    urgent: int = 0,
    options: bytes = b"",
    data_offset: int | None = None,
    check: int | None = None,
) -> bytes:
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    segment = bytearray(
        struct.pack("!HHIIBBHHH", sport, dport, seq, ack, words << 4, flags, window, 0, urgent)
        + options
        + payload
    )
    if check is None:
        check = checksum(pseudo(packed(src), packed(dst), TCP, len(segment)) + bytes(segment))
    struct.pack_into("!H", segment, 16, check)
    return bytes(segment)


def packet(
    body: bytes,
    protocol: int,
    family: int = 4,
    *,
    ip_fields: dict[str, Any] | None = None,
    eth_fields: dict[str, Any] | None = None,
    src: str | None = None,
    dst: str | None = None,
) -> bytes:
    """The outer IP and Ethernet headers around `body`."""
    src, dst = src or LOCAL[family], dst or REMOTE[family]
    inside = ip(body, protocol, src, dst, **(ip_fields or {}))
    fields: dict[str, Any] = {"ethertype": 0x0800 if family == 4 else 0x86DD}
    fields.update(eth_fields or {})
    return ethernet(inside, **fields)


# -- tunnels ------------------------------------------------------------------------


def vxlan(
    frame: bytes,
    *,
    vni: int = 0x123456,
    family: int = 4,
    flags: int = 0x08,
    reserved24: int = 0,
    reserved8: int = 0,
    sport: int = 49443,
    port: int = 4789,
    length: int | None = None,
    check: int | None = None,
    src: str | None = None,
    dst: str | None = None,
    **outer: Any,
) -> bytes:
    """A VXLAN packet; `check` is the UDP checksum, by default 0 on IPv4 and right on IPv6."""
    src, dst = src or LOCAL[family], dst or REMOTE[family]
    header = struct.pack("!II", flags << 24 | reserved24, vni << 8 | reserved8)
    if check is None and family == 4:
        check = 0
    body = udp(
        header + frame, sport, port, src, dst, length=length, check=None if check == -1 else check
    )
    return packet(body, UDP, family, src=src, dst=dst, **outer)


def gre(
    frame: bytes,
    *,
    word: int = 0x2000,
    proto: int = 0x6558,
    key: int = 0x00ABCD5A,
    sequence: int = 7,
    check: int | None = None,
    reserved1: int = 0,
) -> bytes:
    """A GRE header with the fields that its bits ask for, and the frame (RFC 2784, 2890)."""
    fields = b""
    if word & 0x2000:
        fields += struct.pack("!I", key)
    if word & 0x1000:
        fields += struct.pack("!I", sequence)
    head = struct.pack("!HH", word, proto)
    if word & 0x8000:
        if check is None:
            check = checksum(head + struct.pack("!HH", 0, reserved1) + fields + frame)
        head += struct.pack("!HH", check, reserved1)
    return head + fields + frame


def nvgre(
    frame: bytes,
    *,
    vsid: int = 0x00ABCD,
    flow_id: int = 0x5A,
    family: int = 4,
    word: int = 0x2000,
    proto: int = 0x6558,
    sequence: int = 7,
    check: int | None = None,
    reserved1: int = 0,
    **outer: Any,
) -> bytes:
    body = gre(
        frame,
        word=word,
        proto=proto,
        key=vsid << 8 | flow_id,
        sequence=sequence,
        check=check,
        reserved1=reserved1,
    )
    return packet(body, GRE, family, **outer)


def stt_header(
    context_id: int = 0x1122334455667788,
    *,
    version: int = 0,
    flags: int = 0,
    l4_offset: int = 0,
    reserved: int = 0,
    mss: int = 0,
    tci: int = 0,
    padding: int = 0,
) -> bytes:
    return struct.pack(
        "!BBBBHHQH", version, flags, l4_offset, reserved, mss, tci, context_id, padding
    )


def stt_segment(
    payload: bytes,
    *,
    frame_length: int,
    offset: int,
    frame_id: int = 0x10000,
    family: int = 4,
    sport: int = 49407,
    port: int = 7471,
    flags: int = 0x18,
    window: int = 0,
    urgent: int = 0,
    options: bytes = b"",
    data_offset: int | None = None,
    check: int | None = None,
    src: str | None = None,
    dst: str | None = None,
    **outer: Any,
) -> bytes:
    src, dst = src or LOCAL[family], dst or REMOTE[family]
    body = tcp(
        payload,
        sport,
        port,
        src,
        dst,
        seq=(frame_length & 0xFFFF) << 16 | offset & 0xFFFF,
        ack=frame_id,
        flags=flags,
        window=window,
        urgent=urgent,
        options=options,
        data_offset=data_offset,
        check=check,
    )
    return packet(body, TCP, family, src=src, dst=dst, **outer)


_HEADER = {"version", "reserved", "mss", "tci", "padding", "l4_offset", "context_id"}


def stt_frame(frame: bytes, *, stt_flags: int = 0, **fields: Any) -> bytes:
    """The STT header and the frame, before segmentation."""
    return stt_header(flags=stt_flags, **fields) + frame


def stt(frame: bytes, *, stt_flags: int = 0, **fields: Any) -> bytes:
    """One STT packet with a whole frame."""
    whole = stt_frame(frame, stt_flags=stt_flags, **{k: fields.pop(k) for k in _HEADER & {*fields}})
    return stt_segment(whole, **{"frame_length": len(whole), "offset": 0, **fields})


def stt_segments(frame: bytes, size: int, *, stt_flags: int = 0, **fields: Any) -> list[bytes]:
    """The segments of `size` STT frame bytes that carry a frame, PSH on the last."""
    whole = stt_frame(frame, stt_flags=stt_flags, **{k: fields.pop(k) for k in _HEADER & {*fields}})
    return [
        stt_segment(
            whole[at : at + size],
            frame_length=len(whole),
            offset=at,
            flags=0x18 if at + size >= len(whole) else 0x10,
            **fields,
        )
        for at in range(0, len(whole), size)
    ]


# -- reading ------------------------------------------------------------------------


@dataclass
class Outer:
    """The outer headers of a packet, field by field, as they stand."""

    dst_mac: str
    src_mac: str
    tci: int | None
    family: int
    tos: int
    length: int  # of the IP packet, by its own field
    ident: int
    flags: int
    flow_label: int
    ttl: int
    protocol: int
    src: str
    dst: str
    header: bytes  # of IP
    l3: int
    body: bytes  # what IP carries, by its own length

    @property
    def pseudo(self) -> bytes:
        return pseudo(packed(self.src), packed(self.dst), self.protocol, len(self.body))


def parse(packet: bytes, *, link: int = 0) -> Outer:
    """Read the outer Ethernet (at most one tag) and IP headers."""
    l3, tci, dst_mac, src_mac = 0, None, "", ""
    if link == 0:
        dst_mac, src_mac = packet[0:6].hex(":"), packet[6:12].hex(":")
        (ethertype,) = struct.unpack_from("!H", packet, 12)
        l3 = 14
        if ethertype == 0x8100:
            tci, ethertype = struct.unpack_from("!HH", packet, 14)
            l3 = 18
        assert ethertype == (0x0800 if packet[l3] >> 4 == 4 else 0x86DD)
    family = packet[l3] >> 4
    common: dict[str, Any] = dict(dst_mac=dst_mac, src_mac=src_mac, tci=tci, family=family, l3=l3)
    if family == 4:
        size = (packet[l3] & 15) * 4
        _, tos, total, ident, flags, ttl, protocol, _, src, dst = struct.unpack_from(
            "!BBHHHBBH4s4s", packet, l3
        )
        return Outer(
            **common, tos=tos, length=total, ident=ident, flags=flags, flow_label=0, ttl=ttl,
            protocol=protocol, src=str(ipaddress.ip_address(src)),
            dst=str(ipaddress.ip_address(dst)), header=packet[l3 : l3 + size],
            body=packet[l3 + size : l3 + total],
        )  # fmt: skip
    word, payload, protocol, ttl, src, dst = struct.unpack_from("!IHBB16s16s", packet, l3)
    return Outer(
        **common, tos=word >> 20 & 0xFF, length=40 + payload, ident=0, flags=0,
        flow_label=word & 0xFFFFF, ttl=ttl, protocol=protocol,
        src=str(ipaddress.ip_address(src)), dst=str(ipaddress.ip_address(dst)),
        header=packet[l3 : l3 + 40], body=packet[l3 + 40 : l3 + 40 + payload],
    )  # fmt: skip


@dataclass
class Inner:
    """What an inner frame is, as far as tunnels care."""

    tags: list[tuple[int, int]]  # at most two are looked through
    ethertype: int
    l3: int
    version: int = 0  # 4 or 6 where there is a whole IP header
    tos: int = 0
    protocol: int = 0
    l4: int = 0
    fragment: bool = False
    extension: bool = False
    end: int = 0  # of the IP packet, by its own length


def inner(frame: bytes) -> Inner:
    """Read an inner frame as the flow hash does: through up to two tags."""
    tags, at = [], 12
    while len(tags) < 2 and len(frame) >= at + 6:
        tpid, tci = struct.unpack_from("!HH", frame, at)
        if tpid not in TPIDS:
            break
        tags.append((tpid, tci))
        at += 4
    (ethertype,) = struct.unpack_from("!H", frame, at)
    it = Inner(tags, ethertype, at + 2)
    l3 = frame[at + 2 :]
    if ethertype == 0x0800 and len(l3) >= 20 and l3[0] >> 4 == 4:
        size = (l3[0] & 15) * 4
        if size >= 20 and len(l3) >= size:
            it.version, it.tos, it.protocol, it.l4 = 4, l3[1], l3[9], it.l3 + size
            it.fragment = bool(struct.unpack_from("!H", l3, 6)[0] & 0x3FFF)
            it.end = it.l3 + struct.unpack_from("!H", l3, 2)[0]
    elif ethertype == 0x86DD and len(l3) >= 40 and l3[0] >> 4 == 6:
        word, length = struct.unpack_from("!IH", l3)
        it.version, it.tos, it.protocol, it.l4 = 6, word >> 20 & 0xFF, l3[6], it.l3 + 40
        it.extension = l3[6] in (0, 43, 44, 60)
        it.end = it.l4 + length
    return it


def offloadable(frame: bytes) -> bool:
    """Whether STT may describe the inner checksum of this frame (no tag left in it)."""
    it = inner(frame)
    least = {TCP: 20, UDP: 8}.get(it.protocol)
    return (
        not it.tags
        and it.version != 0
        and not it.fragment
        and not it.extension
        and least is not None
        and it.l4 + least <= it.end <= len(frame)
        and not (it.protocol == UDP and it.version == 4 and frame[it.l4 + 6 :][:2] == b"\0\0")
    )


def complete(frame: bytes) -> bytes:
    """The frame with its inner TCP or UDP checksum computed from nothing."""
    it = inner(frame)
    at = it.l4 + (16 if it.protocol == TCP else 6)
    src, dst = (it.l3 + 12, it.l3 + 16) if it.version == 4 else (it.l3 + 8, it.l3 + 24)
    size = 4 if it.version == 4 else 16
    blank = frame[:at] + b"\0\0" + frame[at + 2 :]
    head = pseudo(blank[src : src + size], blank[dst : dst + size], it.protocol, it.end - it.l4)
    value = checksum(head + blank[it.l4 : it.end])
    if it.protocol == UDP:
        value = value or 0xFFFF
    return frame[:at] + struct.pack("!H", value) + frame[at + 2 :]


def untag(frame: bytes, most: int = 2) -> bytes:
    """The frame without its first tags, `most` at most; at least 14 bytes stay."""
    for _ in range(most):
        if len(frame) >= 18 and struct.unpack_from("!H", frame, 12)[0] in TPIDS:
            frame = frame[:12] + frame[16:]
    return frame


def tag(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame with these tags in front of what it has."""
    return frame[:12] + b"".join(struct.pack("!HH", *one) for one in tags) + frame[12:]


def remark(frame: bytes, tos: int) -> bytes:
    """The frame with this inner TOS or traffic class and the IPv4 checksum made anew."""
    it = inner(frame)
    data = bytearray(frame)
    if it.version == 4:
        data[it.l3 + 1] = tos
        data[it.l3 + 10 : it.l3 + 12] = b"\0\0"
        struct.pack_into("!H", data, it.l3 + 10, checksum(bytes(data[it.l3 : it.l4])))
    elif it.version == 6:
        (word,) = struct.unpack_from("!I", data, it.l3)
        struct.pack_into("!I", data, it.l3, word & ~(0xFF << 20) | tos << 20)
    return bytes(data)


def mended(packet: bytes) -> bytes:
    """The packet with right outer IPv4, UDP and TCP checksums, where these headers are whole."""
    data = bytearray(packet)
    l3 = 18 if packet[12:14] == b"\x81\0" else 14
    if len(data) < l3 + 20:
        return packet
    if data[l3] >> 4 == 4:
        l4, total = l3 + (data[l3] & 15) * 4, struct.unpack_from("!H", data, l3 + 2)[0]
        end, protocol, addresses = l3 + total, data[l3 + 9], bytes(data[l3 + 12 : l3 + 20])
        if l3 + 20 <= l4 <= len(data):
            data[l3 + 10 : l3 + 12] = b"\0\0"
            struct.pack_into("!H", data, l3 + 10, checksum(bytes(data[l3:l4])))
    elif len(data) >= l3 + 40:
        l4, protocol, addresses = l3 + 40, data[l3 + 6], bytes(data[l3 + 8 : l3 + 40])
        end = l4 + struct.unpack_from("!H", data, l3 + 4)[0]
    else:
        return packet
    at, least = {UDP: (l4 + 6, 8), TCP: (l4 + 16, 20)}.get(protocol, (0, 0))
    if not at or not l4 + least <= end <= len(data):
        return bytes(data)
    if protocol == UDP:
        if data[at : at + 2] == b"\0\0":
            return bytes(data)
        end = min(end, l4 + max(8, struct.unpack_from("!H", data, l4 + 4)[0]))
    half = len(addresses) // 2
    data[at : at + 2] = b"\0\0"
    head = pseudo(addresses[:half], addresses[half:], protocol, end - l4)
    value = checksum(head + bytes(data[l4:end]))
    struct.pack_into("!H", data, at, (value or 0xFFFF) if protocol == UDP else value)
    return bytes(data)


def pcap(packets: Iterable[bytes], linktype: int = 1) -> bytes:
    """A classic capture file, big-endian, one packet a second."""
    records = [struct.pack("!IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype)]
    for second, data in enumerate(packets):
        records.append(struct.pack("!IIII", second, 0, len(data), len(data)) + data)
    return b"".join(records)


def read_pcap(data: bytes) -> list[tuple[bytes, int]]:
    """The packets of a classic capture file, and their lengths on the wire."""
    order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    packets, at = [], 24
    while at < len(data):
        here, whole = struct.unpack_from(order + "II", data, at + 8)
        packets.append((data[at + 16 : at + 16 + here], whole))
        at += 16 + here
    return packets

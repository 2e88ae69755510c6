"""Faults that only several packets show, each beside a sound twin that does not."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

import overlay
from frames import ARP, UDP4
from overlay.diagnosis import Severity
from suspect import SECOND, found, report
from wire import (
    LOCAL,
    REMOTE,
    checksum,
    ethernet,
    ip,
    ipv4,
    ipv6,
    nvgre,
    packed,
    packet,
    pattern,
    pseudo,
    stt,
    stt_segments,
    tcp,
    udp,
    vxlan,
)  # fmt: skip

A, B = "192.0.2.1", "198.51.100.2"
C = "203.0.113.3"
MAC = {name: f"52:54:00:aa:00:0{number}" for number, name in enumerate("abc", 1)}
IP = {name: f"10.1.0.{number}" for number, name in enumerate("abc", 1)}


def frame(
    payload: bytes = b"", source: str = "a", target: str = "b", *, sport: int = 40000,
    dport: int = 443, seq: int = 1000, ack: int = 77, flags: int = 0x10, ident: int = 1,
    options: bytes = b"",
) -> bytes:  # fmt: skip
    """An inner TCP segment."""
    ends = IP[source], IP[target]
    body = tcp(payload, sport, dport, *ends, seq=seq, ack=ack, flags=flags, options=options)
    return ethernet(ip(body, 6, *ends, ident=ident), 0x0800, dst=MAC[target], src=MAC[source])


def there(inner: bytes, **fields: int) -> bytes:
    return vxlan(inner, src=A, dst=B, **fields)  # type: ignore[arg-type]


def back(inner: bytes, **fields: int) -> bytes:
    return vxlan(inner, src=B, dst=A, **fields)  # type: ignore[arg-type]


def many(ports: Sequence[int], *, packets: int = 1) -> list[bytes]:
    """One flow for each of these outer source ports."""
    return [
        there(frame(sport=1000 + number, seq=turn, ident=turn + 1), sport=port)
        for turn in range(packets)
        for number, port in enumerate(ports)
    ]


# -- paths ----------------------------------------------------------------------------------


def tunnel_ports(flows: int, **options: object) -> list[bytes]:
    tunnel = overlay.VXLAN(vni=1, local=A, remote=B, **options)  # type: ignore[arg-type]
    return [tunnel.encap(frame(sport=1000 + n, ident=n)) for n in range(flows)]


def test_many_flows_by_one_port() -> None:
    finding = found(tunnel_ports(100, source_port=50000))["fixed-entropy"]
    assert "100 inner flows, 1 source ports (50000)" in finding.seen
    assert "8.0 times its share" in finding.seen
    assert finding.count == 100
    assert "fixed-entropy" not in found(tunnel_ports(100))
    assert "fixed-entropy" not in found(tunnel_ports(7, source_port=50000))


def test_many_flows_by_one_flow_id() -> None:
    packets = [nvgre(frame(sport=n, ident=n), flow_id=9) for n in range(1, 40)]
    assert found(packets)["fixed-entropy"].packet == 2
    packets = [nvgre(frame(sport=n, ident=n), flow_id=n * 37 % 256) for n in range(1, 40)]
    assert "fixed-entropy" not in found(packets)


def test_too_few_ports() -> None:
    finding = found(tunnel_ports(200, source_port=(50000, 50005)))["low-entropy"]
    assert "200 inner flows, 6 source ports (50000 to 50005)" in finding.seen


def test_unequal_paths() -> None:
    skewed = [50000] * 120 + list(range(51000, 51080))
    finding = found(many(skewed))["path-imbalance"]
    assert "of 8 paths" in finding.seen
    assert "of 4 paths" in found(many(skewed), paths=4)["path-imbalance"].seen


@pytest.mark.parametrize("paths", [2, 8, 64])
@pytest.mark.parametrize("flows", [8, 100, 2000])
def test_entropy_by_the_flow_hash_is_no_fault(flows: int, paths: int) -> None:
    assert set(found(tunnel_ports(flows), paths=paths)) <= {"one-way"}


def test_a_flow_that_changes_its_port() -> None:
    ports = [50000, 50000, 50001, 50000, 50002]
    packets = [there(frame(seq=n, ident=n), sport=port) for n, port in enumerate(ports)]
    finding = found(packets)["flow-port-change"]
    assert (finding.severity, finding.count) == (Severity.WARNING, 3)
    assert finding.packet == 3
    assert "source port 50000, then 50001" in finding.seen
    once = found(packets[:3])["flow-port-change"]
    assert (once.severity, once.packet, once.count) == (Severity.INFO, 3, 1)
    assert found(many([50000, 50001], packets=3)) == {}


# -- MTU ------------------------------------------------------------------------------------


def fragments(whole: bytes, size: int) -> list[bytes]:
    """An outer IPv4 packet cut into fragments of so many bytes of payload."""
    body = whole[34:]
    return [
        whole[:14] + ipv4(
            body[at : at + size], 17, A, B, ident=0x4242,
            flags=at // 8 | (0x2000 if at + size < len(body) else 0),
        )
        for at in range(0, len(body), size)
    ]  # fmt: skip


def test_outer_fragments() -> None:
    pieces = fragments(there(frame(pattern(1400))), 1000)
    other = fragments(packet(udp(pattern(1400), 5, 53, A, B), 17, src=A, dst=B), 1000)
    finding = found([there(frame()), *pieces])["outer-fragment"]
    assert (finding.packet, finding.count, finding.packets) == (2, 2, (2, 3))
    said = report([there(frame()), *pieces])
    assert said.tunnels[0].packets == 2
    assert "outer-fragment" not in found([there(frame()), *other])


def too_big(about: bytes, mtu: int, family: int = 4) -> bytes:
    """A router's ICMP message that this outer packet does not fit."""
    inside = about[14 : 14 + 80]
    router = "192.0.2.254" if family == 4 else "2001:db8::ff"
    if family == 4:
        body = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + inside
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        return ethernet(ipv4(body, 1, router, A), 0x0800)
    body = struct.pack("!BBHI", 2, 0, 0, mtu) + inside
    total = checksum(pseudo(packed(router), packed(LOCAL[6]), 58, len(body)) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return ethernet(ipv6(body, 58, router, LOCAL[6]), 0x86DD)


@pytest.mark.parametrize("family", [4, 6])
def test_what_routers_say_and_what_is_sent_all_the_same(family: int) -> None:
    large = [vxlan(frame(pattern(1400), seq=n * 1400, ident=n), family=family) for n in range(4)]
    small = [vxlan(frame(pattern(100), seq=n * 100, ident=n), family=family) for n in range(4)]
    kinds = found([large[0], too_big(large[0], 1400, family), large[1], small[2], large[3]])
    assert (kinds["path-mtu"].packet, kinds["path-mtu"].count) == (2, 1)
    assert "MTU 1400" in kinds["path-mtu"].seen
    assert kinds["path-mtu-ignored"].packets == (3, 5)
    assert "packet 2 states an MTU of 1400" in kinds["path-mtu-ignored"].seen
    minded = found([large[0], too_big(large[0], 1400, family), small[1], small[2]])
    assert set(minded) == {"path-mtu"}


def test_icmp_of_other_traffic_is_none_of_ours() -> None:
    other = packet(udp(pattern(1400), 5, 53, A, B), 17, src=A, dst=B)
    assert found([too_big(other, 1400), there(frame())]) == {}


def test_nobody_listens() -> None:
    inside = there(frame())[14:94]
    body = struct.pack("!BBHI", 3, 3, 0, 0) + inside
    message = ethernet(ipv4(body, 1, B, A), 0x0800)
    finding = found([there(frame()), message])["port-unreachable"]
    assert (finding.packet, finding.severity) == (2, Severity.ERROR)
    assert f"{B} says of {A} > {B} vxlan" in finding.seen


def test_packets_above_the_mtu() -> None:
    large = there(frame(pattern(1460)))
    finding = found([there(frame(pattern(1400), ident=2)), large], mtu=1500)["above-mtu"]
    assert finding.packets == (2,)
    assert f"{len(large) - 14} bytes of IP packet, MTU 1500" in finding.seen
    assert found([large]) == {}


def test_a_segment_size_that_does_not_fit() -> None:
    option = struct.pack("!BBH", 2, 4, 1460)
    syn = there(frame(flags=0x02, options=option))
    finding = found([syn], mtu=1500)["mss-too-large"]
    assert "outer packets of 1550 bytes, the path takes 1500; clamp it to 1410" in finding.seen
    fits = there(frame(flags=0x02, options=struct.pack("!BBH", 2, 4, 1410)))
    assert found([fits], mtu=1500) == {}
    assert found([syn], mtu=1550) == {}


def hole(*, lost: bool) -> list[bytes]:
    """A connection: a small request that arrives, and a full segment, lost or not."""
    large = [there(frame(pattern(1400), seq=1100, ident=10 + n)) for n in range(4)]
    answer = back(frame(b"", "b", "a", sport=443, dport=40000, seq=77, ack=1100 if lost else 2500))
    return [
        there(frame(pattern(100), seq=1000)),
        back(frame(b"", "b", "a", sport=443, dport=40000, seq=77, ack=1100, ident=8)),
        *(large if lost else large[:1]),
        answer,
        *([] if lost else [there(frame(pattern(1400), seq=2500, ident=20))]),
    ]


def test_black_hole() -> None:
    finding = found(hole(lost=True))["mtu-black-hole"]
    assert (finding.packet, finding.count, finding.severity) == (4, 3, Severity.ERROR)
    assert "1400 bytes from sequence 1100" in finding.seen
    assert "sent 4 times and never acknowledged" in finding.seen
    assert found(hole(lost=False)) == {}


def test_a_retransmission_that_helps_is_no_black_hole() -> None:
    packets = hole(lost=True)
    late = back(frame(b"", "b", "a", sport=443, dport=40000, seq=77, ack=2500, ident=9))
    assert "mtu-black-hole" not in found([*packets, late])


def test_a_dead_host_is_no_black_hole() -> None:
    """Where small segments are lost as well, size is not the reason."""
    packets = hole(lost=True)
    small = [there(frame(pattern(10), seq=2500, ident=30 + n)) for n in range(4)]
    assert "mtu-black-hole" not in found([*packets, *small])


# -- symmetry ---------------------------------------------------------------------------------


def test_one_key_there_and_another_back() -> None:
    answer = frame(b"", "b", "a", sport=443, dport=40000)
    packets = [there(frame(), vni=10), back(answer, vni=20)]
    finding = found(packets)["asymmetric-key"]
    assert finding.packet == 2
    assert "by key 20, the way back by key 10" in finding.seen
    assert found([there(frame(), vni=10), back(answer, vni=10)]) == {}
    # Hosts that talk by both keys in both directions are in two networks.
    both = [there(frame(), vni=10), there(frame(ident=2), vni=20), back(answer, vni=20)]
    assert found(both) == {}


def test_one_way() -> None:
    answer = frame(b"", "b", "a", sport=443, dport=40000)
    lonely = [vxlan(frame(seq=n, ident=n), src=A, dst=C, vni=3) for n in range(12)]
    finding = found([there(frame()), back(answer), *lonely])["one-way"]
    assert (finding.packet, finding.count, finding.severity) == (3, 12, Severity.WARNING)
    # A capture of one direction says nothing of the other.
    assert found(lonely)["one-way"].severity == Severity.INFO
    assert found([there(frame()), back(answer), *lonely[:9]]) == {}


def test_a_mac_address_in_two_places() -> None:
    places = [vxlan(frame(seq=n, ident=n), src=(A, C)[n % 2], dst=B) for n in range(5)]
    finding = found(places)["mac-flapping"]
    assert (finding.packet, finding.count) == (2, 4)
    assert MAC["a"] in finding.seen
    moved = found(places[:2])
    assert moved["mac-moved"].packet == 2
    assert "mac-flapping" not in moved
    networks = [vxlan(frame(seq=n, ident=n), src=(A, C)[n % 2], dst=B, vni=n % 2) for n in range(5)]
    assert found(networks) == {}


# -- loops ------------------------------------------------------------------------------------


def test_doubled_frames() -> None:
    twice = [there(UDP4), there(UDP4), there(ARP)]
    finding = found(twice, times=[0, 1000, 2000])["duplicate-frame"]
    assert (finding.packet, finding.count) == (2, 1)
    assert "the frame of packet 1" in finding.seen
    assert found(twice) == {}  # a second apart
    flooded = [vxlan(ARP, src=A, dst=B), vxlan(ARP, src=A, dst=C)]
    assert found(flooded, times=[0, 1000]) == {}
    # Nothing tells an ARP request from its repetition but the time.
    assert found([there(ARP), there(ARP)], times=[0, 10_000_000]) == {}


def test_a_frame_that_comes_back() -> None:
    finding = found([there(UDP4), back(UDP4)], times=[0, 1000])["frame-loop"]
    assert (finding.packet, finding.severity) == (2, Severity.ERROR)
    around = [vxlan(UDP4, src=A, dst=B), vxlan(UDP4, src=B, dst=C), vxlan(UDP4, src=C, dst=A)]
    kinds = found(around, times=[0, 1000, 2000])
    assert kinds["re-encapsulated"].packet == 2
    assert kinds["frame-loop"].packet == 3


def test_a_frame_that_goes_on() -> None:
    kinds = found([vxlan(UDP4, src=A, dst=B), vxlan(UDP4, src=B, dst=C)], times=[0, 1000])
    assert set(kinds) == {"re-encapsulated"}


# -- STT --------------------------------------------------------------------------------------

BIG = frame(pattern(5000))


def segments(**fields: int) -> list[bytes]:
    return stt_segments(BIG, 1400, **fields)


def test_segments_that_never_came() -> None:
    pieces = segments()
    assert found(pieces) == {}
    assert found(pieces[::-1]) == {}
    finding = found(
        [pieces[0], *pieces[2:]], times=[0, *[10**9 + n for n in range(len(pieces) - 2)]]
    )
    assert "lacks bytes 1400 to 2800" in finding["stt-incomplete"].seen
    assert finding["stt-incomplete"].packet == 1
    assert finding["stt-incomplete"].severity == Severity.WARNING


def test_a_frame_that_the_capture_ends_in() -> None:
    pieces = segments()
    finding = found(pieces[:2], times=[0, 1000])["stt-incomplete"]
    assert finding.severity == Severity.INFO
    assert "the capture ends soon after" in finding.seen


def test_segments_that_came_twice_or_overlap() -> None:
    pieces = segments()
    assert found([*pieces, pieces[1]])["stt-duplicate"].packet == len(pieces) + 1
    other = stt_segments(BIG, 1000)
    assert found([pieces[0], other[1], *pieces[2:]])["stt-overlap"].packet == 2


def test_a_lost_segment_among_others() -> None:
    pieces = segments()
    rest = [stt(UDP4, frame_id=n) for n in range(3)]
    packets = [*pieces[:2], *rest, *pieces[3:], *rest]
    assert "lacks bytes 2800 to 4200" in found(packets)["stt-incomplete"].seen
    assert found([*pieces[:2], *rest, *pieces[2:]]) == {}


def test_segments_belong_to_the_tunnel_of_their_frame() -> None:
    said = report(segments())
    (tunnel,) = said.tunnels
    assert (tunnel.key, tunnel.packets) == (0x1122334455667788, len(segments()))


def test_times_are_those_of_the_capture() -> None:
    (tunnel,) = report([there(frame()), there(frame(ident=2))]).tunnels
    assert tunnel.end - tunnel.begin == SECOND
    assert tunnel.seconds == 1.0
    assert REMOTE[4] == tunnel.destination

"""Sweeps: what the frames are, byte for byte, by position and again; what is refused."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest

import overlay
import wire
from overlay import PROTOCOLS, ConfigError, Status, Tunnel
from overlay.traffic import FIELDS, IMIX, SIZE, Meter, Sweep, Values, find

ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
NOW = 1_700_000_000_123_456_789


def signed(payload: bytes, stream: int, sequence: int, time: int) -> bytes:
    """The payload and its signature, by the drawing."""
    head = payload + struct.pack(">4sIQQI", b"OVL1", stream, sequence, time, len(payload) + 28)
    return head + struct.pack(">I", zlib.crc32(head))


def udp_frame(
    payload: bytes, dst: str = "198.19.0.1", sport: int = 49152, dport: int = 9, tos: int = 0
) -> bytes:
    body = wire.udp(payload, sport, dport, "198.18.0.1", dst)
    packet = wire.ipv4(body, wire.UDP, "198.18.0.1", dst, tos=tos, ident=0, flags=0x4000)
    return wire.ethernet(packet, 0x0800, dst="02:00:00:00:00:02", src="02:00:00:00:00:01")


def test_one_frame_is_known_to_the_last_byte() -> None:
    batch = Sweep().frames(0, 1, times=NOW)
    assert batch.to_list() == [udp_frame(signed(b"", 0, 0, NOW))]


def test_zip_steps_all_fields_together() -> None:
    sweep = Sweep(["ip.dst=10.0.0.1-10.0.0.2", "udp.sport=7,9,11"], size="75,80", fill=b"\1\2")
    assert sweep.period == sweep.streams == 6
    expected = []
    for i in range(14):
        stream, sequence = i % 6, i // 6
        size = (75, 80)[(stream + sequence) % 2]
        payload = (b"\1\2" * 3)[: size - 74]
        expected.append(
            udp_frame(
                signed(payload, stream, sequence, NOW + i),
                dst=f"10.0.0.{1 + i % 2}", sport=(7, 9, 11)[i % 3],
            )
        )  # fmt: skip
    assert sweep.frames(0, 14, times=NOW + np.arange(14)).to_list() == expected


def test_product_has_every_combination_once_and_the_first_field_fastest() -> None:
    sweep = Sweep(
        ["udp.sport=7,9", "udp.dport=1-3"], combine="product",
        tunnel=overlay.VXLAN, outer={"key": "5000-5001", **ENDS},
    )  # fmt: skip
    assert sweep.period == 12
    seen = []
    for batch in sweep:
        for packet in batch.to_list():
            frame = overlay.decap(packet)
            seen.append((frame.key, *struct.unpack_from(">HH", frame.frame, 34)))
    orders = itertools.product([1, 2, 3], [7, 9], [5000, 5001])
    assert seen == [(key, sport, dport) for dport, sport, key in orders]


def test_random_is_the_seeds_and_no_bursts() -> None:
    def rows(seed: int, burst: int) -> list[bytes]:
        sweep = Sweep(
            ["ip.dst=10.0.0.0/8", "udp.sport=1-65535"], size="74-200", combine="random",
            seed=seed, tunnel=overlay.VXLAN, outer={"key": "1-7", **ENDS},
        )  # fmt: skip
        return [p for batch in sweep.batches(500, burst=burst) for p in batch.to_list()]

    assert rows(1, 500) == rows(1, 7) == rows(1, 64)
    assert len(set(rows(1, 500)) & set(rows(2, 500))) == 0
    keys = [overlay.decap(packet).key for packet in rows(1, 500)]
    for at in range(0, 497, 7):  # every tunnel once a round
        assert sorted(keys[at : at + 7]) == list(range(1, 8))
    assert keys[:7] != keys[7:14] or keys[7:14] != keys[14:21]


def test_any_part_is_a_part_of_the_whole() -> None:
    for combine in ("zip", "product", "random"):
        sweep = Sweep(
            ["ip.dst=10.0.0.0/24", "tcp.sport=1-999"], size="imix", combine=combine,  # type: ignore[arg-type]
            tunnel=overlay.NVGRE, outer={"key": "5000-5006", "flow_id": 3, **ENDS},
        )  # fmt: skip
        whole = sweep.packets(0, 300).to_list()
        assert sweep.packets(100, 150).to_list() == whole[100:250]
        assert sweep.lengths(0, 300).tolist() == [len(packet) for packet in whole]
        stream, sequence = sweep.marks(0, 300)
        found = find(sweep.frames(0, 300))
        assert (found.stream == stream).all()
        assert (found.sequence == sequence).all()
        assert len(set(zip(stream.tolist(), sequence.tolist(), strict=True))) == 300


def test_memory_used_again_gives_the_same() -> None:
    sweep = Sweep(["udp.sport=1-1000"], size="74-300", combine="random", fill=b"abc")
    batch = None
    for first in range(0, 500, 50):
        batch = sweep.frames(first, 50, batch=batch)
        assert batch.to_list() == sweep.frames(first, 50).to_list()


SHAPES: dict[str, dict[str, Any]] = {
    "udp": dict(inner=["udp.sport=1-65535", "ip.dst=10.0.0.0/16", "ip.dscp=0-63", "ip.ecn=0-3"]),
    "tcp": dict(inner=["tcp.dport=1-99", "tcp.seq=0-0xffffffff", "tcp.flags=2,16", "ip.ttl=1-255"]),
    "udp6": dict(inner=["ip.src=2001:db8::/64", "udp.sport=1-9", "ip.flow=0-99"], size="94-999"),
    "tcp6": dict(inner=["ip.dst=2001:db8::fffe-2001:db8::1:3,fe80::1", "tcp.sport=1"], fill=b"odd"),
    "both": dict(inner=["ip.proto=udp,tcp", "l4.sport=5-500"], size="86-301", fill=b"xyz"),
    "tags": dict(inner=["svlan.id=1-4094", "vlan.id=5", "vlan.pcp=0-7", "vlan.dei=0,1"], size=83),
    "macs": dict(inner=["eth.src=02:00:00:00:ff:fe-02:00:00:01:00:03"]),
    "raw": dict(inner=["eth.type=0x88b5-0x88b7"], size="46-99", fill=b"\xff\0\xff"),
    "other": dict(inner=["ip.proto=50-60", "ip.id=0-65535", "ip.df=0-1"], size="66-90"),
    "unsigned": dict(inner=["udp.sport=1-65535"], size="42-99", signature=False, fill=b"\xff"),
    "zero checksum": dict(inner=["udp.sport=0-65535"], size=60, signature=False),
}  # fmt: skip


#: What scapy computes where it is not said.
COMPUTED = {
    "IP": ("len", "chksum", "ihl"),
    "IPv6": ("plen",),
    "UDP": ("len", "chksum"),
    "TCP": ("chksum", "dataofs"),
}


@pytest.mark.parametrize("combine", ["zip", "product", "random"])
@pytest.mark.parametrize("shape", SHAPES)
def test_scapy_would_write_the_same(shape: str, combine: Any) -> None:
    """Lengths and checksums, that is: scapy computes them anew."""
    scapy = pytest.importorskip("scapy.all")
    sweep = Sweep(combine=combine, seed=3, **SHAPES[shape])
    first = 30_000 if shape == "zero checksum" else 0
    batch = sweep.frames(first, 64, times=NOW)
    assert not batch.drops()
    for frame in batch.to_list():
        packet = scapy.Ether(frame)
        for layer, names in COMPUTED.items():
            for name in names:
                if layer in packet:
                    delattr(packet[layer], name)
        assert scapy.raw(packet) == frame
    found = find(batch)
    assert (found.intact == sweep.signature).all()
    assert len(set(batch.to_list())) > 1 or not sweep.signature


def test_a_checksum_of_zero_is_sent_as_ones() -> None:
    sweep = Sweep(["udp.sport=0-65535"], size=60, signature=False)
    checksums = [frame[40:42] for batch in sweep for frame in batch.to_list()]
    assert b"\0\0" not in checksums
    assert checksums.count(b"\xff\xff") >= 1


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("family", [4, 6])
def test_signatures_survive_every_protocol_there_and_back(name: str, family: int) -> None:
    kind = PROTOCOLS[name]
    first = 100 if name == "erspan" else 5000  # a session ID has 10 bits
    ends = {"local": wire.LOCAL[family], "remote": wire.REMOTE[family]}
    for inner in (["udp.sport=1-50"], ["ip.dst=2001:db8::/120", "tcp.sport=1-50"]):
        outer = {"key": f"{first}-{first + 9}", **ends}
        sweep = Sweep(inner, tunnel=kind, outer=outer, size="106-1400")
        meter = Meter()
        for batch in sweep.batches(1000, burst=300, start=NOW, gap=10):
            assert not batch.drops()
            overlay.decap_batch(batch, "lenient", verify_checksums=True, protocols=(name,))
            assert not batch.drops()
            meter.take(batch, NOW + 10_000)
        report = meter.report(sent=sweep.sent(1000))
        assert report.clean
        assert report.total.received == 1000
        assert [(c.protocol, c.key) for c in report.keys] == [
            (name, key) for key in range(first, first + 10)
        ]
        assert report.total.latency["min"] == 10_000 - 9_990
        assert report.total.latency["max"] == 10_000


def test_outer_fields_sweep_like_inner_ones() -> None:
    outer = {
        "vni": [7, 9], "local": "192.0.2.1-192.0.2.3", "remote": "198.51.100.0/30", "ttl": "1-4",
        "dscp": "0,inherit", "source_port": "5,1000-2000", "local_mac": "02:00:00:00:00:07",
    }  # fmt: skip
    sweep = Sweep(tunnel=overlay.VXLAN, outer=outer)
    assert len(sweep.tunnels) == sweep.period == 12
    made = sweep.tunnels[7]
    assert isinstance(made, overlay.VXLAN)
    assert (made.vni, made.local, made.remote) == (9, "192.0.2.2", "198.51.100.2")
    assert (made.ttl, made.dscp, made.source_port) == (4, "inherit", (1000, 2000))
    assert made.local_mac == "02:00:00:00:00:07"
    whole = Sweep(tunnel=overlay.VXLAN, outer=outer, combine="product")
    assert len(set(map(repr, whole.tunnels))) == 2 * 3 * 2 * 4 * 2 * 2
    assert sweep.sent(25) == {7: 13, 9: 12}


def test_a_refused_frame_has_its_status_and_the_others_go() -> None:
    outer = {"key": 5000, "inner_vlan": "reject", **ENDS}
    sweep = Sweep(["vlan.id=1-9"], tunnel=overlay.VXLAN, outer=outer)
    assert sweep.packets(0, 9).drops() == {Status.FRAME_TAGGED: 9}


def test_many_streams_share_those_of_their_tunnels() -> None:
    sweep = Sweep(
        ["ip.dst=10.0.0.0/8"], tunnel=overlay.VXLAN, outer={"key": "1-3", **ENDS}, first_stream=100
    )
    assert sweep.streams == 3
    stream, sequence = sweep.marks(0, 7)
    assert stream.tolist() == [100, 101, 102, 100, 101, 102, 100]
    assert sequence.tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_imix_has_its_proportions_and_room_for_a_signature() -> None:
    assert sorted(IMIX) == [60] * 7 + [590] * 4 + [1514]
    assert sorted(Sweep(size="imix").sizes(0, 12).tolist()) == [74] * 7 + [590] * 4 + [1514]
    plain = Sweep(size="imix", signature=False)
    assert sorted(plain.sizes(0, 12).tolist()) == sorted(IMIX)


def test_values_are_what_the_text_says() -> None:
    from overlay.traffic.values import addresses, macs, numbers

    def read(values: Values) -> list[int]:
        return [values[i] for i in range(len(values))]

    assert read(numbers("n", "1,3-5,0x10-0x20/8,7*3", 0, 99)) == [1, 3, 4, 5, 16, 24, 32, 7, 7, 7]
    assert read(numbers("n", range(3), 0, 9)) == read(numbers("n", np.arange(3), 0, 9)) == [0, 1, 2]
    family, hosts = addresses("a", "10.0.0.0/30,10.0.0.9")
    assert (family, read(hosts)) == (4, [0x0A000001, 0x0A000002, 0x0A000009])
    assert len(addresses("a", "10.0.0.0/31")[1]) == 2
    family, many = addresses("a", "2001:db8::fffe-2001:db8::1:1")
    assert family == 6
    index = np.arange(4, dtype=np.uint64)
    assert many.take(index).tolist() == [0xFFFE, 0xFFFF, 0x10000, 0x10001]
    assert many.take_high(index).tolist() == [0x20010DB800000000] * 4
    wide = addresses("a", "::ffff:ffff:ffff:fffe-::1:0:0:0:1")[1]
    assert wide.take(index).tolist() == [2**64 - 2, 2**64 - 1, 0, 1]
    assert wide.take_high(index).tolist() == [0, 0, 1, 1]
    assert read(macs("m", "02:00:00:00:00:ff-02:00:00:00:01:01")) == [
        0x0200000000FF, 0x020000000100, 0x020000000101,
    ]  # fmt: skip
    mixed = Values([(5, 2, 1), (2**70, 3, 2)])
    assert mixed.take_high(np.arange(5, dtype=np.uint64)).tolist() == [0, 0, 64, 64, 64]


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("size", dict(size=73)),
        ("size", dict(size="64", inner=["ip.dst=10.0.0.1"])),
        ("size", dict(size="60-2000,100000")),
        ("size", dict(size="big")),
        ("inner", dict(inner=["ip.dst"])),
        ("inner", dict(inner=["ip.dst=10.0.0.1", "ip.dst=10.0.0.2"])),
        ("inner", dict(inner={"ip.length": 4})),
        ("inner", dict(inner=["udp.sport=1", "tcp.sport=1"])),
        ("inner", dict(inner=["udp.sport=1", "l4.sport=1"])),
        ("inner", dict(inner=["eth.type=1", "ip.ttl=1"])),
        ("inner", dict(inner=["ip.src=::1", "ip.id=1"])),
        ("ip.dst", dict(inner=["ip.src=::1", "ip.dst=10.0.0.1"])),
        ("ip.dst", dict(inner=["ip.dst=10.0.0.1,::1"])),
        ("ip.dst", dict(inner=["ip.dst=10.0.0.1/8"])),
        ("ip.proto", dict(inner=["ip.proto=tcp", "udp.sport=1"])),
        ("ip.proto", dict(inner=["ip.proto=50,6", "l4.sport=1"])),
        ("udp.sport", dict(inner=["udp.sport=9-1"])),
        ("udp.sport", dict(inner=["udp.sport=1-65536"])),
        ("udp.sport", dict(inner=["udp.sport="])),
        ("udp.sport", dict(inner=["udp.sport=1-9/0"])),
        ("eth.src", dict(inner=["eth.src=02:00"])),
        ("combine", dict(combine="all")),
        ("seed", dict(seed=-1)),
        ("fill", dict(fill=b"")),
        ("first_stream", dict(first_stream=2**32)),
        ("tunnel", dict(outer={"key": 1})),
        ("outer", dict(tunnel=overlay.VXLAN, outer={"vsid": 1, **ENDS})),
        ("outer", dict(tunnel=overlay.VXLAN, combine="product",
                       outer={"key": "0-65535", "ttl": "1-2", **ENDS})),
        ("vni", dict(tunnel=overlay.VXLAN, outer={"key": "16777215-16777216", **ENDS})),
        ("ttl", dict(tunnel=overlay.VXLAN, outer={"key": 1, "ttl": "1-300", **ENDS})),
        ("remote", dict(tunnel=overlay.VXLAN, outer={"key": 1, **ENDS, "remote": "::1"})),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_before_anything_happens(field: str, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Sweep(**given)
    assert caught.value.field == field


def test_every_field_can_be_set() -> None:
    for name in FIELDS:
        value = {"eth.src": "02:00:00:00:00:09", "eth.dst": "02:00:00:00:00:09", "ip.version": 6,
                 "ip.src": "10.0.0.9", "ip.dst": "10.0.0.9", "ip.proto": 6,
                 "ip.df": 0}.get(name, 1)  # fmt: skip
        changed = Sweep({name: value}).frames(0, 1).to_list()
        assert changed != Sweep().frames(0, 1).to_list(), name


def test_signature_of_padded_frames_is_found() -> None:
    sweep = Sweep(["ip.dst=10.0.0.1-10.0.0.9"])
    six = Sweep(["ip.dst=2001:db8::1", "vlan.id=1-9"])
    frames = sweep.frames(0, 9).to_list() + six.frames(0, 9).to_list()
    padded = overlay.Batch.from_frames([frame + bytes(n) for n, frame in enumerate(frames)])
    assert find(padded).intact.all()


def test_any_bytes_have_no_signature_and_do_no_harm() -> None:
    whole = Sweep(size=100).frames(0, 1).to_list()[0]
    frames = [whole[:n] for n in range(100)] + [wire.pattern(n, n) for n in range(200)]
    frames += [b"OVL1" * 8, whole[:68] + b"OVL1" + b"\xff" * 28]
    found = find(overlay.Batch.from_frames(frames))
    assert not found.intact.any()
    assert found.found.tolist() == [False] * 300 + [True, True]


def test_tunnel_classes_are_all_that_sweep(protocol: type[Tunnel]) -> None:
    sweep = Sweep(
        tunnel=protocol, outer={"key": [500 if protocol.name == "erspan" else 5000], **ENDS}
    )
    assert sweep.packets(0, 1).to_list()[0][-SIZE:-28] == b"OVL1"

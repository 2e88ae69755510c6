"""`check` names the first field in which two backends part; `layout` names every byte."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import overlay
from overlay import NVGRE, STT, VXLAN, Difference, Status, _backend, check
from overlay.codec import Codec, Decapsulated
from overlay.errors import BackendError, DecapError
from overlay.layout import fields, frame_fields, name_at

V4 = {"local": "192.0.2.1", "remote": "192.0.2.2"}
V6 = {"local": "2001:db8::1", "remote": "2001:db8::2", "outer_vlan": 5}
TUNNELS = [
    kind(**{key: 0x5001}, **ends)  # type: ignore[arg-type]
    for kind, key in ((VXLAN, "vni"), (NVGRE, "vsid"), (STT, "context_id"))
    for ends in (V4, V6)
]
FRAME = bytes.fromhex(
    "525400aa0002525400aa000108004500002c01014000400125cc0a0100010a010002"
    "0800a27f12340000"
) + bytes(range(16))  # fmt: skip


class Altered:
    """A backend that changes one byte, so that there is something to find."""

    def __init__(self, real: Codec, at: int) -> None:
        self._real, self._at = real, at

    def _alter(self, data: bytes) -> bytes:
        changed = bytearray(data)
        changed[self._at] ^= 0x40
        return bytes(changed)

    def encap(self, *args: Any, **options: Any) -> bytes:
        return self._alter(self._real.encap(*args, **options))

    def decap(self, *args: Any, **options: Any) -> Decapsulated:
        d = self._real.decap(*args, **options)
        frame = self._alter(d.frame)
        return d._replace(frame=frame)


class Refusing:
    """A backend that refuses every packet."""

    def decap(self, *args: Any, **options: Any) -> Decapsulated:
        raise DecapError(Status.IP_CHECKSUM)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts another backend in the place of the native one."""

    def put(codec: object) -> None:
        module: Any = ModuleType("altered")
        module.codec = codec
        monkeypatch.setitem(sys.modules, "altered", module)
        monkeypatch.setitem(_backend._MODULES, "native", "altered")

    return put


@pytest.mark.parametrize("tunnel", TUNNELS, ids=str)
def test_the_twins_agree(tunnel: Any, twins: list[Codec]) -> None:
    if not any(codec.name == "native" for codec in twins):
        pytest.skip("the native backend is missing")
    assert check(FRAME, tunnel) is None
    assert check(FRAME, tunnel, mtu=1500) is None
    packet = tunnel.encap(FRAME)
    assert check(packet) is None
    assert check(packet, profile="strict", inner_vlan="strip") is None
    assert check(packet[:-3], wire_length=len(packet)) is None
    assert check(packet[:20]) is None
    assert check(FRAME) is None
    assert check(b"", tunnel) is None


def test_without_a_native_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_backend._MODULES, "native", "overlay.there_is_no_such_module")
    with pytest.raises(BackendError):
        check(FRAME, TUNNELS[0])


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (0, "outer.ethernet.destination"), (13, "outer.ethernet.ethertype"),
        (22, "outer.ipv4.ttl"), (24, "outer.ipv4.checksum"), (34, "outer.udp.source_port"),
        (42, "vxlan.flags"), (47, "vxlan.vni"), (49, "vxlan.reserved"),
        (50, "inner.ethernet.destination"), (73, "inner.ipv4.protocol"), (84, "inner.icmp.type"),
        (100, "inner.payload"),
    ],
)  # fmt: skip
def test_the_field_that_differs_is_named(native: Any, at: int, name: str) -> None:
    reference = _backend.load("reference")
    native(Altered(reference, at))
    right = reference.encap(TUNNELS[0], FRAME, sequence=0)[at]
    found = check(FRAME, TUNNELS[0], sequence=0)
    assert found == Difference(at, name, right ^ 0x40, right)
    assert name in str(found)
    assert f"byte {at}" in str(found)


def test_a_difference_in_a_decapsulated_frame(native: Any) -> None:
    reference = _backend.load("reference")
    native(Altered(reference, 22))
    found = check(reference.encap(TUNNELS[0], FRAME))
    assert found is not None
    assert (found.offset, found.field) == (22, "inner.ipv4.ttl")


def test_a_difference_in_status(native: Any) -> None:
    native(Refusing())
    found = check(_backend.load("reference").encap(TUNNELS[0], FRAME))
    assert found == Difference(None, "status", Status.IP_CHECKSUM, Status.OK)
    assert "native IP_CHECKSUM, reference OK" in str(found)


# -- layout ----------------------------------------------------------------------


@pytest.mark.parametrize("tunnel", TUNNELS, ids=str)
def test_headers_are_as_long_as_the_overhead(tunnel: Any) -> None:
    packet = tunnel.encap(FRAME)
    outer = [field for field in fields(packet) if not field.name.startswith("inner.")]
    assert sum(field.size for field in outer) == tunnel.overhead
    inner = [f for f in fields(packet) if f.name.startswith("inner.")]
    shifted = [(f.offset + tunnel.overhead, f.size, f.name) for f in frame_fields(FRAME)]
    assert [(f.offset, f.size, f.name) for f in inner] == shifted


@given(
    tunnel=st.sampled_from(TUNNELS),
    holes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    size=st.integers(0, 200),
    link=st.sampled_from([0, 1]),
)
def test_every_byte_has_one_name(
    tunnel: Any, holes: list[tuple[int, int]], size: int, link: int
) -> None:
    packet = bytearray(tunnel.encap(FRAME)[(0 if link == 0 else 14) :][:size])
    for place, value in holes:
        if packet:
            packet[place % len(packet)] = value
    for found in (fields(packet, link=link), frame_fields(packet)):
        at = 0
        for field in found:
            assert field.offset == at
            assert field.size > 0
            assert name_at(found, at) == field.name
            at += field.size
        assert at == len(packet)
        assert name_at(found, at) == "length"


def test_padding_and_extension_headers() -> None:
    packet = TUNNELS[0].encap(FRAME) + bytes(6)
    assert fields(packet)[-1].name == "outer.padding"
    tags = FRAME[:12] + bytes.fromhex("88a80001 81000002") + FRAME[12:]
    names = [field.name for field in frame_fields(tags)]
    assert names.count("inner.vlan.tci") == 2
    options = bytes([60, 0, 1, 4, 0, 0, 0, 0])
    plain = overlay.VXLAN(vni=1, local="::1", remote="::2").encap(FRAME)
    length = (int.from_bytes(plain[18:20], "big") + 8).to_bytes(2, "big")
    extended = plain[:18] + length + b"\0" + plain[21:54] + b"\x11" + options[1:] + plain[54:]
    names = [field.name for field in fields(extended)]
    assert "outer.ipv6.extension" in names
    assert "vxlan.vni" in names

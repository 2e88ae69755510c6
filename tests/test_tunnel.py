"""Tunnels as values: what is refused, and what every value can do."""

from __future__ import annotations

import copy
import dataclasses
import ipaddress
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cases
import frames
import overlay.geneve
import strategies as s
import wire
from overlay import (
    ERSPAN,
    GRE,
    NVGRE,
    PROTOCOLS,
    STT,
    VXLAN,
    VXLANGPE,
    ConfigError,
    Geneve,
    OverlayError,
    Tunnel,
)
from overlay.codec import Codec
from test_encap import plain

NAMES = {name: getattr(overlay, name) for name in overlay.__all__}
NAMES |= {name: getattr(overlay.geneve, name) for name in overlay.geneve.__all__}

#: Field -> values that are refused, of every tunnel.
BAD = {
    "local": ["192.0.2", "", "fe80::1%eth0", 5, None, b"abc", "192.0.2.1/24"],
    "remote": ["198.51.100.256", "2001:db8::2", None],
    "local_mac": ["02:00:5e:00:00", "02:00:5e:00:00:0g", b"12345", 7, "02:00-5e:00:00:01"],
    "remote_mac": ["", "02:00:5e:00:00:01:02", b"1234567"],
    "outer_vlan": [-1, 4096, "5", 1.0, True],
    "outer_pcp": [-1, 8, None],
    "outer_dei": [1, None, "no"],
    "ttl": [-1, 256, "64", 1.5, False],
    "dscp": [-1, 64, "copy", None],
    "ecn": ["", "RFC6040", 0, None],
    "df": [1, None, "yes"],
    "ip_id": [-1, 65536, "1"],
    "flow_label": [-1, 0x100000, 1.0],
    "source_port": [-1, 65536, (1,), (1, 2, 3), (5, 4), (-1, 5), (5, 65536), ("a", "b"), "any"],
    "inner_vlan": ["drop", None, True],
    "seed": [-1, 2**64, None, "0"],
}
BAD_VXLAN = {
    "vni": [-1, 0x1000000, None, "5"],
    "port": [-1, 65536, None],
    "checksum": [1, "yes"],
    "gbp": [-1, 65536, "7"],
    "gbp_dont_learn": [1, None],
    "gbp_applied": [0, None],
}
BAD_NVGRE = {
    "vsid": [-1, 0, 0xFFF, 0xFFFFFF, 0x1000000, None],
    "flow_id": [-1, 256, "1"],
    "allow_reserved_vsid": [1, None],
}
BAD_STT = {
    "context_id": [-1, 2**64, None, "0"],
    "inner_checksum": ["", "none", None],
    "mss": [-1, 65536, 5, None],
    "frame_id": [-1, 2**32, "1"],
}
BAD_GENEVE = {
    "vni": [-1, 0x1000000, None, "5"],
    "port": [-1, 65536, None],
    "checksum": [1, None],
    "oam": [0, "yes"],
    "payload": ["any", None, True],
    "options": [7],
}
BAD_GRE = {
    "key": [-1, 2**32 + 1, "none"],
    "checksum": [1, None],
    "sequence": [-1, 2**32, "0"],
    "payload": ["ipv4", None],
}


def bad(table: dict) -> list:
    return [pytest.param(f, v, id=f"{f}-{v!r}") for f, values in table.items() for v in values]


def check_refused(cls: type[Tunnel], field: str, value: object) -> None:
    base = {"outer_vlan": 5} if field in ("outer_pcp", "outer_dei") else {}
    if field.startswith("gbp_"):
        base = {"gbp": 1}
    with pytest.raises(ConfigError) as error:
        plain(cls, **{**base, field: value})
    assert error.value.field == field
    assert str(error.value).startswith(f"{field}={value!r}: expected ") or field == "source_port"
    assert error.value.expected
    assert isinstance(error.value, (ValueError, OverlayError))


@pytest.mark.parametrize(("field", "value"), bad(BAD))
def test_bad_fields_are_named(protocol: type[Tunnel], field: str, value: object) -> None:
    """ConfigError names the field, the value and the range."""
    check_refused(protocol, field, value)


@pytest.mark.parametrize(("field", "value"), bad(BAD_VXLAN))
def test_bad_vxlan_fields(field: str, value: object) -> None:
    """VXLAN-5."""
    check_refused(VXLAN, field, value)


@pytest.mark.parametrize(("field", "value"), bad(BAD_NVGRE))
def test_bad_nvgre_fields(field: str, value: object) -> None:
    """NVGRE-14, NVGRE-15."""
    check_refused(NVGRE, field, value)


@pytest.mark.parametrize(("field", "value"), bad(BAD_STT))
def test_bad_stt_fields(field: str, value: object) -> None:
    check_refused(STT, field, value)


@pytest.mark.parametrize(("field", "value"), bad(BAD_GENEVE))
def test_bad_geneve_and_gpe_fields(field: str, value: object) -> None:
    check_refused(Geneve, field, value)
    if field not in ("oam", "options"):
        check_refused(VXLANGPE, field, value)


@pytest.mark.parametrize(("field", "value"), bad(BAD_GRE))
def test_bad_gre_fields(field: str, value: object) -> None:
    check_refused(GRE, field, value)


@pytest.mark.parametrize(
    ("cls", "fields", "field"),
    [
        (VXLAN, {"outer_pcp": 1}, "outer_vlan"),
        (VXLAN, {"outer_dei": True}, "outer_vlan"),
        (VXLAN, {"gbp_applied": True}, "gbp"),
        (VXLAN, {"gbp_dont_learn": True}, "gbp"),
        (STT, {"mss": 1, "inner_checksum": "verified"}, "mss"),
        (NVGRE, {"remote": "2001:db8::1"}, "remote"),
    ],
)
def test_fields_that_need_another(cls: type[Tunnel], fields: dict, field: str) -> None:
    with pytest.raises(ConfigError) as error:
        plain(cls, **fields)
    assert error.value.field == field


def test_config_errors_travel() -> None:
    with pytest.raises(ConfigError) as error:
        plain(VXLAN, vni=-1)
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.field, again.value, again.expected) == ("vni", -1, "an integer in 0..16777215")
    assert str(again) == str(error.value)


def test_unknown_fields_and_positions(protocol: type[Tunnel]) -> None:
    with pytest.raises(TypeError):
        plain(protocol, colour=5)
    with pytest.raises(TypeError):
        protocol(5, "192.0.2.1", "192.0.2.2")
    with pytest.raises(TypeError, match="abstract"):
        Tunnel(local="192.0.2.1", remote="192.0.2.2")


def test_addresses_as_users_write_them(protocol: type[Tunnel]) -> None:
    """Text of any spelling, ipaddress objects, bytes; shown in one canonical form."""
    for value in ("192.0.2.1", ipaddress.ip_address("192.0.2.1"), bytes([192, 0, 2, 1])):
        assert plain(protocol, local=value).local == "192.0.2.1"
    for value in ("2001:DB8:0::1", ipaddress.ip_address("2001:db8::1")):
        assert plain(protocol, 6, local=value).local == "2001:db8::1"
    for value in ("02-00-5E-00-00-01", "0200.5e00.0001", "02005e000001", "02:00:5E:00:00:01",
                  bytes.fromhex("02005e000001")):  # fmt: skip
        assert plain(protocol, local_mac=value).local_mac == "02:00:5e:00:00:01"


def test_integers_as_users_have_them(protocol: type[Tunnel]) -> None:
    np = pytest.importorskip("numpy")
    tunnel = plain(protocol, ttl=np.uint8(5), source_port=(np.int64(1), 2), outer_vlan=np.int16(7))
    assert (tunnel.ttl, tunnel.source_port, tunnel.outer_vlan) == (5, (1, 2), 7)
    assert type(tunnel.ttl) is type(tunnel.source_port[0]) is int
    assert plain(protocol, source_port=[3, 4]).source_port == (3, 4)


def test_frozen(protocol: type[Tunnel]) -> None:
    tunnel = plain(protocol)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tunnel.ttl = 5


def test_defaults(protocol: type[Tunnel]) -> None:
    tunnel = plain(protocol)
    assert (tunnel.ttl, tunnel.dscp, tunnel.ecn, tunnel.df) == (64, 0, "rfc6040", True)
    assert (tunnel.local_mac, tunnel.remote_mac) == ("00:00:00:00:00:00",) * 2
    assert (tunnel.outer_vlan, tunnel.source_port, tunnel.inner_vlan) == (None, None, "keep")
    assert PROTOCOLS[tunnel.name] is protocol
    assert tunnel.key == (0x155 if protocol is ERSPAN else 0x5001)
    if protocol is VXLAN:
        assert (tunnel.port, tunnel.checksum, tunnel.gbp) == (4789, False, None)
        assert plain(protocol, 6).checksum is True
        assert plain(protocol, 6, checksum=False).checksum is False


@given(tunnel=s.tunnels())
def test_tunnels_are_values(tunnel: Tunnel) -> None:
    """Pickle, repr, copy, replace and equality go by the fields alone."""
    rebuilt = [
        pickle.loads(pickle.dumps(tunnel)),
        eval(repr(tunnel), dict(NAMES)),
        copy.copy(tunnel),
        copy.deepcopy(tunnel),
        dataclasses.replace(tunnel),
        type(tunnel)(**{f.name: getattr(tunnel, f.name) for f in dataclasses.fields(tunnel)}),
    ]
    for other in rebuilt:
        assert other == tunnel
        assert hash(other) == hash(tunnel)
        assert repr(other) == repr(tunnel)
        assert type(other) is type(tunnel)
    changed = dataclasses.replace(tunnel, seed=tunnel.seed ^ 1)
    assert changed != tunnel
    assert len({tunnel, changed, *rebuilt}) == 2


@given(a=s.tunnels(), b=s.tunnels())
def test_equality_needs_the_same_protocol(a: Tunnel, b: Tunnel) -> None:
    same = type(a) is type(b) and dataclasses.astuple(a) == dataclasses.astuple(b)
    assert (a == b) is same


@given(data=st.data(), frame=s.frames(least=14))
def test_a_used_tunnel_is_as_good_as_new(codec: Codec, data: st.DataObject, frame: bytes) -> None:
    """What a codec keeps with a tunnel is never seen: not in pickle, copy, replace or equality."""
    tunnel = data.draw(s.tunnels().filter(lambda t: s.sendable(t, frame)))
    fresh = pickle.loads(pickle.dumps(tunnel))
    packet = codec.encap(tunnel, frame, sequence=1)
    for other in (pickle.loads(pickle.dumps(tunnel)), copy.copy(tunnel), fresh):
        assert other == tunnel
        assert codec.encap(other, frame, sequence=1) == packet
    changed = dataclasses.replace(tunnel, ttl=tunnel.ttl ^ 1)
    assert codec.encap(changed, frame, sequence=1) != packet
    assert wire.parse(codec.encap(changed, frame, sequence=1)).ttl == tunnel.ttl ^ 1


def test_repr_shows_what_differs() -> None:
    expected = "VXLAN(local='192.0.2.1', remote='198.51.100.2', vni=7)"
    assert repr(plain(VXLAN, vni=7)) == expected
    shown = repr(plain(STT, ttl=3))
    assert "ttl=3" in shown
    assert "df" not in shown


def test_verbs_of_a_tunnel(protocol: type[Tunnel]) -> None:
    """The methods that users call go to the backend in use."""
    fixed: dict[type[Tunnel], dict[str, int]] = {STT: {"frame_id": 1}, ERSPAN: {"type": 1}}
    given = {"session_id": 0} if protocol is ERSPAN else {}
    tunnel = plain(protocol, ip_id=1, **fixed.get(protocol, {}), **given)
    packet = tunnel.encap(frames.UDP4)
    assert tunnel.encap_many([frames.UDP4] * 2) == tunnel.packets(frames.UDP4) * 2 == [packet] * 2
    batch = overlay.Batch.from_frames([frames.UDP4])
    assert tunnel.encap_batch(batch) == 1
    assert batch.to_list() == [packet]
    out = overlay.Batch.packed(1000, 1)
    assert tunnel.encap_into(overlay.Batch.from_frames([frames.UDP4]), out) == 1
    assert out.to_list() == [packet]
    assert overlay.decap(packet).frame == frames.UDP4
    assert overlay.decap_many([packet])[0] == overlay.decap(packet)
    assert overlay.decap_batch(batch) == 1
    assert overlay.encap_batch(batch, [tunnel], [0]) == 1
    assert overlay.flow_hash(frames.UDP4) == tunnel.codec.flow_hash(frames.UDP4)
    assert overlay.checksum(b"\x12") == 0xEDFF
    assert overlay.SttReassembler().push(cases.STT4, 0.0).frame == cases.ICMP4
    assert overlay.backend == tunnel.codec.name

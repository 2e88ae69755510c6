"""Profiles: one test for each "MUST be ignored", one for each "MUST be discarded"."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given

import cases
import frames
import strategies as s
import wire
from laws import refused
from overlay import ConfigError, Decapsulated, Profile, Status
from overlay.codec import Codec
from shims import BUILD, TAKES

UDP4 = frames.UDP4

#: The 39 reserved bits of a VXLAN header, as Linux's vxlan_reserved.sh counts them.
RESERVED = [*range(4), *range(5, 32), *range(56, 64)]


def vxlan_with(bit: int) -> bytes:
    """A VXLAN packet whose header has this one bit more, 0 the first on the wire."""
    packet = bytearray(wire.vxlan(UDP4))
    packet[42 + bit // 8] |= 0x80 >> bit % 8
    return bytes(packet)


@pytest.mark.parametrize("bit", RESERVED)
def test_each_reserved_bit_alone(codec: Codec, bit: int) -> None:
    """VXLAN-6, VXLAN-7, VXLAN-8, VXLAN-35, GBP-7: ignored by rfc, dropped by strict."""
    packet = vxlan_with(bit)
    assert codec.decap(packet).frame == UDP4
    assert codec.decap(packet).key == 0x123456
    assert codec.decap(packet, "lenient").frame == UDP4
    assert refused(codec, packet, "strict") is Status.VXLAN_RESERVED


def test_all_reserved_bits_at_once(codec: Codec) -> None:
    """VXLAN-6, VXLAN-7, VXLAN-8, VXLAN-35."""
    packet = wire.vxlan(UDP4, flags=0xFF, reserved24=0xFFFFFF, reserved8=0xFF)
    assert codec.decap(packet).frame == UDP4
    assert refused(codec, packet, "strict") is Status.VXLAN_RESERVED
    assert len(RESERVED) == 39


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_i_clear_is_discarded(codec: Codec, profile: str) -> None:
    """VXLAN-9."""
    for flags in (0x00, 0xF7, 0x80):
        assert refused(codec, wire.vxlan(UDP4, flags=flags), profile) is Status.VXLAN_NO_VNI


@pytest.mark.parametrize("bit", [*range(4), *range(5, 8)])
def test_strict_with_gbp_still_minds_the_other_flags(codec: Codec, bit: int) -> None:
    expected = Status.OK if bit == 0 else Status.VXLAN_RESERVED
    assert refused(codec, vxlan_with(bit), "strict", gbp=True) is expected


def test_lenient_reads_what_offload_leaves(codec: Codec, protocol, family: int) -> None:
    """BIG TCP's zero lengths, and checksums that a device was to fill in."""
    build, takes = BUILD[protocol.name], TAKES[protocol.name]
    packet = build(UDP4, family=family, ip_fields={"total": 0})
    assert refused(codec, packet, **takes) is not Status.OK
    assert codec.decap(packet, "lenient").frame == UDP4
    if family == 4:
        packet = build(UDP4, ip_fields={"check": 0})
        assert refused(codec, packet, **takes) is Status.IP_CHECKSUM
        assert codec.decap(packet, "lenient").frame == UDP4
        packet = build(UDP4, ip_fields={"check": 0xDEAD})
        assert refused(codec, packet, "lenient") is Status.IP_CHECKSUM


def test_lenient_takes_a_zero_udp_length(codec: Codec, family: int) -> None:
    packet = wire.vxlan(UDP4, family=family, length=0, check=0xDEAD)
    assert codec.decap(packet, "lenient").frame == UDP4
    assert refused(codec, packet) is Status.UDP_LENGTH


@given(packet=s.corrupted(), profile=s.profiles())
def test_a_profile_takes_what_a_stricter_one_takes(
    codec: Codec, packet: bytes, profile: Profile
) -> None:
    """rfc accepts all that strict accepts, and gives the same frame."""
    try:
        strict = codec.decap(packet, "strict")
    except Exception:
        return
    assert isinstance(strict, Decapsulated)
    assert codec.decap(packet, "rfc") == strict


def test_protocols_by_name(codec: Codec) -> None:
    packets = {"vxlan": cases.VXLAN4, "nvgre": cases.NVGRE4, "stt": cases.STT4}
    for name, packet in packets.items():
        for others in (set(packets) - {name}, ()):
            status = refused(codec, packet, protocols=tuple(others))
            assert status is Status.UNKNOWN_PROTOCOL
        assert codec.decap(packet, protocols=name).protocol == name
        assert codec.decap(packet, protocols=[name, name]).protocol == name


@pytest.mark.parametrize("keys", [[0x123456], (0x123456,), {0x123456}, range(0x123456, 0x123457)])
def test_keys_of_any_collection(codec: Codec, keys) -> None:
    """COM-17."""
    assert codec.decap(cases.VXLAN4, keys=keys).key == 0x123456


def test_many_keys(codec: Codec) -> None:
    """COM-17: among a million networks the right ones are found."""
    profile = Profile(keys=frozenset(range(0, 0x200000, 2)))
    packets = [wire.vxlan(UDP4, vni=vni) for vni in (0, 1, 2, 0x1FFFFE, 0x1FFFFF, 0x200000)]
    statuses = [refused(codec, packet, profile) for packet in packets]
    unknown = Status.UNKNOWN_KEY
    assert statuses == [Status.OK, unknown, Status.OK, Status.OK, unknown, unknown]


# -- the values themselves -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("protocols", ("ipip",)),
        ("geneve_port", 65536),
        ("gpe_port", None),
        ("payload", "ip"),
        ("options", 5),
        ("options", [(0x10000, 0x80)]),
        ("options", [(0x0102, 256)]),
        ("options", [0x0102]),
        ("protocols", (4789,)),
        ("vxlan_port", -1),
        ("vxlan_port", 65536),
        ("vxlan_port", "4789"),
        ("gbp", 1),
        ("inner_vlan", "drop"),
        ("ecn", "zero"),
        ("dscp", 0),
        ("verify_checksums", "no"),
        ("zero_checksum6", "yes"),
        ("zero_checksum6", [("::1",)]),
        ("zero_checksum6", [("::1", "192.0.2.1")]),
        ("zero_checksum6", 1),
        ("reserved_vsid", True),
        ("keys", 5),
        ("keys", [-1]),
        ("keys", [2**64]),
        ("keys", ["a"]),
    ],
)
def test_bad_options_are_named(codec: Codec, field: str, value: object) -> None:
    for make in (
        lambda: Profile(**{field: value}),
        lambda: Profile.of("rfc", **{field: value}),
        lambda: codec.decap(cases.VXLAN4, **{field: value}),
    ):
        with pytest.raises(ConfigError) as error:
            make()
        assert error.value.field == field
        assert str(error.value).startswith(f"{field}=")


@pytest.mark.parametrize("name", ["RFC", "", "linux", 4, None])
def test_unknown_profiles(codec: Codec, name: object) -> None:
    with pytest.raises(ConfigError, match="profile"):
        codec.decap(cases.VXLAN4, name)


def test_one_is_not_true(codec: Codec) -> None:
    """Even after True was taken: equal values of another type are no shortcut past the check."""
    assert codec.decap(cases.VXLAN4, gbp=True).key == codec.decap(cases.VXLAN4, keys=[0x123456]).key
    with pytest.raises(ConfigError, match="gbp=1"):
        codec.decap(cases.VXLAN4, gbp=1)


def test_unknown_options(codec: Codec) -> None:
    with pytest.raises(TypeError, match="vxlan_prot"):
        codec.decap(cases.VXLAN4, vxlan_prot=4789)


def test_a_profile_with_options_is_refused(codec: Codec) -> None:
    with pytest.raises(ConfigError, match="profile"):
        codec.decap(cases.VXLAN4, Profile(), gbp=True)


def test_defaults_by_base() -> None:
    rfc, strict, lenient = (Profile(base=base) for base in ("rfc", "strict", "lenient"))
    for profile in (rfc, strict):
        assert (profile.ecn, profile.verify_checksums, profile.zero_checksum6) == (
            "rfc6040", True, False,
        )  # fmt: skip
    assert (lenient.ecn, lenient.verify_checksums, lenient.zero_checksum6) == (
        "ignore", False, True,
    )  # fmt: skip
    assert Profile.of(strict) is strict
    assert Profile.of("rfc") == rfc
    assert Profile.of("rfc", keys=[3, 3]) == Profile(keys=frozenset({3}))


@given(profile=s.profiles())
def test_profiles_are_values(profile: Profile) -> None:
    assert pickle.loads(pickle.dumps(profile)) == profile
    assert eval(repr(profile), {"Profile": Profile}) == profile
    assert hash(profile) == hash(Profile(**{f: getattr(profile, f) for f in FIELDS}))


def test_a_used_profile_is_as_good_as_new(codec: Codec) -> None:
    """What a codec keeps with a profile is never seen."""
    profile = Profile(gbp=True)
    codec.decap(cases.VXLAN4, profile)
    for other in (pickle.loads(pickle.dumps(profile)), copy.copy(profile), copy.deepcopy(profile)):
        assert other == profile == Profile(gbp=True)
        assert codec.decap(cases.VXLAN4, other).frame == cases.ICMP4


FIELDS = list(Profile.__dataclass_fields__)

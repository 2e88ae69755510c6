"""Profiles: what decap accepts, as frozen and validated values.

``"rfc"`` enforces every MUST of the RFCs and drafts and ignores what they say
to ignore.  ``"strict"`` refuses any reserved bit of VXLAN as well (as Linux and
Open vSwitch do) and of GRE (as Open vSwitch does); STT's reserved fields are
ignored under every profile.  ``"lenient"`` reads captures: it tolerates what
offloading NICs and gateways leave behind, and by default leaves the inner frame
alone where ECN marks differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal

from .address import ip_address
from .errors import ConfigError
from .tunnel import OPTIONS, PROTOCOLS, boolean, choice, integer

__all__ = ["Profile"]

_MISSING: Any = None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What :func:`overlay.decap` and its siblings accept.

    :param base: ``"rfc"``, ``"strict"`` (besides, no reserved bit of VXLAN or
        GRE) or ``"lenient"`` (for captures).
    :param protocols: names of the protocols that are known here; by default all, but
        ``"gre"`` under ``"lenient"`` only: plain GRE shares its IP protocol with NVGRE,
        which is what keyed GRE is taken for where both are known.
    :param vxlan_port: UDP destination port of VXLAN.
    :param geneve_port: UDP destination port of GENEVE.
    :param gpe_port: UDP destination port of VXLAN-GPE.
    :param payload: ``"ethernet"`` takes tunnels that carry Ethernet; ``"any"``, the
        default under ``"lenient"``, also GENEVE, VXLAN-GPE, GRE and ERSPAN that carry IP,
        which is given a header of zero MAC addresses: a frame.
    :param options: critical GENEVE options ``(class, type)`` that are known here:
        packets with another are refused, except under ``"lenient"``.  By default those
        that have a class in :mod:`overlay.geneve`.
    :param gbp: whether the group-policy bits are in use here: only then does
        ``"strict"`` let them pass.
    :param inner_vlan: ``"keep"``, ``"strip"`` or ``"reject"`` (RFC 7348 6.1)
        for inner VLAN tags.  NVGRE refuses tagged frames under ``"rfc"`` and
        ``"strict"`` whatever is chosen (RFC 7637 3.3).
    :param ecn: ``"rfc6040"`` merges the outer ECN field into the inner one
        and drops CE over Not-ECT (RFC 6040 4.2); ``"ignore"`` does neither.
        ``"lenient"`` ignores by default, the others do not.
    :param dscp: ``"pipe"`` leaves the inner DSCP, ``"uniform"`` overwrites it
        with the outer one (RFC 2983).
    :param verify_checksums: whether UDP and TCP checksums are verified; by
        default except under ``"lenient"``.
    :param zero_checksum6: whether a zero UDP checksum is accepted over IPv6:
        True, False, or the pairs ``(local, remote)`` of the tunnels for
        which it is (RFC 6936 4).  Default False, True under ``"lenient"``.
    :param reserved_vsid: ``"accept"`` or ``"drop"`` NVGRE packets with a
        VSID below 0x1000 or of 0xFFFFFF.
    :param keys: the VNIs, VSIDs and Context IDs that exist here; packets with
        another are refused as ``UNKNOWN_KEY``.  None accepts every key.
    :param partial: whether batches leave the partial inner checksum of an STT
        frame as it is, for a device that takes such frames; the row's
        ``checksum`` is 2 then.  Else, and for single packets always, it is
        completed.
    """

    base: Literal["rfc", "strict", "lenient"] = "rfc"
    protocols: tuple[str, ...] = _MISSING
    vxlan_port: int = 4789
    geneve_port: int = 6081
    gpe_port: int = 4790
    payload: Literal["ethernet", "any"] = _MISSING
    options: frozenset[tuple[int, int]] = OPTIONS
    gbp: bool = False
    inner_vlan: Literal["keep", "strip", "reject"] = "keep"
    ecn: Literal["rfc6040", "ignore"] = _MISSING
    dscp: Literal["pipe", "uniform"] = "pipe"
    verify_checksums: bool = _MISSING
    zero_checksum6: bool | tuple[tuple[str, str], ...] = _MISSING
    reserved_vsid: Literal["accept", "drop"] = "accept"
    keys: frozenset[int] | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        put = object.__setattr__
        choice("profile", self.base, ("rfc", "strict", "lenient"))
        lenient = self.base == "lenient"
        if self.protocols is None:
            put(self, "protocols", tuple(n for n in PROTOCOLS if lenient or n != "gre"))
        names = (self.protocols,) if isinstance(self.protocols, str) else tuple(self.protocols)
        known = [choice("protocols", name, tuple(PROTOCOLS)) for name in names]
        put(self, "protocols", tuple(dict.fromkeys(known)))
        for port in ("vxlan_port", "geneve_port", "gpe_port"):
            put(self, port, integer(port, getattr(self, port), 0, 65535))
        if self.payload is None:
            put(self, "payload", "any" if lenient else "ethernet")
        choice("payload", self.payload, ("ethernet", "any"))
        put(self, "options", _options(self.options))
        boolean("gbp", self.gbp)
        choice("inner_vlan", self.inner_vlan, ("keep", "strip", "reject"))
        if self.ecn is None:
            put(self, "ecn", "ignore" if lenient else "rfc6040")
        choice("ecn", self.ecn, ("rfc6040", "ignore"))
        choice("dscp", self.dscp, ("pipe", "uniform"))
        if self.verify_checksums is None:
            put(self, "verify_checksums", not lenient)
        boolean("verify_checksums", self.verify_checksums)
        if self.zero_checksum6 is None:
            put(self, "zero_checksum6", lenient)
        put(self, "zero_checksum6", _zero_checksum6(self.zero_checksum6))
        boolean("partial", self.partial)
        choice("reserved_vsid", self.reserved_vsid, ("accept", "drop"))
        if self.keys is not None:
            try:
                keys = iter(self.keys)
            except TypeError:
                raise ConfigError("keys", self.keys, "a collection of integers") from None
            put(self, "keys", frozenset(integer("keys", k, 0, 2**64 - 1) for k in keys))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, ({f.name: getattr(self, f.name) for f in fields(self)},)

    @staticmethod
    def of(profile: str | Profile, **options: Any) -> Profile:
        """The profile of this name with these fields changed, made once.

        A :class:`Profile` is returned as it is; ``options`` go with a name only.
        """
        if isinstance(profile, Profile):
            if options:
                raise ConfigError("profile", profile, "a name, where options are given too")
            return profile
        if isinstance(options.get("keys"), Iterable):
            options["keys"] = frozenset(options["keys"])
        for name in ("protocols", "zero_checksum6", "options"):
            if isinstance(options.get(name), list):
                options[name] = tuple(tuple(x) if isinstance(x, list) else x for x in options[name])
        unknown = set(options) - set(Profile.__dataclass_fields__)
        if unknown:
            raise TypeError(f"unknown option {sorted(unknown)[0]!r}")
        try:
            return _named(profile, tuple(sorted((k, type(v), v) for k, v in options.items())))
        except TypeError:  # an unhashable value: let the validation name it
            return Profile(base=profile, **options)  # type: ignore[arg-type]


def _options(value: Any) -> frozenset[tuple[int, int]]:
    expected = "pairs (class, type) of integers in 0..0xFFFF and 0..0xFF"
    try:
        pairs = [(number, kind) for number, kind in value]
    except (TypeError, ValueError):
        raise ConfigError("options", value, expected) from None
    return frozenset(
        (integer("options", number, 0, 0xFFFF), integer("options", kind, 0, 0xFF))
        for number, kind in pairs
    )


def _rebuild(values: dict[str, Any]) -> Profile:
    return Profile(**values)


@lru_cache(maxsize=256)
def _named(base: str, options: tuple[tuple[str, type, Any], ...]) -> Profile:
    # The types are part of the cache's key: 1 == True, and one of them is refused.
    return Profile(base=base, **{k: v for k, _, v in options})  # type: ignore[arg-type]


def _zero_checksum6(value: object) -> bool | tuple[tuple[str, str], ...]:
    if isinstance(value, bool):
        return value
    expected = "True, False or pairs (local, remote) of IPv6 addresses"
    pairs = []
    try:
        for local, remote in value:  # type: ignore[attr-defined]
            pair = ip_address("zero_checksum6", local), ip_address("zero_checksum6", remote)
            if ":" not in pair[0] or ":" not in pair[1]:
                raise ConfigError("zero_checksum6", value, expected)
            pairs.append(pair)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("zero_checksum6", value, expected) from None
    return tuple(sorted(set(pairs)))

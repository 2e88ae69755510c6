"""Tunnels: what to add to a frame, as frozen and validated values.

A tunnel that exists is valid: every field is checked when it is built, and a
bad one is a :class:`~overlay.errors.ConfigError` that names field, value and
range.  What lives here: values and arithmetic.  What must not: any byte of a
packet; those are the codecs' (:mod:`overlay.codec`), reached through
:attr:`Tunnel.codec`, which :mod:`overlay._backend` sets once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsIndex

from overlay.address import ip_address, is_multicast, mac_address, multicast_mac
from overlay.errors import ConfigError

if TYPE_CHECKING:
    from overlay.batch import Batch
    from overlay.codec import Buffer, Codec

__all__ = ["ENTROPY_PORTS", "MISSING", "Tunnel", "boolean", "choice", "integer"]

ENTROPY_PORTS = (49152, 65535)

MISSING: Any = None  #: a value that __post_init__ derives from the other fields


def integer(name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int within ``low..high``, or :class:`ConfigError`."""
    if type(value) is int:
        number = value
    elif isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise ConfigError(name, value, f"an integer in {low}..{high}")
    else:
        number = value.__index__()
    if not low <= number <= high:
        raise ConfigError(name, value, f"an integer in {low}..{high}")
    return number


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """``value`` if it is one of ``allowed``, or :class:`ConfigError`."""
    if isinstance(value, str) and value in allowed:
        return value
    raise ConfigError(name, value, "one of " + ", ".join(map(repr, allowed)))


def boolean(name: str, value: object) -> bool:
    """``value`` if it is a bool, or :class:`ConfigError`."""
    if isinstance(value, bool):
        return value
    raise ConfigError(name, value, "True or False")


@dataclass(frozen=True, kw_only=True)
class Tunnel:
    """What every tunnel has: the outer Ethernet and IP headers and the entropy.

    Not built itself; see :class:`VXLAN`, :class:`NVGRE`, :class:`STT`, :class:`Geneve`,
    :class:`VXLANGPE`, :class:`GRE` and :class:`ERSPAN`.

    :param local: this VTEP's IP address, text or :mod:`ipaddress`.
    :param remote: the other VTEP's, of the same family; a group is allowed.
    :param local_mac: outer source MAC.
    :param remote_mac: outer destination MAC; that of the group by default
        where ``remote`` is one, else zero.
    :param outer_vlan: VID of an outer 802.1Q tag, 0..4095, or None for no tag.
    :param outer_pcp: its priority, 0..7.
    :param outer_dei: its drop-eligible bit.
    :param ttl: outer TTL or hop limit, 0..255; 64, or 1 where ``remote`` is a group.
    :param dscp: outer DSCP, 0..63 (pipe model), or ``"inherit"`` to copy the
        inner one (uniform model, RFC 2983).
    :param ecn: ``"rfc6040"`` copies the inner ECN field (normal mode);
        ``"compat"`` sends Not-ECT to peers that cannot propagate marks
        (compatibility mode, RFC 6040 4.3); ``"zero"``, which sends the same,
        says that no marks are wanted.
    :param df: the IPv4 Don't Fragment bit.
    :param ip_id: the IPv4 identification, 0..65535; None sends 0 with ``df``
        and a counter without it (RFC 6864).
    :param flow_label: the IPv6 flow label, 0..0xFFFFF; None takes it from the
        flow hash (RFC 6438).
    :param source_port: the UDP or TCP source port: None for 49152..65535 by
        the flow hash, a pair ``(low, high)`` for another range, or one number.
    :param inner_vlan: ``"keep"`` keeps what the protocol can carry (VXLAN: the
        tag in the frame; STT: in its header; NVGRE: nothing, RFC 7637 3.3);
        ``"strip"`` removes up to two tags; ``"reject"`` refuses tagged frames.
    :param seed: of the flow hash, 0..2**64-1.
    """

    #: The codec that packs and unpacks for every tunnel; set once by ``_backend``.
    codec: ClassVar[Codec]
    #: The protocol's name, as on the command line.
    name: ClassVar[str] = ""
    #: The protocol's number in ``Batch.protocol`` and in C.
    number: ClassVar[int] = 0
    #: The field that :attr:`key` is.
    key_field: ClassVar[str] = ""
    #: Bytes that the protocol adds after the outer IP header.
    _shim: ClassVar[int] = 0

    local: str
    remote: str
    local_mac: str = "00:00:00:00:00:00"
    remote_mac: str = MISSING
    outer_vlan: int | None = None
    outer_pcp: int = 0
    outer_dei: bool = False
    ttl: int = MISSING
    dscp: int | Literal["inherit"] = 0
    ecn: Literal["rfc6040", "compat", "zero"] = "rfc6040"
    df: bool = True
    ip_id: int | None = None
    flow_label: int | None = None
    source_port: int | tuple[int, int] | None = None
    inner_vlan: Literal["keep", "strip", "reject"] = "keep"
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self) is Tunnel:
            raise TypeError("Tunnel is abstract: build a VXLAN, NVGRE, STT or another")
        put = self._put
        put("local", ip_address("local", self.local))
        put("remote", ip_address("remote", self.remote))
        if (":" in self.local) != (":" in self.remote):
            raise ConfigError("remote", self.remote, f"an address of the family of {self.local}")
        for name, value in self._derived().items():
            if getattr(self, name) is None:
                put(name, value)
        put("local_mac", mac_address("local_mac", self.local_mac))
        put("remote_mac", mac_address("remote_mac", self.remote_mac))
        if self.outer_vlan is None:
            if self.outer_pcp or self.outer_dei:
                raise ConfigError("outer_vlan", None, "a VID, since outer_pcp or outer_dei is set")
        else:
            self._integer("outer_vlan", 0, 4095)
        self._integer("outer_pcp", 0, 7)
        boolean("outer_dei", self.outer_dei)
        self._integer("ttl", 0, 255)
        if self.dscp != "inherit":
            self._integer("dscp", 0, 63, or_else=" or 'inherit'")
        choice("ecn", self.ecn, ("rfc6040", "compat", "zero"))
        boolean("df", self.df)
        if self.ip_id is not None:
            self._integer("ip_id", 0, 0xFFFF)
        if self.flow_label is not None:
            self._integer("flow_label", 0, 0xFFFFF)
        self._check_source_port()
        choice("inner_vlan", self.inner_vlan, ("keep", "strip", "reject"))
        self._integer("seed", 0, 2**64 - 1)

    def _put(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _integer(self, name: str, low: int, high: int, or_else: str = "") -> None:
        try:
            self._put(name, integer(name, getattr(self, name), low, high))
        except ConfigError as error:
            raise ConfigError(name, error.value, error.expected + or_else) from None

    def _check_source_port(self) -> None:
        if self.source_port is None:
            return
        if isinstance(self.source_port, (tuple, list)):
            if len(self.source_port) != 2:
                raise ConfigError("source_port", self.source_port, "a pair (low, high)")
            low = integer("source_port", self.source_port[0], 0, 65535)
            high = integer("source_port", self.source_port[1], 0, 65535)
            if low > high:
                raise ConfigError("source_port", self.source_port, "low <= high")
            self._put("source_port", (low, high))
        else:
            self._integer("source_port", 0, 65535, or_else=", a pair (low, high) or None")

    def __reduce__(self) -> tuple[object, ...]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _rebuild, (type(self), values)

    def __repr__(self) -> str:
        """Only what differs from the defaults; ``eval`` of it gives the tunnel back."""
        derived = self._derived()
        shown = (
            f"{f.name}={value!r}"
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) != derived.get(f.name, f.default)
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def _derived(self) -> dict[str, object]:
        """The defaults that depend on other fields."""
        group = is_multicast(self.remote)
        mac = multicast_mac(self.remote) if group else "00:00:00:00:00:00"
        return {"remote_mac": mac, "ttl": 1 if group else 64}

    # -- arithmetic ---------------------------------------------------------

    @property
    def family(self) -> int:
        """4 or 6: the IP version of the underlay."""
        return 6 if ":" in self.local else 4

    @property
    def key(self) -> int:
        """The VNI, the VSID or the Context ID."""
        value: int = getattr(self, self.key_field)
        return value

    @property
    def overhead(self) -> int:
        """Bytes added to a frame that fits one packet, outer Ethernet included, FCS not.

        Where the payload is IP, the bytes that the frame loses are taken off.
        """
        tag = 0 if self.outer_vlan is None else 4
        return 14 + tag + (20 if self.family == 4 else 40) + self._shim_length() - self._replaced()

    def _shim_length(self) -> int:
        """Bytes between the outer IP header and the payload."""
        return self._shim

    def _replaced(self) -> int:
        """Bytes of a frame that are not carried: its Ethernet header, where IP is."""
        return 0

    def inner_mtu(self, underlay_mtu: int, *, inner_tags: int = 0) -> int:
        """The largest inner IP packet whose frame fits one underlay IP packet.

        :param underlay_mtu: the underlay's IP MTU in bytes, at most 65535.
        :param inner_tags: 802.1Q tags that the frames carry and that stay in
            the payload, 0..2.

        For STT this is the limit of one segment; longer frames are segmented.
        """
        tag = 0 if self.outer_vlan is None else 4
        taken = self.overhead - tag + 4 * integer("inner_tags", inner_tags, 0, 2)
        return integer("underlay_mtu", underlay_mtu, taken, 65535) - taken

    # -- the codec's verbs ----------------------------------------------------

    @cached_property
    def encap(self) -> Callable[[Buffer], bytes]:
        """``t.encap(frame) -> bytes``: the outer headers and the frame, as one packet.

        ``frame`` is any C-contiguous buffer of bytes.  Raises
        :class:`~overlay.errors.EncapError` for a frame that cannot be carried.
        """
        return self.codec.encoder(self).encap

    @cached_property
    def encap_many(self) -> Callable[[Iterable[Buffer]], list[bytes]]:
        """``t.encap_many(frames) -> list of bytes``: as :attr:`encap`, in one crossing."""
        return self.codec.encoder(self).encap_many

    def packets(self, frame: Buffer, mtu: int = 1500) -> list[bytes]:
        """The packets that carry ``frame`` over an underlay of this IP MTU.

        STT gives one or more segments; the others one packet, or
        :class:`~overlay.errors.MTUExceeded`.
        """
        return self.codec.packets(self, frame, mtu)

    @cached_property
    def encap_batch(self) -> Callable[[Batch], int]:
        """``t.encap_batch(batch) -> int``: encap every row in place; the rows done.

        The headers go to the headroom, in one call without the GIL.  Rows
        whose ``status`` is not OK are left alone; a row that cannot be
        carried gets its ``status`` and keeps its bytes.
        """
        return self.codec.encoder(self).encap_batch

    @cached_property
    def encap_into(self) -> Callable[..., int]:
        """``t.encap_into(batch, out, mtu=0) -> int``: encap into ``out``; the packets written.

        The copying and 1:N form: packets are packed behind each other, STT
        frames become segments of at most ``mtu`` bytes of IP packet, others
        get ``MTU_EXCEEDED``; 0 is no limit.  ``out.origin`` holds the row of
        ``batch`` that each packet came from.  A row for which there is no room
        gets ``NO_ROOM``.
        """
        return self.codec.encoder(self).encap_into


def _rebuild(cls: type[Tunnel], values: dict[str, Any]) -> Tunnel:
    return cls(**values)


def payload_is_ip(payload: object) -> bool:
    """Whether a tunnel with this ``payload`` carries IP; :class:`ConfigError` if it is neither."""
    return choice("payload", payload, ("ethernet", "ip")) == "ip"

"""Mask: an expected packet whose free bits are said one after another, as in PTF.

Lives here: the verbs of ``ptf.mask.Mask``, on fields by name as well.  Must
not: the comparison; that is :class:`~overlay.match.expected.Expected`'s.
"""

from __future__ import annotations

from typing import Any

from overlay.errors import ConfigError

from .expected import Expected, as_bytes, bit_range, places

__all__ = ["Mask"]


class Mask:
    """A packet, and the bits of it that matter: all, until told otherwise.

    The verbs are those of ``ptf.mask.Mask``, so that either can stand where
    the other did, PTF's ``verify_packet`` included.

    :param exp_pkt: a packet: bytes, or an object with ``bytes()``.
    :param ignore_extra_bytes: whether more bytes may follow.
    :param dont_care_all: begin with no bit that matters.
    """

    def __init__(
        self, exp_pkt: Any, ignore_extra_bytes: bool = False, dont_care_all: bool = False
    ) -> None:
        self.exp_pkt = exp_pkt
        self.data = as_bytes(exp_pkt)
        self.size = len(self.data)
        self.ignore_extra_bytes = ignore_extra_bytes
        self._care = 0 if dont_care_all else bit_range(0, 8 * self.size, self.size)

    @property
    def mask(self) -> list[int]:
        """One number a byte, its bits 1 where they matter."""
        return list(self._care.to_bytes(self.size, "big"))

    def set_care(self, offset: int, bitwidth: int) -> None:
        """These bits matter.  ``offset`` is in bits, from the highest of the first byte."""
        self._care |= bit_range(offset, bitwidth, self.size)

    def set_do_not_care(self, offset: int, bitwidth: int) -> None:
        """These bits do not."""
        self._care &= ~bit_range(offset, bitwidth, self.size)

    def set_care_all(self) -> None:
        """Every bit matters."""
        self._care = bit_range(0, 8 * self.size, self.size)

    def set_do_not_care_all(self) -> None:
        """None does."""
        self._care = 0

    def set_care_packet(self, hdr_type: Any, field_name: str) -> None:
        """A field matters; see :meth:`set_do_not_care_packet`."""
        for first, count in self._places(hdr_type, field_name):
            self.set_care(first, count)

    def set_do_not_care_packet(self, hdr_type: Any, field_name: str) -> None:
        """A field does not matter.

        :param hdr_type: the header's name in :mod:`overlay.layout`
            (``"outer.ipv4"``); or its class, of scapy or of :mod:`overlay.ptf`,
            where the packet was made of these: the first header of it, as in PTF.
        :param field_name: the field's name there.
        :raises ConfigError: the packet has no such header or field.
        """
        for first, count in self._places(hdr_type, field_name):
            self.set_do_not_care(first, count)

    def set_ignore_extra_bytes(self) -> None:
        """More bytes may follow."""
        self.ignore_extra_bytes = True

    def is_valid(self) -> bool:
        """True; what is wrong is said at once, and not later."""
        return True

    def expected(self, name: str = "") -> Expected:
        """The same as an :class:`Expected`, as it is now."""
        care = self._care.to_bytes(self.size, "big")
        return Expected(self.data, care, extra=self.ignore_extra_bytes, name=name)

    def pkt_match(self, pkt: Any) -> bool:
        """Whether the packet is as expected."""
        return self.expected().matches(pkt)

    def __str__(self) -> str:
        differ = self.expected()
        return f"{differ!r}\npacket: {self.data.hex(' ')}\nmask:   {bytes(self.mask).hex(' ')}"

    def _places(self, header: Any, name: str) -> list[tuple[int, int]]:
        if isinstance(header, str):
            return places([f"{header}.{name}"], Expected(self.data))
        return [_place(self.exp_pkt, header, name)]


def _place(packet: Any, header: Any, name: str) -> tuple[int, int]:
    """Where a field of a header class lies in a packet of such, in bits."""
    title = getattr(header, "__name__", repr(header))
    if not hasattr(header, "fields_desc") or not hasattr(packet, "getlayer"):
        raise ConfigError("hdr_type", title, "a header's name, or its class if the packet has such")
    if header not in packet:
        raise ConfigError("hdr_type", title, "a header of the packet")
    # Built and read again: which optional fields are here is in the bytes.
    layer = packet[header]
    here = layer.__class__(bytes(layer)).fields
    first = 8 * (len(packet) - len(layer))
    for field in layer.fields_desc:
        if field.name not in here:
            continue
        bits = int(field.size if hasattr(field, "size") else 8 * field.sz)
        if field.name == name:
            return first, bits
        first += bits
    raise ConfigError("field_name", name, f"a field of {title}, which has {', '.join(here)}")

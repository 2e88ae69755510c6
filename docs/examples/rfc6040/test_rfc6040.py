"""RFC 6040 at a tunnel's ends: what congestion marks become, of the kernel and of overlay.

Run it: ``pytest docs/examples/rfc6040`` as root, or with ``--overlay-unshare``.
"""

from __future__ import annotations

import pytest

import overlay
from overlay.lab.peer import TENANT
from overlay.pytest import Packet

NOT_ECT, ECT1, ECT0, CE = 0b00, 0b01, 0b10, 0b11
NAMES = {NOT_ECT: "Not-ECT", ECT1: "ECT(1)", ECT0: "ECT(0)", CE: "CE"}
DROP = None
VNI = 5001

#: RFC 6040, figure 4: (inner, outer) as they arrive, and the mark that goes on.
DECAP = {
    (NOT_ECT, NOT_ECT): NOT_ECT, (NOT_ECT, ECT0): NOT_ECT, (NOT_ECT, ECT1): NOT_ECT,
    (NOT_ECT, CE): DROP,
    (ECT0, NOT_ECT): ECT0, (ECT0, ECT0): ECT0, (ECT0, ECT1): ECT1, (ECT0, CE): CE,
    (ECT1, NOT_ECT): ECT1, (ECT1, ECT0): ECT1, (ECT1, ECT1): ECT1, (ECT1, CE): CE,
    (CE, NOT_ECT): CE, (CE, ECT0): CE, (CE, ECT1): CE, (CE, CE): CE,
}  # fmt: skip


def frame(ecn: int, number: int = 0) -> bytes:
    """A UDP datagram over IPv4 with this mark, told from others by its number."""
    words = [0x4500 | ecn, 32, number, 0x4000, 0x40FD, 0, 0x0A4D, 0x0002, 0x0A4D, 0x0001]
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    words[5] = 0xFFFF - ((total & 0xFFFF) + (total >> 16))
    ip = b"".join(word.to_bytes(2, "big") for word in words)
    return bytes.fromhex("0200000000010200000000020800") + ip + bytes(26)


def packet(tunnel: overlay.Tunnel, inner: int, outer: int, number: int = 0) -> bytes:
    """A packet with these marks: the headers of one frame before another."""
    headers = tunnel.encap(frame(outer, number))[: tunnel.overhead]
    return headers + frame(inner, number)


def mark(packet: bytes) -> int:
    """The mark of an IPv4 packet or frame."""
    return Packet(packet).number("outer.ipv4.tos") & 3


def number(packet: bytes) -> int:
    """Which frame it is."""
    return Packet(packet).number("outer.ipv4.id")


def table(seen: dict[tuple[int, int], int | None]) -> str:
    """Results as text, a line a pair of marks."""
    said = {DROP: "dropped", **NAMES}
    return "\n".join(
        f"inner {NAMES[inner]:7} outer {NAMES[outer]:7} {said[got]}"
        for (inner, outer), got in sorted(seen.items())
    )


def test_decap_of_overlay() -> None:
    tunnel = overlay.VXLAN(vni=VNI, local="192.0.2.2", remote="192.0.2.1")
    seen: dict[tuple[int, int], int | None] = {}
    for inner, outer in DECAP:
        try:
            seen[inner, outer] = mark(overlay.decap(packet(tunnel, inner, outer)).frame)
        except overlay.DecapError as error:
            assert error.status is overlay.Status.ECN_CONGESTION
            seen[inner, outer] = DROP
    assert table(seen) == table(DECAP)


def test_decap_of_the_kernel(overlay_kernel_vxlan, overlay_wire, overlay_capture) -> None:
    """Packets made by hand go to the kernel's VXLAN device; its tenant's frames are looked at."""
    device = overlay_kernel_vxlan(key=VNI)
    us, it = device.topology.hosts[1], device.host
    underlay, tenant = overlay_wire(us), overlay_wire(it, TENANT)
    overlay_capture(us)  # stays if the test fails
    tunnel = overlay.VXLAN(
        vni=VNI, local=device.topology.address(us), remote=device.local,
        local_mac="02:ff:00:00:00:02", remote_mac="02:ff:00:00:00:01",
    )  # fmt: skip
    pairs = list(DECAP)
    for place, (inner, outer) in enumerate(pairs):
        underlay.send(packet(tunnel, inner, outer, place))
    underlay.send(packet(tunnel, ECT0, ECT0, len(pairs)))  # the last: all before it have passed
    seen: dict[tuple[int, int], int | None] = dict.fromkeys(DECAP, DROP)
    while (got := tenant.receive()) is not None:
        if got[12:14] == b"\x08\x00" and got[23] == 0xFD:
            if number(got) == len(pairs):
                break
            seen[pairs[number(got)]] = mark(got)
    assert table(seen) == table(DECAP)


@pytest.mark.parametrize("inner", NAMES, ids=NAMES.get)
def test_encap_of_overlay(inner: int) -> None:
    """Normal mode copies the mark, compatibility mode sends Not-ECT (RFC 6040 4.1)."""
    for ecn, outer in (("rfc6040", inner), ("compat", NOT_ECT)):
        tunnel = overlay.VXLAN(vni=VNI, local="192.0.2.1", remote="192.0.2.2", ecn=ecn)
        assert mark(tunnel.encap(frame(inner))) == outer


def test_encap_of_the_kernel(overlay_kernel_vxlan, overlay_wire) -> None:
    """Linux copies the mark but for CE, of which it makes ECT(0), as RFC 3168 9.1.1 had it."""
    device = overlay_kernel_vxlan(key=VNI)
    device.host.run(
        ["ping", "-c", "1", "-W", "5", device.topology.address(device.topology.hosts[1])]
    )
    underlay = overlay_wire(device.topology.hosts[1])
    tenant = overlay_wire(device.host, TENANT)
    seen = {}
    for inner in NAMES:
        out = frame(inner, inner)
        tenant.send(bytes.fromhex("020000000003020000000001") + out[12:])
        got = underlay.expect(
            lambda p, n=inner: p[50:][12:14] == b"\x08\x00" and number(p[50:]) == n
        )
        assert got is not None
        seen[NAMES[inner]] = NAMES[mark(got)]
    assert seen == {"Not-ECT": "Not-ECT", "ECT(1)": "ECT(1)", "ECT(0)": "ECT(0)", "CE": "ECT(0)"}

"""Every prefix of every vector, and every byte of it changed: the same answer everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import cases
import laws
import wire
from overlay import Status
from overlay.codec import Codec

VECTORS = Path(__file__).parent / "vectors"
HEAD, TAIL = 160, 16  # bytes that are changed one by one; between them is payload


def corpus() -> dict[str, bytes]:
    """The golden packets, the catalogue of refusals and what every profile takes."""
    packets = {f"accepted-{name}": packet for name, packet in cases.ACCEPTED.items()}
    packets |= {f"{c.status.name}-{c.name}": c.packet for c in cases.DECAP if len(c.packet) < 400}
    for file in sorted(VECTORS.glob("*.json")):
        for vector in json.loads(file.read_text()):
            several = vector.get("packets_hex") or [vector["packet_hex"]]
            for n, text in enumerate(several):
                packets[f"{vector['name']}-{n}"] = bytes.fromhex(text)
    return packets


CORPUS = corpus()
PROFILES = ["rfc", "strict", "lenient"]


def check_same(twins: Sequence[Codec], packets: list[bytes], whole: int | None = None) -> None:
    """All backends give the same results, one by one, under every profile."""
    for profile in PROFILES:
        for packet in packets:
            laws.check_twins_agree(
                twins, lambda c, p=packet, f=profile: c.decap(p, f, wire_length=whole)
            )


def positions(packet: bytes) -> list[int]:
    if len(packet) <= HEAD + TAIL:
        return list(range(len(packet)))
    return [*range(HEAD), *range(len(packet) - TAIL, len(packet))]


@pytest.mark.parametrize("name", CORPUS)
def test_every_prefix(twins: Sequence[Codec], name: str) -> None:
    """COM-3, COM-19, VXLAN-32, NVGRE-29: cut anywhere; also as a capture that was cut there."""
    packet = CORPUS[name]
    prefixes = [packet[:size] for size in [*positions(packet), len(packet)]]
    check_same(twins, prefixes)
    check_same(twins, prefixes, whole=len(packet))


@pytest.mark.parametrize("name", cases.ACCEPTED)
def test_no_prefix_is_taken(codec: Codec, name: str) -> None:
    """COM-3, COM-19: what an IP length says is there must be there."""
    packet = cases.ACCEPTED[name]
    needed = len(packet) - 8 if name == "padded" else len(packet)
    for size in range(needed):
        assert laws.refused(codec, packet[:size]) is not Status.OK, size


@pytest.mark.parametrize("name", CORPUS)
def test_every_byte_changed(twins: Sequence[Codec], name: str) -> None:
    """COM-19: each byte in turn 0x00, 0xFF and with its last bit turned over."""
    packet = CORPUS[name]
    changed = [
        packet[:at] + bytes([value]) + packet[at + 1 :]
        for at in positions(packet)
        for value in {0x00, 0xFF, packet[at] ^ 1} - {packet[at]}
    ]
    check_same(twins, changed)


@pytest.mark.parametrize("name", CORPUS)
def test_every_byte_changed_raw(twins: Sequence[Codec], name: str) -> None:
    """The same behind checksums that are made right again, so that more is reached."""
    packet = CORPUS[name]
    changed = [
        wire.mended(packet[:at] + bytes([packet[at] ^ mask]) + packet[at + 1 :])
        for at in positions(packet)[14:]
        for mask in (0x01, 0x80)
    ]
    for candidate in changed:
        laws.check_twins_agree(twins, lambda c, p=candidate: c.decap(p))

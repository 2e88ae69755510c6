"""Makes the captures of the cookbook in the current folder, the same bytes each time."""

from __future__ import annotations

from collections.abc import Sequence

import overlay
from overlay.io.pcap import CaptureWriter
from overlay.traffic import Sweep
from overlay.tunnel.option import GwlbAttachment, GwlbEndpoint, GwlbFlow

FIRST = 1_767_225_600_000_000_000  # 2026-01-01
MILLISECOND = 1_000_000
CLIENT, SERVER = "ip.src=10.0.0.1", "ip.src=10.0.0.2"


def write(name: str, packets: Sequence[bytes], step: int = MILLISECOND) -> None:
    with CaptureWriter(name) as writer:
        batch = overlay.Batch.from_frames(packets)
        writer.write(batch, [FIRST + step * number for number in range(len(packets))])


def frame(*fields: str, size: int = 60, ident: int = 0) -> bytes:
    sweep = Sweep([*fields, f"ip.id={ident}"], size=size, signature=False)
    made: bytes = sweep.frames(0, 1).to_list()[0]
    return made


def black_hole() -> list[bytes]:
    """A request that is answered, then full segments that are sent again and never acknowledged."""
    there = overlay.VXLAN(vni=5001, local="192.0.2.1", remote="192.0.2.2")
    back = overlay.VXLAN(vni=5001, local="192.0.2.2", remote="192.0.2.1")
    client = [CLIENT, "ip.dst=10.0.0.2", "tcp.sport=40000", "tcp.dport=443", "tcp.flags=0x18"]
    server = [SERVER, "ip.dst=10.0.0.1", "tcp.sport=443", "tcp.dport=40000", "tcp.flags=0x10"]
    packets = []
    for place in range(3):  # three small requests of 100 bytes, acknowledged
        seq = 1000 + 100 * place
        packets.append(
            there.encap(frame(*client, f"tcp.seq={seq}", "tcp.ack=77", size=154, ident=place))
        )
        packets.append(
            back.encap(frame(*server, "tcp.seq=77", f"tcp.ack={seq + 100}", size=54, ident=place))
        )
    for attempt in range(4):  # 1460 bytes, which nobody answers
        large = [*client, "tcp.seq=1300", "tcp.ack=77"]
        packets.append(there.encap(frame(*large, size=1514, ident=10 + attempt)))
    ack = [*server, "tcp.seq=77", "tcp.ack=1300"]
    packets.append(back.encap(frame(*ack, size=54, ident=10)))
    return packets


def gwlb() -> list[bytes]:
    """What a Gateway Load Balancer sends: three packets of two flows."""
    packets = []
    for cookie, port in ((0xC00C1E01, 40000), (0xC00C1E02, 40001), (0xC00C1E01, 40000)):
        options = (GwlbEndpoint(0x0E1D), GwlbAttachment(0x0A77), GwlbFlow(cookie))
        tunnel = overlay.Geneve(
            vni=0, local="10.0.1.4", remote="10.0.1.9", payload="ip", options=options
        )
        packets.append(tunnel.encap(frame(CLIENT, "ip.dst=10.0.0.2", f"tcp.sport={port}")))
    return packets


def folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def offload() -> list[bytes]:
    """TCP in VXLAN as a sender's NIC has yet to finish it, and as a broken one leaves it."""
    tunnel = overlay.VXLAN(vni=5001, local="192.0.2.1", remote="192.0.2.2")
    packets = []
    for number in range(6):
        whole = bytearray(frame(CLIENT, "ip.dst=10.0.0.2", "tcp.dport=443", size=154, ident=number))
        if number in (1, 2, 3):  # the sum of the pseudo header alone
            words = whole[26:34] + bytes([0, 6]) + (len(whole) - 34).to_bytes(2, "big")
            partial = folded(sum(int.from_bytes(words[i : i + 2], "big") for i in range(0, 12, 2)))
            whole[50:52] = partial.to_bytes(2, "big")
        if number == 5:
            whole[100] ^= 0x40
        packets.append(tunnel.encap(bytes(whole)))
    return packets


for name, packets in (("black_hole", black_hole()), ("gwlb", gwlb()), ("offload", offload())):
    write(f"{name}.pcap", packets)

"""Traffic: what tenants send one another, and what came of it.

Lives here: pings, ARP, broadcasts, tagged frames and streams, each a function
of the two ends that returns what was seen.  What must not: any judgement.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from .host import LabError, need
from .peer import TENANT, Peer
from .wire import Wire

__all__ = [
    "Ping", "Stream", "arping", "broadcast", "iperf3", "ping", "tagged", "transfer",
]  # fmt: skip

_EXPERIMENT = b"\x88\xb5"  # the EtherType for local experiments: no host answers it
_PORT = 5009


@dataclass(frozen=True)
class Ping:
    """``sent`` and ``received`` echoes, the median round trip in ms, the MTU that a router named.

    The ``mtu`` is 0 where no ICMP error named one.
    """

    sent: int
    received: int
    milliseconds: float
    mtu: int

    @property
    def lossless(self) -> bool:
        return self.sent > 0 and self.received == self.sent


def ping(
    one: Peer, other: Peer, *, version: int = 4, count: int = 3, size: int = 56,
    fragment: bool = True, wait: float = 5.0, interval: float = 0.05,
) -> Ping:  # fmt: skip
    """Echo requests from tenant to tenant, ``size`` bytes of payload each.

    fragment: the sender may cut them (False: DF, as ``ping -M do``).  wait: seconds for
    the last answer.
    """
    need("ping")
    result = one.host.run(
        [
            "ping", f"-{version}", "-n", "-c", str(count), "-i", str(interval), "-s", str(size),
            "-W", str(wait), "-M", "dont" if fragment and version == 4 else
            "want" if fragment else "do", other.address(version),
        ],
        check=False,
    )  # fmt: skip
    totals = re.search(r"(\d+) packets transmitted, (\d+) received", result.stdout)
    if totals is None:
        raise LabError(f"host {one.host.name}: ping: {(result.stderr or result.stdout).strip()}")
    times = sorted(float(word) for word in re.findall(r"time=([\d.]+) ms", result.stdout))
    named = re.search(r"mtu\s*[=:]\s*(\d+)", result.stdout + result.stderr)
    return Ping(
        sent=int(totals[1]),
        received=int(totals[2]),
        milliseconds=times[len(times) // 2] if times else 0.0,
        mtu=int(named[1]) if named else 0,
    )


def arping(one: Peer, other: Peer, *, count: int = 2) -> list[str]:
    """The MACs that answered ARP requests for the other tenant's address, one an answer."""
    need("arping")
    result = one.host.run(
        ["arping", "-c", str(count), "-w", "5", "-I", TENANT, other.address()], check=False
    )
    return [mac.lower() for mac in re.findall(r"reply from \S+ \[([0-9A-Fa-f:]+)\]", result.stdout)]


def broadcast(sender: Peer, receivers: list[Peer], *, wait: float = 5.0) -> list[bool]:
    """A broadcast datagram; whether each of the receivers got it."""
    word = f"{time.monotonic_ns()}".encode()
    ears = []
    try:
        for receiver in receivers:
            with receiver.host.entered():
                ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            ear.bind(("", _PORT))
            ear.settimeout(wait)
            ears.append(ear)
        with sender.host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            mouth.sendto(word, ("10.77.0.255", _PORT))
        return [_hears(ear, word) for ear in ears]
    finally:
        for ear in ears:
            ear.close()


def _hears(ear: socket.socket, word: bytes) -> bool:
    try:
        while ear.recv(2048) != word:
            pass
    except TimeoutError:
        return False
    return True


def tagged(
    sender: Peer, receiver: Peer, tags: list[tuple[int, int]], *, size: int = 200, wait: float = 5.0
) -> bool:
    """Whether a frame with these (TPID, TCI), outermost first, arrives as it was sent.

    size: of the payload behind the tags, in bytes.  It is made by hand, so no
    VLAN support is needed of the kernel.
    """
    headers = b"".join(tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") for tpid, tci in tags)
    pattern = f"{time.monotonic_ns()}".encode()
    payload = (pattern * (size // len(pattern) + 1))[:size]
    macs = bytes.fromhex(receiver.mac.replace(":", "") + sender.mac.replace(":", ""))
    frame = macs + headers + _EXPERIMENT + payload
    with Wire(receiver.host, TENANT) as ear, Wire(sender.host, TENANT) as mouth:
        mouth.send(frame)
        return ear.expect(lambda seen: seen == frame, wait) is not None


@dataclass(frozen=True)
class Stream:
    """What a TCP stream took: ``size`` bytes in ``seconds``; ``intact`` if its SHA-256 is kept."""

    size: int
    seconds: float
    intact: bool

    @property
    def gbits(self) -> float:
        """Gbit/s of payload."""
        return self.size * 8e-9 / self.seconds if self.seconds else 0.0


def transfer(
    sender: Peer, receiver: Peer, size: int = 100_000_000, *, version: int = 4, wait: float = 20.0
) -> Stream:
    """``size`` bytes by TCP from tenant to tenant, hashed at both ends.

    wait: seconds without progress after which it is given up.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with receiver.host.entered():
        listener = socket.create_server((receiver.address(version), 0), family=family)
    hashes = [hashlib.sha256(), hashlib.sha256()]
    with listener:
        listener.settimeout(wait)
        with sender.host.entered():
            mouth = socket.socket(family, socket.SOCK_STREAM)
        with mouth:
            mouth.settimeout(wait)
            failed: list[OSError] = []

            def send() -> None:
                try:
                    mouth.connect(listener.getsockname()[:2])
                    left, number = size, 0
                    block = bytearray(hashlib.shake_256(b"overlay").digest(1 << 18))
                    while left:
                        block[:8] = number.to_bytes(8, "big")  # no two blocks are the same
                        part = memoryview(block)[: min(left, len(block))]
                        hashes[0].update(part)
                        mouth.sendall(part)
                        left -= len(part)
                        number += 1
                    mouth.shutdown(socket.SHUT_WR)
                except OSError as error:
                    failed.append(error)

            start = time.monotonic()
            thread = threading.Thread(target=send)
            thread.start()
            received = 0
            try:
                ear, _ = listener.accept()
                with ear:
                    ear.settimeout(wait)
                    while part := ear.recv(1 << 18):
                        hashes[1].update(part)
                        received += len(part)
            except OSError as error:
                failed.append(error)
            thread.join()
            seconds = time.monotonic() - start
    same = hashes[0].digest() == hashes[1].digest()
    return Stream(received, seconds, not failed and received == size and same)


def iperf3(
    sender: Peer, receiver: Peer, seconds: float = 2.0, *, version: int = 4, streams: int = 1
) -> float:
    """Gbit/s of TCP from tenant to tenant by iperf3, as the receiver counts it.

    seconds: rounded up to whole ones, which iperf3 wants.
    """
    need("iperf3")
    whole = math.ceil(seconds)
    server = receiver.host.popen(
        ["iperf3", "-s", "-1", "-J", "-B", receiver.address(version)], stdout=subprocess.PIPE
    )
    try:
        end = time.monotonic() + 10
        while True:  # the server may not listen yet
            client = sender.host.run(
                [
                    "iperf3", "-J", "-c", receiver.address(version), "-t", str(whole),
                    "-P", str(streams), "--connect-timeout", "5000",
                ],
                check=False,
                timeout=whole + 30,
            )  # fmt: skip
            result = json.loads(client.stdout or "{}")
            if "error" not in result:
                return float(result["end"]["sum_received"]["bits_per_second"]) / 1e9
            if "refused" not in result["error"] or time.monotonic() > end:
                raise LabError(f"iperf3: {result['error']}")
            time.sleep(0.02)
    finally:
        server.kill()
        server.communicate()

"""Captures for the diagnosis: packets in, findings out."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from overlay import Batch
from overlay.diagnosis import Finding, Report, diagnose
from overlay.io.pcap import CaptureWriter

FIRST = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def capture(path: Path, packets: Sequence[bytes], times: Any = None, **options: Any) -> Path:
    """A capture of these packets, a second apart or at these nanoseconds."""
    after = np.arange(len(packets)) * SECOND if times is None else np.asarray(times)
    with CaptureWriter(path, **options) as writer:
        writer.write(Batch.from_frames(packets), FIRST + after)
    return path


def report(packets: Sequence[bytes], times: Any = None, **options: Any) -> Report:
    """What the diagnosis says of these packets."""
    with tempfile.TemporaryDirectory() as folder:
        return diagnose(capture(Path(folder) / "c.pcap", packets, times), **options)


def found(packets: Sequence[bytes], times: Any = None, **options: Any) -> dict[str, Finding]:
    """The findings by kind; where a kind was found in several tunnels, the first of the worst."""
    findings: dict[str, Finding] = {}
    for _, finding in report(packets, times, **options).all_findings:
        findings.setdefault(finding.kind, finding)
    return findings


def patched(packet: bytes, at: int, value: bytes) -> bytes:
    """The packet with other bytes at this place."""
    return packet[:at] + value + packet[at + len(value) :]


def word(packet: bytes, at: int) -> int:
    number: int = struct.unpack_from("!H", packet, at)[0]
    return number

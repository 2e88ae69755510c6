"""Hostile captures: cut anywhere, bytes changed anywhere; and the laws of every command that reads.

Lives here: the cases, what an independent reader says of each, the laws, and the campaign:
``python tests/hostile.py --all --seed 1``.  What must not: a sample of it for every day
(test_hostile.py).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import faulthandler
import json
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command import ENDS, run
from overlay import Batch
from overlay.io.pcap import CaptureWriter, Interface, open_capture

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent.parent / "shared" / "captures"

#: Cuts are made at each of so many first bytes.
CUTS = 2000
#: Seconds after which a command hangs.
PATIENCE = 30.0

# -- what an independent reader says -----------------------------------------------


class Sight(NamedTuple):
    """Whole packets before the first byte that cannot be read, and that byte; None if all can."""

    packets: int
    broken: int | None


def look(data: bytes) -> Sight:
    """A capture as this file reads it: its own reader, packet by packet."""
    if data[:4] == b"\n\r\r\n":
        return _look_at_blocks(data)
    orders = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<",
              b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}  # fmt: skip
    order = orders.get(data[:4])
    if order is None or len(data) < 24:
        return Sight(0, 0)
    at, packets = 24, 0
    while at < len(data):
        if len(data) - at < 16:
            return Sight(packets, at)
        size = struct.unpack_from(order + "I", data, at + 8)[0]
        if size > len(data) - at - 16:
            return Sight(packets, at)
        at, packets = at + 16 + size, packets + 1
    return Sight(packets, None)


def _look_at_blocks(data: bytes) -> Sight:
    order, at, packets, interfaces = "<", 0, 0, 0
    while at < len(data):
        room = len(data) - at
        if room < 12:
            return Sight(packets, at)
        if data[at : at + 4] == b"\n\r\r\n":
            orders = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
            if data[at + 8 : at + 12] not in orders:
                return Sight(packets, at)
            order = orders[data[at + 8 : at + 12]]
        kind, size = struct.unpack_from(order + "II", data, at)
        least = {0x0A0D0D0A: 28, 1: 20, 2: 32, 3: 16, 6: 32}.get(kind, 12)
        if size < least or size % 4 or size > room:
            return Sight(packets, at)
        if kind == 0x0A0D0D0A:
            interfaces = 0
        elif kind == 1:
            interfaces += 1
        elif kind in (2, 6):
            form = "IIIII" if kind == 6 else "HHIIII"
            words = struct.unpack_from(order + form, data, at + 8)
            if words[-2] > size - 32 or words[0] >= interfaces:
                return Sight(packets, at)
            packets += 1
        elif kind == 3:
            if not interfaces:
                return Sight(packets, at)
            packets += 1
        at += size
    return Sight(packets, None)


# -- cases -----------------------------------------------------------------------------


class Case(NamedTuple):
    """A capture that may be broken, and how it came about."""

    name: str
    data: bytes


@cache
def seeds() -> tuple[Case, ...]:
    """Captures in order: those of the tree, and those of others where they are; each as pcapng."""
    found = [Case("sample.pcap", (HERE.parent / "overlay/data/sample.pcap").read_bytes())]
    packets = [
        bytes.fromhex(text)
        for file in sorted((HERE / "vectors").glob("*.json"))
        for vector in json.loads(file.read_text())
        for text in vector.get("packets", [vector.get("packet")])
        if text
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.pcap"
        with CaptureWriter(path) as writer:
            writer.write(Batch.from_frames(packets), 1_700_000_000_123_456_789)
        found.append(Case(path.name, path.read_bytes()))
        if SHARED.is_dir():
            found += [
                Case(str(file.relative_to(SHARED)), file.read_bytes())
                for file in sorted(SHARED.rglob("*"))
                if file.suffix in (".pcap", ".pcapng", ".cap")
            ]
        for case in tuple(found):
            found.append(Case(case.name + " as pcapng", _as_pcapng(case.data, Path(folder))))
    return tuple(found)


def _as_pcapng(data: bytes, folder: Path) -> bytes:
    """The same packets in blocks, with a second interface."""
    source, target = folder / "in", folder / "out.pcapng"
    source.write_bytes(data)
    with contextlib.suppress(Exception), open_capture(source) as capture:
        for burst in capture:
            link = capture.interfaces[0].linktype
            ends = [Interface(linktype=link, name=name) for name in ("eth0", "eth1")]
            with CaptureWriter(target, "pcapng", interfaces=ends) as writer:
                writer.write(burst.batch, burst.timestamps, 1)
            break
    return target.read_bytes()


def cuts(step: int = 1, phase: int = 0) -> Iterator[Case]:
    """Each capture cut at bytes of its first ones: every ``step``th of all, from ``phase``."""
    place = phase
    for name, data in seeds():
        for end in range(min(len(data), CUTS) + 1):
            if place % step == 0:
                yield Case(f"{name} cut at {end}", data[:end])
            place += 1


#: Values that lengths and offsets are given.
_EDGES = (0, 1, 3, 7, 8, 15, 16, 20, 40, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF,
          0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)  # fmt: skip


def mutations(seed: int, count: int, first: int = 0) -> Iterator[Case]:
    """Captures with bytes changed, taken out, put in, doubled or cut off.

    Of two, one is changed anywhere, and one within its packets: each is a whole record still.
    """
    for number in range(first, first + count):
        chance = random.Random(f"{seed}/{number}")
        name, whole = chance.choice(seeds())
        changes = chance.choice((1, 1, 2, 4, 16))
        if number % 2 and whole[:4] == b"\xd4\xc3\xb2\xa1":
            data = _within(whole, changes, chance)
        else:
            some = bytearray(whole if chance.random() < 0.1 else whole[:4096])
            for _ in range(changes):
                _mutate(some, chance)
            data = bytes(some)
        yield Case(f"{name} mutated, seed {seed}/{number}", data)


def _within(whole: bytes, changes: int, chance: random.Random) -> bytes:
    """Some of a little-endian capture's packets, changed."""
    found, at = [], 24
    while len(whole) - at >= 16:
        size = struct.unpack_from("<I", whole, at + 8)[0]
        found.append((whole[at : at + 16], bytearray(whole[at + 16 : at + 16 + size])))
        at += 16 + size
    first = chance.randrange(len(found))
    found = found[first : first + 8]
    for _ in range(changes):
        _mutate(chance.choice(found)[1], chance)
    data = whole[:24]
    for head, packet in found:
        wire = max(len(packet), struct.unpack_from("<I", head, 12)[0])
        data += head[:8] + struct.pack("<II", len(packet), wire) + packet
    return data


def _mutate(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    what = chance.randrange(8)
    size = chance.choice((1, 2, 4))
    if what < 2 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif what == 2 and at < len(data):
        data[at] = chance.randrange(256)
    elif what in (3, 4):
        value = chance.choice(_EDGES) & (1 << 8 * size) - 1
        order: Any = chance.choice(("little", "big"))
        data[at : at + size] = value.to_bytes(size, order)
    elif what == 5:
        del data[at : at + chance.choice((1, 4, 16, 60))]
    elif what == 6:
        data[at:at] = chance.randbytes(chance.choice((1, 4, 16, 60)))
    elif len(data) < 1 << 17:
        size = chance.randrange(1, 300)
        data[at:at] = data[max(0, at - size) : at]


# -- commands ---------------------------------------------------------------------------

Said = dict[str, Any]


@dataclass(frozen=True)
class Verb:
    """A command with options; ``IN``, ``OUT.x`` in them are files.

    ``accounts``: what must be true of what it says with ``--json`` of so many packets.
    ``most``: the longest capture that it is given, in bytes.
    """

    name: str
    args: tuple[str, ...]
    accounts: Callable[[Said, int], None]
    most: int = 1 << 20

    def __str__(self) -> str:
        return self.name


def _gathered(said: Said, packets: int, written: int) -> None:
    """Each packet is written, refused, or a part: in a whole, refused, or of none that came."""
    assert said["refused"] == sum(said["drops"].values())
    parts = said.get("stt_segments", 0) + said.get("fragments", 0)
    wholes = said.get("stt_frames_reassembled", 0) + said.get("packets_of_fragments", 0)
    lost = said["refused"] - (packets - parts - (written - wholes))
    assert 0 <= lost <= parts, said


def _decapped(said: Said, packets: int) -> None:
    assert said["packets"] == packets
    _gathered(said, packets, said["frames"])


def _edited(said: Said, packets: int) -> None:
    assert said["packets"] == said["written"] == packets
    assert said["rewritten"] + said["unchanged"] + said["refused"] == packets


def _thinned(said: Said, packets: int) -> None:
    assert said["packets"] == packets
    assert said["written"] + said["refused"] == packets


def _rebuilt(said: Said, packets: int) -> None:
    assert said["packets"] == packets
    _gathered(said, packets, said["written"])


def _encapped(said: Said, packets: int) -> None:
    assert said["frames"] == packets
    assert said["refused"] == sum(said["drops"].values())
    assert said["packets"] + said["refused"] == packets


def _segmented(said: Said, packets: int) -> None:
    assert said["frames"] == packets
    assert said["refused"] <= packets
    assert said["packets"] >= packets - said["refused"]


def _metered(said: Said, packets: int) -> None:
    _decapped(said["input"], packets)
    assert said["frames"] <= packets
    assert said["unsigned"] <= said["frames"]


def _diagnosed(said: Said, packets: int) -> None:
    assert said["packets"] == packets
    in_tunnels = sum(tunnel["packets"] for tunnel in said["tunnels"])
    assert in_tunnels + said["others"] == packets, said


def _compared(said: Said, packets: int) -> None:
    assert said["packets"] == packets
    assert said["differences"] == []


def _shown(said: Said, packets: int) -> None:
    assert len(said["lines"]) == packets
    assert [line["number"] for line in said["lines"]] == list(range(1, packets + 1))


def _tunnel(*words: str) -> tuple[str, ...]:
    return ("encap", "IN", *words, *ENDS)


def _rewrite(*words: str) -> tuple[str, ...]:
    return ("rewrite", "IN", *words)


VERBS = (
    Verb("decap", ("decap", "IN", "OUT.pcap"), _decapped),
    Verb("decap all", ("decap", "IN", "OUT.pcapng", "--profile", "lenient", "--depth", "all",
                       "--columns", "OUT.csv"), _decapped),
    Verb("decap parts", ("decap", "IN", "OUT.pcap", "--profile", "strict", "--inner-vlan", "strip",
                         "--port", "8472", "--fragments", "drop"), _decapped),
    Verb("decap table", ("decap", "IN", "OUT.pcapng", "--metadata", "none", "--columns",
                         "OUT.parquet"), _decapped),
    Verb("rewrite fields", _rewrite("OUT.pcap", "--set-source", "198.51.100.0/24", "--set-ttl", "9",
                                    "--set-dscp", "inherit"), _edited),
    Verb("rewrite port", _rewrite("OUT.pcapng", "--set-source-port", "entropy", "--set-vlan", "7",
                                  "--add-key", "1", "--drop-refused"), _thinned),
    Verb("rewrite to", _rewrite("OUT.pcap", "--to", "geneve", "--drop-refused"), _rebuilt),
    Verb("rewrite to stt", _rewrite("OUT.pcapng", "--to", "stt", "--drop-refused"), _rebuilt),
    Verb("encap vxlan", _tunnel("OUT.pcap", "--tunnel", "vxlan", "--id", "7"), _encapped),
    Verb("encap geneve", _tunnel("OUT.pcapng", "--tunnel", "geneve", "--id", "7"), _encapped),
    Verb("encap stt", _tunnel("OUT.pcap", "--tunnel", "stt", "--id", "7", "--mtu", "1500"),
         _segmented),
    Verb("show", ("show", "IN"), _shown),
    Verb("diagnose", ("diagnose", "IN"), _diagnosed),
    Verb("meter", ("meter", "IN", "--profile", "lenient", "--streams"), _metered),
    Verb("check", ("check", "IN"), _compared, 1500),
    Verb("check lenient", ("check", "IN", "--profile", "lenient"), _compared, 1500),
)  # fmt: skip


# -- laws --------------------------------------------------------------------------------


@contextlib.contextmanager
def _impatient(seconds: float) -> Iterator[None]:
    """Python that does not end is interrupted; C that does not end ends the process."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def hold(verb: Verb, case: Case, folder: Path, *, as_json: bool = True) -> int:
    """Run a command on a case and hold it to every law; its exit status.

    ``folder`` is empty, and is so again.  It keeps the case where a law is broken.
    """
    source = folder / "IN"
    source.write_bytes(case.data)
    outs = {arg: folder / arg for arg in verb.args if arg.startswith("OUT")}
    places: dict[str, Path] = {"IN": source, **outs}
    with _impatient(PATIENCE):
        result = run(*[places.get(a, a) for a in verb.args], *(["--json"] if as_json else []))
    try:
        if result.exc_info and not isinstance(result.exception, SystemExit | None):
            raise AssertionError("".join(traceback.format_exception(*result.exc_info)))
        seen = look(case.data)
        assert result.exit_code in (0, 1, 2)
        assert "Traceback" not in result.output
        if "more than one link type" in result.stderr and verb.args[0] == "rewrite":
            assert result.exit_code == 2
            assert result.stderr.startswith(f"overlay: {source}: more than one link type")
            assert not any(path.exists() for path in outs.values())
            return _cleared(folder, 2)
        if seen.broken is None:
            assert result.exit_code == 0, result.stderr
            assert result.stderr == ""
        else:
            assert result.exit_code == 2
            [line] = result.stderr.splitlines()
            assert line.startswith(f"overlay: {source}: byte {seen.broken}: "), (line, seen)
        if as_json:
            _account(verb, result.stdout, seen, outs)
        _whole(seen, outs)
        left = {path.name for path in folder.iterdir()} - {"IN", *outs}
        assert not left, left
    except BaseException as error:
        error.args = (f"overlay {' '.join(verb.args)}: {case.name}: {error}",)
        raise
    return _cleared(folder, result.exit_code)


def _cleared(folder: Path, status: int) -> int:
    for path in folder.iterdir():
        path.unlink()
    return status


def _opens(seen: Sight) -> bool:
    """Whether the capture could be opened, so that what came before the break is given."""
    return seen.broken != 0


def _account(verb: Verb, text: str, seen: Sight, outs: dict[str, Path]) -> None:
    lines = [json.loads(line) for line in text.splitlines()]
    if verb.args[0] == "show":
        verb.accounts({"lines": lines}, seen.packets)
    elif lines or _opens(seen):
        [said] = lines
        verb.accounts(said, seen.packets)
        written = said.get({"decap": "frames", "encap": "packets"}.get(verb.args[0], "written"))
        for path in outs.values():
            assert _held_by(path) == (seen.packets if path.suffix in _TABLES else written)


_TABLES = (".csv", ".parquet")


def _held_by(path: Path) -> int:
    """The packets in a whole capture, or the rows of a table."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return len(list(csv.DictReader(file)))
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).num_rows
    seen = look(path.read_bytes())
    assert seen.broken is None, seen
    with open_capture(path) as capture:
        assert sum(len(burst) for burst in capture) == seen.packets
    return seen.packets


def _whole(seen: Sight, outs: dict[str, Path]) -> None:
    """What was written is whole, and nothing is where there was nothing to read."""
    for path in outs.values():
        if path.exists():
            _held_by(path)
        else:
            assert not _opens(seen), "nothing was written"


# -- the campaign ----------------------------------------------------------------------------


def campaign(cases: Iterator[Case], verbs: tuple[Verb, ...], until: float) -> Counter[str]:
    """Hold every verb to every case, until the clock says; what was covered."""
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, case in enumerate(cases):
            if time.monotonic() > until:
                done["out of time"] = 1
                break
            for place, verb in enumerate(verbs):
                if len(case.data) > verb.most:
                    continue
                try:
                    status = hold(verb, case, folder, as_json=(number + place) % 4 != 0)
                    done[f"{verb} ended with {status}"] += 1
                except Exception as error:  # the next case may tell more
                    done["BROKEN LAWS"] += 1
                    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                    _keep(folder, case)
            done["cases"] += 1
    return done


def _keep(folder: Path, case: Case) -> None:
    """Keep the case for whoever looks into it; empty the folder."""
    kept = Path(tempfile.gettempdir()) / "hostile"
    kept.mkdir(exist_ok=True)
    name = "".join(c if c.isalnum() or c in ".-" else "_" for c in case.name)
    (kept / name).write_bytes(case.data)
    for path in folder.iterdir():
        path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description="Every command on hostile captures.")
    parser.add_argument("--all", action="store_true", help="every cut, and 10,000 mutations")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--mutations", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the first mutation's number")
    parser.add_argument("--step", type=int, default=97, help="every so many cuts")
    parser.add_argument("--phase", type=int, default=0, help="the first cut's number")
    parser.add_argument("--verb", action="append", help="only what begins with this; repeatable")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of each half, at most")
    given = parser.parse_args()
    if given.all:
        given.step, given.mutations = 1, 10_000
    verbs = tuple(v for v in VERBS if not given.verb or v.name.startswith(tuple(given.verb)))
    broken = 0
    for what, cases in (
        ("mutations", mutations(given.seed, given.mutations, given.first)),
        ("cuts", cuts(given.step, given.phase)),
    ):
        begun = time.monotonic()
        done = campaign(cases, verbs, begun + given.seconds)
        broken += done["BROKEN LAWS"]
        seconds = time.monotonic() - begun
        print(f"{what}: {seconds:.0f} s, {len(seeds())} captures, process {os.getpid()}")
        for name, count in sorted(done.items()):
            print(f"  {count:>8,}  {name}")
        sys.stdout.flush()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""Question: what the table answers, one function a question, each giving its rows.

All by the public API, on the backend in use.  What must not be here: printing.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import overlay
from overlay import Batch, Tunnel

from . import floor, traffic
from .arena import Arena, arenas, each
from .measure import Contender, Sweep, interleave, pinned
from .row import Row, against_floor

LOCAL, REMOTE = "192.0.2.1", "192.0.2.2"
VXLAN = overlay.VXLAN(vni=5001, local=LOCAL, remote=REMOTE)
NVGRE = overlay.NVGRE(vsid=0x5001, local=LOCAL, remote=REMOTE)
STT = overlay.STT(context_id=5001, local=LOCAL, remote=REMOTE)

MIX = (*traffic.SIZES, "imix")
COLD_BURSTS = 32

Verb = Callable[[Tunnel, Batch], Callable[[], object]]


def _encap(tunnel: Tunnel, batch: Batch) -> Callable[[], object]:
    return lambda: tunnel.encap_batch(batch)


def _decap(_: Tunnel, batch: Batch) -> Callable[[], object]:
    return lambda: overlay.decap_batch(batch)


def _named(tunnel: Tunnel, size: int | str, more: str = "") -> str:
    return f"{tunnel.name} {size if size == 'imix' else f'{size} B'} {more}".rstrip()


def _in_place(question: str, verb: Verb, name: str) -> Iterator[Row]:
    """``name`` is the floor's method; the arenas are put back before each run."""
    empty = Contender("empty call", verb(VXLAN, Batch(1)))
    sweep = Sweep()
    with pinned():
        for tunnel in (VXLAN, NVGRE):
            for size in MIX:
                for bursts in (1, COLD_BURSTS):
                    yield _in_place_row(question, verb, name, tunnel, size, bursts, empty, sweep)


def _in_place_row(
    question: str, verb: Verb, name: str, tunnel: Tunnel, size: int | str, bursts: int,
    empty: Contender, sweep: Sweep,
) -> Row:  # fmt: skip
    cold = bursts > 1
    several = arenas(tunnel, size, bursts)
    back = [arena.as_frames if name == "encap" else arena.as_packets for arena in several]
    prepare = each([*back, sweep] if cold else back)
    packets = sum(arena.batch.count for arena in several)
    timings = interleave(
        [
            Contender("library", _all([verb(tunnel, a.batch) for a in several]), packets, prepare),
            Contender("floor", _all([getattr(a.floor, name) for a in several]), packets, prepare),
            empty,
        ],
        rounds=11 if cold else 101,
        repeat=1 if cold else 20,
    )
    library, least, call = timings
    case = _named(tunnel, size, "cold" if cold else "warm")
    if cold:
        return against_floor(question, case, library, least, 1.5)
    share = call.median * len(several) / packets
    loop = (library.median - share) / least.median
    note = f"{share:.1f} ns of it is the call; without it {loop:.2f} x"
    return against_floor(question, case, library, least, 1.5, note)


def _all(calls: list[Callable[[], object]]) -> Callable[[], object]:
    return calls[0] if len(calls) == 1 else each(calls)


def encap_in_place() -> Iterator[Row]:
    """Encap of a burst of 256 in its headroom."""
    return _in_place("encap in place", _encap, "encap")


def decap_in_place() -> Iterator[Row]:
    """Decap of a burst of 256, all checks."""
    return _in_place("decap in place", _decap, "decap")


def encap_copying() -> Iterator[Row]:
    """Encap of a burst into another batch, against copying the frames there."""
    with pinned():
        for tunnel in (VXLAN, NVGRE):
            for size in MIX:
                (arena, *_) = arenas(tunnel, size, 1)
                batch, count = arena.batch, arena.batch.count
                out = Batch.packed(arena.bytes + count * tunnel.overhead, count)
                at = out.data.ctypes.data
                library, least = interleave(
                    [
                        Contender("library", _into(tunnel, batch, out), count, out.clear),
                        Contender("copy", _copy(arena, at), count, out.clear),
                    ],
                    rounds=101,
                    repeat=20,
                )
                spare = library.best - 1.2 * least.best
                yield Row(
                    question="encap into another batch",
                    case=_named(tunnel, size),
                    unit="ns/packet",
                    measured=library.median,
                    best=library.best,
                    floor=least.median,
                    ratio=library.ratio(least),
                    target="<= 1.2 x memcpy + 4 ns",
                    met=spare <= 4,
                    spread=library.spread,
                    note=f"1.2 x memcpy + {spare:.1f} ns",
                )


def _into(tunnel: Tunnel, batch: Batch, out: Batch) -> Callable[[], object]:
    return lambda: tunnel.encap_into(batch, out)


def _copy(arena: Arena, at: int) -> Callable[[], object]:
    return lambda: arena.floor.copy(at)


def encap_single() -> Iterator[Row]:
    """One frame, bytes in and bytes out, and a list of them."""
    frames = list(traffic.frames(64))
    tunnel, least = VXLAN, floor.module().Alloc()

    def library() -> None:
        for frame in frames:
            tunnel.encap(frame)

    def alloc() -> None:
        for frame in frames:
            least.alloc(frame)

    with pinned():
        one, allocation, many = interleave(
            [
                Contender("encap", library, len(frames)),
                Contender("alloc", alloc, len(frames)),
                Contender("encap_many", lambda: tunnel.encap_many(frames), len(frames)),
            ],
            rounds=301,
            repeat=5,
        )
    yield against_floor("encap of one frame", "vxlan 64 B, bytes to bytes", one, allocation, 1.3)
    yield Row(
        question="encap of one frame",
        case="vxlan 64 B, encap_many of 256",
        unit="ns/packet",
        measured=many.median,
        best=many.best,
        floor=allocation.median,
        ratio=many.ratio(allocation),
        target="< 25 ns",
        met=many.best < 25,
        spread=many.spread,
    )


def stt_checksum() -> Iterator[Row]:
    """STT in place: its checksum reads the whole frame."""
    with pinned():
        (arena,) = arenas(STT, 1500, 1)
        library, least = interleave(
            [
                Contender("library", _encap(STT, arena.batch), 256, arena.as_frames),
                Contender("sum", arena.floor.sum, 256, arena.as_frames),
            ],
            rounds=201,
            repeat=10,
        )
    spare = library.best - 1.3 * least.best
    yield Row(
        question="stt encap in place",
        case=f"stt 1500 B, checksum by {_routine()}",
        unit="ns/packet",
        measured=library.median,
        best=library.best,
        floor=least.median,
        ratio=library.ratio(least),
        target="<= 1.3 x checksum + 10 ns",
        met=spare <= 10,
        spread=library.spread,
        note=f"1.3 x checksum + {spare:.1f} ns",
    )


def _routine() -> str:
    return str(getattr(Tunnel.codec, "checksum_routine", "the twin"))


def stt_segments() -> Iterator[Row]:
    """Frames of 64 KB to segments of an MTU of 1500, and back to frames."""
    frames = [traffic.frame(65517, flow) for flow in range(4)]
    source = Batch.from_frames(frames, headroom=0)
    segments = Batch.packed(2 * sum(map(len, frames)), 64 * len(frames))
    whole = Batch.packed(2 * sum(map(len, frames)), len(frames))
    reassembler = overlay.SttReassembler()

    def clear() -> None:
        segments.clear()
        whole.clear()

    def cut() -> None:
        STT.encap_into(source, segments, 1500)

    def join() -> None:
        reassembler.push_batch(segments, whole, 0.0)

    def both() -> None:
        cut()
        join()

    def cleared_and_cut() -> None:
        clear()
        cut()

    clear()
    both()
    if whole.to_list() != frames:
        raise RuntimeError(f"reassembly gave other frames: {reassembler.stats}")
    size = float(sum(map(len, frames)))
    with pinned():
        way, cutting, joining = interleave(
            [
                Contender("both", both, size, clear),
                Contender("segmentation", cut, size, clear),
                Contender("reassembly", join, size, cleared_and_cut),
            ],
            rounds=101,
        )
    stats = reassembler.stats
    held = f"at most {reassembler.memory >> 20} MiB held, {stats.evicted} evicted"
    yield Row(
        question="stt segments",
        case="64 KB frames, MTU 1500, both ways",
        unit="GB/s",
        measured=1 / way.median,
        best=1 / way.best,
        target=">= 5 GB/s",
        met=1 / way.best >= 5,
        spread=way.spread,
        note=f"segmentation {1 / cutting.median:.1f}, reassembly {1 / joining.median:.1f}; {held}",
    )


def threads() -> Iterator[Row]:
    """Encap and decap of separate batches by two threads, against one.

    A hash of the standard library, which runs without the GIL as well, shows
    what two threads gain on this machine at this moment; where that is below
    the target, there is nothing to judge.
    """
    for tunnel, rows in ((VXLAN, 256), (VXLAN, 4096), (STT, 256)):
        frames = traffic.frames(1500 if tunnel is STT else 64, rows)
        batches = [Batch.from_frames(frames) for _ in range(2)]
        works = [_back_and_forth(tunnel, batch, 100_000 // rows) for batch in batches]
        hashes = [partial(hashlib.sha256, bytes(1 << 21))] * 2
        one, two, hash_one, hash_two = interleave(
            [
                Contender("one", _in_threads(works[:1])),
                Contender("two", _in_threads(works)),
                Contender("hash, one", _in_threads(hashes[:1])),
                Contender("hash, two", _in_threads(hashes)),
            ],
            rounds=15,
        )
        gain, most = 2 / two.ratio(one), 2 / hash_two.ratio(hash_one)
        yield Row(
            question="two threads",
            case=f"{tunnel.name} encap + decap, bursts of {rows}",
            unit="x one",
            measured=gain,
            best=2 * one.best / two.best,
            floor=most,
            target=">= 1.8 x one",
            met=gain >= 1.8 if most >= 1.8 else None,
            spread=two.spread,
            note="" if most >= 1.8 else "the machine is too busy to tell",
        )


def _back_and_forth(tunnel: Tunnel, batch: Batch, turns: int) -> Callable[[], object]:
    def work() -> None:
        for _ in range(turns):
            tunnel.encap_batch(batch)
            overlay.decap_batch(batch)

    return work


def _in_threads(works: Sequence[Callable[[], object]]) -> Callable[[], object]:
    def run() -> None:
        workers = [threading.Thread(target=work) for work in works]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return run

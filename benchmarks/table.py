"""Table: runs the questions and prints one plain table; figures, never a verdict by exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import overlay

from . import bridge, capture, fdb, geneve, match, peer, question, traffic
from .measure import Contender, interleave, pinned
from .row import Row

QUESTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "encap": lambda _: question.encap_in_place(),
    "decap": lambda _: question.decap_in_place(),
    "copying": lambda _: question.encap_copying(),
    "single": lambda _: question.encap_single(),
    "stt": lambda _: question.stt_checksum(),
    "segments": lambda _: question.stt_segments(),
    "pcap": lambda given: capture.pcap_to_pcap(given.pcap_mb),
    "columns": lambda given: capture.columns(given.pcap_mb),
    "threads": lambda _: question.threads(),
    "macs": lambda _: fdb.mac_table(),
    "switch": lambda _: bridge.switch_in_memory(),
    "networks": lambda _: bridge.set_up(),
    "geneve": lambda _: geneve.beside_vxlan(),
    "match": lambda _: match.masked(),
    "peers": lambda _: against_peers(),
}

_COLUMNS = "{:<38} {:>10} {:>10} {:>9} {:>9} {:>6}  {:<27} {:<7} {}"


def against_peers() -> Iterator[Row]:
    """One frame at a time, by each peer; the ratio is to the backend in use."""
    with pinned():
        everyone = peer.peers()
        for size in (64, 1500):
            frames = traffic.frames(size, 16)
            packets = [question.VXLAN.encap(frame) for frame in frames]
            for verb, given in (("encap", frames), ("decap", packets)):
                contenders = [_applied(one.name, getattr(one, verb), given) for one in everyone]
                timings = interleave(contenders, rounds=15)
                for contender, timing in zip(contenders, timings, strict=True):
                    yield Row(
                        question=f"peers: {verb} of one vxlan packet",
                        case=f"{contender.name}, {size} B",
                        unit="ns/packet",
                        measured=timing.median,
                        best=timing.best,
                        ratio=timing.ratio(timings[0]),
                        target="",
                        met=None,
                        spread=timing.spread,
                    )


def _applied(name: str, verb: Callable[[bytes], Any], given: Sequence[bytes]) -> Contender:
    """``verb`` of all that is given, over and over for about two milliseconds."""

    def once() -> None:
        for one in given:
            verb(one)

    (timing,) = interleave([Contender(name, once)], rounds=3)
    times = max(1, int(2e6 / timing.best))

    def run() -> None:
        for _ in range(times):
            once()

    return Contender(name, run, times * len(given))


# ---- output -------------------------------------------------------------------


def line(row: Row) -> str:
    """One row as text."""
    verdict = {True: "met", False: "NOT MET", None: ""}[row.met]
    note = row.note
    if row.unit == "ns/packet":
        note = f"{1e3 / row.measured:.2f} Mpps" + (f"; {note}" if note else "")
    floor = "" if row.floor is None else f"{row.floor:.2f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    spread = f"{100 * row.spread:.0f}%"
    return _COLUMNS.format(
        row.case,
        f"{row.measured:.2f}",
        f"{row.best:.2f}",
        floor,
        ratio,
        spread,
        row.target,
        verdict,
        note,
    ).rstrip()


def show(rows: Iterable[Row]) -> list[Row]:
    """Print rows as they come, a heading before each question; returns them all."""
    shown: list[Row] = []
    for row in rows:
        if not shown or shown[-1].question != row.question:
            print(f"\n{row.question}, in {row.unit}")
            print(
                _COLUMNS.format(
                    "", "measured", "best", "floor", "ratio", "spread", "target", "verdict", ""
                ).rstrip()
            )
        print(line(row), flush=True)
        shown.append(row)
    return shown


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor()
    about = Path("/proc/cpuinfo")
    if about.exists():
        names = [x.split(":", 1)[1] for x in about.read_text().splitlines() if "model name" in x]
        model = names[0].strip() if names else model
    return {
        "cpu": model,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "overlay": overlay.__version__,
        "backend": overlay.backend,
    }


def plot(rows: list[Row], path: str) -> None:
    """Bars of the ratios to the floor, for the rows that have one."""
    from matplotlib.figure import Figure

    drawn = [row for row in rows if row.ratio is not None and row.met is not None]
    figure = Figure(figsize=(9, 1 + 0.28 * max(1, len(drawn))), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [f"{row.question}: {row.case}" for row in drawn],
        [row.ratio or 0 for row in drawn],
        color=["tab:green" if row.met else "tab:orange" for row in drawn],
    )
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("times the floor (1); green: the target is met")
    figure.savefig(path, dpi=120)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="The library against the least that is possible."
    )
    parser.add_argument(
        "--only", metavar="Q", nargs="+", choices=QUESTIONS, default=list(QUESTIONS),
        help=f"of: {', '.join(QUESTIONS)}",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the rows there; - for the output")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios there")
    parser.add_argument(
        "--pcap-mb", metavar="N", type=int, default=256, help="size of the capture, 256 MB"
    )
    given = parser.parse_args(words)
    about = machine()
    out = sys.stdout
    if given.json == "-":
        sys.stdout = sys.stderr
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    rows: list[Row] = []
    for name in given.only:
        try:
            rows += show(QUESTIONS[name](given))
        except RuntimeError as error:
            print(f"\n{name}: not measured: {error}")
    met = [row.met for row in rows if row.met is not None]
    print(f"\n{sum(met)} of {len(met)} targets met")
    if given.json:
        text = json.dumps(
            {"machine": about, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1
        )
        if given.json == "-":
            out.write(text + "\n")
        else:
            Path(given.json).write_text(text + "\n")
    if given.plot:
        plot(rows, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

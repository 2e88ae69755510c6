"""Live: tenants' traffic through `overlay run` and through the kernel's VXLAN, in turns.

`python -m benchmarks.live`, as root or behind `unshare -Urn`.  Every topology
stands all the time; a round measures each once, so a ratio compares what ran
within seconds.  Where a target is missed, one more run is profiled: which
processor time and how many system calls a packet costs, and where they go.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import overlay
from overlay.lab import blast, traffic
from overlay.lab.host import LabError
from overlay.lab.peer import KernelVxlan, Peer, Segment
from overlay.lab.topology import UNDERLAY, Topology
from overlay.lab.vtep import OverlayVtep

from .profile import profile
from .row import Row
from .table import machine, show

Offload = str

#: Ratio to the kernel's VXLAN, by tunnel and by what the underlay's devices do.
TARGETS = {
    "vxlan": {"veth": 0.7, "nic": 0.95},
    "stt": {"veth": 0.8, "nic": 1.0},
    "nvgre": {"veth": 0.5, "nic": 0.8},
}
_SMALL = 0.8
_KEY = 5001


@dataclasses.dataclass
class Contender:
    """Two hosts that run one kind of end point, and what was measured of it, a figure a round."""

    name: str
    one: Peer
    other: Peer
    figures: list[float] = dataclasses.field(default_factory=list)

    @property
    def vteps(self) -> list[OverlayVtep]:
        return [peer for peer in (self.one, self.other) if isinstance(peer, OverlayVtep)]


@contextlib.contextmanager
def contenders(tunnels: list[str], offload: str) -> Iterator[list[Contender]]:
    """The kernel's VXLAN, and overlay with each of these tunnels; all of them stand."""
    with contextlib.ExitStack() as stack:
        made = []
        for name in ["kernel", *tunnels]:
            topology = stack.enter_context(Topology(offload=offload))  # type: ignore[arg-type]
            kind: type[Peer] = KernelVxlan if name == "kernel" else OverlayVtep
            segment = Segment("vxlan" if name == "kernel" else name, _KEY)
            one, other = (kind(topology, host, segment) for host in topology.hosts)
            one.start()
            other.start()
            if not traffic.ping(one, other).lossless:
                raise LabError(f"{name}: the tenants do not reach each other")
            made.append(Contender(name, one, other))
        yield made


def in_turns(entrants: list[Contender], measure: Callable[[Contender], float], rounds: int) -> None:
    """Each contender's figures from so many rounds; the order turns round with each."""
    for number in range(rounds):
        for contender in entrants if number % 2 else reversed(entrants):
            contender.figures.append(measure(contender))


def row(question: str, unit: str, contender: Contender, kernel: Contender, least: float) -> Row:
    """What was measured, as a ratio to the kernel's of the same rounds."""
    figures = contender.figures
    pairs = zip(figures, kernel.figures, strict=True)
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    low, _, high = statistics.quantiles(figures, n=4)
    median = statistics.median(figures)
    return Row(
        question=question,
        case=f"{contender.name}",
        unit=unit,
        measured=median,
        best=max(figures),
        floor=statistics.median(kernel.figures),
        ratio=ratio,
        target=f">= {least:g} x the kernel's VXLAN",
        met=ratio >= least,
        spread=(high - low) / median if median else 0.0,
    )


def _bounded(found: Row, contender: Contender, run: Callable[[], float]) -> Row:
    """The row; where it misses its target, with what bounds it."""
    if found.met is not False:
        return found
    packets = contender.other.host.devices()[UNDERLAY]["rx_packets"]
    cost = profile([vtep.pid for vtep in contender.vteps], run)
    packets = contender.other.host.devices()[UNDERLAY]["rx_packets"] - packets
    return dataclasses.replace(found, note=cost.text(packets))


def streams(offload: str, given: argparse.Namespace) -> Iterator[Row]:
    """One TCP stream from tenant to tenant, by iperf3."""

    def measure(contender: Contender) -> float:
        return traffic.iperf3(contender.one, contender.other, given.seconds)

    with contenders(given.tunnels, offload) as entrants:
        in_turns(entrants, measure, given.rounds)
        kernel, *others = entrants
        for contender in others:
            least = TARGETS[contender.name][offload]
            found = row(f"TCP stream, {offload}", "Gbit/s", contender, kernel, least)
            again = lambda contender=contender: measure(contender)  # noqa: E731
            yield _bounded(found, contender, again)


def small(given: argparse.Namespace) -> Iterator[Row]:
    """VXLAN packets that hold frames of 64 bytes, sent to the underlay's device as fast as one
    core can: how many come out at the tenant's."""

    def packets(contender: Contender) -> list[bytes]:
        one, other = contender.one, contender.other
        tunnel = overlay.VXLAN(
            vni=_KEY, local=one.local, remote=other.local, local_mac="02:ff:00:00:00:01",
            remote_mac="02:ff:00:00:00:02",
        )  # fmt: skip
        return [tunnel.encap(frame) for frame in blast.frames(one, other, 64)]

    def measure(contender: Contender) -> float:
        seen = blast.blast(
            contender.one.host, UNDERLAY, packets(contender), contender.other.host,
            seconds=given.seconds,
        )  # fmt: skip
        return seen.mpps

    with contenders(["vxlan"], "veth") as entrants:
        in_turns(entrants, measure, given.rounds)
        kernel, contender = entrants
        found = row("frames of 64 bytes, received", "Mpps", contender, kernel, _SMALL)
        yield _bounded(found, contender, lambda: measure(contender))


QUESTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "veth": lambda given: streams("veth", given),
    "nic": lambda given: streams("nic", given),
    "small": small,
}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live", description="overlay run against the kernel's VXLAN."
    )
    parser.add_argument(
        "--only", metavar="Q", nargs="+", choices=QUESTIONS, default=list(QUESTIONS),
        help=f"of: {', '.join(QUESTIONS)}",
    )  # fmt: skip
    parser.add_argument("--tunnels", metavar="T", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="5, at least 2")
    parser.add_argument("--seconds", metavar="S", type=float, default=2.0, help="a measurement, 2")
    parser.add_argument("--json", metavar="FILE", help="write the rows there; - for the output")
    given = parser.parse_args(words)
    out = sys.stdout
    if given.json == "-":
        sys.stdout = sys.stderr
    about = machine()
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    rows: list[Row] = []
    for name in given.only:
        try:
            rows += show(QUESTIONS[name](given))
        except LabError as error:
            print(f"\n{name}: not measured: {error}")
    met = [found.met for found in rows if found.met is not None]
    print(f"\n{sum(met)} of {len(met)} targets met")
    if given.json:
        text = json.dumps(
            {"machine": about, "rows": [dataclasses.asdict(found) for found in rows]}, indent=1
        )
        if given.json == "-":
            out.write(text + "\n")
        else:
            Path(given.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Stream: captures in and out of a command, its progress and its final table."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import click
import numpy as np
import numpy.typing as npt

from overlay import Batch, CaptureError, Status
from overlay.io.pcap import BURST_BYTES, Burst, Capture, CaptureWriter, Interface, open_capture

from . import DONE, FAILED, REFUSED, fail

if TYPE_CHECKING:
    from rich.table import Table

_PCAPNG = (".pcapng", ".ntar")
_PCAP = (".pcap", ".cap", ".dmp")


def open_input(path: str, *, burst_bytes: int = BURST_BYTES) -> Capture:
    """The capture of this name; ``-`` is standard input."""
    if not path:
        raise click.UsageError("IN has no name: give a file, or - for standard input")
    if path == "-" and sys.stdin is None:
        raise click.UsageError("standard input is closed")
    return open_capture(sys.stdin.buffer if path == "-" else path, burst_bytes=burst_bytes)


def format_named(path: str) -> Literal["pcap", "pcapng"] | None:
    """What a file is to be that is so called, if its name says."""
    name = path.lower()
    return "pcapng" if name.endswith(_PCAPNG) else "pcap" if name.endswith(_PCAP) else None


def format_of(path: str, capture: Capture) -> Literal["pcap", "pcapng"]:
    """What OUT is to be: as its name says, else as IN is."""
    return format_named(path) or ("pcapng" if capture.format == "pcapng" else "pcap")


def target_of(path: str) -> str | IO[bytes]:
    """Where OUT is written; ``-`` is standard output, unless that is a terminal."""
    if not path:
        raise click.UsageError("OUT has no name: give a file, or - for standard output")
    if path == "-" and sys.stdout.isatty():
        raise click.UsageError("OUT is a terminal: give a file, or pipe it on")
    return sys.stdout.buffer if path == "-" else path


class Output:
    """OUT: a writer that describes the input's interfaces as they come.

    ``links``: whether packets keep the link types that they have; else all are Ethernet.
    """

    def __init__(self, path: str, capture: Capture, *, links: bool = False) -> None:
        self._capture = capture
        self._described = 0
        self._links = links
        classic = links and capture.format == "pcap"
        self._linktype = capture.interfaces[0].linktype if classic else 1
        self.writer = CaptureWriter(
            target_of(path),
            format_of(path, capture),
            nanosecond=capture.nanosecond,
            linktype=self._linktype,
            interfaces=(),
        )

    def describe(self) -> None:
        """pcapng: describe the interfaces that are new; pcap: refuse another link type."""
        new = self._capture.interfaces[self._described :]
        self._described += len(new)
        if self.writer.format == "pcapng":
            self.writer.describe(
                [Interface(linktype=i.linktype if self._links else 1, name=i.name) for i in new]
            )
        elif self._links and any(i.linktype != self._linktype for i in new):
            raise click.UsageError(
                f"{self._capture.name}: more than one link type, which only a .pcapng can have"
            )


class Sink(Protocol):
    """What takes the packets of bursts: a :class:`CaptureWriter`, or what is used as one."""

    def times(self, burst: Burst) -> npt.NDArray[Any]: ...
    def write_all(
        self, batch: Batch, times: npt.NDArray[Any], interface: npt.NDArray[np.uint32]
    ) -> int: ...
    def write(
        self, batch: Batch, timestamps: npt.ArrayLike = 0, interface: npt.ArrayLike = 0
    ) -> int: ...


class Reading:
    """The bursts of a capture, watched, as far as it can be read; :meth:`end` says how far."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._error: CaptureError | None = None

    def __iter__(self) -> Iterator[Burst]:
        bursts = watched(self._capture)
        while True:
            try:
                burst = next(bursts, None)
            except CaptureError as error:
                self._error = error
                return
            if burst is None:
                return
            yield burst

    def end(self, refused: bool) -> int:
        """The exit status; says what could not be read.

        :param refused: whether status 1 was asked for, and there is reason for it.
        """
        if self._error is not None:
            fail(str(self._error))
            return FAILED
        return REFUSED if refused else DONE


def is_watched() -> bool:
    """Whether somebody looks at what is printed on standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


def watched(capture: Capture) -> Iterator[Burst]:
    """The capture's bursts, with a progress bar where somebody looks."""
    if not is_watched():
        yield from capture
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    with Progress(
        BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=capture.size)
        for burst in capture:
            yield burst
            bar.update(task, completed=capture.position)


@contextlib.contextmanager
def counted(total: int) -> Iterator[Callable[[str], None]]:
    """Gives a function to call before each of ``total`` steps, with what is done next.

    It draws a progress bar where somebody looks, and nothing between the calls.
    """
    if not is_watched():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
        console=Console(stderr=True), transient=True, auto_refresh=False,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=total)
        done = itertools.count()
        yield lambda what: bar.update(task, description=what, completed=next(done), refresh=True)


def print_table(table: Table) -> None:
    """Print a table as wide as it is, unless a terminal is narrower."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=250)
    with console.capture() as text:
        console.print(table)
    click.echo(text.get(), nl=False)


class Tally:
    """Counts of one run, and how they are shown."""

    def __init__(self, read: str, wrote: str, verbs: tuple[str, str] = ("read", "written")) -> None:
        self._names = (read, wrote)
        self._verbs = verbs
        self._begun = time.perf_counter()
        self.read = self.wrote = self.bytes_read = self.bytes_written = 0
        self.protocols: Counter[str] = Counter()
        self.drops: Counter[Status] = Counter()
        self.facts: dict[str, int] = {}
        self.filtered: Counter[str] = Counter()
        self.nested = 0

    def drop(self, batch: Batch) -> None:
        """Count the rows of a batch that were refused, by reason."""
        self.drops.update(batch.drops())

    @property
    def refused(self) -> int:
        return sum(self.drops.values())

    def as_dict(self) -> dict[str, Any]:
        read, wrote = self._names
        return {
            read: self.read,
            wrote: self.wrote,
            f"bytes_of_{read}": self.bytes_read,
            f"bytes_of_{wrote}": self.bytes_written,
            **({"protocols": dict(self.protocols)} if self.protocols else {}),
            **self.facts,
            **({"filtered": dict(self.filtered)} if self.filtered else {}),
            "refused": self.refused,
            "drops": {status.name: n for status, n in sorted(self.drops.items())},
            "seconds": round(time.perf_counter() - self._begun, 6),
        }

    def show(self, as_json: bool, *, to_stderr: bool) -> None:
        """Print the table, or JSON."""
        if as_json:
            click.echo(json.dumps(self.as_dict()), err=to_stderr)
            return
        rows = []
        read, wrote = self._names
        for count, name, size, done in (
            (self.read, read, self.bytes_read, self._verbs[0]),
            (self.wrote, wrote, self.bytes_written, self._verbs[1]),
        ):
            rows.append((f"{count:,}", f"{name} {done}".rstrip(), f"{size:,} bytes"))
        for name, count in self.protocols.most_common():
            rows.append((f"{count:,}", f"  {name}", ""))
        for name, count in self.facts.items():
            rows.append((f"{count:,}", name.replace("_", " "), ""))
        for name, count in self.filtered.items():
            rows.append((f"{count:,}", f"left out by {name}", ""))
        for status, count in self.drops.most_common():
            rows.append((f"{count:,}", f"refused: {status.name}", status.text))
        right, left = (max(len(row[column]) for row in rows) for column in (0, 1))
        for number, name, rest in rows:
            end = "  " + click.style(rest, dim=True) if rest else ""
            click.echo(f"{number:>{right}}  {name:<{left}}{end}".rstrip(), err=to_stderr)

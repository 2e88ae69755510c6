"""Captures of a test: recorded while it runs, kept when it fails.

What must not live here: how packets are recorded, which is the lab's and the
tracer's.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from overlay.io.device import Device
from overlay.io.tracer import Tracer
from overlay.lab.capture import Capture
from overlay.lab.host import Host, LabError
from overlay.lab.topology import UNDERLAY

from .packet import Packet, read_capture

__all__ = ["Captures", "Recording"]


class Recording(Capture):
    """A capture that runs until :meth:`packets` is asked for them, or the test ends."""

    def read(self) -> list[Packet]:
        """Stop, and give every packet that passed, both ways."""
        self.stop()
        return read_capture(self.path)


class Captures:
    """What the fixture ``overlay_capture`` is: a test's captures.

    folder: makes a new temporary folder.  test: its name.  keep: the folder for
    captures of tests that failed, or None for where they are.
    """

    def __init__(self, folder: Callable[[], Path], test: str, keep: Path | None) -> None:
        self._make, self._test, self._keep = folder, test, keep
        self._folder: Path | None = None
        self._recordings: list[Recording] = []
        self._tracers: list[Tracer] = []
        self._paths: list[Path] = []

    def __call__(self, host: Host, device: str = UNDERLAY, *, name: str = "") -> Recording:
        """Record what passes a device of a host from now on, both ways.

        :param name: of the file, without its suffix; that of host and device if not given.
        """
        path = self._path(name or f"{host.name}-{device}")
        recording = Recording(host, str(path), device=device)
        self._recordings.append(recording)
        return recording

    def trace(self, device: Device, *, name: str = "device") -> Tracer:
        """The device, with all that passes it recorded; closing it is the test's, or the end's."""
        tracer = Tracer(device, self._path(name))
        self._tracers.append(tracer)
        return tracer

    @staticmethod
    def read(path: str | os.PathLike[str]) -> list[Packet]:
        """Every packet of a pcap or pcapng file."""
        return read_capture(path)

    def _path(self, name: str) -> Path:
        if self._folder is None:
            self._folder = self._make()
        stem = re.sub(r"[^\w.@=-]", "_", name)
        names = [stem, *(f"{stem}-{number}" for number in range(2, len(self._paths) + 3))]
        taken = {path.stem for path in self._paths}
        free = next(one for one in names if one not in taken)
        path = self._folder / f"{free}.pcapng"
        self._paths.append(path)
        return path

    def _finish(self) -> None:
        while self._recordings:
            self._recordings.pop().stop()
        while self._tracers:
            self._tracers.pop().close()

    def kept(self) -> list[str]:
        """Finish, and say where each file is, once."""
        lines = []
        try:
            self._finish()
        except (LabError, OSError) as error:
            lines.append(str(error))
        here = [path for path in self._paths if path.exists()]
        self._paths = []
        if self._keep is not None and here:
            folder = self._keep / re.sub(r"[^\w.@=-]", "_", self._test)
            folder.mkdir(parents=True, exist_ok=True)
            here = [Path(shutil.copy(path, folder)) for path in here]
        return lines + [f"{path} ({path.stat().st_size} bytes)" for path in here]

    def close(self, *, keep: bool) -> None:
        """Finish; the files stay if they are to be kept."""
        self._finish()
        if self._folder is not None and not keep:
            shutil.rmtree(self._folder, ignore_errors=True)

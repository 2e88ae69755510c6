"""Profile: what processes spend while something runs: time, system calls, and where."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Cost", "profile"]


@dataclass(frozen=True)
class Cost:
    """Of ``seconds``: processor seconds in user space and in the kernel, system calls, and the
    functions with the largest parts of it, as (percent, name).

    ``calls`` is None and ``functions`` is empty where perf cannot tell.
    """

    seconds: float
    user: float
    system: float
    calls: int | None
    functions: tuple[tuple[float, str], ...]

    def text(self, packets: int) -> str:
        """One line, with the costs of each of so many packets."""
        each = max(packets, 1)
        parts = [
            f"{100 * self.user / self.seconds:.0f}% user + "
            f"{100 * self.system / self.seconds:.0f}% system",
            f"{(self.user + self.system) / each * 1e9:.0f} ns a packet",
        ]
        if self.calls is not None:
            parts.append(f"{self.calls / each:.2f} system calls a packet")
        parts += [f"{share:.0f}% {name}" for share, name in self.functions]
        return ", ".join(parts)


def _times(pids: list[int]) -> tuple[float, float]:
    user = system = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    tick = os.sysconf("SC_CLK_TCK")
    return user / tick, system / tick


def profile(pids: list[int], run: Callable[[], object]) -> Cost:
    """Run something; what these processes spent meanwhile."""
    perf = shutil.which("perf")
    with tempfile.TemporaryDirectory() as folder:
        watchers: list[subprocess.Popen[bytes]] = []
        data, counts = f"{folder}/perf.data", f"{folder}/counts"
        if perf is not None:
            among = ["-p", ",".join(map(str, pids))]
            record = [perf, "record", "-q", "-e", "cpu-clock", "-F", "499", "-o", data, *among]
            count = [perf, "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o", counts, *among]
            quiet = subprocess.DEVNULL
            watchers = [
                subprocess.Popen(words, stdout=quiet, stderr=quiet) for words in (record, count)
            ]
            time.sleep(0.5)
        before, start = _times(pids), time.monotonic()
        run()
        after, seconds = _times(pids), time.monotonic() - start
        for watcher in watchers:
            watcher.send_signal(2)
            watcher.wait()
        calls = _calls(counts)
        functions = _functions(perf, data) if perf else ()
    return Cost(seconds, after[0] - before[0], after[1] - before[1], calls, functions)


def _calls(path: str) -> int | None:
    if not os.path.exists(path):
        return None
    with open(path) as file:
        match = re.search(r"^(\d+),,raw_syscalls", file.read(), re.MULTILINE)
    return int(match[1]) if match else None


def _functions(perf: str, data: str) -> tuple[tuple[float, str], ...]:
    report = subprocess.run(
        [perf, "report", "-i", data, "--stdio", "-q", "--sort", "symbol", "--percent-limit", "2"],
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^\s*([\d.]+)%\s+\[[.k]\]\s+(\S+)", report.stdout, re.MULTILINE)
    return tuple((float(share), name) for share, name in found[:6])

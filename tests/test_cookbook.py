"""Every recipe of docs/cookbook is cooked: its files, its commands, what they say.

Blocks with a caption are files of that name.  The console lines of a page are
typed into one shell, in a folder of their own, on a host without any network but
its own loopback; nothing that they start or make outlives it.  Where a command's
output is shown, that is all it says; "..." stands for anything.  Of the captures
of captures.py there are those that the page links to.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import overlay
from conftest import missing
from lab import need_hosts
from pages import blocks

ROOT = Path(__file__).parent.parent
COOKBOOK = ROOT / "docs" / "cookbook"
RECIPES = sorted(page for page in COOKBOOK.glob("*.rst") if page.stem != "index")
PACKAGE = str(Path(overlay.__file__).parent.parent)
LANGUAGES = ["python", "toml", "bash"]
TOOLS = {"curl", "ip", "jq", "nft", "tshark"}

#: After a command in the background: until its sockets are bound, those of processes:
#: the kernel has some of its own, which are seen once somebody is in their namespace.
SHELL = """\
ip link set lo up && mount -t tmpfs tmpfs /run && cd "$1" || exit 99
shown_sockets() {
    for process in /proc/[0-9]*; do
        comm -12 <(readlink $process/fd/* | sort -u) <({
            awk 'FNR > 1 { print "socket:[" $10 "]" }' $process/net/udp $process/net/udp6
            awk '$6 == 1 { print "socket:[" $9 "]" }' $process/net/packet
        } | sort -u)
    done 2>/dev/null | sort -u | wc -l
}
until_bound() {
    for _ in {1..400}; do
        [ "$(shown_sockets)" -gt "$sockets" ] && sleep 0.1 && return
        sleep 0.05
    done
    echo "nobody listens"
}
"""
MARK = "=== done "


class Step(NamedTuple):
    """A command, the line of the page that it is on, and what it says; None where not shown."""

    line: int
    command: str
    shown: str | None


def steps(page: Path) -> Iterator[Step]:
    for block in blocks(page, "console"):
        lines = block.text.rstrip("\n").split("\n")
        starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
        assert starts[0] == 0, f"{page.name}:{block.line}: the block begins with no command"
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            words = start
            while lines[words].endswith("\\"):
                words += 1
            command = "\n".join(lines[start : words + 1])[2:]
            shown = "\n".join(lines[words + 1 : end]).rstrip()
            yield Step(block.line + start, command, shown or None)


def says(shown: str, said: str) -> bool:
    """Whether the output is as shown, but for "..." and blanks at ends of lines.

    Lines of "..." stand for any number of lines, and for none.
    """
    pattern = ".*?".join(map(re.escape, re.split(r"\n?\.\.\.", shown.strip())))
    plain = "\n".join(line.rstrip() for line in said.splitlines()).strip()
    return re.fullmatch(pattern, plain, re.DOTALL) is not None


def prepare(page: Path, folder: Path) -> None:
    """The files of a page, and the commands ``overlay``, ``python`` and ``pytest``."""
    for language in LANGUAGES:
        for block in blocks(page, language):
            assert block.caption, f"{page.name}:{block.line}: a block without a file's name"
            (folder / block.caption).write_text(block.text)
    if "captures.py" in page.read_text():
        subprocess.run(
            [sys.executable, COOKBOOK / "captures.py"], cwd=folder, check=True,
            env={**os.environ, "PYTHONPATH": PACKAGE},
        )  # fmt: skip
    programs = folder / ".bin"
    programs.mkdir()
    for name, words in {"overlay": "-m overlay", "python": "", "pytest": "-m pytest"}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        program.chmod(0o755)


def script(todo: list[Step]) -> str:
    lines = [SHELL]
    for step in todo:
        behind = step.command.rstrip().endswith("&")
        lines += ["sockets=$(shown_sockets)"] if behind else []
        lines += [step.command]
        lines += ["until_bound"] if behind else []
        lines += [f'echo "{MARK}$?"']
    return "\n".join(lines)


def cook(todo: list[Step], folder: Path) -> list[tuple[int, str]]:
    """Exit status and output of every step; of a step in the background what came meanwhile."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    alone = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        "PATH": f"{folder / '.bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "overlay.pytest.plugin",
        "PYTHONPATH": PACKAGE,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["unshare", *users, *alone, "bash", "-c", script(todo), "bash", folder],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    pieces = re.split(rf"^{MARK}(\d+)\n", done.stdout, flags=re.MULTILINE)
    assert len(pieces) == 2 * len(todo) + 1, done.stdout
    return [(int(status), said) for said, status in zip(pieces[::2], pieces[1::2], strict=False)]


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_recipe(page: Path, tmp_path: Path) -> None:
    todo = list(steps(page))
    need_hosts()
    for tool in TOOLS & set(re.findall(r"\w+", page.read_text())):
        if shutil.which(tool) is None:
            missing(tool)
    prepare(page, tmp_path)
    for step, (status, said) in zip(todo, cook(todo, tmp_path), strict=True):
        where = f"{page.name}:{step.line}: $ {step.command}"
        assert status == 0, f"{where}\n{said}"
        assert step.shown is None or says(step.shown, said), f"{where}\n{said}"


def test_there_are_twenty_and_the_index_names_them_all() -> None:
    named = re.findall(r"^   (\w+)$", (COOKBOOK / "index.rst").read_text(), re.MULTILINE)
    assert sorted(named) == [page.stem for page in RECIPES]
    assert len(named) >= 20


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_shape(page: Path) -> None:
    """Short; something is run, every file is used, and one pitfall is told."""
    text = page.read_text()
    run = " ".join(step.command for step in steps(page))
    assert text.count("\n") <= 75
    assert text.count(".. admonition:: Pitfall\n") == 1
    for language in LANGUAGES:
        assert all(block.caption in run for block in blocks(page, language))
    assert any(step.shown for step in steps(page))


def test_what_is_not_as_shown_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(".. code-block:: console\n\n   $ echo a \\\n      b\n   a ...\n   $ false\n")
    assert list(steps(page)) == [Step(3, "echo a \\\n   b", "a ..."), Step(6, "false", None)]
    assert says("a ...", "a b\n")
    assert not says("a ...", "b\n")
    assert not says("a", "a\nb\n")

"""The documentation names what there is, all of it, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import overlay
from overlay.cli import cli

DOCS = Path(__file__).parent.parent / "docs"


def test_every_protocol_has_its_page() -> None:
    assert set(overlay.PROTOCOLS) == {page.stem for page in (DOCS / "protocols").glob("*.rst")}


@pytest.mark.parametrize("page", sorted((DOCS / "protocols").glob("*.rst")), ids=lambda p: p.stem)
def test_protocol_pages_name_statuses_that_exist(page: Path) -> None:
    named = set(re.findall(r"``([A-Z0-9]+(?:_[A-Z0-9]+)+)``", page.read_text()))
    assert named
    assert named <= set(overlay.Status.__members__)


def test_every_public_name_is_in_the_api_page() -> None:
    page = (DOCS / "api.rst").read_text()
    missing = [n for n in overlay.__all__ if n != "PROTOCOLS" and f"overlay.{n}\n" not in page]
    assert not missing


def test_every_command_is_in_its_page() -> None:
    page = (DOCS / "command_line.rst").read_text()
    documented = set(re.findall(r"^``overlay ([a-z]+)", page, re.MULTILINE))
    assert documented == set(cli.list_commands(click.Context(cli)))


def test_operations_tells_how_to_look_at_lro_and_turn_it_off() -> None:
    """STT-49: what a network card does is for its owner to check."""
    page = (DOCS / "operations.rst").read_text()
    assert re.search(r"^    ethtool -k \w+ .*large-receive-offload", page, re.MULTILINE)
    assert re.search(r"^    ethtool -K \w+ lro off", page, re.MULTILINE)


def test_every_drop_reason_has_its_row_in_operations() -> None:
    """One row a status, except those of batches that are made by hand, which it names."""
    page = (DOCS / "operations.rst").read_text()
    rows = re.findall(r"^   \* - (``[^\n]+)$", page, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"``([A-Z0-9_]+)``", row)]
    assert len(named) == len(set(named))
    by_hand = {"BAD_ROW", "NO_HEADROOM", "NO_ROOM"}
    statuses = set(overlay.Status.__members__)
    other = {s for s in statuses if s.startswith(("GENEVE_", "GPE_", "ERSPAN_"))} | {"FRAME_NOT_IP"}
    assert set(named) | by_hand | {"OK"} == statuses - other
    assert all(f"``{name}``" in page.rsplit("\n\n", 1)[1] for name in by_hand)


@pytest.mark.parametrize("example", sorted((DOCS / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run(example: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(DOCS.parent)}
    result = subprocess.run(
        [sys.executable, example], capture_output=True, text=True, timeout=120, env=environment
    )
    assert result.returncode == 0, result.stderr

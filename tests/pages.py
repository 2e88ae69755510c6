"""The code blocks of README.md and of the pages, as they stand there.

What must not live here: how they are run.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

__all__ = ["Block", "blocks"]


class Block(NamedTuple):
    """The number of its first line, its text, its caption or ""."""

    line: int
    text: str
    caption: str = ""


def blocks(path: Path, language: str) -> list[Block]:
    """The code blocks of a page in this language, in their order."""
    text = path.read_text()
    if path.suffix == ".md":
        pattern = rf"^```{language}()\n(.*?)^```$"
    else:
        pattern = rf"^\.\. code-block:: {language}\n(?:   :caption: (\S+)\n)?\n((?:(?:   .*)?\n)+)"
    return [
        Block(text.count("\n", 0, match.start(2)) + 1, textwrap.dedent(match[2]), match[1] or "")
        for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL * (path.suffix == ".md"))
    ]

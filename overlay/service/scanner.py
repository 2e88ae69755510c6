"""Scanner: on which line of a TOML text each key and each value lies.

Lives here: lines.  What must not: values; those are tomllib's, which has
accepted the text before it comes here.
"""

from __future__ import annotations

import contextlib
import re

__all__ = ["Path", "line_of", "scan"]

#: The way to a value: keys of tables and indices of arrays.
Path = tuple["str | int", ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^,\]}#\r\n]*")
_STRINGS = (  # the longest opening first
    re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    return chr(int(code, 16)) if code else _ESCAPED.get(match[4], match[4])


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._line, self._counted = 1, 0
        self._lengths: dict[Path, int] = {}  # of the arrays of tables

    def line(self) -> int:
        """The line that is being read; reading only goes on."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError("not TOML")
        self.at = match.end()
        return match[0]

    def peek(self, size: int = 1) -> str:
        return self.text[self.at : self.at + size]

    def mark(self, path: Path) -> None:
        self.lines.setdefault(path, self.line())

    def string(self) -> str:
        for pattern in _STRINGS:
            match = pattern.match(self.text, self.at)
            if match:
                self.at = match.end()
                return match[0]
        raise ValueError("not TOML")

    def key(self) -> tuple[str, ...]:
        """A key, with its dots."""
        parts: list[str] = []
        while True:
            self.skip(_BLANK)
            if self.peek() in ("'", '"'):
                quoted = self.string()
                text = quoted[1:-1]
                parts.append(_ESCAPE.sub(_unescape, text) if quoted[0] == '"' else text)
            else:
                parts.append(self.skip(_BARE))
            self.skip(_BLANK)
            if self.peek() != ".":
                return tuple(parts)
            self.at += 1

    def resolve(self, parts: tuple[str, ...]) -> Path:
        """The path of a header's name: an array of tables means its last one."""
        path: Path = ()
        for part in parts:
            path = (*path, part)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def header(self) -> Path:
        array = self.peek(2) == "[["
        start = self.line()
        self.at += 2 if array else 1
        parts = self.key()
        self.at += 2 if array else 1
        if array:
            path = (*self.resolve(parts[:-1]), parts[-1])
            self.lines.setdefault(path, start)
            index = self._lengths.get(path, 0)
            self._lengths[path] = index + 1
            path = (*path, index)
        else:
            path = self.resolve(parts)
        self.lines[path] = start
        for end in range(1, len(path)):
            self.lines.setdefault(path[:end], start)
        return path

    def pair(self, table: Path) -> None:
        start = self.line()
        path: Path = table
        for part in self.key():
            path = (*path, part)
            self.lines.setdefault(path, start)
        self.at += 1  # =
        self.skip(_BLANK)
        self.value(path)

    def value(self, path: Path) -> None:
        first = self.peek()
        if first in ("'", '"'):
            self.string()
        elif first == "[":
            self.at += 1
            for index in range(len(self.text)):
                self.skip(_SPACE)
                if self.peek() == "]":
                    break
                self.mark((*path, index))
                self.value((*path, index))
                self.skip(_SPACE)
                if self.peek() == ",":
                    self.at += 1
            self.at += 1
        elif first == "{":
            self.at += 1
            while True:
                self.skip(_SPACE)
                if self.peek() == "}":
                    break
                self.pair(path)
                self.skip(_SPACE)
                if self.peek() == ",":
                    self.at += 1
            self.at += 1
        else:
            self.skip(_PLAIN)

    def run(self) -> None:
        table: Path = ()
        while True:
            self.skip(_SPACE)
            if self.at >= len(self.text):
                return
            if self.peek() == "[":
                table = self.header()
            else:
                self.pair(table)


def scan(text: str) -> dict[Path, int]:
    """The line, from 1, of every table, key and element of a valid TOML text."""
    scanner = _Scanner(text)
    with contextlib.suppress(ValueError, RecursionError):  # what was found by then is true
        scanner.run()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest table around it."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return 1

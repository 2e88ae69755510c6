"""Golden packets: files of hexadecimal text beside the tests, one field a line.

Lives here: their text, where they lie, which of them no test uses.  What must
not: pytest's hooks, which are in plugin.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from overlay.errors import ConfigError
from overlay.match.expected import written

from .packet import Packet, count, differences, ignored

__all__ = ["Golden", "GoldenError", "compare", "dump", "parse", "path_of", "unused"]

FOLDER = "golden"
_LINE = 16  # bytes
_PACKET = re.compile(r"packet (\d+): (\d+) bytes(?:, from IP on)?$")


class GoldenError(ValueError):
    """A golden file that cannot be read; says the file, the line and why."""


@dataclass
class Masked:
    """A packet of a golden file, and the bits of it that have to be so."""

    data: bytearray = field(default_factory=bytearray)
    mask: bytearray = field(default_factory=bytearray)
    link: int = 0


def path_of(test: Path, name: str) -> Path:
    """The file of what ``name`` says of a test, of the test's file ``test``."""
    return test.parent / FOLDER / test.stem / f"{quote(name, safe='[]=,+@ ')}.txt"


def dump(packets: Sequence[Packet], title: str, ignore: Sequence[str] = ()) -> str:
    """The text of a golden file; fields that are ignored are dots."""
    lines = [f"# {title}", "# Written by pytest --overlay-update-golden."]
    for number, packet in enumerate(packets, 1):
        link = ", from IP on" if packet.link else ""
        lines += ["", f"packet {number}: {len(packet)} bytes{link}"]
        for one in packet.fields:
            value = packet[one.offset : one.offset + one.size]
            free = ignored(one.name, ignore)
            for at in range(0, len(value), _LINE):
                part = value[at : at + _LINE]
                digits = ".." * len(part) if free else part.hex()
                said = "" if at else f"# {one.name}{_comment(one.name, value, free)}"
                lines.append(f"  {digits:{2 * _LINE}}  {said}".rstrip())
    return "\n".join(lines) + "\n"


def _comment(name: str, value: bytes, free: bool) -> str:
    """The value for people, where the digits do not say it."""
    said = ": any" if free else f": {written(name, value)}"
    digits = {f": 0x{value.hex()}", f": {value.hex()}", f": {value.hex(' ')}", ": 0"}
    return "" if said in digits or len(value) > _LINE else said


def parse(content: str, name: str) -> list[Masked]:
    """The packets of a golden file.  Comments and the width of lines do not matter.

    :raises GoldenError: a line is not hexadecimal text, or a packet's length is not as it says.
    """
    packets: list[Masked] = []
    sizes: list[int] = []
    for number, whole in enumerate(content.splitlines(), 1):
        line = whole.partition("#")[0].strip()
        if not line:
            continue
        heading = _PACKET.match(line)
        if heading:
            packets.append(Masked(link=int(line.endswith("on"))))
            sizes.append(int(heading[2]))
            continue
        digits = line.replace(" ", "")
        if not packets or not re.fullmatch(r"(?:[0-9A-Fa-f]{2}|\.\.)+", digits):
            raise GoldenError(f"{name}:{number}: expected pairs of hexadecimal digits or dots")
        packets[-1].data += bytes.fromhex(digits.replace(".", "0"))
        packets[-1].mask += bytes(0 if pair == ".." else 255 for pair in re.findall("..", digits))
    for place, (packet, size) in enumerate(zip(packets, sizes, strict=True), 1):
        if len(packet.data) != size:
            raise GoldenError(f"{name}: packet {place} has {len(packet.data)} bytes, not {size}")
    return packets


def compare(
    golden: Sequence[Masked], got: Sequence[Packet], ignore: Sequence[str] = ()
) -> list[str]:
    """Lines that say how the packets differ from the golden ones; none if they do not."""
    lines = []
    if len(golden) != len(got):
        lines.append(f"expected {count(golden)}, got {count(got)}")
    for number, (one, packet) in enumerate(zip(golden, got, strict=False), 1):
        found = differences(
            bytes(one.data), packet, mask=bytes(one.mask), ignore=ignore, link=packet.link
        )
        if found:
            lines.append(f"packet {number} of {len(got)}:")
            lines += [f"  {line}" for line in found]
    return lines


def unused(modules: Collection[Path], used: set[Path]) -> list[Path]:
    """The golden files of these modules' tests that are not among ``used``, sorted.

    Files whose module is gone from the folder are among them.
    """
    found: set[Path] = set()
    for module in modules:
        found.update((module.parent / FOLDER / module.stem).glob("*.txt"))
    for folder in {module.parent for module in modules}:
        for one in (folder / FOLDER).glob("*/*.txt"):
            if not (folder / f"{one.parent.name}.py").exists():
                found.add(one)
    return sorted(found - used)


class Golden:
    """What the fixture ``overlay_golden`` is: a test's golden packets.

    ``used``: the files that the test has asked for.
    """

    def __init__(self, module: Path, test: str, title: str, *, update: bool) -> None:
        self._module, self._test, self._title, self._update = module, test, title, update
        self.used: list[Path] = []

    def __call__(
        self, packets: bytes | Sequence[bytes], name: str = "", *, ignore: Sequence[str] = ()
    ) -> None:
        """Fail unless the packets are those of the file; write it with ``--overlay-update-golden``.

        :param packets: one packet or several, in order.
        :param name: tells the files of one test apart.
        :param ignore: names of fields, or patterns, that may be anything: they are
            dots in the file.
        """
        __tracebackhide__ = True
        several = [packets] if isinstance(packets, bytes) else packets
        got = [one if isinstance(one, Packet) else Packet(one) for one in several]
        path = path_of(self._module, f"{self._test}.{name}" if name else self._test)
        if path in self.used:
            raise ConfigError("name", name, "another one for each call in one test")
        self.used.append(path)
        new = dump(got, self._title, ignore)
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != new:
                path.write_text(new)
            return
        if not path.exists():
            raise AssertionError(
                f"no golden packets in {path}: --overlay-update-golden writes them"
            )
        expected = parse(path.read_text(), str(path))
        lines = compare(expected, got, ignore)
        if lines:
            where = f"not as in {path} (--overlay-update-golden writes it anew):"
            raise AssertionError("\n".join([where, *lines]))

"""A sample of the hostile captures, every day; tests/hostile.py has the campaign."""

from __future__ import annotations

import gc
import itertools
import os
from collections import Counter
from pathlib import Path

import pytest

from command import ENDS, run
from hostile import VERBS, Case, Sight, Verb, cuts, hold, look, mutations, seeds

#: Every so many cuts of all; a prime, so that over the captures every kind of place occurs.
STEP = 997
#: Mutations, for each command other ones.
CHANGED = 30

each = pytest.mark.parametrize("verb", VERBS, ids=str)


@each
def test_cut_captures(verb: Verb, tmp_path: Path) -> None:
    for number, case in enumerate(cuts(STEP, STEP - 29 * VERBS.index(verb) % STEP)):
        if len(case.data) <= verb.most:
            hold(verb, case, tmp_path, as_json=number % 4 != 0)


@each
def test_changed_captures(verb: Verb, tmp_path: Path) -> None:
    for number, case in enumerate(mutations(1, CHANGED, CHANGED * VERBS.index(verb))):
        if len(case.data) <= verb.most:
            hold(verb, case, tmp_path, as_json=number % 4 != 0)


@each
def test_some_whole_captures(verb: Verb, tmp_path: Path) -> None:
    for case in seeds()[::3]:
        if len(case.data) <= verb.most:
            hold(verb, case, tmp_path)


def test_the_independent_reader() -> None:
    """What the laws are held against."""
    name, data = seeds()[0]
    assert name == "sample.pcap"
    whole = look(data)
    assert whole.broken is None
    assert look(data[:24]) == Sight(0, None)
    assert look(data[:-1]).packets == whole.packets - 1
    assert look(b"") == look(b"\n\r\r\n") == look(b"text") == Sight(0, 0)


def test_a_broken_law_is_found(tmp_path: Path) -> None:
    """A command that says something else of a packet is not taken."""
    wrong = Verb("wrong", ("encap", "IN", "OUT.pcap", "--tunnel", "vxlan", "--id", "7", *ENDS),
                 lambda said, packets: pytest.fail(f"{said['frames']} of {packets}"))  # fmt: skip
    with pytest.raises(pytest.fail.Exception):
        hold(wrong, Case("whole", seeds()[0].data), tmp_path)


def _round(folder: Path, cases: list[Case]) -> None:
    for verb, case in itertools.product(VERBS, cases):
        if verb.args[0] != "check":  # the twin's caches grow to their bounds
            hold(verb, case, folder, as_json=False)


def _kept() -> Counter[str]:
    """What there is of the package's own objects, by type, and of open files."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    found = Counter(k.__qualname__ for k in kinds if str(k.__module__).startswith("overlay."))
    found["files"] = len(os.listdir("/proc/self/fd"))
    return found


def test_nothing_is_kept(tmp_path: Path) -> None:
    """Bad input leaves no object and no open file behind: each round ends as the one before."""
    cases = [*itertools.islice(cuts(1201), 8), *mutations(2, 8)]
    _round(tmp_path, cases)  # caches are filled
    before = _kept()
    _round(tmp_path, cases)
    assert not _kept() - before


# -- files that are no captures --------------------------------------------------------------

TEXTS = {
    "nothing": b"",
    "bytes": bytes(range(256)),
    "zeros": bytes(300),
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep tables": b"a" + b".a" * 10_000 + b" = 1",
    "null": b"null",
    "number": b"7",
    "long number": b'{"packets": ' + b"9" * 5000 + b', "sent": {}}',
    "endless number": b'{"packets": 1e999, "sent": {}}',
    "endless numbers": b'{"packets": 1, "sent": {"7": 1e999}}',
    "no number": b'{"packets": NaN, "sent": {}}',
    "wrong kinds": b'{"packets": [], "sent": {"x": {}}, "results": [[]], "machine": 7}',
    "negative": b'{"packets": -1, "sent": {"7": -1}}',
    "wrong rule": b"[[rule]]\nset-key = 1e999\n",
    "no rules": b"rule = [1, {}, []]\n",
    "a bad date": b"[[rule]]\nset-key = 1979-05-27\n",
}
READERS = {
    "meter --sent": ("meter", "CAPTURE", "--sent", "FILE"),
    "bench --compare": ("bench", "--compare", "FILE", "FILE"),
    "run --check": ("run", "--check", "FILE"),
    "rewrite --rules": ("rewrite", "CAPTURE", "OUT", "--rules", "FILE"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", TEXTS)
def test_files_that_say_nonsense(reader: str, text: str, tmp_path: Path) -> None:
    """They are refused in words that name them, or mean something harmless; nothing is written."""
    file, out = tmp_path / "file", tmp_path / "out.pcap"
    file.write_bytes(TEXTS[text])
    (tmp_path / "in.pcap").write_bytes(seeds()[0].data)
    places = {"CAPTURE": tmp_path / "in.pcap", "OUT": out, "FILE": file}
    result = run(*[places.get(word, word) for word in READERS[reader]])
    if result.exit_code == 0:
        return
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines
    for line in lines:
        assert line.startswith("overlay: ")
        assert str(file) in line
        assert len(line) < 1000
    assert not out.exists()

"""The editors of all backends agree: on bytes, columns, rules, targets and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import strategies as s
import wire
from overlay import PROTOCOLS, Batch, ConfigError, Profile, Rule
from overlay.codec import Codec
from overlay.compiled_editor import NOTE_SIZE, RULE, TARGET
from overlay.rule import Action

_keys = st.sampled_from([0, 1, 7, 5001, 0x1000, 0xFFFFFF, 0x1000000, 2**64 - 1]) | s.u64
_vlans = st.integers(0, 4095) | st.just("none")
_prefixes = st.sampled_from(
    [wire.LOCAL[4], wire.REMOTE[4], wire.LOCAL[6], wire.REMOTE[6], "192.0.2.0/24", "0.0.0.0/0",
     "2001:db8::/32", "::/0", "198.51.100.64/26", "fd00::/8"]
)  # fmt: skip


_macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))


def _pair(numbers: SearchStrategy[int]) -> SearchStrategy[tuple[int, int]]:
    return st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))


@st.composite
def rules(draw: st.DrawFn, *, in_place: bool = False) -> Rule:
    """Any rule that can be; matching nothing, everything or something."""
    match: dict[str, SearchStrategy[Any]] = {
        "protocol": st.sampled_from(list(PROTOCOLS)),
        "key": _keys | _pair(_keys),
        "source": _prefixes,
        "destination": _prefixes,
        "source_mac": st.sampled_from(["02:00:5e:00:00:01", "00:00:00:00:00:00"]) | _macs,
        "destination_mac": _macs,
        "vlan": _vlans,
        "dscp": st.integers(0, 63),
    }
    change: dict[str, SearchStrategy[Any]] = {
        "set_source": _prefixes,
        "set_destination": _prefixes,
        "set_source_mac": _macs,
        "set_destination_mac": _macs,
        "set_source_port": s.u16 | _pair(s.u16) | st.just("entropy"),
        "set_destination_port": s.u16,
        "set_dscp": st.integers(0, 63) | st.just("inherit"),
        "set_ecn": st.integers(0, 3) | st.just("rfc6040"),
        "set_ttl": s.u8,
        "set_vlan": _vlans,
    }
    names = draw(st.lists(st.sampled_from(list(match)), max_size=1, unique=True))
    names += draw(st.lists(st.sampled_from(list(change)), max_size=5, unique=True))
    values = {name: draw({**match, **change}[name]) for name in names}
    key = draw(st.sampled_from(["", "", "set_key", "map_key", "add_key"]))
    if key == "map_key":
        values[key] = draw(st.dictionaries(_keys, _keys, min_size=1, max_size=4))
    elif key:
        values[key] = draw(_keys) * (draw(st.sampled_from([1, -1])) if key == "add_key" else 1)
    if not in_place and draw(st.integers(0, 3)) == 0:
        values["to"] = draw(st.sampled_from(list(PROTOCOLS)))
        values.pop("set_ecn", None)
        values.pop("set_destination_port", None)
    try:
        return Rule(**values)
    except ConfigError:  # addresses of both versions
        values.pop("set_destination", None)
        values.pop("set_source", None)
        return Rule(**values)


def _run(codec: Codec, packets: list[bytes], chosen: list[Rule], how: dict[str, Any]) -> Any:
    batch = Batch.from_frames(packets, headroom=how["headroom"])
    for row, cut in enumerate(how["cuts"]):
        batch.length[row] -= min(cut, int(batch.length[row]))
    batch.link[:] = how["links"]
    editor = codec.editor(chosen, how["profile"], fix=how["fix"])
    done = editor.edit(batch)
    targets = editor.targets()
    places = editor.target[: batch.count].tolist()
    action = editor.action[: batch.count].tolist()
    return (
        done, action, editor.rule[: batch.count].tolist(),
        [
            targets[p] if a >= Action.EXCHANGE else None
            for p, a in zip(places, action, strict=True)
        ], targets,
        [getattr(batch, name).tolist() for name in ("status", "offset", "length", "wire")],
        batch.data.tobytes(),
    )  # fmt: skip


@given(
    some=st.lists(s.packets() | s.corrupted(), min_size=1, max_size=4),
    chosen=st.lists(rules(), min_size=1, max_size=3),
    data=st.data(),
)
def test_editors(
    twins: Sequence[Codec], some: list[bytes], chosen: list[Rule], data: st.DataObject
) -> None:
    """Whatever the bytes, wherever a capture cut them."""
    links = [data.draw(st.sampled_from([0, 0, 0, 0, 1, 2])) for _ in some]
    packets = [p[14:] if link == 1 else p for p, link in zip(some, links, strict=True)]
    how = {
        "links": links,
        "cuts": [data.draw(st.sampled_from([0, 0, 0, 1, 30]) | st.integers(0, 200)) for _ in some],
        "headroom": data.draw(st.sampled_from([0, 4, 4])),
        "profile": data.draw(s.profiles()),
        "fix": data.draw(st.booleans()),
    }
    results = [_run(codec, packets, chosen, how) for codec in twins]
    assert all(result == results[0] for result in results)


@given(stream=s.streams(), chosen=st.lists(rules(), min_size=1, max_size=2), fix=st.booleans())
def test_editors_follow_stt_frames(
    twins: Sequence[Codec], stream: s.Stream, chosen: list[Rule], fix: bool
) -> None:
    """Segments take the rule of their frame's first."""
    packets = [packet for packet, _ in stream.arrivals]
    how = {
        "links": [0] * len(packets), "cuts": [0] * len(packets), "headroom": 4,
        "profile": Profile.of("lenient"), "fix": fix,
    }  # fmt: skip
    results = [_run(codec, packets, chosen, how) for codec in twins]
    assert all(result == results[0] for result in results)


def test_layouts() -> None:
    """The structs are those of C: cffi has read its header."""
    from overlay import _cffi_core

    sizes = {name: _cffi_core.ffi.sizeof(f"struct {name}") for name in
             ("ov_rule", "ov_target", "ov_note", "ov_rewriter")}  # fmt: skip
    assert sizes == {
        "ov_rule": RULE.size, "ov_target": TARGET.itemsize, "ov_note": NOTE_SIZE, "ov_rewriter": 112
    }  # fmt: skip

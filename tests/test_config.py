"""The configuration: what is read, every mistake with its line, and what a change takes."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from command import run
from overlay.service.config import Config, InvalidConfig
from overlay.service.plan import Step, describe, difference, setup
from overlay.service.reader import load, parse
from overlay.service.scanner import scan
from overlay.service.schema import REQUIRED, SECTIONS, TUNNEL_OPTIONS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHOLE = """\
[vtep]
local = "192.0.2.1"            # or an interface name
tunnel = "vxlan"
workers = 2
control = "/run/overlay/ctl.sock"
metrics = "127.0.0.1:9472"

[[network]]
id = 5001
tunnel = "stt"
mtu = 1450
remotes = ["192.0.2.2", "192.0.2.3"]
learn = true
ageing = 300
suppress_arp = false
[[network.port]]
tap = "tap0"
vlan = 100
[[network.static]]
mac = "02:00:00:00:00:01"
remote = "192.0.2.2"

[[network]]
id = 5002
remotes = [
  "192.0.2.2",                       # a comment with ] and "quotes"
  { address = "192.0.2.3", tunnel = "nvgre", key = 0x5002, relay = true, options = { ttl = 8 } },
]
port = [{ interface = "eth1", name = "wan" }, { tap = "tap0", vlan = 7 }]
static = [{ mac = "02-00-00-00-00-02", port = "wan", sticky = true }]
neighbor = [{ ip = "10.0.0.2", mac = "0200.0000.0002" }]
"""


def mistakes(text: str | bytes) -> list[str]:
    """What is said of a configuration that is wrong."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidConfig) as caught:
        parse(data, "x.toml")
    return caught.value.lines


def config(text: str) -> Config:
    return parse(text.encode())


def test_whole_schema() -> None:
    found = config(WHOLE)
    assert found.vtep.local == "192.0.2.1"
    assert found.vtep.workers == 2
    assert found.vtep.metrics == "127.0.0.1:9472"
    first, second = found.network
    assert first.key == ("stt", 5001)
    assert [remote.address for remote in first.remotes] == ["192.0.2.2", "192.0.2.3"]
    assert first.port[0].device == ("tap", "tap0")
    assert first.port[0].name == "tap0.100"
    assert first.static[0].mac == "02:00:00:00:00:01"
    assert second.key == ("vxlan", 5002)
    relay = second.remotes[1]
    assert (relay.tunnel, relay.key, relay.relay) == ("nvgre", 0x5002, True)
    assert relay.options == (("ttl", 8),)
    assert second.port[0].device == ("interface", "eth1")
    assert second.static[0].sticky
    assert second.neighbor[0].mac == "02:00:00:00:00:02"


def test_every_mistake_has_its_line() -> None:
    text = """\
[vtep]
local = "nowhere at all"
worker = 2

[[network]]
id = 0x1000000
ageing = "soon"
remotes = ["192.0.2.2",
  "192.0.2.300",
  { address = "192.0.2.4", options = { tttl = 3 } },
  { address = "192.0.2.5", options = { ttl = 300 } }]
[[network.port]]
tap = "a name that is too long"
[[network.port]]
vlan = 5000
tap = "tap0"
[[network.port]]
name = "neither"
[[network.static]]
mac = "01:00:5e:00:00:01"
remote = "192.0.2.2"
"""
    assert mistakes(text) == [
        'x.toml:2: vtep.local: got "nowhere at all", expected an IP address or an interface name',
        "x.toml:3: vtep.worker: is no key; did you mean workers?",
        'x.toml:7: network[0].ageing: got "soon", expected seconds in 0..1000000000; 0 is for ever',
        'x.toml:9: network[0].remotes[1].address: got "192.0.2.300", '
        "expected an IPv4 or IPv6 address",
        "x.toml:10: network[0].remotes[2].options.tttl: is no key; did you mean ttl?",
        "x.toml:11: network[0].remotes[3].options.ttl: got 300, expected an integer in 0..255",
        'x.toml:13: network[0].port[0].tap: got "a name that is too long", '
        "expected an interface name of 1 to 15 characters",
        "x.toml:15: network[0].port[1].vlan: got 5000, expected an integer in 1..4094",
        "x.toml:17: network[0].port[2]: needs one of tap and interface",
        'x.toml:20: network[0].static[0].mac: got "01:00:5e:00:00:01", '
        "expected the MAC address of one host, not a group or zero",
    ]


HEAD = '[vtep]\nlocal = "192.0.2.1"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["x.toml:1: vtep: is missing: the table [vtep] with at least local"]),
        ("[vtep]\n", ["x.toml:1: vtep.local: is missing"]),
        ("vtep = 3\n", ["x.toml:1: vtep: got 3, expected a table"]),
        ("a = 1\n" + HEAD, ["x.toml:1: a: is no key; the keys here are vtep, network"]),
        (
            HEAD + "[network]\nid = 1\n",
            ['x.toml:3: network: got {"id": 1}, expected an array; write [[network]]'],
        ),
        (
            HEAD + "[[network]]\nid = 9\n[[network]]\nname = 'b'\nid = 9\n",
            ["x.toml:7: network[1].id: vxlan network 9 is on line 4 already"],
        ),
        (
            HEAD + "[[network]]\nid = 9\ntunnel = 'nvgre'\n",
            [
                "x.toml:4: network[0].id: got 9, expected for nvgre, 0x1000..0xFFFFFE"
            ],
        ),
        (
            HEAD + "[[network]]\nid = 1\nport = [{tap = 't'}]\n"
            "[[network]]\nid = 2\n[[network.port]]\nname = 'x'\ntap = 't'\n",
            ["x.toml:8: network[1].port[0]: tap t without vlan is on line 5 already"],
        ),
        (
            HEAD + "[[network]]\nid = 1\nremotes = ['192.0.2.2']\n"
            "[[network.static]]\nmac = '02:00:00:00:00:01'\nremote = '192.0.2.2'\n"
            "[[network.static]]\nmac = '02-00-00-00-00-01'\nremote = '192.0.2.2'\n",
            [
                "x.toml:10: network[0].static[1].mac: "
                "MAC address 02:00:00:00:00:01 is on line 7 already"
            ],
        ),
        (
            HEAD + "[[network]]\nid = 1\n[[network.static]]\nmac = '02:00:00:00:00:01'\n"
            "remote = '192.0.2.2'\n",
            [
                'x.toml:7: network[0].static[0].remote: got "192.0.2.2", '
                "expected the address of a remote of this network"
            ],
        ),
        (
            HEAD + "[[network]]\nid = 1\nremotes = ['2001:db8::2', '192.0.2.1']\n",
            [
                'x.toml:5: network[0].remotes[0]: got "2001:db8::2", '
                "expected an address of the family of 192.0.2.1",
                'x.toml:5: network[0].remotes[1]: got "192.0.2.1", '
                "expected another address than vtep.local",
            ],
        ),
        (
            HEAD + "[[network]]\nid = 1\nremotes = [{address='192.0.2.2', options={flow_id=1}}]\n",
            [
                "x.toml:5: network[0].remotes[0].options.flow_id: is no key; the keys here are "
                "ttl, dscp, ecn, df, ip_id, flow_label, source_port, inner_vlan"
            ],
        ),
        (HEAD + "local = 'again'\n", ["x.toml:3: not TOML: Cannot overwrite a value"]),
        (HEAD + "[[network]]\nid = \n", ["x.toml:4: not TOML: Invalid value"]),
        (HEAD + "workers = 1_", ["x.toml:3: not TOML: Expected newline or end of document after a "
                                 "statement"]),
        (b"[vtep]\n\xff", ["x.toml:2: is not UTF-8"]),
        ("a = " + "[" * 10_000, ["x.toml:1: is nested too deep"]),
        ("a = " + "9" * 5_000, ["x.toml:1: not TOML: a number is too large"]),
    ],
)  # fmt: skip
def test_mistake(text: str | bytes, said: list[str]) -> None:
    assert mistakes(text) == said


def test_what_is_huge_is_shown_short() -> None:
    huge = "f" * 10_000
    (line,) = mistakes(HEAD + "workers = 0x" + huge)
    assert line == "x.toml:3: vtep.workers: is a number beyond 64 bits"
    (line,) = mistakes(HEAD + f"workers = [['{huge}']]")
    assert line.startswith('x.toml:3: vtep.workers: got [["ffff')
    assert len(line) < 150


# -- any bytes ------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        *WHOLE.splitlines(keepends=True), "\n", "[[network]]\n", "[", "]", "{", "}", "=", ",", '"',
        "'''", "id = 0x7fffffffffffffffff\n", "learn = 'x'\n", "remotes = [[]]\n", "port = {}\n",
        "[network.port]\n", "vtep.local = 1\n", "mtu = nan\n", "ageing = inf\n", "\\", "\x00",
        "static = [1, {}]\n", "ageing = 1979-05-27\n", "tunnel = []\n",
        "remotes = [{key = true}]\n",
    ]
)  # fmt: skip


@given(st.binary(max_size=200) | st.lists(_PIECES, max_size=40).map(lambda p: "".join(p).encode()))
@example(b"[[network]]\nid=1\n[[network]]\nid=[]\ntunnel={}\nremotes=[{tunnel=3}]\n")
def test_any_bytes_are_a_configuration_or_mistakes(data: bytes) -> None:
    try:
        found = parse(data, "x.toml")
    except InvalidConfig as error:
        assert error.lines
        assert all(line.isprintable() and line.startswith("x.toml:") for line in error.lines)
    else:
        assert isinstance(found, Config)


# -- lines --------------------------------------------------------------------------

_KEYS = st.sampled_from(["a", "b", "'c d'", '"e\\u0020f"', "a.b", "x.'y'.z", "0"])
_SCALARS = st.sampled_from(
    ["1", "true", '"]#"', "'}'", '"""\n]\n\\""""', "'''\n'\n'''", "2020-01-01 10:00:00", "1.5"]
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: "[ # ]\n" + ",\n".join(v) + "\n]")
        | st.lists(inner, max_size=3).map(
            lambda v: "{" + ", ".join(f"k{i} = {x}" for i, x in enumerate(v)) + "}"
        )
    ),
    max_leaves=5,
)
_LINES = st.one_of(
    st.tuples(_KEYS, _VALUES).map(lambda kv: f"{kv[0]} = {kv[1]}"),
    st.tuples(_KEYS, st.booleans()).map(lambda k: f"[[ {k[0]} ]]" if k[1] else f"[{k[0]}] # ["),
    st.just("# a = 1"),
)


def paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """The way to every value of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list) else ()  # fmt: skip
    return {path}.union(*(paths(v, (*path, k)) for k, v in inner))


@given(st.lists(_LINES, max_size=8))
def test_every_value_has_a_line(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = scan(text)
    assert paths(document) - {()} == set(found)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


def test_lines() -> None:
    lines = scan(WHOLE)
    rows = WHOLE.splitlines()
    for path, text in {
        ("vtep", "metrics"): "metrics",
        ("network", 0, "port", 0): "[[network.port]]",
        ("network", 0, "static", 0, "remote"): "remote =",
        ("network", 1): "[[network]]",
        ("network", 1, "remotes", 1, "options", "ttl"): "  { address",
        ("network", 1, "neighbor", 0, "ip"): "neighbor",
    }.items():
        assert rows[lines[path] - 1].startswith(text), path
    assert lines["network", 1] > lines["network", 0, "static", 0]


# -- files -----------------------------------------------------------------------------


def test_load(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(WHOLE)
    assert load(file) == config(WHOLE)
    file.write_text("x")
    with pytest.raises(InvalidConfig, match=r"a\.toml:1: not TOML"):
        load(file)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.toml")


# -- what a change takes -----------------------------------------------------------------


def steps(old: str, new: str) -> list[str]:
    return [str(step) for step in difference(config(old), config(new)).steps]


def test_the_same_takes_nothing() -> None:
    assert not difference(config(WHOLE), config(WHOLE + "# a comment\n"))


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        ("00:00:01", "00:00:09", ["remove static 02:00:00:00:00:01 of stt 5001",
                                  "add static 02:00:00:00:00:09 of stt 5001"]),
        ("vlan = 100", "vlan = 101", ["remove port tap0.100 of stt 5001",
                                      "add port tap0.101 of stt 5001"]),
        ("learn = true", "learn = false", ["change network of stt 5001"]),
        ('"wan" }', '"wan", mac = "02:00:00:00:00:99" }',
         ["remove static 02:00:00:00:00:02 of vxlan 5002", "remove port wan of vxlan 5002",
          "add port wan of vxlan 5002", "add static 02:00:00:00:00:02 of vxlan 5002"]),
        ("ttl = 8", "ttl = 9", ["remove remote 192.0.2.3 of vxlan 5002",
                                "add remote 192.0.2.3 of vxlan 5002"]),
        ('"10.0.0.2"', '"10.0.0.3"', ["remove neighbor 10.0.0.2 of vxlan 5002",
                                      "add neighbor 10.0.0.3 of vxlan 5002"]),
        ("id = 5001", "id = 5003",
         ["remove static 02:00:00:00:00:01 of stt 5001", "remove remote 192.0.2.3 of stt 5001",
          "remove remote 192.0.2.2 of stt 5001", "remove port tap0.100 of stt 5001",
          "remove network of stt 5001", "add network of stt 5003",
          "add port tap0.100 of stt 5003", "add remote 192.0.2.2 of stt 5003",
          "add remote 192.0.2.3 of stt 5003", "add static 02:00:00:00:00:01 of stt 5003"]),
    ],
)  # fmt: skip
def test_only_what_changed_is_touched(old: str, new: str, taken: list[str]) -> None:
    changed = WHOLE.replace(old, new)
    assert changed != WHOLE
    assert steps(WHOLE, changed) == taken


def test_options_live_and_at_a_restart() -> None:
    new = WHOLE.replace("9472", "9473").replace("workers = 2", "workers = 3")
    plan = difference(config(WHOLE), config(new))
    assert (plan.steps, plan.options, plan.restart) == ((), ("metrics",), ("workers",))


def test_setup_is_the_difference_to_nothing() -> None:
    whole = config(WHOLE)
    empty = dataclasses.replace(whole, network=())
    assert setup(whole).steps == difference(empty, whole).steps


def test_steps_undo_each_other() -> None:
    def done(state: dict[object, object], plan: tuple[Step, ...]) -> dict[object, object]:
        for step in plan:
            name = (step.network, type(step.part), describe(step.part))
            if step.verb == "remove":
                assert state.pop(name) == step.part
            else:
                assert (step.verb == "add") == (name not in state)
                state[name] = step.part
        return state

    whole = config(WHOLE)
    new = config(WHOLE.replace("learn = true", "learn = false").replace("ttl = 8", "ttl = 9"))
    steps = difference(whole, new).steps
    before = done({}, setup(whole).steps)
    after = done(dict(before), steps)
    assert after != before
    assert done(dict(after), tuple(step.inverse for step in reversed(steps))) == before


# -- the page ----------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "configuration.rst"


def chapter(title: str) -> str:
    """The text of a chapter of the page."""
    lines = PAGE.read_text().splitlines()
    start = lines.index(title)
    ends = [i for i in range(start + 3, len(lines)) if lines[i] and not lines[i].strip("-")]
    return "\n".join(lines[start : ends[0] - 1 if ends else None])


@pytest.mark.parametrize(
    ("title", "section"),
    [
        ("``[vtep]``", "vtep"),
        ("``[[network]]``", "network"),
        ("``remotes``", "network.remotes"),
        ("``[[network.port]]``", "network.port"),
        ("``[[network.static]]``", "network.static"),
        ("``[[network.neighbor]]``", "network.neighbor"),
    ],
)
def test_the_page_has_every_key(title: str, section: str) -> None:
    text = chapter(title)
    keys = set(SECTIONS[section].keys)
    assert keys == set(re.findall(r"^   \* - ``(\w+)``$", text, re.MULTILINE)) - {"remotes"}
    for key, entry in SECTIONS[section].keys.items():
        row = text.partition(f"   * - ``{key}``\n")[2].partition("   * - ")[0]
        if entry.default is REQUIRED:
            assert "required" in row, key
        elif entry.default not in (None, ""):
            shown = str(entry.default).lower().removesuffix(".0")
            assert shown in row, key


def test_the_page_has_every_option() -> None:
    rows = set(re.findall(r"^   \* - ``(\w+)``$", chapter("Options of tunnels"), re.MULTILINE))
    assert rows == {name for names in TUNNEL_OPTIONS.values() for name in names}


def test_the_example_of_the_page_is_in_order(tmp_path: Path) -> None:
    block = PAGE.read_text().partition(":name: configuration-example\n")[2]
    lines = [line for line in block.partition("\n``")[0].splitlines() if line.strip()]
    file = tmp_path / "overlay.toml"
    file.write_text("\n".join(line.removeprefix("   ") for line in lines))
    result = run("run", file, "--check")
    assert result.output == f"{file}: 2 networks, 3 ports: in order\n"
    assert result.exit_code == 0


def test_check_names_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "overlay.toml"
    file.write_text("[vtep]\nlocal = 1\nworker = 2\n")
    result = run("run", file, "--check")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"overlay: {file}:2: vtep.local: got 1, expected an IP address or an interface name",
        f"overlay: {file}:3: vtep.worker: is no key; did you mean workers?",
    ]
    missing = run("run", tmp_path / "none", "--check")
    assert (missing.exit_code, missing.stderr) == (
        2,
        f"overlay: {tmp_path / 'none'}: No such file or directory\n",
    )


def test_every_section_is_reached() -> None:
    named = {name for name in SECTIONS if name}
    reached = {
        f"{name}.{inner}".strip(".")
        for name, section in SECTIONS.items()
        for inner in section.tables
    }
    assert named == reached

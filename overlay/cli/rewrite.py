"""``overlay rewrite``: a capture of tunnel packets to one of the packets as rules say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
import numpy as np

from overlay import PROTOCOLS, ConfigError, Status
from overlay.io.pcap import Burst, CaptureWriter
from overlay.rewrite import Rewriter, profile_for
from overlay.rule import Rule, load_rules, rule_of

from .option import ID, JSON, STRICT, port_options, profile_option, wrong
from .stream import Output, Reading, Tally, open_input
from .value import Number

F = TypeVar("F", bound=Callable[..., Any])

#: Bytes before a packet in a capture that are free: its record's header lies there.
_FREE = 16

#: Of the options' parameters, since IN is a "source" too.
_PREFIX = "rule_"

_METAVARS = {
    "key": "N|LOW-HIGH", "vlan": "VID|none", "set_vlan": "VID|none",
    "set_source_port": "PORT|LOW-HIGH|entropy", "set_dscp": "N|inherit", "set_ecn": "N|rfc6040",
}  # fmt: skip


def _helps() -> dict[str, str]:
    """What the class says of each field, in one line."""
    text = re.sub(r"``\"?|\"?``", "", " ".join((Rule.__doc__ or "").split()))
    found = re.findall(r":param (\w+): (.*?)\.?(?= :param | What it sets|$)", text)
    return {name: words[:1].upper() + words[1:] + "." for name, words in found}


def _rule_options(function: F) -> F:
    """The options that make one rule, by the fields of the class."""
    helps = _helps()
    for field in reversed(dataclasses.fields(Rule)):
        name = field.name
        flag = "--" + name.replace("_", "-")
        extra: dict[str, Any] = {"default": None, "help": helps.get(name, "")}
        if name == "protocol":
            extra |= {"multiple": True, "type": click.Choice(list(PROTOCOLS))}
        elif name == "key":
            extra["metavar"] = _METAVARS[name]
            function = click.option(*ID, _PREFIX + name, **extra)(function)
            continue
        elif name == "to":
            extra["type"] = click.Choice(list(PROTOCOLS))
        elif name == "map_key":
            extra |= {"multiple": True, "metavar": "OLD:NEW"}
        elif name == "tunnel":
            flag, extra["multiple"], extra["metavar"] = "--tunnel-field", True, "NAME=VALUE"
            extra["help"] = "With --to: a further field of the new tunnel, such as checksum=false."
        elif name in _METAVARS:
            extra["metavar"] = _METAVARS[name]
        function = click.option(flag, _PREFIX + name, **extra)(function)
    return function


def _value(text: str) -> Any:
    """A field's value, as it is written on the command line."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return int(text, 0)
    except ValueError:
        return text


def _pairs(option: str, given: tuple[str, ...], mark: str) -> dict[str, str]:
    pairs = {}
    for text in given:
        left, found, right = text.partition(mark)
        if not found:
            raise click.UsageError(f"{option} {text}: expected two parts with {mark!r} between")
        pairs[left] = right
    return pairs


def _rule(given: dict[str, Any]) -> Rule | None:
    """The rule of these options; None where none was given."""
    table = {
        name.removeprefix(_PREFIX): value
        for name, value in given.items()
        if value not in (None, ())
    }
    if "map_key" in table:
        table["map_key"] = _pairs("--map-key", table["map_key"], ":")
    if "tunnel" in table:
        fields = _pairs("--tunnel-field", table["tunnel"], "=")
        table["tunnel"] = {name.replace("-", "_"): _value(v) for name, v in fields.items()}
    if not table:
        return None
    try:
        return rule_of(table)
    except ConfigError as error:
        raise wrong(error) from None


class _Work:
    """Takes bursts of packets and writes what the rules make of them."""

    def __init__(self, rewriter: Rewriter, writer: CaptureWriter, tally: Tally) -> None:
        self._rewriter = rewriter
        self._writer = writer
        self._tally = tally

    def take(self, burst: Burst) -> None:
        batch, tally = burst.batch, self._tally
        tally.read += batch.count
        tally.bytes_read += int(batch.wire.sum(dtype=np.int64))
        batch.base[:] -= np.minimum(batch.base, np.uint64(_FREE))
        out = self._rewriter.rewrite(batch, burst.timestamps)
        times, interface = self._writer.times(burst), burst.interface
        tally.bytes_written += int(out.wire[out.status == Status.OK].sum(dtype=np.int64))
        if out is batch:
            tally.wrote += self._writer.write_in_place(batch, times, interface)
        else:
            times, interface = times[out.origin], interface[out.origin]
            tally.wrote += self._writer.write_all(out, times, interface)

    def finish(self) -> None:
        self._rewriter.finish()
        stats, tally = self._rewriter.stats, self._tally
        tally.drops.update(stats.refused)
        if stats.incomplete:
            tally.drops[Status.STT_INCOMPLETE] += stats.incomplete
        tally.facts |= {"rewritten": stats.rewritten, "unchanged": stats.unchanged}
        if len(stats.rules) > 1:
            tally.facts |= {f"by_rule_{n}": count for n, count in enumerate(stats.rules, 1)}
        if stats.segments:
            tally.facts["stt_segments"] = stats.segments
            tally.facts["stt_frames_reassembled"] = stats.frames


@click.command("rewrite")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option(
    "--rules", metavar="FILE",
    help="Rules, a table [[rule]] each in TOML, instead of the options that make one.",
)  # fmt: skip
@_rule_options
@click.option(
    "--mtu", type=Number(), default=0,
    help="IP MTU for packets that --to rebuilds: STT is segmented, larger others are refused.",
)  # fmt: skip
@click.option(
    "--checksums", type=click.Choice(["fix", "keep"]), default="fix", show_default=True,
    help="Outer checksums of packets that a rule is for: made right, or wrong ones left wrong.",
)  # fmt: skip
@click.option(
    "--drop-refused", is_flag=True,
    help="Leave out packets that a rule could not be applied to; else they stay as they are.",
)  # fmt: skip
@profile_option("lenient")
@port_options
@JSON
@STRICT
def command(
    source: str, target: str, rules: str | None, mtu: int, checksums: Any, drop_refused: bool,
    profile: str, ports: dict[str, int], as_json: bool, strict: bool, **given: Any,
) -> int:  # fmt: skip
    """Rewrite the outer headers of the tunnel packets of IN; write all packets to OUT.

    overlay rewrite in.pcap out.pcap --id 5001 --set-key 6001
    --set-source 198.51.100.0/24

    Packets that no rule is for stay byte for byte.  Timestamps, lengths on the wire,
    link types and (pcapng) interfaces are kept.
    """
    one = _rule(given)
    if (rules is None) == (one is None):
        raise click.UsageError("give --rules FILE, or the options of one rule")
    chosen = load_rules(rules) if rules is not None else (one,) if one is not None else ()
    try:
        rewriter = Rewriter(
            chosen, profile=profile_for(chosen, profile, **ports), mtu=mtu,
            checksums=checksums, refused="drop" if drop_refused else "keep",
        )  # fmt: skip
    except ConfigError as error:
        raise wrong(error) from None
    tally = Tally("packets", "written", ("read", ""))
    with open_input(source) as capture:
        reading = Reading(capture)
        output = Output(target, capture, links=True)
        with output.writer as writer:
            work = _Work(rewriter, writer, tally)
            for burst in reading:
                output.describe()
                work.take(burst)
            output.describe()
            work.finish()
    tally.show(as_json, to_stderr=target == "-")
    return reading.end(strict and tally.refused > 0)

"""``overlay bench``: what tunnels cost, in bytes by arithmetic and in time by measurement."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from typing import Any

import click

import overlay
from overlay import PROTOCOLS
from overlay.cost import (
    SIZES,
    Change,
    Contender,
    Row,
    Setting,
    compare,
    contenders,
    describe,
    measure,
    overhead,
)
from overlay.cost.contender import CAPACITY
from overlay.cost.meter import Task
from overlay.cost.overhead import tunnel_for
from overlay.io.naming import naming

from . import DONE
from .stream import counted, print_table

ROUNDS = 5


def _settings(protocols: tuple[str, ...], families: list[int], checksums: list[bool | None],
              gso: bool) -> list[Setting]:  # fmt: skip
    """What is measured, in the order of the table."""
    found = []
    for name in protocols:
        for family in families:
            for wanted in checksums:
                tunnel = tunnel_for(PROTOCOLS[name], family, wanted)
                sums = bool(getattr(tunnel, "checksum", name == "stt"))
                ways = [(size, way) for size in SIZES for way in ("batch", "single")]
                for size, way in [*ways, *([("1500", "gso")] if gso else [])]:
                    found.append(Setting(name, family, sums, size, way))
    return list(dict.fromkeys(found))


def _tasks(settings: list[Setting], entrants: list[Contender]) -> Iterator[list[Task]]:
    for setting in settings:
        tasks = [task for entrant in entrants for task in entrant.tasks(setting)]
        if tasks:
            yield tasks


def _read(path: str) -> tuple[list[Row], dict[str, str]]:
    """A file of results."""
    with naming(path), open(path, encoding="utf-8") as file:
        try:
            said = json.load(file)
            return [Row.of(row) for row in said["results"]], said["machine"]
        except RecursionError:
            raise click.UsageError(f"{path}: not results of overlay bench: too deep") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise click.UsageError(f"{path}: not results of overlay bench: {error!r}") from None


@click.command("bench")
@click.option(
    "--json", "file", is_flag=False, flag_value="-",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write machine-readable results to this file, or to standard output.",
)  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw the rates to a PNG file.")
@click.option("--html", "web", type=click.Path(dir_okay=False), help="Write a page with all.")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 3600), default=6.0, show_default=True,
    help="How long to measure, about.",
)  # fmt: skip
@click.option(
    "--protocol", "protocols", type=click.Choice(list(PROTOCOLS)), multiple=True,
    help="Only these protocols.",
)  # fmt: skip
@click.option(
    "--ip", "family", type=click.Choice(["4", "6", "both"]), default="4", show_default=True,
    help="IP version of the underlay.",
)  # fmt: skip
@click.option(
    "--checksum", type=click.Choice(["default", "on", "off", "both"]), default="default",
    show_default=True, help="The outer checksum over the payload, of protocols that have it.",
)  # fmt: skip
@click.option("--gso", is_flag=True, help="Also frames that stand for many packets of TCP.")
@click.option("--peers/--no-peers", default=True, help="Time scapy and dpkt too, if they are here.")
@click.option("--kernel", is_flag=True, help="Also Linux's VXLAN, between two namespaces.")
@click.option(
    "--overhead", "arithmetic", is_flag=True, help="Bytes and packets a second alone: no timing."
)
@click.option(
    "--link", type=click.FloatRange(0.001, 10000), default=10.0, show_default=True,
    help="Gbit/s of the link that packets a second are for.",
)  # fmt: skip
@click.option(
    "--compare", "files", type=(click.Path(), click.Path()), metavar="OLD NEW",
    help="Compare two JSON files instead: what changed beyond the noise.",
)  # fmt: skip
def command(
    file: str | None, plot: str | None, web: str | None, seconds: float,
    protocols: tuple[str, ...], family: str, checksum: str, gso: bool, peers: bool, kernel: bool,
    arithmetic: bool, link: float, files: tuple[str, str] | None,
) -> int:  # fmt: skip
    """Measure encap and decap, and say what a tunnel's bytes cost.

    A figure is the median over rounds in which all contenders took turns, with the
    quartiles around it. Percent is the overhead's part of the packet.
    """
    if files is not None:
        return _compare(*files, file)
    if math.isnan(seconds):
        raise click.BadParameter("nan is not a number of seconds", param_hint="--seconds")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install 'overlay-dataplane[plot]'")
    families = [4, 6] if family == "both" else [int(family)]
    wanted: dict[str, list[bool | None]] = {
        "default": [None], "on": [True], "off": [False], "both": [False, True],
    }  # fmt: skip
    settings = _settings(protocols or tuple(PROTOCOLS), families, wanted[checksum], gso)
    costs = [_cost(setting, link) for setting in settings if setting.way == "batch"]
    rows: list[Row] = []
    machine = describe()
    if not arithmetic:
        groups = list(_tasks(settings, contenders(peers=peers)))
        each = seconds / (ROUNDS * sum(map(len, groups)))
        with counted(len(groups)) as step:
            rows = measure(groups, each, ROUNDS, step)
        if kernel:
            from overlay.cost.kernel import path

            rows += [path(max(0.2, seconds / 20), family=version) for version in families]
    if file is not None:
        said = {
            "version": overlay.__version__, "batch": CAPACITY, "rounds": ROUNDS,
            "machine": machine, "link_gbps": link, "overhead": costs,
            "results": [row.as_dict() for row in rows],
        }  # fmt: skip
        with naming("<stdout>" if file == "-" else file), click.open_file(file, "w") as out:
            out.write(json.dumps(said) + "\n")
    if web is not None:
        from overlay.cost.page import page

        with naming(web), open(web, "w", encoding="utf-8") as out:
            out.write(page(rows, machine))
    if plot is not None:
        with naming(plot):
            _draw(rows, plot)
    if file != "-":
        _print(costs, rows, link)
    return DONE


def _cost(setting: Setting, link: float) -> dict[str, Any]:
    """The arithmetic of one line."""
    tunnel = tunnel_for(PROTOCOLS[setting.protocol], setting.family, setting.checksum)
    said = overhead(tunnel, SIZES[setting.size], link * 1e9)
    return {
        "protocol": setting.protocol, "family": setting.family, "checksum": setting.checksum,
        "size": setting.size, "overhead_bytes": said.bytes, "overhead_percent": said.percent,
        "bare_pps": said.bare_pps, "packets_per_second": said.packets_per_second,
        "goodput_gbps": said.goodput / 1e9,
    }  # fmt: skip


def _short(number: float) -> str:
    """Three digits, and no exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _print(costs: list[dict[str, Any]], rows: list[Row], link: float) -> None:
    from rich.table import Table

    table = Table(title=f"bytes, and packets a second of {link:g} Gbit/s", title_justify="left")
    for column in ("protocol", "IP", "checksum", "size"):
        table.add_column(column)
    for column in ("overhead", "Mpps bare", "Mpps", "Gbit/s of frames"):
        table.add_column(column, justify="right")
    for cost in costs:
        table.add_row(
            cost["protocol"], str(cost["family"]), "yes" if cost["checksum"] else "no",
            cost["size"], f"{cost['overhead_bytes']} = {cost['overhead_percent']:.1f} %",
            _short(cost["bare_pps"] / 1e6), _short(cost["packets_per_second"] / 1e6),
            _short(cost["goodput_gbps"]), end_section=cost["size"] == "IMIX",
        )  # fmt: skip
    print_table(table)
    if not rows:
        return
    table = Table(title="time", title_justify="left")
    for column in ("setting", "contender", "verb"):
        table.add_column(column)
    for column in ("ns a packet", "spread", "Mpps", "Gbit/s", "x reference"):
        table.add_column(column, justify="right")
    slow = {
        (row.setting, verb): figure.ns
        for row in rows if row.contender == "overlay reference"
        for verb, figure in row.figures.items()
    }  # fmt: skip
    last = None
    for row in rows:
        if last not in (None, row.setting):
            table.add_section()
        for verb, figure in row.figures.items():
            base = slow.get((row.setting, verb))
            table.add_row(
                "" if row.setting == last else str(row.setting), row.contender, verb,
                _short(figure.ns), f"{100 * figure.spread:.1f} %", _short(figure.mpps),
                _short(8 * row.mean_size / figure.ns), _short(base / figure.ns) if base else "",
            )  # fmt: skip
            last = row.setting
    print_table(table)


def _compare(before: str, after: str, file: str | None) -> int:
    """Say what changed beyond the noise between two files."""
    (old, machine), (new, other) = _read(before), _read(after)
    changes = compare(old, new)
    if not changes:
        raise click.UsageError(f"{before} and {after} have no setting in common")
    differs = {
        name: (machine.get(name), value)
        for name, value in other.items()
        if name not in ("time", "load") and machine.get(name) != value
    }
    if file is not None:
        text = json.dumps({
            "machine": differs,
            "changes": [_change(change) for change in changes],
        })  # fmt: skip
        with naming("<stdout>" if file == "-" else file), click.open_file(file, "w") as out:
            out.write(text + "\n")
        if file == "-":
            return DONE
    _print_changes(changes, differs)
    return DONE


def _change(change: Change) -> dict[str, Any]:
    return {
        "contender": change.contender, "setting": str(change.setting), "verb": change.verb,
        "before_ns": change.before, "after_ns": change.after, "ratio": change.ratio,
        "noise": change.noise, "matters": change.matters,
    }  # fmt: skip


def _print_changes(changes: list[Change], differs: dict[str, tuple[str | None, str]]) -> None:
    from rich.table import Table

    for name, (was, now) in differs.items():
        click.echo(f"not the same {name}: {was} and {now}")
    beyond = [change for change in changes if change.matters]
    click.echo(f"{len(beyond)} of {len(changes)} figures changed beyond the noise")
    if not beyond:
        return
    table = Table()
    for column in ("setting", "contender", "verb"):
        table.add_column(column)
    for column in ("ns before", "ns after", "change", "noise"):
        table.add_column(column, justify="right")
    for change in beyond:
        table.add_row(
            str(change.setting), change.contender, change.verb, _short(change.before),
            _short(change.after), f"{100 * (change.ratio - 1):+.1f} %",
            f"{100 * change.noise:.1f} %",
        )  # fmt: skip
    print_table(table)


def _kind(row: Row) -> tuple[str, str, int, bool]:
    return row.contender, row.setting.protocol, row.setting.family, row.setting.checksum


def _draw(rows: list[Row], path: str) -> None:
    """Bars of Mpps with their quartiles: a panel for each way and verb, a group for each size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(12, 8), sharey=True)
    names = [f"overlay {overlay.backend}", "overlay reference"]
    kinds = list(dict.fromkeys(_kind(row) for row in rows if row.contender in names))
    width = 0.8 / max(1, len(kinds))
    for line, way in enumerate(("batch", "single")):
        for column, verb in enumerate(("encap", "decap")):
            panel = panels[line][column]
            for number, kind in enumerate(kinds):
                found = {
                    r.setting.size: r.figures[verb] for r in rows
                    if _kind(r) == kind and r.setting.way == way
                }  # fmt: skip
                rates = [found[size].mpps for size in SIZES]
                below = [found[size].mpps - 1e3 / found[size].high for size in SIZES]
                above = [1e3 / found[size].low - found[size].mpps for size in SIZES]
                places = [size + (number + 0.5) * width - 0.4 for size in range(len(SIZES))]
                label = f"{kind[1]}, {kind[0].partition(' ')[2]}"
                panel.bar(places, rates, width, yerr=(below, above), label=label)
            panel.set(title=f"{verb}, {way}", yscale="log", ylabel="Mpps")
            panel.set_xticks(range(len(SIZES)), list(SIZES))
            panel.grid(axis="y", alpha=0.3)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="lower center", ncols=6)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, format="png", dpi=120)
    pyplot.close(figure)

"""``overlay conform``: what a device under test does, requirement by requirement."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from overlay import ConfigError
from overlay.conformance import CodecDevice, Device, Report, Result, Setting, Verdict, run, select
from overlay.conformance.case import ALL

from . import DONE, REFUSED
from .lab import enter_namespace
from .option import ID, JSON, profile_option, strict
from .stream import counted, print_table
from .value import Number

if TYPE_CHECKING:
    from rich.table import Table

_COLORS = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.UNJUDGED: "yellow"}


def _protocols(device: str, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Those to try: the chosen ones, or all that the device speaks."""
    if device == "interfaces":
        if not chosen:
            raise click.UsageError("--device interfaces needs --protocol")
        return chosen
    spoken: tuple[str, ...] = ALL
    if device != "codec":
        from overlay.conformance.namespaces import NAMESPACE_DEVICES

        spoken = NAMESPACE_DEVICES[device]
    for one in chosen:
        if one not in spoken:
            raise click.UsageError(f"--device {device} speaks {', '.join(spoken)}, not {one}")
    return tuple(one for one in spoken if not chosen or one in chosen)


@contextlib.contextmanager
def _opened(
    name: str, setting: Setting, profile: str, underlay: str | None, tenant: str | None, ask: bool
) -> Iterator[Device]:
    """The device in this setting, until it is done with."""
    if name == "codec":
        yield CodecDevice(setting, profile=profile)
        return
    if name != "interfaces":
        from overlay.conformance.namespaces import NamespaceDevice

        with NamespaceDevice(name, setting, profile=profile) as device:
            yield device
        return
    from overlay.conformance.interfaces import InterfaceDevice, resolved
    from overlay.lab.wire import Wire

    with Wire(None, underlay or "") as outside, Wire(None, tenant or "") as inside:
        box = InterfaceDevice(setting, outside, inside)
        if ask:
            box.setting = resolved(box)
        yield box


@click.command("conform")
@click.option(
    "--device", "name", required=True,
    type=click.Choice(["codec", "overlay", "kernel", "ovs", "interfaces"]),
    help="What is tried: this package's codec or VTEP, the kernel, Open vSwitch, or a box"
    " between two interfaces.",
)  # fmt: skip
@click.option(
    "--protocol", "protocols", multiple=True, type=click.Choice(list(ALL)),
    help="Only this protocol; repeatable.",
)  # fmt: skip
@click.option(
    "--ip", "family", type=click.Choice(["4", "6", "both"]), default="both", show_default=True,
    help="IP version of the underlay.",
)  # fmt: skip
@click.option(
    "--only",
    multiple=True,
    metavar="REQUIREMENT",
    help="Only this requirement; repeatable.",
)
@profile_option(of="the devices codec and overlay")
@click.option("--underlay", metavar="IF", help="Interface on the box's underlay side.")
@click.option("--tenant", metavar="IF", help="Interface on the box's tenant side.")
@click.option(*ID, "key", type=Number(), help="VNI, VSID, Context ID or key.  [default: 5001]")
@click.option("--port", type=Number(), help="UDP or TCP port, if not the protocol's own.")
@click.option("--local", help="The tester's address, which must be on no interface.")
@click.option("--remote", help="The box's underlay address.")
@click.option("--local-mac", help="The tester's MAC address on the underlay.")
@click.option("--remote-mac", help="The box's; it is asked for if not given.")
@click.option(
    "--wait", type=click.FloatRange(0.01, 60), default=2.0, show_default=True,
    help="Seconds within which a live device passes a packet.",
)  # fmt: skip
@click.option("--junit", type=click.Path(dir_okay=False), help="Write JUnit's XML to this file.")
@JSON
@strict("if something that must be is not")
def command(
    name: str, protocols: tuple[str, ...], family: str, only: tuple[str, ...], profile: str,
    underlay: str | None, tenant: str | None, key: int | None, port: int | None,
    local: str | None, remote: str | None, local_mac: str | None, remote_mac: str | None,
    wait: float, junit: str | None, as_json: bool, strict: bool,
) -> int:  # fmt: skip
    """Try the numbered requirements of the protocols on a device.

    Packets go in on its underlay and its tenant side, and what comes out is looked at.
    The kernel, Open vSwitch and overlay are started in network namespaces of their own;
    "interfaces" is a real box, cabled to two interfaces of this host.
    """
    if name == "interfaces":
        if None in (underlay, tenant, local, remote):
            raise click.UsageError(
                "--device interfaces needs --underlay, --tenant, --local, --remote"
            )
    elif (underlay, tenant, local, remote, local_mac, remote_mac) != (None,) * 6:
        raise click.UsageError("interfaces and addresses go with --device interfaces")
    spoken = _protocols(name, protocols)
    families = (4, 6) if family == "both" else (int(family),)
    given = {
        "key": key, "port": port, "tester": local, "device": remote, "tester_mac": local_mac,
        "device_mac": remote_mac,
    }  # fmt: skip
    changes = {field: value for field, value in given.items() if value is not None}
    if remote is not None:
        families = (6,) if ":" in remote else (4,)
    try:
        plan = [
            (one, f, cases) for one in spoken for f in families if (cases := select(one, f, only))
        ]
    except ConfigError as error:
        raise click.UsageError(
            f"--{error.field} {error.value}: expected {error.expected}"
        ) from None
    if not plan:
        raise click.UsageError("--only names no case of these protocols")
    if name not in ("codec", "interfaces"):
        enter_namespace()
    results: list[Result] = []
    version = ""
    with counted(sum(len(cases) for _, _, cases in plan)) as done:
        for protocol, version_of_ip, cases in plan:
            setting = Setting.of(protocol, version_of_ip, **changes)
            with _opened(name, setting, profile, underlay, tenant, remote_mac is None) as device:
                version = device.version
                for result in run(device, cases, wait=wait):
                    results.append(result)
                    done(f"{protocol} {result.case.id}")
    report = Report(name, version, results)
    if junit is not None:
        with _whole(junit) as file:
            file.write(report.junit())
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        _show(report)
    return REFUSED if strict and not report.conforms else DONE


@contextlib.contextmanager
def _whole(path: str) -> Iterator[Any]:
    """A file that is not left behind if it could not be written whole."""
    import os

    with open(path, "wb") as file:
        try:
            yield file
            file.flush()
        except BaseException:
            os.unlink(path)
            raise


def _show(report: Report) -> None:
    """The report for people: a table a protocol, then what did not pass."""
    date = report.time.strftime("%Y-%m-%d")
    click.echo(" ".join(word for word in (report.device, report.version, date) if word))
    for protocol in dict.fromkeys(one.protocol for one in report.results):
        results = [one for one in report.results if one.protocol == protocol]
        click.echo(f"\n{protocol}\n")
        print_table(_table(results))
        for verdict in (Verdict.FAILED, Verdict.UNJUDGED):
            _reasons([one for one in results if one.verdict is verdict], verdict)
    counts = report.counts
    judged = counts["passed"] + counts["failed"]
    must = sum(one.nonconforming for one in report.results)
    click.echo(
        f"\n{counts['passed']} of {judged} passed, {must} failed that must not,"
        f" {counts['failed'] - must} that should not, {counts['not judged']} not judged"
    )


def _table(results: list[Result]) -> Table:
    from rich.table import Table

    families = sorted({one.family for one in results})
    table = Table(box=None, pad_edge=False)
    for title in ("id", "level", *(f"IPv{f}" for f in families), "requirement", "clause"):
        table.add_column(title, no_wrap=title.startswith("IPv"))
    for case in dict.fromkeys(one.case for one in results):
        marks = []
        for family in families:
            found = [one for one in results if one.case is case and one.family == family]
            verdict = found[0].verdict if found else None
            marks.append(f"[{_COLORS[verdict]}]{verdict.value}[/]" if verdict else "")
        table.add_row(case.id, case.level, *marks, case.requirement, case.clause)
    return table


def _reasons(results: list[Result], verdict: Verdict) -> None:
    """Why these did not pass, a line each; over IPv4 and IPv6 alike is said once."""
    said: dict[tuple[str, str, str], list[int]] = {}
    for one in results:
        said.setdefault((one.case.id, one.case.level, one.detail), []).append(one.family)
    if said:
        click.echo(f"\n{verdict.value}:")
    for (name, level, detail), families in said.items():
        where = " and ".join(f"IPv{family}" for family in families)
        click.echo(f"  {name} ({level}, {where}): {detail}")

"""``overlay run``: the VTEP that a configuration describes, until it is told to stop."""

from __future__ import annotations

import sys
from importlib import resources

import click

from overlay.service.config import InvalidConfig
from overlay.service.log import LEVELS


@click.command("run")
@click.argument("config", metavar="CONFIG.toml", required=False, type=click.Path())
@click.option("--check", is_flag=True, help="Only read CONFIG.toml and say what is wrong with it.")
@click.option("--print-unit", is_flag=True, help="Print a systemd unit for this command.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Lines of key=value pairs, or of JSON.",
)  # fmt: skip
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
def command(
    config: str | None, check: bool, print_unit: bool, log_format: str, log_level: str
) -> int:
    """Run a VTEP: networks, ports, remotes and all else as CONFIG.toml says.

    SIGHUP loads CONFIG.toml again and changes what changed; SIGTERM drains and
    ends.  See it with "overlay top", change it with "overlay ctl".
    """
    from . import DONE, FAILED, fail

    if print_unit:
        click.echo(
            resources.files("overlay").joinpath("data/overlay.service").read_text(), nl=False
        )
        return DONE
    if config is None:
        raise click.UsageError("Missing argument 'CONFIG.toml'.")
    from overlay.service.reader import load

    try:
        found = load(config)
    except InvalidConfig as error:
        for line in error.lines:
            fail(line)
        return FAILED
    if check:
        ports = sum(len(network.port) for network in found.network)
        click.echo(f"{config}: {len(found.network)} networks, {ports} ports: in order")
        return DONE
    if sys.platform != "linux":
        raise click.UsageError("a live VTEP needs Linux")
    from overlay.service.daemon import Daemon
    from overlay.service.log import configure

    configure(log_format, log_level)
    return Daemon(config, found).run()

"""``overlay completion``: the shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: overlay completion bash > ~/.local/share/bash-completion/completions/overlay
    """
    from . import cli

    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(cli, {}, "overlay", "_OVERLAY_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())

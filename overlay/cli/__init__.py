"""The command line.

Lives here: the command's frame: subcommands by name, and how everything ends:
one line on stderr and an exit status.  What must not: any subcommand's work.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

import overlay

__all__ = ["cli", "main"]

#: Exit statuses.
DONE, REFUSED, FAILED = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 130, 141  # what shells say of the signals, 128 and the number

# The subcommands, in the order of the help; each is a module's ``command``.
_COMMANDS = (
    "demo", "encap", "decap", "rewrite", "show", "mtu", "check", "diagnose", "generate", "meter",
    "bench", "listen", "extcap", "run", "ctl", "top", "lab", "conform",
    "completion",
)  # fmt: skip


class _CarriedError(Exception):
    """Holds what click would report in its own way, until click is left."""


@contextlib.contextmanager
def _past_click() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        raise _CarriedError(error) from error


class _Overlay(click.Group):
    """Loads a subcommand when it is asked for; reports every end the same way."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{cmd_name}", __name__).command
        return command

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _past_click():  # --help and --version print here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _past_click():
            return super().invoke(ctx)

    def main(self, *args: Any, **extra: Any) -> Any:
        run: Any = super().main
        if not extra.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **extra)
        try:
            if sys.stdout is None:  # every command prints
                raise click.UsageError("standard output is closed")
            result = run(*args, standalone_mode=False, **extra)
            sys.stdout.flush()
            status = result if isinstance(result, int) else DONE
        except _CarriedError as carried:
            status = _end(carried.args[0])
        except (click.ClickException, overlay.OverlayError, OSError, MemoryError) as error:
            status = _end(error)
        sys.exit(status)


def _end(error: BaseException) -> int:
    """Say what went wrong; the exit status."""
    _settle(sys.stdout)
    if isinstance(error, BrokenPipeError):  # the reader has seen enough
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        fail("interrupted")
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        fail(error.format_message())
    elif isinstance(error, OSError):  # every other file has a name
        name = "<stdout>" if error.filename is None else error.filename
        fail(f"{name}: {error.strerror or error}")
    else:
        fail("out of memory" if isinstance(error, MemoryError) else str(error))
    return FAILED


def _settle(stream: Any) -> None:
    """Flush; what cannot be written goes nowhere, so that Python ends without a word of it."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (AttributeError, ValueError):  # it is closed
        pass


def fail(message: str) -> None:
    """Say what went wrong, in one line on stderr, if that takes it."""
    with contextlib.suppress(OSError):
        click.echo("overlay: " + " ".join(message.split()), err=True)
    _settle(sys.stderr)


@click.group(
    cls=_Overlay,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(
    overlay.__version__, message=f"overlay {overlay.__version__} ({overlay.backend} backend)"
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Encapsulate and decapsulate L2 frames: VXLAN, NVGRE, STT, GENEVE, GRE and more.

    IN and OUT are pcap or pcapng files, "-" is standard input or output.
    Exit status: 0 done; 1 packets were refused and --strict was given; 2 wrong
    usage or unreadable input.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """The entry point of the ``overlay`` command."""
    gc.freeze()  # what is loaded by now stays
    # An exit unwinds, so that no file is left half written.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup does
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    cli(prog_name="overlay")

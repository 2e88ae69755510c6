"""The command line.

Lives here: the command's frame: subcommands by name, and how everything ends:
one line on stderr and an exit status.  What must not: any subcommand's work.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from typing import Any

import click

import overlay

__all__ = ["cli", "main"]

#: Exit statuses.
DONE, REFUSED, FAILED = 0, 1, 2
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # what shells say of the signals

# The subcommands, in the order of the help; each is a module's ``command``.
_COMMANDS = ("demo", "encap", "decap", "show", "mtu", "check", "bench", "completion")


class _EndError(Exception):
    """Ends the command: what to say, and the exit status."""


class _Overlay(click.Group):
    """Loads a subcommand when it is asked for; reports every end the same way."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{cmd_name}", __name__).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        # What click would report in its own way is carried past it.
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise _EndError("interrupted", INTERRUPTED) from None
        except BrokenPipeError:  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise _EndError("", BROKEN_PIPE) from None
        return result

    def main(self, *args: Any, **extra: Any) -> Any:
        alone = extra.pop("standalone_mode", True)
        run: Any = super().main
        if not alone:
            return run(*args, standalone_mode=False, **extra)
        try:
            result = run(*args, standalone_mode=False, **extra)
        except _EndError as end:
            if end.args[0]:
                fail(end.args[0])
            sys.exit(end.args[1])
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(DONE)
        except click.ClickException as error:
            fail(error.format_message())
            sys.exit(FAILED)
        except overlay.OverlayError as error:
            fail(str(error))
            sys.exit(FAILED)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            fail(f"{place}{error.strerror or error}")
            sys.exit(FAILED)
        except MemoryError:
            fail("out of memory")
            sys.exit(FAILED)
        sys.exit(result if isinstance(result, int) else DONE)


def fail(message: str) -> None:
    """Say what went wrong, in one line on stderr."""
    click.echo("overlay: " + " ".join(message.split()), err=True)


@click.group(cls=_Overlay, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    overlay.__version__, message=f"overlay {overlay.__version__} ({overlay.backend} backend)"
)
def cli() -> None:
    """Encapsulate and decapsulate L2 frames: VXLAN, NVGRE and STT.

    IN and OUT are pcap or pcapng files, "-" is standard input or output.
    Exit status: 0 done; 1 packets were refused and --strict was given; 2 wrong
    usage or unreadable input.
    """


def main() -> None:
    """The entry point of the ``overlay`` command."""
    gc.freeze()  # what is loaded by now stays
    # An exit unwinds, so that no file is left half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    cli(prog_name="overlay")

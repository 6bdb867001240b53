"""`occ`: its commands, and what becomes of their errors.

A command's module is loaded when it is called: what shows help or makes a key pair need not wait for Celery.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from occ import __version__
from occ.cli.exit_codes import EXIT_CODES, ExitCode
from occ.cli.failure import told

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem  # loaded when a shell asks, which is seldom

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "connect": "Connect a merchant's store.",
        "status": "Show how connections stand.",
        "explain": "Tell what happened to a connection, why, and who acts.",
        "timeline": "List what happened to a connection, or draw it.",
        "watch": "Show what is under way or in trouble, as it changes.",
        "events": "Print the events that other systems read; go on with --follow.",
        "recheck": "Look at connections now, not when they are due.",
        "repair": "Look at connections now, and put back what somebody kept undoing.",
        "replay": "Ask stores to send again what they gave up delivering to us.",
        "disconnect": "Take our callback URL out of stores, and forget their keys.",
        "refused": "List requests that were refused.",
        "undelivered": "List events that the receiver refused until they were set aside.",
        "quarantine": "List messages that were set aside; return or discard them.",
        "health": "Check that work is done on time.",
        "metrics": "Serve metrics for Prometheus, until stopped.",
        "keygen": "Make a sealing key pair.",
        "seal": "Seal an application key, as producers do.",
        "producer-settings": "Print what a producer needs, as variables for a shell.",
        "rotate-keys": "Seal all application keys anew for the newest sealing key.",
        "completion": "Print a script that completes commands and options in a shell.",
        "demo": "Connect merchants of a simulated Oracle Commerce Cloud, and explain how each one ended.",
        "up": "Keep everything running that connecting stores needs: server, workers, beat, Flower and metrics.",
        "simulate": "Start a simulated Oracle Commerce, to try things out.",
    }
)
"""In the order of the help: name (also the module's) and the first line of its own help."""

COMPLETION = "_OCC_COMPLETE"
"""Set by the scripts of `occ completion` when they ask what may follow."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for, and lists all of them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command `command` of the module of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"occ.cli.{cmd_name.replace('-', '_')}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Names of commands, without importing any, and options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Names and summaries."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    "occ",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
    no_args_is_help=True,
)
@click.version_option(__version__, message="occ-connect %(version)s")
def occ() -> None:
    """Connect merchants' Oracle Commerce stores, and see how their connections stand.

    Settings are environment variables named OCC_...; without OCC_REDIS_URL the set-up that `occ up` keeps running is
    used. With --json, standard output holds JSON only, failures included: {"error": {"field", "code", "remedy"}}.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        _show_whatever_the_encoding_lacks()
        if question := os.environ.get(COMPLETION):
            from click.shell_completion import shell_complete  # noqa: PLC0415

            return shell_complete(occ, {}, "occ", COMPLETION, question)
        with occ.make_context("occ", list(arguments)) as context:
            occ.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            click.echo(err=True)  # the terminal has shown ^C
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _stop_writing()
    except Exception as error:  # noqa: BLE001 - the last resort; a traceback may quote what must not be seen
        failure = told(error, arguments)
        try:
            failure.show(as_json="--json" in arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            _stop_writing()
        return failure.exit_code
    return ExitCode.OK


def _show_whatever_the_encoding_lacks() -> None:
    """A character this terminal cannot show becomes a question mark, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _stop_writing() -> int:
    """Whoever read our output has gone; the interpreter's last flush must not complain about it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return ExitCode.OUTPUT_CLOSED

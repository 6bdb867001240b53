"""`occ`: its commands, and how it ends.

A command's module is imported when the command runs: help and key generation do not wait for Celery.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from occ import __version__
from occ.cli.failure import EXIT_CODES, ExitCode, describe_failure

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem  # loaded only when a shell asks

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "connect": ("cli.act", "Connect a merchant's store."),
        "status": ("cli.show", "Show the status of connections."),
        "explain": ("cli.show", "Explain a connection: what happened, why, and who must act."),
        "timeline": ("cli.show", "List what happened to a connection, or draw it."),
        "watch": ("cli.watch", "Watch connections that are in progress or in trouble."),
        "events": ("cli.events", "Print the events that other systems receive."),
        "revalidate": ("cli.act", "Re-validate connections now instead of when they are due."),
        "repair": ("cli.act", "Re-validate connections now and repair contested slots."),
        "replay": ("cli.act", "Request the events that stores failed to deliver."),
        "disconnect": ("cli.act", "Remove our callback URL from stores and forget their keys."),
        "request": ("cli.request", "Show what became of a request."),
        "refused": ("cli.operate", "List refused requests."),
        "undelivered": ("cli.operate", "List events that could not be delivered to the receiver."),
        "quarantine": ("cli.operate", "List messages in quarantine; requeue or discard them."),
        "health": ("cli.health", "Check that work is done on time."),
        "metrics": ("cli.operate", "Serve metrics for Prometheus until stopped."),
        "keygen": ("cli.keys", "Generate a sealing key pair."),
        "seal": ("cli.keys", "Seal an application key, as producers do."),
        "producer-settings": ("cli.keys", "Print the settings a producer needs, as shell variables."),
        "rotate-keys": ("cli.keys", "Re-seal all application keys with the newest sealing key."),
        "completion": ("cli.operate", "Print a shell completion script."),
        "demo": ("demo.demo", "Connect merchants of a simulated Oracle Commerce Cloud, and explain how each ended."),
        "celery": ("cli.with_celery", "Run a command of Celery's on what runs here."),
        "up": ("local.up", "Run everything here: server, workers, beat, Flower and metrics."),
        "simulate": ("cli.operate", "Start a simulated Oracle Commerce Cloud."),
    }
)
"""In the order of the help: the module of each command below `occ`, and the first line of the command's own help."""

_FORMER_NAMES = {"recheck": "revalidate"}
"""Still understood, but not listed."""

COMPLETION = "_OCC_COMPLETE"
"""Set by the scripts of `occ completion` to request completions."""


class LazyGroup(click.Group):
    """Imports a command when it is called; lists all commands without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """A command is the function of its name in its module."""
        name = _FORMER_NAMES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module, _ = COMMANDS[name]
        command: click.Command = getattr(import_module(f"occ.{module}"), name.replace("-", "_"))
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Names of commands and options, without importing any command."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Names and summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    "occ",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
    no_args_is_help=True,
)
@click.version_option(__version__, message="occ-connect %(version)s")
def occ() -> None:
    """Connect merchants' Oracle Commerce stores and keep them connected.

    Settings are environment variables named OCC_...; without OCC_REDIS_URL, `occ` uses the server that `occ up`
    started. With --json, standard output holds JSON only, errors included: {"error": {"field", "code", "remedy"}}.
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
        failure = describe_failure(error, arguments)
        try:
            failure.show(as_json="--json" in arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            _stop_writing()
        return failure.exit_code
    return ExitCode.OK


def _show_whatever_the_encoding_lacks() -> None:
    """A character that this terminal cannot show becomes a question mark, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _stop_writing() -> int:
    """The reader of our output has gone; the interpreter's last flush must not complain about it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return ExitCode.OUTPUT_CLOSED

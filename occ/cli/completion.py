"""`occ completion`."""

import click
from click.shell_completion import get_completion_class

from occ.cli.command_line import COMPLETION
from occ.cli.exit_codes import ExitCode
from occ.cli.failure import CommandError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, /, *, shell: str) -> None:
    """Print a script that completes commands and options in a shell.

    It completes a program named `occ`: put one on the PATH, such as a file with the two lines `#!/bin/sh` and
    `exec /path/to/occ-connect/run occ "$@"`. Then, for bash: eval "$(occ completion bash)".
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(ExitCode.REFUSED, "unknown_shell", "this release of click does not know the shell")
    click.echo(kind(context.find_root().command, {}, "occ", COMPLETION).source())

"""`occ celery`: any command of Celery's, with the settings of what runs here."""

import os
import sys

import click

from integrations.settings import load_keyless_settings
from occ.cli.set_up import become, environment_of_what_runs, see_that_servers_can_be_used
from occ.local.processes import PROJECT


@click.command(
    "celery",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARGUMENTS]...")
def celery(*, arguments: tuple[str, ...]) -> None:
    """Run a command of Celery's on what runs here.

    Everything after `celery` is Celery's own: `occ celery inspect active`, `occ celery worker -Q occ.quarantine`,
    `occ celery --help`. It gets the app and the settings: those of `occ up`, or those of your environment.
    """
    variables = environment_of_what_runs()
    if arguments and not {"-h", "--help", "--version"} & set(arguments):
        see_that_servers_can_be_used(load_keyless_settings(variables))
    become(variables)
    os.chdir(PROJECT)  # where celeryconfig.py and flowerconfig.py lie
    command = [sys.executable, "-m", "celery", "-A", "tasks", *arguments]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the process becomes Celery's: its signals, its exit code

"""`occ simulate`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from tasks.cli.exit_codes import ExitCode
from tasks.cli.failure import CommandError

_PROJECT = Path(__file__).resolve().parents[2]
_MODULE = "tests.simulator"


@click.command(
    "simulate",
    add_help_option=False,  # the simulator explains its options itself
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Start a simulated Oracle Commerce, to try things out.

    All options are the simulator's own; `occ simulate --help` lists them.
    """
    sys.path.insert(0, str(_PROJECT))
    try:
        found = find_spec(f"{_MODULE}.__main__") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise CommandError(
            ExitCode.REFUSED, "no_simulator", "this installation comes without its tests, hence no simulator"
        )
    path = os.pathsep.join(filter(None, [str(_PROJECT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", _MODULE, *options], environment)  # noqa: S606 - our own program

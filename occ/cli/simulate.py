"""`occ simulate`."""

import os
import sys

import click


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
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "occ.simulator", *options])  # noqa: S606 - our own program

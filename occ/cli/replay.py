"""`occ replay`."""

from typing import Any

import click

from occ.cli.bulk_options import Order, bulk_options
from occ.cli.bulk_run import run_bulk
from occ.cli.parameters import Duration
from occ.cli.replaying import Replaying


@click.command("replay")
@bulk_options
@click.option(
    "--since",
    type=Duration(),
    metavar="DURATION",
    help="How far back, such as 6h or 3d; else since each slot was in order for the last time before its repair.",
)
@click.pass_context
def command(context: click.Context, /, *, since: float | None, **given: Any) -> None:
    """Ask stores to send again what they gave up delivering to us.

    Only what no other receiver misses is asked for, and only what a store tried to deliver can be: while our callback
    URL is out of a slot, it tries nothing. Can be repeated: what is queued already is not asked for again.
    """
    # In the title, so that the journal of one time is not taken for another's.
    title = "replay" if since is None else f"replay --since {since:g}s"
    context.exit(run_bulk(title, Order.of(given), lambda installation: Replaying(installation, since)))

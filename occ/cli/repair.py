"""`occ repair`."""

from typing import Any

import click

from occ.cli.bulk_options import Order, bulk_options
from occ.cli.bulk_run import run_bulk
from occ.cli.wishes import Wishing, looking


@click.command("repair")
@bulk_options
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Look at connections now, and put back what somebody kept undoing.

    For when people have decided: slots that are contested are written again, and what else had changed in a slot (a
    secret, a header) is accepted as it is now. Otherwise as `occ recheck`, which mends what drifted as well.
    """
    wish = looking(repair=True)
    context.exit(run_bulk("repair", Order.of(given), lambda installation: Wishing(installation, wish)))

"""`occ recheck`."""

from typing import Any

import click

from occ.cli.bulk_options import Order, bulk_options
from occ.cli.bulk_run import run_bulk
from occ.cli.wishes import Wishing, looking


@click.command("recheck")
@bulk_options
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Look at connections now, not when they are due.

    Key, shipping methods and slots are looked at as in every re-validation, and what is ours to mend is mended. The
    looks are asked for durably and done by the workers; `occ status` shows what comes of them.
    """
    wish = looking(repair=False)
    context.exit(run_bulk("recheck", Order.of(given), lambda installation: Wishing(installation, wish)))

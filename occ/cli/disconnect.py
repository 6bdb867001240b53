"""`occ disconnect`."""

import sys
from typing import Any

import click

from integrations.errors import RequestRefused
from occ.cli.bulk_options import Order, bulk_options
from occ.cli.bulk_run import run_bulk
from occ.cli.wishes import Wishing, leaving


@click.command("disconnect")
@bulk_options
@click.option(
    "--forget",
    type=click.Choice(["now", "end"]),
    default="end",
    show_default=True,
    help="Forget the key when our callback URLs are out of the store, or now: then they stay in it.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def command(context: click.Context, /, *, forget: str, yes: bool, **given: Any) -> None:
    """Take our callback URL out of stores, and forget their keys.

    Nothing but our callback URL is taken out. What a store refuses is left behind, told, and tried again for some days.
    On a terminal it asks first; elsewhere it does nothing without --yes.
    """
    title = "disconnect --forget now" if forget == "now" else "disconnect"
    wish, order = leaving(forget), Order.of(given)
    can_ask = sys.stdin.isatty() and not order.is_from_standard_input
    if not (yes or order.dry_run or can_ask):
        raise RequestRefused("yes", "not_confirmed", "nobody can be asked here; say --yes, or --dry-run to see who")
    context.exit(
        run_bulk(
            title,
            order,
            lambda installation: Wishing(installation, wish),
            confirm=None if yes else lambda who: _ask(who, forget),
        )
    )


def _ask(who: str, forget: str) -> None:
    what = "The key is forgotten at once, and our callback URLs stay in the store" if forget == "now" else ""
    click.echo(what or "Our callback URL is taken out of the store, and then the key is forgotten", err=True)
    click.confirm(f"Disconnect {who}?", abort=True, err=True)

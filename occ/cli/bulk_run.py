"""A bulk command from its options to its exit code: the installation, the merchants, the journal, what is shown."""

import sys
from collections.abc import Callable

import click

from integrations.settings import load_settings
from occ.cli.bulk import Bulk, Deed
from occ.cli.bulk_options import Order
from occ.cli.bulk_view import bulk_view, summary
from occ.cli.exit_codes import ExitCode
from occ.cli.installation import Installation
from occ.cli.journal import Journal
from occ.cli.rate import Rate
from occ.cli.selection import Chosen, Selection
from occ.cli.set_up import environment_of_what_runs, records_of

_EXAMPLES = 3


def run_bulk(
    title: str,
    order: Order,
    make: Callable[[Installation], Deed],
    *,
    confirm: Callable[[str], None] | None = None,
) -> ExitCode:
    """Do what `make` makes for the merchants of an order.

    `title`: the command with the options that change what it does; journals of others are refused. `confirm` is called
    with who is meant, in words, before anything is done; it raises what stops it.
    """
    variables = environment_of_what_runs()
    settings = load_settings(variables)
    with (
        records_of(settings) as records,
        Installation(settings, variables) as installation,
        Journal(order.resume, title, read_only=order.dry_run) as journal,
    ):
        selection = order.selection(records)
        if confirm is not None and not order.dry_run:
            _confirm(selection, journal, confirm)
        with bulk_view(title, selection.total, as_json=order.as_json, dry_run=order.dry_run) as view:
            bulk = Bulk(make(installation), Rate(order.rate), journal, view)
            try:
                if order.dry_run:
                    bulk.plan(selection)
                else:
                    bulk.run(selection, lambda: selection.examined)
            except BaseException:
                _tell_of_the_end(order)
                raise
    if not order.is_single or order.dry_run:
        sys.stdout.flush()
        click.echo(summary(title, bulk.tally) + (" (dry run: nothing was done)" if order.dry_run else ""), err=True)
    return bulk.exit_code


def _confirm(selection: Selection, journal: Journal, confirm: Callable[[str], None]) -> None:
    """Counts first: what is confirmed is that many, not a pattern."""
    examples: list[str] = []
    count = 0
    for entry in selection:
        if isinstance(entry, Chosen) and not journal.is_done(entry.merchant_id):
            count += 1
            if count <= _EXAMPLES:
                examples.append(entry.merchant_id)
    if count:
        more = f" and {count - len(examples)} more" if count > len(examples) else ""
        confirm(", ".join(examples) + more)


def _tell_of_the_end(order: Order) -> None:
    if not order.is_single and not order.dry_run:
        again = "the same command again skips what was done" if order.resume else "--resume FILE would remember how far"
        click.echo(f"Stopped before the end; {again}.", err=True)

"""`occ explain`."""

import click

from integrations.oracle_commerce.connection import Connection
from integrations.oracle_commerce.records import Records
from tasks.cli.explanation import explained
from tasks.cli.failure import unknown_merchant
from tasks.cli.parameters import recorded
from tasks.cli.set_up import records_of, settings_of_what_runs

_MOST_LEFT = 20


@click.command("explain")
@recorded
def command(*, merchant: str) -> None:
    """Tell what happened to a connection, why, and who acts.

    Also of a store that a merchant has left, as MERCHANT@RUN.
    """
    with records_of(settings_of_what_runs()) as records:
        snapshot = records.load(merchant)
        timeline = records.timeline(merchant)
        left = _stores_left(records, merchant)
    if snapshot.connection is None:
        raise unknown_merchant(merchant)
    for line in explained(snapshot.connection, snapshot.now(), timeline, left):
        click.echo(line)


def _stores_left(records: Records, merchant_id: str) -> list[Connection]:
    """The records of stores that a merchant has left, the latest last."""
    begins_so = f"{merchant_id}@"
    ids = [found for found in records.merchant_ids(after=begins_so, count=_MOST_LEFT) if found.startswith(begins_so)]
    snapshots = records.load_many(ids) if ids else []
    left = [snapshot.connection for snapshot in snapshots if snapshot.connection]
    return sorted(left, key=lambda connection: connection.run)

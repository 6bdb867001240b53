"""`occ explain`."""

import json

import click

from integrations.connections.record import Connection
from integrations.connections.records import Records
from integrations.connections.status import status_object
from occ.cli.explanation import explained
from occ.cli.failure import unknown_merchant
from occ.cli.parameters import json_option, recorded
from occ.cli.set_up import records_of, settings_of_what_runs

_MOST_LEFT = 20


@click.command("explain")
@recorded
@json_option
def command(*, merchant: str, as_json: bool) -> None:
    """Tell what happened to a connection, why, and who acts.

    Also of a store that a merchant has left, as MERCHANT@RUN. With --json it is the connection's status object, with
    the whole text in it as `explanation`.
    """
    with records_of(settings_of_what_runs()) as records:
        snapshot = records.load(merchant)
        timeline = records.timeline(merchant)
        left = _stores_left(records, merchant)
    if snapshot.connection is None:
        raise unknown_merchant(merchant)
    text = "\n".join(explained(snapshot.connection, snapshot.now(), timeline, left))
    click.echo(json.dumps(status_object(snapshot.connection) | {"explanation": text}) if as_json else text)


def _stores_left(records: Records, merchant_id: str) -> list[Connection]:
    """The records of stores that a merchant has left, the latest last."""
    begins_so = f"{merchant_id}@"
    ids = [found for found in records.merchant_ids(after=begins_so, count=_MOST_LEFT) if found.startswith(begins_so)]
    snapshots = records.load_many(ids) if ids else []
    left = [snapshot.connection for snapshot in snapshots if snapshot.connection]
    return sorted(left, key=lambda connection: connection.run)

"""`occ explain`."""

import click

from tasks.cli.explanation import explained
from tasks.cli.failure import unknown_merchant
from tasks.cli.parameters import merchant
from tasks.cli.set_up import records_of, settings_of_what_runs


@click.command("explain")
@merchant
def command(*, merchant: str) -> None:
    """Tell what happened to a connection, why, and who acts."""
    with records_of(settings_of_what_runs()) as records:
        snapshot = records.load(merchant)
    if snapshot.connection is None:
        raise unknown_merchant(merchant)
    for line in explained(snapshot.connection, snapshot.now()):
        click.echo(line)

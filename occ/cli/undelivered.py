"""`occ undelivered`."""

import json

import click

from integrations.connections.status import iso
from integrations.deliveries.deliveries import undelivered
from occ.cli.parameters import json_option, last_option
from occ.cli.plain_text import one_line
from occ.cli.set_up import records_of, settings_of_what_runs


@click.command("undelivered")
@last_option(100)
@json_option
def command(*, last: int, as_json: bool) -> None:
    """List events that the receiver refused until they were set aside.

    Newest first: when, for which merchant, the answer, the event. With --json each is one JSON object on a line of its
    own. Later events of the merchant were delivered meanwhile, so nothing sends these again: hand them to whoever runs
    the receiver.
    """
    with records_of(settings_of_what_runs()) as records:
        entries = undelivered(records.redis, count=last)
    for at, fields in entries:
        told = {"at": iso(at), **fields}
        if as_json:
            click.echo(json.dumps(told))
        else:
            shown = (iso(at), fields["lane"] or "(no merchant)", fields["reason"], fields["event"])
            click.echo("  ".join(one_line(str(part)) for part in shown))
    if not entries and not as_json:
        click.echo("No event was set aside.", err=True)

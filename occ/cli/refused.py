"""`occ refused`."""

import json

import click

from integrations.connections.status import iso
from occ.cli.parameters import json_option, last_option
from occ.cli.plain_text import one_line
from occ.cli.set_up import records_of, settings_of_what_runs


@click.command("refused")
@last_option(100)
@json_option
def command(*, last: int, as_json: bool) -> None:
    """List requests that were refused.

    Newest first: when, through which door, for which merchant if that could be told, and what was wrong. Nothing of
    their content is kept. With --json each is one JSON object on a line of its own.
    """
    with records_of(settings_of_what_runs()) as records:
        refusals = records.refusals(count=last)
    for refusal in ({**entry, "at": iso(entry["at"])} for entry in refusals):
        if as_json:
            click.echo(json.dumps(refusal))
        else:
            who = refusal["merchant_id"] or "(no merchant id)"
            what = f"{refusal['field']}: {refusal['code']}: {refusal['remedy']}"
            click.echo("  ".join(map(one_line, (str(refusal["at"]), refusal["door"], who, what))))
    if not refusals and not as_json:
        click.echo("No request was refused.", err=True)

"""`occ quarantine`."""

import json
from dataclasses import asdict

import click
import redis

from integrations import quarantine
from integrations.settings import Settings
from tasks.cli.parameters import json_option, last_option
from tasks.cli.plain_text import one_line
from tasks.cli.set_up import records_of, settings_of_what_runs


@click.command("quarantine")
@click.option("--requeue", "requeued", metavar="ID", help="Return this message to the queue it came from.")
@click.option("--discard", "discarded", metavar="ID", help="Take this message out for good.")
@last_option(100)
@json_option
def command(*, requeued: str | None, discarded: str | None, last: int, as_json: bool) -> None:
    """List messages that were set aside; return or discard them.

    Whatever lands in a queue and is no task we can run is kept here instead of ending workers. What may hold a key in
    the clear is listed without its content, and cannot be returned. With --json each is one JSON object on a line.
    """
    settings = settings_of_what_runs()
    with records_of(settings), _broker(settings) as client:
        if requeued:
            entries = [quarantine.requeue(client, requeued)]
        elif discarded:
            entries = [quarantine.discard(client, discarded)]
        else:
            entries = quarantine.list_quarantine(client, last)
    for entry in entries:
        if as_json:
            click.echo(json.dumps(asdict(entry)))
        else:
            size = f"{entry.size} bytes"
            click.echo("  ".join(one_line(str(part)) for part in (entry.id, entry.at, entry.queue, size, entry.reason)))
    if not entries and not as_json:
        click.echo("No message was set aside.", err=True)


def _broker(settings: Settings) -> redis.Redis:
    """The server that holds the queues, as redis-py names it."""
    url = settings.broker_url
    if url.startswith("redis+socket://"):
        url = settings.redis_url if settings.redis_url.startswith("unix:") else url.replace("redis+socket", "unix", 1)
    return redis.Redis.from_url(url)

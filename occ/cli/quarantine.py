"""`occ quarantine`."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

import click
import redis

from integrations import quarantine
from integrations.errors import RequestRefused
from integrations.quarantine import QuarantinedMessage
from integrations.sealing.redaction import redact_text
from integrations.settings import KeylessSettings
from occ.cli.parameters import json_option, last_option
from occ.cli.plain_text import one_line
from occ.cli.set_up import records_of, settings_of_what_runs


@click.command("quarantine")
@click.option("--requeue", "requeued", metavar="ID", help="Return this message to the queue it came from.")
@click.option("--discard", "discarded", metavar="ID", help="Take this message out for good.")
@last_option(100)
@json_option
def command(*, requeued: str | None, discarded: str | None, last: int, as_json: bool) -> None:
    """List messages that were set aside; return or discard them.

    Whatever lands in a queue and is no task we can run is kept here instead of ending workers. What may hold a key in
    the clear is listed without its content, and cannot be returned. With --json each is one JSON object on a line.
    Requests of the inbox that we keep stumbling over are here too; sealed keys are shown by their key id only.
    """
    settings = settings_of_what_runs()
    with records_of(settings), contextlib.ExitStack() as open_clients:
        clients = [open_clients.enter_context(redis.Redis.from_url(url)) for url in _servers(settings)]
        if requeued:
            entries = [_where_it_is(clients, lambda client: quarantine.requeue(client, requeued))]
        elif discarded:
            entries = [_where_it_is(clients, lambda client: quarantine.discard(client, discarded))]
        else:
            entries = sorted(_listed(clients, last), key=lambda entry: entry.at, reverse=True)[:last]
    for entry in entries:
        if as_json:
            click.echo(json.dumps(asdict(entry) | {"message": entry.message and redact_text(entry.message)}))
        else:
            size = f"{entry.size} bytes"
            click.echo("  ".join(one_line(str(part)) for part in (entry.id, entry.at, entry.queue, size, entry.reason)))
    if not entries and not as_json:
        click.echo("No message was set aside.", err=True)


def _listed(clients: list[redis.Redis], last: int) -> Iterator[QuarantinedMessage]:
    """Each once, though two URLs may name the same server."""
    seen: dict[str, QuarantinedMessage] = {}
    for client in clients:
        seen |= {entry.id: entry for entry in quarantine.list_quarantine(client, last)}
    yield from seen.values()


def _where_it_is(clients: list[redis.Redis], act: Callable[[redis.Redis], QuarantinedMessage]) -> QuarantinedMessage:
    """Act on the server that has the message. Raises RequestRefused if none has."""
    for client in clients[:-1]:
        try:
            return act(client)
        except RequestRefused as refused:
            if refused.code != "not_in_quarantine":
                raise
    return act(clients[-1])


def _servers(settings: KeylessSettings) -> list[str]:
    """Where messages are set aside: beside the queues, and beside the inbox. Mostly that is one."""
    return list(dict.fromkeys([_broker_url(settings), settings.redis_url]))


def _broker_url(settings: KeylessSettings) -> str:
    """The server that holds the queues, as redis-py names it."""
    url = settings.broker_url
    if url.startswith("redis+socket://"):
        url = settings.redis_url if settings.redis_url.startswith("unix:") else url.replace("redis+socket", "unix", 1)
    return url

"""`occ request`: what became of a request."""

import base64
import json
from collections.abc import Iterator
from typing import Any, cast

import click
import redis

from integrations.connections.known_request import REFUSED, SCHEDULED, TAKING, KnownRequest
from integrations.connections.records import Records
from integrations.connections.status import iso
from integrations.messages.quarantine import INBOX, list_quarantine
from integrations.messages.scheduled import REQUESTS as SCHEDULED_REQUESTS
from integrations.messages.scheduled import server_time
from integrations.server.client import client_of
from integrations.settings import KeylessSettings
from occ.cli.failure import CommandError, ExitCode
from occ.cli.options import json_option
from occ.cli.plain_text import ago, date_and_clock, from_now, one_line
from occ.cli.set_up import records_of, servers_of, settings_of_what_runs
from tasks.queues import BESIDE_QUEUES, FORGOTTEN, REQUESTS

WAITING, QUARANTINED = "waiting", "quarantined"
_PLACES = {
    "queue": "in the queue",
    "inbox": "in the inbox",
    "scheduled": "for its countdown or eta",
    "quarantine": "in quarantine",
}


@click.command("request")
@click.argument("request_id", metavar="ID")
@json_option
@click.pass_context
def request(context: click.Context, *, request_id: str, as_json: bool) -> None:
    """Show what became of a request.

    ID is the request_id that the producer chose. A refused request is also found by its inbox entry (what XADD
    answered) or its Celery message's id. Requests are remembered for a week, at most 100,000 of them. The exit code is
    1 if the request was refused or is in quarantine, and 4 if nothing is known of it.
    """
    settings = settings_of_what_runs()
    with records_of(settings) as records:
        known = records.request_ids.find(request_id)
        place = None if known is not None and known.outcome != SCHEDULED else _where_it_waits(request_id, settings)
        status = _status_of(known, records)
        now = server_time(records.redis)
    if known is None and place is None:
        raise CommandError(
            ExitCode.UNKNOWN_MERCHANT,
            "unknown_request",
            "nothing is known of this request: it never arrived, carried no request_id, or is more than a week old; "
            "`occ refused` lists refusals, `occ status MERCHANT` shows what was accepted",
            field="request_id",
        )
    outcome = known.outcome if known is not None else QUARANTINED if place == "quarantine" else WAITING
    if as_json:
        click.echo(json.dumps(_object(request_id, known, outcome, place, status)))
    else:
        for line in _sentences(known, place, status, now):
            click.echo(one_line(line))
    context.exit(ExitCode.NEEDS_ATTENTION if outcome in {REFUSED, QUARANTINED} else ExitCode.OK)


def _status_of(known: KnownRequest | None, records: Records) -> str | None:
    """The status of the connection it asked about, if it was accepted."""
    if known is None or known.merchant_id is None or known.outcome in {REFUSED, TAKING, SCHEDULED}:
        return None
    connection = records.load(known.merchant_id).connection
    return str(connection.status) if connection else None


def _where_it_waits(request_id: str, settings: KeylessSettings) -> str | None:
    """In which of the places that may hold a request this one is; None if in none."""
    for server in servers_of(settings):
        with client_of(server) as client:
            if "-" in request_id and request_id.replace("-", "", 1).isdecimal() and _is_in_inbox(client, request_id):
                return "inbox"
            for place, message in waiting_requests(client):
                if any(_named(text, request_id) for text in texts_of(message)):
                    return place
    return None


def _is_in_inbox(client: Any, entry_id: str) -> bool:
    return bool(client.xrange(INBOX, min=entry_id, max=entry_id, count=1))


def _named(text: str, request_id: str) -> bool:
    """Whether JSON, at any depth, holds this request_id."""
    if "request_id" not in text:
        return False
    try:
        return any(value == request_id for value in _ids_in(json.loads(text)))
    except (ValueError, RecursionError):
        return False


def _ids_in(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield value.get("request_id")
        for part in value.values():
            yield from _ids_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from _ids_in(part)


def _object(
    request_id: str, known: KnownRequest | None, outcome: str, place: str | None, status: str | None
) -> dict[str, object]:
    """What --json prints."""
    about = known or KnownRequest("", "")
    return {
        "request_id": request_id if known is None else known.request_id or None,
        "outcome": outcome,
        "waiting_in": place,
        "request": about.request or None,
        "door": about.door or None,
        "reference": about.reference or None,
        "merchant_id": about.merchant_id,
        "run": about.run,
        "connection": status,
        "at": iso(about.at) if known is not None else None,
        "due_at": iso(about.due_at),
        "field": about.field,
        "code": about.code,
        "remedy": about.remedy,
    }


def _sentences(known: KnownRequest | None, place: str | None, status: str | None, now: float) -> Iterator[str]:
    if known is None:
        yield f"It waits {_PLACES[str(place)]}."
        if place == "quarantine":
            yield "`occ quarantine` shows why, and requeues or discards it."
        return
    who = f" for {known.merchant_id}" if known.merchant_id else ""
    what = f"The {'report' if known.request == 'heard' else f'{known.request} request'}{who}"
    when = f"{ago(known.at, max(now, known.at))}, {date_and_clock(known.at)}"
    if known.outcome == REFUSED:
        yield f"{what} was refused {when}."
        yield f"{known.field}: {known.remedy} [{known.code}]"
        yield "Correct it and send it again; it may keep its request_id."
    elif known.outcome == SCHEDULED:
        due = f" {from_now(known.due_at, now)}" if known.due_at else ""
        yield f"{what} was received {when}, and is due{due}."
        if place != "scheduled":
            yield "It no longer waits: it is due now, or a newer request of its kind for the merchant took its place."
    elif known.outcome == TAKING:
        yield f"{what} is being taken on since {when}."
        yield "If that does not end, its worker was lost: another takes it on, or send it again."
    else:
        yield f"{what} was {_ANSWERS.get(known.outcome, known.outcome.replace('_', ' '))} {when}."
        if status is not None:
            yield f"The connection is {status.replace('_', ' ')}; `occ explain {known.merchant_id}` shows more."


_ANSWERS = {
    "unchanged": "accepted and changed nothing (the store is connected with this key already)",
    "under_way": "accepted and changed nothing (that was under way already)",
    "disconnected": "accepted and changed nothing (the merchant was disconnected already)",
}


def last_refusal(records: Records, merchant_id: str) -> str:
    """What was wrong with the last refused request for a merchant, in words; "" if there was none lately."""
    for refusal in records.refusals(count=1000):
        if refusal["merchant_id"] == merchant_id:
            when = ago(refusal["at"], max(server_time(records.redis), refusal["at"]))
            return f"its last request was refused {when}: {refusal['field']}: {refusal['remedy']} [{refusal['code']}]"
    return ""


# --- Requests that wait ----------------------------------------------------------------------------------------------


_PAGE = 500
_UNACKNOWLEDGED = "unacked"  # Kombu's hash of messages that workers have taken and not finished


def waiting_requests(client: redis.Redis) -> Iterator[tuple[str, bytes]]:
    """What may hold a request: where ("quarantine", "queue", "scheduled" or "inbox"), and its bytes.

    In the order in which a request travels: one that moves on meanwhile is found in its next place, or in the record.
    """
    yield from (("quarantine", entry.content() or b"") for entry in list_quarantine(client))
    for name in (*FORGOTTEN, *BESIDE_QUEUES, REQUESTS):
        yield from (("queue", message) for message in cast("list[bytes]", client.lrange(name, 0, -1)))
    yield from (("queue", message) for _, message in client.hscan_iter(_UNACKNOWLEDGED, count=_PAGE))
    yield from (("scheduled", message) for _, message in client.hscan_iter(SCHEDULED_REQUESTS, count=_PAGE))
    after = "-"
    while page := cast("list[Any]", client.xrange(INBOX, min=after, count=_PAGE)):
        yield from (("inbox", value) for _, fields in page for value in fields.values())
        after = f"({page[-1][0].decode()}"


def texts_of(message: bytes) -> Iterator[str]:
    """The message as it came; what its JSON says, however it is escaped; and the same of its body, if it has one."""
    yield message.decode(errors="replace")
    parsed = _parsed(message)
    if parsed is None:
        return
    yield json.dumps(parsed, ensure_ascii=False)
    envelope = parsed[0] if isinstance(parsed, list) and parsed else parsed
    body = envelope.get("body") if isinstance(envelope, dict) else None
    if isinstance(body, str):
        try:
            yield from texts_of(base64.b64decode(body))
        except ValueError:
            yield from texts_of(body.encode(errors="replace"))


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None

"""What `occ rotate-keys` does: re-seal application keys, and check whether anything still needs an old sealing key."""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import click
import redis

from integrations.connections.rotation import Progress, Rotation
from integrations.connections.sealed_keys import SealedKeys
from integrations.errors import RequestRefused
from integrations.quarantine import INBOX, list_quarantine
from integrations.sealing.keyring import Keyring
from integrations.settings import Settings, load_settings
from occ.cli.failure import CommandError, ExitCode
from occ.cli.plain_text import counted
from occ.cli.set_up import environment_of_what_runs, records_of, servers_of
from tasks.queues import REQUESTS

_REPORT_EVERY = 1.0  # seconds
_PAGE = 500
_UNACKNOWLEDGED = "unacked"  # Kombu's hash of messages that workers have taken and not finished


def rotate(*, as_json: bool) -> None:
    """Re-seal everything; exits with NEEDS_ATTENTION if some application keys cannot be opened."""
    settings = load_settings(environment_of_what_runs())
    with _rotation(settings) as rotation:
        progress = rotation.run(_reporter())
        needed = rotation.needed()
    newest = settings.sealing_keys[0].key_id
    if as_json:
        summary = {
            "newest_key_id": newest,
            "looked_at": progress.looked_at,
            "resealed": progress.resealed,
            "unreadable": len(progress.unreadable),
            "needed": _by_key_id(needed),
        }
        click.echo(json.dumps(summary))
    else:
        records = f"{needed[newest]} of {counted(needed.total(), 'record', 'records')}"
        click.echo(f"{progress.resealed} re-sealed; {records} sealed with the newest key {newest}.")
    if progress.unreadable:
        who = ", ".join(progress.named())
        click.echo(f"{len(progress.unreadable)} cannot be opened by any active sealing key: {who}", err=True)
        raise click.exceptions.Exit(ExitCode.NEEDS_ATTENTION)


def retire(key_id: str, *, as_json: bool) -> None:
    """Check that no waiting request and no record needs a key. Raises RequestRefused or CommandError if one does."""
    settings = load_settings(environment_of_what_runs())
    if key_id == settings.sealing_keys[0].key_id:
        raise RequestRefused("key_id", "newest_key", "it is the newest sealing key; add a newer key ahead of it first")
    with _rotation(settings) as rotation:
        # Requests before records: one that is accepted meanwhile is found in its record.
        waiting = requests_that_need(key_id, settings)
        needed = rotation.needed()
        if waiting:
            raise _in_use(_about_requests(waiting))
        if needed[key_id]:
            records = f"{needed[key_id]} of {counted(needed.total(), 'record', 'records')}"
            raise _in_use(f"{records} still sealed with this key; `occ rotate-keys` re-seals them")
        # Not what was typed: a private key in its place would be repeated.
        known = next((key.key_id for key in settings.sealing_keys if key.key_id == key_id), None)
        if known is None:
            remedy = "OCC_SEALING_KEYS has no key with that id, and nothing needs it"
            raise RequestRefused("key_id", "unknown_key_id", remedy)
        rotation.confirm()
    if as_json:
        click.echo(json.dumps({"retired_key_id": known, "needed": _by_key_id(needed)}))
    else:
        click.echo(f"Nothing needs key {known}. Remove it from OCC_SEALING_KEYS and restart the workers.")


def requests_that_need(key_id: str, settings: Settings) -> Counter[str]:
    """How many requests sealed with this key wait, by where: "inbox", "queue", "quarantine"."""
    needle = f"sealed.v1.{key_id}.".encode()
    found: Counter[str] = Counter()
    for url in servers_of(settings):
        with redis.Redis.from_url(url) as client:
            for where, message in _waiting(client):
                found[where] += _contains(message, needle)
    return +found


def _waiting(client: redis.Redis) -> Iterator[tuple[str, bytes]]:
    """What may hold a request: where, and its bytes."""
    after = "-"
    while page := cast("list[Any]", client.xrange(INBOX, min=after, count=_PAGE)):
        yield from (("inbox", value) for _, fields in page for value in fields.values())
        after = f"({page[-1][0].decode()}"
    yield from (("queue", message) for message in cast("list[bytes]", client.lrange(REQUESTS, 0, -1)))
    yield from (("queue", message) for _, message in client.hscan_iter(_UNACKNOWLEDGED, count=_PAGE))
    yield from (("quarantine", entry.content() or b"") for entry in list_quarantine(client))


def _contains(message: bytes, needle: bytes) -> bool:
    """In the message itself, or in its body as Celery packs it."""
    if needle in message:
        return True
    try:
        parsed = json.loads(message)
        body = (parsed[0] if isinstance(parsed, list) else parsed)["body"]
        return needle in base64.b64decode(body)
    except (ValueError, TypeError, KeyError, IndexError):
        return False


def _about_requests(waiting: Counter[str]) -> str:
    where = ", ".join(f"{place} {count}" for place, count in waiting.items())
    need = counted(waiting.total(), "waiting request needs", "waiting requests need")
    remedy = "let the workers take them, then rotate again"
    if waiting["quarantine"]:
        remedy += "; requeue or discard those in `occ quarantine`"
    return f"{need} this key ({where}); {remedy}"


def _in_use(remedy: str) -> CommandError:
    return CommandError(ExitCode.REFUSED, "key_in_use", remedy, field="key_id")


@contextmanager
def _rotation(settings: Settings) -> Iterator[Rotation]:
    with records_of(settings) as records:
        yield Rotation(SealedKeys(records), Keyring(settings.sealing_keys))


def _reporter() -> Callable[[Progress], None]:
    """Progress on standard error, about once a second."""
    reported_at = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= _REPORT_EVERY:
            reported_at = time.monotonic()
            click.echo(f"{progress.looked_at} checked, {progress.resealed} re-sealed", err=True)

    return report


def _by_key_id(needed: Counter[str | None]) -> dict[str, int]:
    return {key_id or "": count for key_id, count in sorted(needed.items(), key=lambda entry: entry[0] or "")}

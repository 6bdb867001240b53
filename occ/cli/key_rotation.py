"""What `occ rotate-keys` does: re-seal application keys, and check whether anything still needs an old sealing key."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from integrations.connections.sealed_keys import Progress, Rotation, SealedKeys
from integrations.errors import RequestRefused
from integrations.sealing.keyring import Keyring
from integrations.server.client import client_of
from integrations.settings import Settings, load_settings
from occ.cli.failure import CommandError, ExitCode
from occ.cli.plain_text import counted
from occ.cli.request import texts_of, waiting_requests
from occ.cli.set_up import environment_of_what_runs, records_of, servers_of

_REPORT_EVERY = 1.0  # seconds


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
    """How many requests sealed with this key wait, by where: "inbox", "queue", "scheduled", "quarantine"."""
    needle = f"sealed.v1.{key_id}."
    found: Counter[str] = Counter()
    for server in servers_of(settings):
        with client_of(server) as client:
            # Twice: what goes back to a queue while this looks elsewhere is found by the second look.
            for _ in range(2):
                found |= Counter(where for where, message in waiting_requests(client) if _contains(message, needle))
    return found


def _contains(message: bytes, needle: str) -> bool:
    """In the message itself, in its JSON, or in its body as Celery packs it."""
    return any(needle in text for text in texts_of(message))


def _about_requests(waiting: Counter[str]) -> str:
    where = ", ".join(f"{place} {count}" for place, count in waiting.items())
    need = counted(waiting.total(), "waiting request needs", "waiting requests need")
    remedy = "let the workers take them, then rotate again"
    if waiting["scheduled"]:
        remedy += "; those that are scheduled are taken up when their countdown or eta ends"
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

"""`occ health`."""

import json

import click
import redis

from integrations.connections.records import Records
from integrations.deliveries.deliveries import receiver_state
from integrations.quarantine import INBOX, QUARANTINE
from integrations.server_safety import dangers_of
from integrations.settings import KeylessSettings
from occ.cli.exit_codes import ExitCode
from occ.cli.parameters import json_option
from occ.cli.set_up import become, environment_of_what_runs, records_of, settings_of_what_runs
from tasks.queues import QUARANTINE as QUARANTINE_LANE
from tasks.queues import QUEUES

_PATIENCE = 30.0  # seconds beyond a lease: by then a tick has handed out what a lost worker left


@click.command("health")
@click.option("--workers/--no-workers", "ask_workers", default=True, help="Whether to ask which workers answer.")
@json_option
@click.pass_context
def command(context: click.Context, *, ask_workers: bool, as_json: bool) -> None:
    """Tell whether work is done when it is due.

    The figure that counts is the age of the oldest overdue work: it grows when nobody takes work, whatever processes
    claim to be up. Ends with 1 when it is more than a lease and 30 seconds, or when the server may forget accepted work
    (older than 7.2, evicting, without an append-only file) and that is not allowed. A receiver of events that fails is
    shown, and is no reason to end with 1: nothing of ours would mend it.
    """
    settings = settings_of_what_runs()
    with records_of(settings) as records:
        facts = _facts(settings, records)
    facts["workers"] = _workers() if ask_workers else None
    age = facts["oldest_overdue_seconds"]
    in_time = not isinstance(age, float) or age <= settings.lease + _PATIENCE
    facts["healthy"] = in_time and (settings.allow_unsafe_server or not facts["server_dangers"])
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, value in facts.items():
            click.echo(f"{name.replace('_', ' '):<24}{'not asked' if value is None else _plain(value)}")
    context.exit(ExitCode.OK if facts["healthy"] else ExitCode.NEEDS_ATTENTION)


def _facts(settings: KeylessSettings, records: Records) -> dict[str, object]:
    overdue = records.overdue()
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as server:
        inbox = server.xlen(INBOX)
        with_broker = settings.broker_url == settings.redis_url or settings.redis_url.startswith("unix:")
        # A broker of its own is asked by its own tools: its URL may be one that only Celery understands.
        waiting = {name: server.llen(name) for name in (*QUEUES, QUARANTINE_LANE)} if with_broker else None
        set_aside = server.llen(QUARANTINE) if with_broker else None
        receiver = receiver_state(server)
        dangers = _dangers(server)
    return {
        "overdue": overdue.count,
        "oldest_overdue_seconds": round(overdue.oldest_age, 1),
        "inbox": inbox,
        "messages_waiting": waiting,
        "messages_in_quarantine": set_aside,
        "receiver_failing_seconds": round(receiver.failing_seconds, 1),
        "receiver_fails_with": receiver.reason or "nothing",
        "events_undelivered": receiver.undelivered,
        "server_dangers": dangers,
    }


def _dangers(server: redis.Redis) -> list[str]:
    """Why the server may forget accepted work; none where it does not say."""
    try:
        return dangers_of(server)
    except redis.exceptions.NoPermissionError:
        return []


def _workers() -> int:
    become(environment_of_what_runs())  # Celery's own settings are read from this process's environment
    from tasks.celery import app  # noqa: PLC0415 - takes a while to load, and not every call needs it

    return len(app.control.ping(timeout=1.0) or [])


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(value) or "none"
    return ", ".join(f"{name} {count}" for name, count in value.items()) if isinstance(value, dict) else str(value)

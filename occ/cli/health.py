"""`occ health`."""

import json
from typing import Any

import click
import redis

from integrations.connections.records import Records
from integrations.deliveries.deliveries import receiver_state
from integrations.progress import seconds_since_a_tick
from integrations.quarantine import INBOX, QUARANTINE
from integrations.scheduled import SCHEDULED, server_time
from integrations.server_safety import dangers_of
from integrations.settings import KeylessSettings
from occ.cli.exit_codes import ExitCode
from occ.cli.parameters import json_option
from occ.cli.set_up import become, environment_of_what_runs, records_of, settings_of_what_runs
from tasks.queues import FORGOTTEN, QUEUES
from tasks.queues import QUARANTINE as QUARANTINE_LANE

_TICK_WITHIN = 10.0  # seconds; a tick comes every second
_PATIENCE = 30.0  # seconds beyond a lease: by then a tick has handed out what a lost worker left


@click.command("health")
@click.option("--workers/--no-workers", "ask_workers", default=True, help="Whether to ask which workers answer.")
@json_option
@click.pass_context
def command(context: click.Context, *, ask_workers: bool, as_json: bool) -> None:
    """Check that work is done on time.

    Ends with 1, and says why, when work has been overdue for more than a lease and 30 seconds, when no tick has ended
    well for 10 seconds, when a request has waited in the inbox for that long, or when the server may forget accepted
    work (older than 7.2, evicting, no append-only file) and that is not allowed. A receiver of events that fails is
    shown, but is not a reason: nothing of ours would mend it.
    """
    settings = settings_of_what_runs()
    with records_of(settings) as records:
        facts = _facts(settings, records)
    facts["workers"] = _workers() if ask_workers else None
    facts["problems"] = _problems(settings, facts)
    facts["healthy"] = not facts["problems"]
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, value in facts.items():
            click.echo(f"{name.replace('_', ' '):<24}{'not asked' if value is None else _plain(value)}")
    context.exit(ExitCode.OK if facts["healthy"] else ExitCode.NEEDS_ATTENTION)


def _problems(settings: KeylessSettings, facts: dict[str, Any]) -> list[str]:
    """Why this installation makes no progress, one sentence each."""
    problems = (
        [] if settings.allow_unsafe_server else [f"The server may forget: {it}." for it in facts["server_dangers"]]
    )
    overdue, tick, inbox = (facts[f"{name}_seconds"] for name in ("oldest_overdue", "last_tick", "oldest_request"))
    if overdue > settings.lease + _PATIENCE:
        problems.append(f"Work has been overdue for {overdue:.0f} s: no worker takes it.")
    if tick is not None and tick > _TICK_WITHIN:
        problems.append(f"No tick has ended well for {tick:.0f} s: see that beat and a worker run, and their logs.")
    if inbox > settings.lease + _PATIENCE:
        problems.append(f"A request has waited in the inbox for {inbox:.0f} s: no tick takes it.")
    return problems


def _facts(settings: KeylessSettings, records: Records) -> dict[str, Any]:
    overdue = records.overdue()
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as server:
        inbox = server.xlen(INBOX)
        with_broker = settings.broker_url == settings.redis_url or settings.redis_url.startswith("unix:")
        # A broker of its own is asked by its own tools: its URL may be one that only Celery understands.
        waiting = {name: server.llen(name) for name in (*QUEUES, QUARANTINE_LANE)} if with_broker else None
        set_aside = server.llen(QUARANTINE) if with_broker else None
        receiver = receiver_state(server)
        dangers = _dangers(server)
        tick = seconds_since_a_tick(server)
        oldest: Any = server.xrange(INBOX, count=1)
        strays = {name: count for name in FORGOTTEN if (count := server.llen(name))} if with_broker else None
        scheduled = server.zcard(SCHEDULED)
        now = server_time(server)
    return {
        "overdue": overdue.count,
        "oldest_overdue_seconds": round(overdue.oldest_age, 1),
        "last_tick_seconds": None if tick is None else round(tick, 1),
        "inbox": inbox,
        "oldest_request_seconds": round(max(0.0, now - int(oldest[0][0].partition("-")[0]) / 1000), 1)
        if oldest
        else 0.0,
        "requests_scheduled": scheduled,
        "messages_waiting": waiting,
        "messages_in_quarantine": set_aside,
        "messages_of_others": strays,
        "receiver_failing_seconds": round(receiver.failing_seconds, 1),
        "receiver_fails_with": receiver.reason or "nothing",
        "events_undelivered": receiver.undelivered,
        "server_dangers": dangers,
    }


def _age(entry_id: str, now: float) -> float:
    """Seconds since an entry of a stream was added."""
    return round(max(0.0, now - int(entry_id.partition("-")[0]) / 1000), 1)


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
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return str(value)

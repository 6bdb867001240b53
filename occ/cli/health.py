"""`occ health`: whether this installation makes progress, and if not, why."""

import json
from typing import Any

import click
import redis

from integrations.connections.records import Records
from integrations.deliveries.deliveries import receiver_state
from integrations.progress import seconds_since_a_tick
from integrations.quarantine import INBOX
from integrations.quarantine import QUARANTINE as STORED_QUARANTINE
from integrations.scheduled import SCHEDULED, server_time
from integrations.server_safety import dangers_of
from integrations.settings import KeylessSettings
from occ.cli.failure import ExitCode
from occ.cli.options import json_option
from occ.cli.plain_text import columns
from occ.cli.set_up import become, environment_of_what_runs, records_of, settings_of_what_runs
from tasks.queues import FORGOTTEN, QUARANTINE, QUEUES

_TICK_WITHIN = 10.0  # seconds; a tick comes every second
_PATIENCE = 30.0  # seconds beyond a lease: by then a tick has dispatched what a lost worker left


@click.command("health")
@click.option("--workers/--no-workers", "ask_workers", default=True, help="Whether to count the workers that answer.")
@json_option
@click.pass_context
def health(context: click.Context, *, ask_workers: bool, as_json: bool) -> None:
    """Check that work is done on time.

    The exit code is 1, and the reason is printed, if work has been overdue for more than a lease and 30 seconds, if no
    tick has succeeded for 10 seconds, if a request has waited in the inbox for more than a lease and 30 seconds, or if
    the server may lose accepted work (older than 7.2, evicting, without an append-only file) and that is not allowed.
    A failing receiver of events is reported, but does not change the exit code: restarting anything of ours would not
    fix it.
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
        for line in columns([(_NAMES.get(name, name.replace("_", " ")), _plain(facts[name])) for name in facts]):
            click.echo(line)
    context.exit(ExitCode.OK if facts["healthy"] else ExitCode.NEEDS_ATTENTION)


_NAMES = {
    "oldest_overdue_seconds": "oldest overdue (seconds)",
    "last_tick_seconds": "last tick (seconds ago)",
    "oldest_request_seconds": "oldest request (seconds)",
    "receiver_failing_seconds": "receiver failing for (seconds)",
    "receiver_fails_with": "receiver error",
}
_NO_ERROR = "nothing"
"""What `receiver_fails_with` is while the receiver works."""


def _problems(settings: KeylessSettings, facts: dict[str, Any]) -> list[str]:
    """Why this installation makes no progress, one sentence each."""
    dangers = [] if settings.allow_unsafe_server else facts["server_dangers"]
    problems = [f"The server may lose accepted work: {danger}." for danger in dangers]
    overdue, tick, inbox = (facts[f"{name}_seconds"] for name in ("oldest_overdue", "last_tick", "oldest_request"))
    if overdue > settings.lease + _PATIENCE:
        problems.append(f"Work has been overdue for {overdue:.0f} s: no worker takes it.")
    if tick is not None and tick > _TICK_WITHIN:
        problems.append(f"No tick has succeeded for {tick:.0f} s: check beat, the workers and their logs.")
    if inbox > settings.lease + _PATIENCE:
        problems.append(f"A request has waited in the inbox for {inbox:.0f} s: no tick takes it.")
    return problems


def _facts(settings: KeylessSettings, records: Records) -> dict[str, Any]:
    overdue = records.overdue()
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as server:
        inbox = server.xlen(INBOX)
        with_broker = settings.broker_url == settings.redis_url or settings.redis_url.startswith("unix:")
        # A broker of its own is asked by its own tools: its URL may be one that only Celery understands.
        waiting = {name: server.llen(name) for name in (*QUEUES, QUARANTINE)} if with_broker else None
        in_quarantine = server.llen(STORED_QUARANTINE) if with_broker else None
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
        "oldest_request_seconds": _age(oldest[0][0], now) if oldest else 0.0,
        "requests_scheduled": scheduled,
        "messages_waiting": waiting,
        "messages_in_quarantine": in_quarantine,
        "messages_of_others": strays,
        "receiver_failing_seconds": round(receiver.failing_seconds, 1),
        "receiver_fails_with": receiver.reason or _NO_ERROR,
        "events_undelivered": receiver.undelivered,
        "server_dangers": dangers,
    }


def _age(entry_id: str, now: float) -> float:
    """Seconds since an entry of a stream was added."""
    return round(max(0.0, now - int(entry_id.partition("-")[0]) / 1000), 1)


def _dangers(server: redis.Redis) -> list[str]:
    """Why the server may lose accepted work; none where it does not say."""
    try:
        return dangers_of(server)
    except redis.exceptions.NoPermissionError:
        return []


def _workers() -> int:
    become(environment_of_what_runs())
    from tasks.celery import app  # noqa: PLC0415 - takes a while to load, and not every call needs it

    return len(app.control.ping(timeout=1.0) or [])


def _plain(value: object) -> str:
    match value:
        case None:
            return "not checked"
        case bool():
            return "yes" if value else "no"
        case list():
            return "; ".join(value) or "none"
        case dict():
            return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return "none" if value == _NO_ERROR else str(value)

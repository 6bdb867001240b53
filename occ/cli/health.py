"""`occ health`: whether this installation makes progress, and if not, why."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import click
import redis

from integrations.connections.records import Records
from integrations.deliveries.deliveries import receiver_state
from integrations.messages.progress import PROBE, oldest_messages, seconds_since_a_tick
from integrations.messages.quarantine import INBOX
from integrations.messages.quarantine import QUARANTINE as STORED_QUARANTINE
from integrations.messages.scheduled import SCHEDULED, server_time
from integrations.server.client import client_of
from integrations.server.look import dangers_of
from integrations.settings import KeylessSettings
from occ.cli.failure import ExitCode
from occ.cli.options import json_option
from occ.cli.plain_text import columns
from occ.cli.set_up import become, broker_of, environment_of_what_runs, records_of, settings_of_what_runs
from tasks.queues import BESIDE_QUEUES, FORGOTTEN, QUARANTINE, QUEUES, is_ours, mark_of

_TICK_WITHIN = 10.0  # seconds; a tick comes every second
_PATIENCE = 30.0  # seconds beyond a lease: by then a tick has dispatched what a lost worker left


@click.command("health")
@click.option("--workers/--no-workers", "ask_workers", default=True, help="Whether to count the workers that answer.")
@json_option
@click.pass_context
def health(context: click.Context, *, ask_workers: bool, as_json: bool) -> None:
    """Check that work is done on time.

    The exit code is 1, and the reason is printed, if the server takes no writes, if no tick has succeeded for 10
    seconds, if work has been overdue, or nothing was taken from a queue or the inbox where something waits, for more
    than a lease and 30 seconds, if a message for us lies where no worker reads, or if the server may lose accepted
    work (older than 7.2, evicting, without an append-only file) and that is not allowed. It is 3 if the server does
    not answer, or is a replica. A failing receiver of events is reported, but does not change the exit code:
    restarting anything of ours would not fix it.
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
    "oldest_message_seconds": "oldest message (seconds)",
    "receiver_failing_seconds": "receiver failing for (seconds)",
    "receiver_fails_with": "receiver error",
}
_NO_ERROR = "nothing"
"""What `receiver_fails_with` is while the receiver works."""


def _problems(settings: KeylessSettings, facts: dict[str, Any]) -> list[str]:
    """Why this installation makes no progress, one sentence each."""
    dangers = [] if settings.allow_unsafe_server else facts["server_dangers"]
    problems = [f"The server may lose accepted work: {danger}." for danger in dangers]
    overdue, tick = facts["oldest_overdue_seconds"], facts["last_tick_seconds"]
    patience = settings.lease + _PATIENCE
    if facts["server_takes_no_writes"]:
        problems.append(facts["server_takes_no_writes"])
    if overdue > patience:
        problems.append(f"Work has been overdue for {overdue:.0f} s: no worker takes it.")
    if tick is not None and tick > _TICK_WITHIN:
        problems.append(f"No tick has succeeded for {tick:.0f} s: check beat, the workers and their logs.")
    if tick is None and max(overdue, facts["oldest_request_seconds"]) > _TICK_WITHIN:
        problems.append("No tick has ever succeeded, and work waits: start beat, and a worker for the queue occ.tick.")
    for queue, seconds in facts["oldest_message_seconds"].items():
        if seconds > patience:
            who, whence = ("tick", "inbox") if queue == INBOX else ("worker", f"queue {queue}")
            problems.append(f"No {who} has taken anything from the {whence} for {seconds:.0f} s.")
    if facts["messages_nobody_reads"] and (tick is None or tick > _TICK_WITHIN):
        count = sum(facts["messages_nobody_reads"].values())
        where = "with a priority, or without the queue's name"
        problems.append(f"{count} messages for us were sent {where}: they lie where no worker reads until ticks run.")
    return problems


def _facts(settings: KeylessSettings, records: Records) -> dict[str, Any]:
    overdue = records.overdue()
    with (
        client_of(settings.redis_url, decode_responses=True) as server,
        broker_of(settings) as broker,
    ):
        inbox = server.xlen(INBOX)
        waiting = {name: broker.llen(name) for name in (*QUEUES, QUARANTINE)}
        in_quarantine = broker.llen(STORED_QUARANTINE)
        if not settings.broker_url.is_database_of(settings.redis_url):
            in_quarantine += server.llen(STORED_QUARANTINE)
        receiver = receiver_state(server)
        dangers = _dangers(server)
        tick = seconds_since_a_tick(server)
        oldest: Any = server.xrange(INBOX, count=1)
        strays = {name: count for name in FORGOTTEN if (count := broker.llen(name))}
        nobody_reads = _messages_nobody_reads(broker, strays)
        oldest_in_queues = _oldest_messages(server, broker, str(oldest[0][0]) if oldest else "")
        takes_no_writes = _takes_no_writes(server)
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
        "oldest_message_seconds": oldest_in_queues,
        "messages_nobody_reads": nobody_reads,
        "messages_of_others": strays,
        "server_takes_no_writes": takes_no_writes,
        "receiver_failing_seconds": round(receiver.failing_seconds, 1),
        "receiver_fails_with": receiver.reason or _NO_ERROR,
        "events_undelivered": receiver.undelivered,
        "server_dangers": dangers,
    }


def _age(entry_id: str, now: float) -> float:
    """Seconds since an entry of a stream was added."""
    return round(max(0.0, now - int(entry_id.partition("-")[0]) / 1000), 1)


def _oldest_messages(server: redis.Redis, broker: redis.Redis, oldest_in_inbox: str) -> dict[str, float]:
    """By queue, how long nobody has taken its oldest message; a queue from which something was taken is not there."""
    noted = {queue: one for queue, one in oldest_messages(server).items() if queue in {*QUEUES, QUARANTINE, INBOX}}
    there = {queue: mark_of(str(broker.lindex(queue, -1)).encode()) for queue in noted if queue != INBOX}
    there[INBOX] = oldest_in_inbox
    return {queue: round(one.seconds, 1) for queue, one in noted.items() if there[queue] == one.mark}


def _messages_nobody_reads(broker: redis.Redis, forgotten: Mapping[str, int]) -> dict[str, int]:
    """Messages for us in lists beside the queues, and in Celery's default queue, among the oldest there."""
    found: Counter[str] = Counter()
    for name in BESIDE_QUEUES:
        found[name.replace("\x06\x16", ":")] += broker.llen(name)
    for name in forgotten:
        found[name.replace("\x06\x16", ":")] += sum(
            map(is_ours, cast("list[str]", broker.lrange(name, -_LOOKED_AT, -1)))
        )
    return {name: count for name, count in found.items() if count}


def _takes_no_writes(server: redis.Redis) -> str:
    """Why the server takes no writes, in a sentence; "" if it does."""
    try:
        server.set(PROBE, "1", ex=60)
    except redis.exceptions.NoPermissionError:
        return ""
    except redis.exceptions.ReadOnlyError:
        return "The server takes no writes: it is a replica. Does the address lead to the former master?"
    except redis.exceptions.OutOfMemoryError:
        return "The server takes no writes: its memory is full. Raise maxmemory, or see what fills it."
    except redis.exceptions.ResponseError as error:
        code = str(error).partition(" ")[0]
        why = _NO_WRITES.get(code, "see its log")
        return f"The server takes no writes ({code}): {why}."
    return ""


_NO_WRITES = {
    "MISCONF": "it cannot save to its disk",
    "NOREPLICAS": "fewer replicas follow it than min-replicas-to-write asks for",
    "MASTERDOWN": "it is a replica that has lost its master",
}
_LOOKED_AT = 1000


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
    return "none" if value in {_NO_ERROR, ""} else str(value)

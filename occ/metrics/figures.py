"""The whole installation in figures, from a handful of reads: nothing here looks at single connections.

Only reads, so that whoever watches needs no right to write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from integrations.clock import CLOCK, ours_at
from integrations.connections.causes import OutageKind
from integrations.connections.record import ConnectionStatus
from integrations.connections.records import CONNECTIONS, DUE, EVENTS, HELD, OUTAGE, REFUSED
from integrations.connections.status import LEFT
from integrations.connections.status_index import LISTING, STATUSES, UNREADABLE, status_key
from integrations.messages.quarantine import INBOX
from integrations.messages.quarantine import QUARANTINE as SET_ASIDE
from integrations.silence.heard import SILENT
from tasks.queues import QUARANTINE, QUEUES

_GROUPS_READ = 100


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer group of the events: how many it has yet to be given, and to confirm; how old the next one is.

    `lag` is None when the server does not know.
    """

    lag: int | None
    pending: int
    oldest_unread_age: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How things stand. Ages are in seconds.

    `connections`: by status, None until they have been listed for the first time. `records`: connections and stores
    that merchants have left.
    """

    connections: Mapping[ConnectionStatus, int] | None
    records: int
    left: int
    unreadable: int
    due: int
    overdue: int
    oldest_overdue_age: float
    held: int
    refused: int
    silent: int
    outage: OutageKind | None
    events: int
    readers: Mapping[str, Reader]


def figures(client: redis.Redis) -> Figures:
    """Read them. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.get(CLOCK)
        pipe.hget(LISTING, "finished_at")  # while they are listed anew, the lists go on being right
        for status in STATUSES:
            pipe.zcard(status_key(status))
        pipe.zcard(CONNECTIONS)
        pipe.zcard(DUE)
        pipe.zrange(DUE, 0, 0, withscores=True)
        pipe.zcard(HELD)
        pipe.xlen(REFUSED)
        pipe.zcard(SILENT)
        pipe.hget(OUTAGE, "kind")
        pipe.xlen(EVENTS)
        (seconds, microseconds), clock, listed, *rest = pipe.execute()
    counts = dict(zip(STATUSES, rest, strict=False))
    records, due, oldest, held, refused, silent, outage, events = rest[len(STATUSES) :]
    server_time = seconds + microseconds / 1e6
    now = ours_at(server_time, clock)
    age = max(0.0, now - oldest[0][1]) if oldest else 0.0
    return Figures(
        connections={status: counts[status] for status in ConnectionStatus} if listed is not None else None,
        records=records,
        left=counts[LEFT],
        unreadable=counts[UNREADABLE],
        due=due,
        overdue=int(client.zcount(DUE, "-inf", now)) if age else 0,
        oldest_overdue_age=age,
        held=held,
        refused=refused,
        silent=silent,
        outage=OutageKind(outage) if outage in set(OutageKind) else None,
        events=events,
        readers=_readers(client, server_time),
    )


def _readers(client: redis.Redis, now: float) -> dict[str, Reader]:
    try:
        groups = client.xinfo_groups(EVENTS)[:_GROUPS_READ]
    except ResponseError as error:
        if "no such key" in str(error).lower():
            return {}
        raise
    with client.pipeline(transaction=False) as pipe:
        for group in groups:
            pipe.xrange(EVENTS, min=f"({group['last-delivered-id']}", count=1)
        unread = pipe.execute()
    return {
        group["name"]: Reader(group.get("lag"), int(group["pending"]), _age(entries, now))
        for group, entries in zip(groups, unread, strict=True)
    }


def _age(entries: list[tuple[str, object]], now: float) -> float:
    """Of the first entry: its id says when it was written, in milliseconds."""
    return max(0.0, now - int(entries[0][0].partition("-")[0]) / 1000) if entries else 0.0


# --- Messages --------------------------------------------------------------------------------------------------------


_UNACKNOWLEDGED = "unacked"  # kombu's hash of the messages in workers' hands
_INBOX_GROUP = "occ"


@dataclass(frozen=True, slots=True)
class Messages:
    """Lengths."""

    queues: Mapping[str, int]
    unacknowledged: int
    quarantined: int
    inbox: int
    inbox_pending: int


def messages(records: redis.Redis, broker: redis.Redis) -> Messages:
    """Ask for all of them; the broker may be the server with the records. Raises redis.RedisError."""
    with records.pipeline(transaction=False) as pipe:
        pipe.llen(SET_ASIDE)
        pipe.xlen(INBOX)
        pipe.xpending(INBOX, _INBOX_GROUP)
        set_aside, inbox, pending = pipe.execute(raise_on_error=False)
    with broker.pipeline(transaction=False) as pipe:
        for queue in (*QUEUES, QUARANTINE):
            pipe.llen(queue)
        pipe.hlen(_UNACKNOWLEDGED)
        pipe.llen(SET_ASIDE)
        *lengths, unacknowledged, beside_the_queues = pipe.execute()
    queues = dict(zip((*QUEUES, QUARANTINE), lengths, strict=True))
    set_aside = beside_the_queues if broker is records else _known(set_aside) + beside_the_queues
    return Messages(queues, unacknowledged, _known(set_aside), _known(inbox), _pending(pending))


def _known(answer: Any) -> int:
    if isinstance(answer, Exception):
        raise answer
    return int(answer)


def _pending(answer: Any) -> int:
    """None are pending where nobody has asked for any: there is no group before the first tick."""
    if isinstance(answer, ResponseError) and "NOGROUP" in str(answer):
        return 0
    if isinstance(answer, Exception):
        raise answer
    return int(answer["pending"])

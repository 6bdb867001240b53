"""The whole installation in figures, from a handful of reads: nothing here looks at single connections.

Only reads, so that whoever watches needs no right to write.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import redis
from redis.exceptions import ResponseError

from integrations.connections.causes import OutageKind
from integrations.connections.record import ConnectionStatus
from integrations.connections.records import CONNECTIONS, DUE, EVENTS, HELD, OUTAGE, RECOUNT, REFUSED, STATUSES
from integrations.connections.status import LEFT
from integrations.connections.status_counts import UNREADABLE
from integrations.silence.heard import SILENT

_GROUPS_READ = 100


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer group of the events: how many it has yet to be given, and to confirm; how old the next one is.

    `lag` is None when the server cannot tell.
    """

    lag: int | None
    pending: int
    oldest_unread_age: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How things stand. Ages are in seconds by the server's clock.

    `connections`: by status, None until they have been counted for the first time. `records`: connections and stores
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
        pipe.hgetall(STATUSES)
        pipe.hget(RECOUNT, "finished_at")  # while they are counted anew, the counts go on being right
        pipe.zcard(CONNECTIONS)
        pipe.zcard(DUE)
        pipe.zrange(DUE, 0, 0, withscores=True)
        pipe.zcard(HELD)
        pipe.xlen(REFUSED)
        pipe.zcard(SILENT)
        pipe.hget(OUTAGE, "kind")
        pipe.xlen(EVENTS)
        (seconds, microseconds), statuses, counted, *rest = pipe.execute()
    records, due, oldest, held, refused, silent, outage, events = rest
    now = seconds + microseconds / 1e6
    counts = {name: max(0, int(statuses.get(name, 0))) for name in (*ConnectionStatus, LEFT, UNREADABLE)}
    age = max(0.0, now - oldest[0][1]) if oldest else 0.0
    return Figures(
        connections={status: counts[status] for status in ConnectionStatus} if counted is not None else None,
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
        readers=_readers(client, now),
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
    """Of the first entry: its id tells when it was written, in milliseconds."""
    return max(0.0, now - int(entries[0][0].partition("-")[0]) / 1000) if entries else 0.0

"""Requests that are to be taken up later: a producer's `countdown` or `eta` becomes a due time in Redis.

Held in a worker's memory, as Celery would, they fill the worker until it takes nothing else, and each multiplies once
per visibility timeout. Here one waits per merchant and kind of request; a newer one takes its place.

    occ:scheduled            zset    <kind> <merchant id> by due time (seconds since the epoch, `clock.py`)
    occ:scheduled:requests   hash    the request of each, as it came (the application key sealed)
"""

import json
from collections.abc import Mapping
from datetime import datetime

import redis

from integrations.clock import Clock
from integrations.errors import RequestRefused
from integrations.messages.quarantine import INBOX, INBOX_FIELD

SCHEDULED = "occ:scheduled"
REQUESTS = "occ:scheduled:requests"
LONGEST_WAIT = 30 * 86400.0
"""Seconds. What is to happen later than that is better kept by whoever asks for it."""
MOST = 100_000
"""Requests that wait; one more is refused."""

FIELD_OF_KIND = {"connect": INBOX_FIELD, "revalidate": "revalidate", "disconnect": "disconnect"}
"""The field of an inbox entry that holds a request of each kind."""


def due_time(eta: object) -> float | None:
    """Seconds since the epoch of an ISO 8601 time as Celery sends it; None if there is none."""
    if not isinstance(eta, str):
        return None
    try:
        return datetime.fromisoformat(eta).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def schedule(client: redis.Redis, clock: Clock, kind: str, request: Mapping[str, object], at: float) -> None:
    """Keep a request that was checked until `at`, a time of the server.

    What counts is how long that is from now, so that a clock that is set later makes it wait neither longer nor
    shorter. Raises RequestRefused, or redis.RedisError: then it is not kept.
    """
    wait = at - server_time(client)
    if wait > LONGEST_WAIT:
        raise RequestRefused("eta", "too_late", "send it with an eta or countdown of at most 30 days, or later")
    member = f"{kind} {request['merchant_id']}"
    if client.zscore(SCHEDULED, member) is None and client.zcard(SCHEDULED) >= MOST:
        raise RequestRefused("eta", "too_many_scheduled", f"{MOST} requests wait already; send it when it is due")
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(REQUESTS, member, json.dumps(request))
        pipe.zadd(SCHEDULED, {member: clock.now() + wait})
        pipe.execute()


def release_due(client: redis.Redis, clock: Clock, limit: int) -> int:
    """Put the requests that are due into the inbox, oldest first; returns how many there were."""
    members: list[str] = client.zrangebyscore(SCHEDULED, "-inf", clock.now(), start=0, num=limit)  # type: ignore[assignment]
    for member in members:
        request = client.hget(REQUESTS, member)
        with client.pipeline(transaction=True) as pipe:
            if request is not None:
                pipe.xadd(INBOX, {FIELD_OF_KIND[member.partition(" ")[0]]: request})
            pipe.hdel(REQUESTS, member)
            pipe.zrem(SCHEDULED, member)
            pipe.execute()
    return len(members)


def server_time(client: redis.Redis) -> float:
    """The server's time in seconds since the epoch."""
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6

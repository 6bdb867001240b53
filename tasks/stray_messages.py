"""Messages in lists that no worker reads, where a stock Celery client puts them by a known mistake.

A priority of 3 or more goes to a list of its own beside the queue; without `queue="occ"`, a client sends to its own
default queue, `celery`. The tick brings them to the queue of requests.
"""

import json
from typing import Any

import redis
import structlog
from kombu.exceptions import OperationalError

from tasks.celery import app
from tasks.queues import BESIDE_QUEUES, FORGOTTEN, REQUESTS

log = structlog.get_logger(__name__)

_AT_ONCE = 200


def bring_in(at_most: int = _AT_ONCE) -> int:
    """Move what is ours to the queues that are read; returns how many there were. Never raises for a broker away."""
    try:
        with app.connection_or_acquire() as connection:
            client: Any = getattr(connection.default_channel, "client", None)
            if client is None or not client.exists(*BESIDE_QUEUES, *FORGOTTEN):
                return 0
            moved = sum(_move(client, stray, queue, at_most) for stray, queue in BESIDE_QUEUES.items())
            moved += sum(_move(client, stray, REQUESTS, at_most) for stray in FORGOTTEN)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("stray_messages_unknown", error=type(error).__name__)
        return 0
    if moved:
        log.warning("stray_messages_brought_in", messages=moved, remedy='send with queue="occ" and no priority')
    return moved


def _move(client: Any, stray: str, queue: str, at_most: int) -> int:
    """The oldest first. A tick that dies in between, or has a twin, sends one twice, which is harmless."""
    moved = 0
    for message in reversed(client.lrange(stray, -at_most, -1)):
        if stray in FORGOTTEN and not _is_ours(message):
            continue  # another program's; `occ health` shows that it lies there
        with client.pipeline(transaction=True) as pipe:
            pipe.lpush(queue, message)
            pipe.lrem(stray, -1, message)
            pipe.execute()
        moved += 1
    return moved


def _is_ours(message: bytes) -> bool:
    try:
        return str(json.loads(message)["headers"]["task"]).startswith("occ.")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False

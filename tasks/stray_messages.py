"""Messages in lists that no worker reads, where a stock Celery client puts them by a known mistake.

A priority of 3 or more goes to a list of its own beside the queue; without `queue="occ"`, a client sends to its own
default queue, `celery`. The tick brings them to the queue of requests.

Other programs' messages may lie in `celery` before ours: each tick looks at the next few.
"""

from typing import Any

import redis
import structlog
from kombu.exceptions import OperationalError

from tasks.celery import app
from tasks.queues import BESIDE_QUEUES, FORGOTTEN, REQUESTS, is_ours

log = structlog.get_logger(__name__)

_AT_ONCE = 200


_looked_at: dict[str, int] = {}
"""How many other programs' messages lie before those to look at next, by list, as far as this process knows."""


def bring_in(at_most: int = _AT_ONCE) -> int:
    """Move what is ours to the queues that are read; returns how many there were. Never raises for a broker away."""
    try:
        with app.connection_or_acquire() as connection:
            client: Any = getattr(connection.default_channel, "client", None)
            if client is None or not client.exists(*BESIDE_QUEUES, *FORGOTTEN):
                return 0
            meant_for = BESIDE_QUEUES | dict.fromkeys(FORGOTTEN, REQUESTS)
            there = [stray for stray in meant_for if client.exists(stray)]
            moved = sum(_move(client, stray, meant_for[stray], at_most) for stray in there)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("stray_messages_unknown", error=type(error).__name__)
        return 0
    if moved:
        log.warning("stray_messages_brought_in", messages=moved, remedy='send with queue="occ" and no priority')
    return moved


def _move(client: Any, stray: str, queue: str, at_most: int) -> int:
    """The oldest first. A tick that dies in between, or has a twin, sends one twice, which is harmless."""
    moved, passed_over = 0, _looked_at.get(stray, 0)
    messages = client.lrange(stray, -passed_over - at_most, -passed_over - 1)
    for message in reversed(messages):
        if stray in FORGOTTEN and not is_ours(message):
            passed_over += 1
            continue  # another program's; `occ health` shows that it lies there
        with client.pipeline(transaction=True) as pipe:
            pipe.lpush(queue, message)
            pipe.lrem(stray, -1, message)
            pipe.execute()
        moved += 1
    _looked_at[stray] = passed_over if len(messages) == at_most else 0
    return moved

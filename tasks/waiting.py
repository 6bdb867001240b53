"""How much waits in the queues, and for how long, as each tick sees it.

Work that waits longer than its lease is due again while its message still lies in the queue. Sent again each time, the
messages for nothing grow with the wait, and lengthen it: measured with a lease of 6 s, 2.4 messages for each piece of
work after a minute of a little too much load. So a tick sends no more than the queue has room for. What is not sent
stays due, and nothing is lost by that.

Messages do not say when they were sent. Seen tick by tick, they show how long nobody has taken any: one that stays the
oldest is one that nobody takes.
"""

from typing import Any

import redis
import structlog
from kombu.exceptions import OperationalError

from integrations.messages.progress import Oldest, note_oldest
from integrations.messages.quarantine import INBOX
from tasks.celery import app
from tasks.queues import BESIDE_QUEUES, FORGOTTEN, QUARANTINE, REQUESTS, STEPS, mark_of
from tasks.wiring import Wiring

log = structlog.get_logger(__name__)

_READ = (REQUESTS, STEPS, QUARANTINE)
_UNREAD = (*BESIDE_QUEUES, *FORGOTTEN)


def room_for_steps(at_most: int) -> int:
    """How many messages may be added before `at_most` wait; all of them when the broker does not say."""
    try:
        with app.connection_or_acquire() as connection:
            queue: Any = app.amqp.queues[STEPS].bind(connection.default_channel)
            waiting = int(queue.queue_declare().message_count)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("backlog_unknown", error=type(error).__name__)
        return at_most
    return max(0, at_most - waiting)


def note_oldest_messages(services: Wiring) -> None:
    """Write down the oldest message of each queue that has one. Never raises for a broker that is away."""
    oldest: Any = services.redis.xrange(INBOX, count=1)
    seen = {INBOX: Oldest(str(oldest[0][0]), services.redis.xlen(INBOX))} if oldest else {}
    try:
        with app.connection_or_acquire() as connection:
            client: Any = getattr(connection.default_channel, "client", None)
            if client is not None:
                seen |= _oldest_in(client)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("queues_unknown", error=type(error).__name__)
    note_oldest(services.redis, seen, services.records.clock.now())


def _oldest_in(client: Any) -> dict[str, Oldest]:
    queues = [*_READ, *(_UNREAD if client.exists(*_UNREAD) else ())]
    with client.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.lindex(queue, -1)
            pipe.llen(queue)
        answers = pipe.execute(raise_on_error=False)
    found = zip(queues, answers[::2], answers[1::2], strict=True)
    return {queue: Oldest(mark_of(message), count) for queue, message, count in found if isinstance(message, bytes)}

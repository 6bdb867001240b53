"""How much work waits in the queue of the steps, and so how much more a tick may hand out.

Work that waits longer than its lease is due again while its message still lies in the queue. Sent again each time, the
messages for nothing grow with the wait, and lengthen it: measured with a lease of 6 s, 2.4 messages for each piece of
work after a minute of a little too much load. What is not sent stays due, so nothing is lost by that.
"""

from typing import Any

import redis
import structlog
from kombu.exceptions import OperationalError

from tasks.celery import app
from tasks.queues import STEPS

log = structlog.get_logger(__name__)


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

"""Ends a worker that takes nothing although messages wait, so that its supervisor starts it anew.

Whatever keeps it from working (a connection that is dead and does not know it, a consumer that hangs, a pool without
threads), a new process is without it, and the record loses nothing: what it had in hand is due again when leases end.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery import signals
from celery.worker import state
from kombu.exceptions import OperationalError

from integrations.clock import elapsed
from integrations.messages.progress import PROBE

log = structlog.get_logger(__name__)

EXIT_STATUS = 70
LEASES = 3
"""A thread is held for a lease at most: a worker that accepts nothing for three has no reason left."""

_LOOK_EVERY = 5.0


class Watchdog:
    """Says when a worker has taken nothing for too long although there was something to take."""

    def __init__(self, patience: float, *, count: Callable[[], float] = elapsed) -> None:
        """`patience`: seconds."""
        self._patience, self._count = patience, count
        self._since: float | None = None
        self._taken = -1

    def seconds_stuck(self, waiting: int | None, taken: int) -> float:
        """For how long nothing was taken; 0 unless that is too long.

        `waiting`: messages in its queues, None if the broker does not say: then nobody could take any. `taken`: how
        many it has taken since it started.
        """
        now = self._count()
        if not waiting or taken != self._taken or self._since is None:
            self._since, self._taken = now, taken
        stuck = now - self._since
        return stuck if stuck > self._patience else 0.0


def watch(consumer: Any, lease: float) -> threading.Thread:
    """Watch over this worker in a thread of its own, from now on."""
    queues = [queue.name for queue in consumer.app.amqp.queues.consume_from.values()]
    watchdog = Watchdog(LEASES * lease)
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(_LOOK_EVERY):
            stuck = watchdog.seconds_stuck(_waiting(consumer.app, queues), sum(state.total_count.values()))
            if stuck and not (state.should_stop or state.should_terminate):
                log.critical("worker_ends", reason="it takes nothing", seconds=round(stuck), queues=queues)
                os._exit(EXIT_STATUS)  # what hangs would not let it end in order

    signals.worker_shutting_down.connect(lambda **_: ended.set(), weak=False)
    thread = threading.Thread(target=go_on, name="watchdog", daemon=True)
    thread.start()
    return thread


def _waiting(app: Any, queues: list[str]) -> int | None:
    """How many messages wait, asked over another connection than the one that may be dead."""
    try:
        with app.connection_for_write() as connection:
            client = connection.default_channel.client
            client.set(PROBE, "1", ex=60)  # a server that takes no writes is none that a new worker could use
            return sum(int(client.llen(queue)) for queue in queues)
    except (OperationalError, redis.RedisError, OSError, AttributeError) as error:
        log.debug("queues_unknown", error=type(error).__name__)
        return None

"""Handing on: what follows a task at once goes to a free thread of the same worker, without the broker.

A message is a hint to look at a record, so it need not travel. Celery treats what is handed on like any message it has
received: it becomes a request with events, log lines and a place among the tasks of this worker, and claims its work in
the record. Only the broker does not know of it; if the worker dies, the due time of the work brings it back.

So that nothing waits behind it, it is taken only while a thread is free (that of the task which hands it on is), and
it counts as one of the messages that the worker may have in hand (`broker/transport.py`).
"""

from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any, NamedTuple

import structlog
from celery import Celery, bootsteps
from celery.concurrency.thread import TaskPool
from celery.worker import state
from kombu import Message
from kombu.utils.json import dumps
from vine import promise

log = structlog.get_logger(__name__)

_RUN: int = bootsteps.RUN  # type: ignore[attr-defined]
_NEVER_HAND_ON = frozenset({"occ.tick"})
"""It brings back what was lost, some of which may take workers down, and it must not be left with a load of its own."""


class Hint(NamedTuple):
    """A message that need not travel. `place`: its root and parent, as headers.

    `claimed`: what its task needs to know if the work is claimed for it already. `give_back` undoes that.
    """

    task_id: str
    task: str
    arguments: dict[str, Any]
    queue: str
    place: dict[str, str | None]
    claimed: object = None
    give_back: Callable[[], object] = lambda: None


class HandingOn:
    """What one worker with threads hands on to itself."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._in_hand: dict[str, Hint] = {}
        self._wake = promise(lambda: None)

    def take(self, hint: Hint) -> bool:
        """Whether a thread of this worker takes it. What it does then is as if the message had come by the broker."""
        if not self.room(hint.queue):
            return False
        self._in_hand[hint.task_id] = hint

        def is_over(*_: object) -> None:
            self._in_hand.pop(hint.task_id, None)
            if self._consumer.hub:
                self._consumer.hub.call_soon(self._wake)  # it may have waited for this to take another message

        try:
            strategy = self._consumer.strategies[hint.task]
            # In a context of its own: the lines about it are not about the task that hands it on.
            Context().run(strategy, _message(self._consumer.app, hint), None, is_over, is_over, ())
        except Exception as error:  # noqa: BLE001 - the broker takes it as well; twice is harmless
            self._in_hand.pop(hint.task_id, None)
            log.warning("not_handed_on", error=type(error).__name__)
            return False
        return True

    def room(self, queue: str) -> int:
        """How many hints of a queue this worker would take now: as many as it has free threads."""
        if queue not in self._consumer.app.amqp.queues.consume_from or not self._may_hand_on():
            return 0
        free: int = self._consumer.pool.limit + 1 - len(state.reserved_requests)
        return max(0, free)

    def claimed(self, task_id: str) -> object:
        """What is known of work that is claimed already for a task that was handed on."""
        hint = self._in_hand.get(task_id)
        return hint.claimed if hint else None

    def _may_hand_on(self) -> bool:
        task = self._consumer.app.current_worker_task
        if task is None or task.name in _NEVER_HAND_ON or (task.request.delivery_info or {}).get("redelivered"):
            return False  # what came back to the queue may be what takes workers down
        if any(asked is not None and asked is not False for asked in (state.should_stop, state.should_terminate)):
            return False  # 0 asks for it as well
        return {self._consumer.blueprint.state, self._consumer.controller.blueprint.state} == {_RUN}

    def count(self) -> int:
        """How much of what was handed on is in hand."""
        return len(self._in_hand)

    def left(self) -> Iterator[Hint]:
        """What nobody will do any more once the threads have ended."""
        while self._in_hand:
            yield self._in_hand.popitem()[1]


def _message(app: Celery, hint: Hint) -> Message:
    made: Any = app.amqp.create_task_message(
        hint.task_id, hint.task, args=(), kwargs=hint.arguments, argsrepr="", kwargsrepr=""
    )
    return Message(
        body=dumps(made.body),
        content_type="application/json",
        content_encoding="utf-8",
        headers=made.headers | hint.place,
        properties={**made.properties, "correlation_id": hint.task_id},
        delivery_info={"exchange": "", "routing_key": hint.queue},
    )


_here: HandingOn | None = None


def begin(consumer: Any) -> None:
    """From now on this worker hands on, if its tasks run in threads of this process."""
    global _here  # noqa: PLW0603 - one per process is the point
    if isinstance(consumer.pool, TaskPool):
        _here = HandingOn(consumer)


def hand_on(hint: Hint) -> bool:
    """Whether a thread of this process takes it."""
    return _here is not None and _here.take(hint)


def room(queue: str) -> int:
    """How many hints of a queue threads of this process would take now."""
    return _here.room(queue) if _here is not None else 0


def claimed_for(task_id: str) -> object:
    """What is known of work that was claimed for a task when it was handed on."""
    return _here.claimed(task_id) if _here is not None else None


def handed_on() -> int:
    """How much of what was handed on is in hand."""
    return _here.count() if _here is not None else 0


def left_over() -> Iterator[Hint]:
    """What was handed on and not begun when the worker ended."""
    return _here.left() if _here is not None else iter(())

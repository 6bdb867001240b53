"""Dispatch: the messages for work that may start.

Best effort. Work whose message was not sent, or was lost, stays due in the record, and a tick dispatches it again. So a
message need not travel at all: if a thread of this worker is free, the work is handed on to it.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import redis
import structlog
from celery import uuid
from celery.signals import worker_shutdown
from kombu.exceptions import OperationalError

from integrations.connections.record import NO_CHAIN, Chain, Connection, Step, Target
from tasks.celery import app
from tasks.queues import QUARANTINE, STEPS
from tasks.worker.handing_on import Hint, hand_on, left_over, room

log = structlog.get_logger(__name__)

_TASKS = {
    Step.VALIDATE_KEY: "occ.validate_key",
    Step.CHECK_SHIPPING_METHODS: "occ.check_shipping_methods",
    Step.REGISTER_SLOT: "occ.register_slot",
    Step.DISCONNECT: "occ.disconnect_slot",
}
_REVALIDATE_KEY = "occ.revalidate_key"


class Message(NamedTuple):
    """A message about one step."""

    task: str
    arguments: dict[str, Any]
    queue: str


def message_for(connection: Connection, target: Target) -> Message:
    """The message for one piece of work. What may be taking workers down goes to the queue where it runs alone."""
    work = connection.work_on(target)
    arguments: dict[str, Any] = {"merchant_id": connection.merchant_id, "run": connection.run}
    if target.slot is not None:
        arguments["slot"] = target.slot
    arguments["attempt"] = work.attempts + 1 if work else 1
    revalidates = target.step is Step.VALIDATE_KEY and connection.is_onboarded and connection.candidate is None
    task = _REVALIDATE_KEY if revalidates else _TASKS[target.step]
    return Message(task, arguments, QUARANTINE if work is not None and work.is_suspect else STEPS)


def dispatch(connection: Connection, targets: Iterable[Target]) -> None:
    """Hand each piece of work on to a free thread of this worker, or send a message for it."""
    for target in targets:
        try:
            send(*message_for(connection, target), connection.chain)
        except OperationalError as error:
            log.warning("message_not_sent", step=target.step, slot=target.slot, error=type(error).__name__)


def send(task: str, arguments: dict[str, Any], queue: str = STEPS, chain: Chain = NO_CHAIN) -> None:
    """Hand a hint on, or send it as a message, in its chain. Raises kombu's OperationalError if nobody takes it."""
    hint = _hint(Message(task, arguments, queue), chain)
    if not hand_on(hint):
        _send(hint)


class FreeThreads:
    """Those of this worker: work is claimed for them before it is handed on."""

    def room(self) -> int:
        """How many there are for steps."""
        return room(STEPS)

    def take(self, connection: Connection, target: Target, *, claimed: object, give_back: Callable[[], object]) -> bool:
        """Whether one takes what is claimed for it."""
        task, arguments, queue = message_for(connection, target)
        arguments["attempt"] -= 1  # it is counted already
        hint = _hint(Message(task, arguments, queue), connection.chain)
        return hand_on(hint._replace(claimed=claimed, give_back=give_back))


def _hint(message: Message, chain: Chain) -> Hint:
    task_id = uuid()
    return Hint(task_id, *message, {"root_id": chain.root or task_id, "parent_id": chain.parent or None})


def _send(hint: Hint) -> None:
    # As headers they stand as they are. Left to itself, Celery would make the tick the parent of all that it sends.
    app.send_task(hint.task, kwargs=hint.arguments, queue=hint.queue, task_id=hint.task_id, headers=hint.place)


@worker_shutdown.connect(weak=False)
def _send_what_is_left(**_: object) -> None:
    """What was handed on, and not begun before this worker ended."""
    for hint in left_over():
        with suppress(OperationalError, redis.RedisError):
            hint.give_back()
            _send(hint)

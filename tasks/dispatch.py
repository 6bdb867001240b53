"""Dispatch: the messages for work that may start.

Best effort. Work whose message was not sent, or was lost, stays due in the record, and a tick dispatches it again.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import structlog
from kombu.exceptions import OperationalError

from integrations.connections.record import Connection, Step, Target
from tasks.celery import app
from tasks.queues import QUARANTINE, STEPS

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
    """Send a message for each piece of work."""
    for target in targets:
        try:
            send(*message_for(connection, target))
        except OperationalError as error:
            log.warning("message_not_sent", step=target.step, slot=target.slot, error=type(error).__name__)


def send(task: str, arguments: dict[str, Any], queue: str = STEPS) -> None:
    """Send one message. Raises kombu's OperationalError if the broker does not take it."""
    app.send_task(task, kwargs=arguments, queue=queue)

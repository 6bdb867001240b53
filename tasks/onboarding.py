"""The tasks. Each is one call; their order is in `flow.py`, what they have in common in `step.py`.

Names and arguments are a contract with producers and dashboards; only ids travel between tasks.
"""

from collections.abc import Iterable
from typing import Any

import redis
import structlog
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from integrations.errors import RequestRefused, TransientError
from integrations.oracle_commerce.acceptance import Accepted, Door
from integrations.oracle_commerce.connection import Connection, Step, Target
from tasks.backlog import room_for_steps
from tasks.celery import QuietTask as Task
from tasks.celery import app
from tasks.inbox import Inbox
from tasks.queues import QUARANTINE, STEPS
from tasks.step import run_step
from tasks.wiring import Wiring, wiring

log = structlog.get_logger(__name__)

_REQUESTS_PER_TICK = 500
_WORK_PER_TICK = 1000  # and in the queue: less than workers do in a lease, so what waits there is not sent twice
_WHILE_SENDING = 10.0  # seconds
# By the server's clock: messages that expire would be judged by the worker's, and one that is fast would drop them all.
_TICK_AT_MOST_EVERY_MS = 500


@app.task(name="occ.connect", shared=False)
def connect(*args: object, **request: object) -> dict[str, object]:
    """Accept a request: the door for Celery producers."""
    try:
        return _accept(list(args) if args else request, Door.CELERY)
    except (redis.RedisError, TransientError) as error:
        log.warning("request_put_back", error=type(error).__name__)
        raise Reject(requeue=True) from None  # acknowledged, it would be gone


@app.task(name="occ.validate_key", shared=False, bind=True)
def validate_key(self: Task, merchant_id: str, run: int, attempt: int = 1) -> dict[str, object]:  # noqa: ARG001
    """Exchange the application key for an access token."""
    return _run(self, merchant_id, run, Target(Step.VALIDATE_KEY))


@app.task(name="occ.check_shipping_methods", shared=False, bind=True)
def check_shipping_methods(self: Task, merchant_id: str, run: int, attempt: int = 1) -> dict[str, object]:  # noqa: ARG001
    """See that the store has an enabled shipping method."""
    return _run(self, merchant_id, run, Target(Step.CHECK_SHIPPING_METHODS))


@app.task(name="occ.register_slot", shared=False, bind=True)
def register_slot(self: Task, merchant_id: str, run: int, slot: str, attempt: int = 1) -> dict[str, object]:  # noqa: ARG001
    """Put our callback URL into one slot."""
    return _run(self, merchant_id, run, Target(Step.REGISTER_SLOT, slot))


def _run(task: Task, merchant_id: str, run: int, target: Target) -> dict[str, object]:
    lane = (task.request.delivery_info or {}).get("routing_key")
    return run_step(wiring(), start, merchant_id, run, target, alone=lane == QUARANTINE)


@app.task(name="occ.tick", shared=False, send_events=False)
def tick() -> dict[str, object]:
    """Take requests from the inbox, and start the work that is due: retries, rescues and re-validations alike."""
    parts = wiring()
    if not parts.redis.set("occ:tick", "1", nx=True, px=_TICK_AT_MOST_EVERY_MS):
        return {"outcome": "not_needed"}
    try:
        due = _hand_out_due(parts)
    finally:  # neither may keep the other from being done
        inbox = Inbox(parts.redis, take_over_after=parts.pace.lease)
        requests = inbox.drain(lambda request: _accept(request, Door.INBOX), _REQUESTS_PER_TICK)
    return {"requests": requests, "due": due}


def _hand_out_due(parts: Wiring) -> int:
    # For long only once the messages are sent: a tick that dies in between delays nobody by a whole lease.
    room = room_for_steps(_WORK_PER_TICK)
    if not room:
        return 0
    taken = parts.records.take_due(room, put_off=min(_WHILE_SENDING, parts.pace.lease))
    snapshots = parts.records.load_many([merchant_id for merchant_id, _ in taken.work])
    for snapshot, (merchant_id, slot) in zip(snapshots, taken.work, strict=True):
        connection = snapshot.connection
        if snapshot.unreadable:
            log.error("record_unreadable", merchant_id=merchant_id)  # kept, and due again: a newer release may read it
        elif connection is None or slot not in connection.due():
            parts.records.settle_due(snapshot, merchant_id, slot)
        else:
            start(connection, [Target(connection.step, slot)])
    parts.records.put_off(taken, parts.pace.lease)
    return len(taken.work)


def start(connection: Connection, targets: Iterable[Target]) -> None:
    """Send a message for each piece of work. Best effort: what is not sent is due later, and the tick sends it."""
    for target in targets:
        work = connection.work_on(target)
        arguments: dict[str, Any] = {"merchant_id": connection.merchant_id, "run": connection.run}
        if target.slot is not None:
            arguments["slot"] = target.slot
        arguments["attempt"] = work.attempts + 1 if work else 1
        try:
            lane = QUARANTINE if work is not None and work.is_suspect else STEPS
            _TASKS[target.step].apply_async(kwargs=arguments, queue=lane)
        except OperationalError as error:
            log.warning("message_not_sent", step=target.step, slot=target.slot, error=type(error).__name__)


_TASKS = {
    Step.VALIDATE_KEY: validate_key,
    Step.CHECK_SHIPPING_METHODS: check_shipping_methods,
    Step.REGISTER_SLOT: register_slot,
}


def _accept(request: object, door: Door) -> dict[str, object]:
    parts = wiring()
    try:
        accepted = parts.acceptance.accept(request, door)
    except RequestRefused as refusal:
        log.warning("request_refused", field=refusal.field, code=refusal.code, remedy=refusal.remedy, door=door)
        return {"outcome": "refused", "field": refusal.field, "code": refusal.code, "remedy": refusal.remedy}
    return begin(accepted, door)


def begin(accepted: Accepted, door: Door) -> dict[str, object]:
    """Start the run of an accepted request."""
    connection = accepted.connection
    if accepted.started:
        log.info("run_started", merchant_id=connection.merchant_id, run=connection.run, door=door)
        start(connection, [Target(connection.step)])
    told = "accepted" if accepted.started else "unchanged"
    return {"outcome": told, "merchant_id": connection.merchant_id, "run": connection.run}

"""The tasks. Each is one call; their order is in `flow.py`, what they have in common in `step.py`.

Names and arguments are a contract with producers and dashboards; only ids travel between tasks.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import redis
import structlog
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from integrations.connections.record import Connection, Step, Target
from integrations.errors import RequestRefused, TransientError
from integrations.oracle_commerce.accept import Acceptance, Accepted, Asked, Door
from integrations.traceparent import FIELD as TRACEPARENT
from integrations.traceparent import parse_traceparent, traceparent_of
from tasks.celery import QuietTask as Task
from tasks.celery import app
from tasks.queues import QUARANTINE, STEPS
from tasks.step import run_step
from tasks.wiring import wiring

log = structlog.get_logger(__name__)


@app.task(name="occ.connect", shared=False, bind=True)
def connect(self: Task, /, *args: object, **request: object) -> dict[str, object]:
    """Accept a request: the door for Celery producers."""
    return _put_back_if_not_taken(lambda: accept(list(args) if args else request, Door.CELERY, _trace_of(self)))


def _put_back_if_not_taken(take: Callable[[], dict[str, object]]) -> dict[str, object]:
    try:
        return take()
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


@app.task(name="occ.revalidate", shared=False, bind=True)
def revalidate(self: Task, /, *args: object, **request: Any) -> dict[str, object]:
    """Begin a re-validation: the key is exchanged anew, and all that follows is looked at. Without `run`, a wish."""
    if _is_of_a_run(request):
        return _run(self, request["merchant_id"], request["run"], Target(Step.VALIDATE_KEY))
    return _put_back_if_not_taken(lambda: look(list(args) if args else request, Door.CELERY, _trace_of(self)))


@app.task(name="occ.disconnect", shared=False, bind=True)
def disconnect(self: Task, /, *args: object, **request: Any) -> dict[str, object]:
    """Take our callback URL out of one slot. Without `run`, the wish to have it out of all."""
    if _is_of_a_run(request):
        return _run(self, request["merchant_id"], request["run"], Target(Step.DISCONNECT, request.get("slot")))
    return _put_back_if_not_taken(lambda: leave(list(args) if args else request, Door.CELERY, _trace_of(self)))


def _is_of_a_run(request: Mapping[str, object]) -> bool:
    """Whether this is a message between our tasks; all else is a wish, and what is wrong with it is said."""
    kinds = {"merchant_id": str, "run": int, "slot": str | None}
    return all(isinstance(request.get(name), kind) for name, kind in kinds.items())


def _trace_of(task: Task) -> str:
    """What a producer with OpenTelemetry's Celery instrumentation puts among the headers of its message."""
    return parse_traceparent(getattr(task.request, TRACEPARENT, None))


def _run(task: Task, merchant_id: str, run: int, target: Target) -> dict[str, object]:
    lane = (task.request.delivery_info or {}).get("routing_key")
    return run_step(wiring(), start, merchant_id, run, target, alone=lane == QUARANTINE)


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
            _task_for(connection, target).apply_async(kwargs=arguments, queue=lane)
        except OperationalError as error:
            log.warning("message_not_sent", step=target.step, slot=target.slot, error=type(error).__name__)


_TASKS = {
    Step.VALIDATE_KEY: validate_key,
    Step.CHECK_SHIPPING_METHODS: check_shipping_methods,
    Step.REGISTER_SLOT: register_slot,
    Step.DISCONNECT: disconnect,
}


def _task_for(connection: Connection, target: Target) -> Any:
    again = target.step is Step.VALIDATE_KEY and connection.is_onboarded and connection.candidate is None
    return revalidate if again else _TASKS[target.step]


def accept(request: object, door: Door, traceparent: str = "") -> dict[str, object]:
    """Begin what a connect request asks for, or refuse it; tells in plain words which.

    `traceparent`: the trace its message came in; one in the request goes before.
    """
    return _traced("connect", request, door, traceparent, _accept)


def look(request: object, door: Door, traceparent: str = "") -> dict[str, object]:
    """Re-validate a connection now."""
    return _traced("revalidate", request, door, traceparent, _look)


def leave(request: object, door: Door, traceparent: str = "") -> dict[str, object]:
    """Disconnect."""
    return _traced("disconnect", request, door, traceparent, _leave)


_Take = Callable[[object, Door, str], dict[str, object]]


def _traced(kind: str, request: object, door: Door, traceparent: str, take: _Take) -> dict[str, object]:
    given = traceparent_of(request) or traceparent
    with wiring().tracing.request(kind, given) as span:
        told = take(request, door, given or span.traceparent)
        facts: dict[str, Any] = {name: told.get(name) for name in ("outcome", "merchant_id", "run", "field", "code")}
        span.tell(door=door, **facts)
        return told


def _accept(request: object, door: Door, traceparent: str) -> dict[str, object]:
    parts = wiring()
    try:
        accepted = parts.acceptance.accept(request, door, traceparent=traceparent)
    except RequestRefused as refusal:
        log.warning("request_refused", field=refusal.field, code=refusal.code, remedy=refusal.remedy, door=door)
        return {"outcome": "refused", "field": refusal.field, "code": refusal.code, "remedy": refusal.remedy}
    return begin(accepted, door)


def _look(request: object, door: Door, traceparent: str) -> dict[str, object]:
    return _told_of_wish("look", door, lambda acceptance: acceptance.look(request, door, traceparent=traceparent))


def _leave(request: object, door: Door, traceparent: str) -> dict[str, object]:
    return _told_of_wish(
        "disconnect", door, lambda acceptance: acceptance.disconnect(request, door, traceparent=traceparent)
    )


def _told_of_wish(wish: str, door: Door, ask: Callable[[Acceptance], Asked]) -> dict[str, object]:
    parts = wiring()
    try:
        asked = ask(parts.acceptance)
    except RequestRefused as refusal:
        log.warning("request_refused", field=refusal.field, code=refusal.code, remedy=refusal.remedy)
        return {"outcome": "refused", "field": refusal.field, "code": refusal.code, "remedy": refusal.remedy}
    log.info("wish_taken", merchant_id=asked.merchant_id, wish=wish, outcome=asked.outcome, door=door)
    follow_up(asked)
    return {"outcome": asked.outcome, "merchant_id": asked.merchant_id}


def follow_up(asked: Asked) -> None:
    """Start the work of a wish that was accepted."""
    if asked.committed is None:
        return
    now = asked.committed.snapshot.now()
    start(asked.committed.after, sorted(asked.committed.after.ready(now), key=str))


def begin(accepted: Accepted, door: Door) -> dict[str, object]:
    """Start the run of an accepted request."""
    connection = accepted.connection
    if accepted.started:
        log.info("run_started", merchant_id=connection.merchant_id, run=connection.run, door=door)
        if accepted.former is not None:
            start(accepted.former, [target for target, _ in accepted.former.unfinished()])
        start(connection, connection.ready(connection.updated_at))
    told = "accepted" if accepted.started else "unchanged"
    return {"outcome": told, "merchant_id": connection.merchant_id, "run": connection.run}

"""What both doors share: a request is accepted or refused, and the work of an accepted one is dispatched.

The doors are the queue `occ` and the inbox. Each function answers with a summary: `outcome`, and ids or the refusal.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import redis
import structlog
from celery import Task
from celery.exceptions import Reject

from integrations.connections.status import iso
from integrations.errors import RequestRefused, TransientError
from integrations.oracle_commerce.accept import Accepted, Asked, Door
from integrations.oracle_commerce.reports import parse_reports
from integrations.scheduled import due_time, schedule, server_time
from integrations.silence.heard import Report
from tasks.dispatch import dispatch
from tasks.wiring import wiring
from tasks.worker.broker.options import NOT_BEFORE
from tasks.worker.traces import TRACEPARENT, describe, parse_traceparent, traceparent_in, traceparent_of

log = structlog.get_logger(__name__)

Summary = dict[str, object]

_AT_ONCE = 1.0  # seconds: an eta nearer than this is no wait


def connect(request: object, door: Door, traceparent: str = "") -> Summary:
    """Begin the run a connect request asks for: accepted, unchanged or refused.

    `traceparent`: the trace its message came in. The trace a request itself names goes before it. Raises TransientError
    or redis.RedisError if the request could not be recorded; then the producer still has it.
    """
    return _answer("connect", request, door, traceparent, _connect)


def revalidate(request: object, door: Door, traceparent: str = "") -> Summary:
    """Re-validate a connection now. Raises like `connect`."""
    return _answer("revalidate", request, door, traceparent, _revalidate)


def disconnect(request: object, door: Door, traceparent: str = "") -> Summary:
    """Disconnect a merchant. Raises like `connect`."""
    return _answer("disconnect", request, door, traceparent, _disconnect)


def heard(requests: Sequence[object], door: Door) -> Summary:
    """Note which slots were heard from, as their receiver reports it; each request may hold many reports.

    A report changes nothing at a store and starts no work. Raises redis.RedisError or TransientError if it could not be
    noted; noting it twice does no harm.
    """
    services = wiring()
    reports: list[Report] = []
    refusal: RequestRefused | None = None
    refused = 0
    for request in requests:
        try:
            reports += parse_reports(request)
        except RequestRefused as problem:
            refusal, refused = problem, refused + 1
            services.records.note_refusal(problem, merchant_id=None, door=door)
    if refusal is not None:
        log.warning("reports_refused", requests=refused, field=refusal.field, code=refusal.code, door=door)
    taken = services.heard.take(reports)
    services.counts.heard(taken=taken.taken, unknown=taken.unknown, refused=refused)
    if refusal is not None and not reports:
        return {"outcome": "refused", "field": refusal.field, "code": refusal.code, "remedy": refusal.remedy}
    return {"outcome": "accepted", "reports": taken.taken, "unknown": taken.unknown}


def heard_from_queue(args: Sequence[object], report: Mapping[str, object]) -> Summary:
    """The same for a Celery message: one report in its fields, or several as `reports`."""
    given: object = list(args) if args else report.get("reports", report) if len(report) == 1 else report
    try:
        return heard([given], Door.CELERY)
    except (redis.RedisError, TransientError) as error:
        log.warning("request_put_back", error=type(error).__name__)
        raise Reject(requeue=True) from None  # acknowledged, it would be gone


def from_queue(
    answer: Callable[[object, Door, str], Summary],
    task: "Task[Any, Any]",
    args: Sequence[object],
    request: Mapping[str, object],
) -> Summary:
    """Answer a request that came as a Celery message. What could not be recorded goes back to the queue."""
    # OpenTelemetry's Celery instrumentation puts the producer's trace among the headers of its message.
    traceparent = parse_traceparent(getattr(task.request, TRACEPARENT, None))
    given: object = list(args) if args else request
    at = due_time(getattr(task.request, NOT_BEFORE, None))
    try:
        if at is not None and at > server_time(wiring().redis) + _AT_ONCE:
            return _answer(answer.__name__, given, Door.CELERY, traceparent, partial(_schedule, answer.__name__, at))
        return answer(given, Door.CELERY, traceparent)
    except (redis.RedisError, TransientError) as error:
        log.warning("request_put_back", error=type(error).__name__)
        raise Reject(requeue=True) from None  # acknowledged, it would be gone


def start_run(accepted: Accepted, door: Door) -> Summary:
    """Dispatch the first work of an accepted connect request, and that of a store it moves away from."""
    connection = accepted.connection
    if accepted.started:
        log.info("run_started", merchant_id=connection.merchant_id, run=connection.run, door=door)
        if accepted.former is not None:
            dispatch(accepted.former, [target for target, _ in accepted.former.unfinished()])
        dispatch(connection, connection.ready(connection.updated_at))
    outcome = "accepted" if accepted.started else "unchanged"
    return {"outcome": outcome, "merchant_id": connection.merchant_id, "run": connection.run}


def start_work(asked: Asked) -> None:
    """Dispatch the work of an accepted request to revalidate or disconnect, if it made any."""
    if asked.committed is not None:
        now = asked.committed.snapshot.now()
        dispatch(asked.committed.after, sorted(asked.committed.after.ready(now), key=str))


def _answer(
    kind: str, request: object, door: Door, traceparent: str, take: Callable[[object, Door, str], Summary]
) -> Summary:
    given = traceparent_in(request) or traceparent
    with wiring().traces.request(kind, given) as span:
        try:
            summary = take(request, door, given or traceparent_of(span))
        except RequestRefused as refusal:
            log.warning(
                "request_refused",
                request=kind,
                field=refusal.field,
                code=refusal.code,
                remedy=refusal.remedy,
                door=door,
            )
            summary = {"outcome": "refused", "field": refusal.field, "code": refusal.code, "remedy": refusal.remedy}
        facts: dict[str, Any] = {name: summary.get(name) for name in ("outcome", "merchant_id", "run", "field", "code")}
        describe(span, door=door, **facts)
        return summary


def _schedule(kind: str, at: float, request: object, door: Door, traceparent: str) -> Summary:
    """Keep a request that is to be taken up later, once it is seen to be one that would be accepted."""
    services = wiring()
    checked = services.acceptance.check_for_later(kind, request, door)
    if traceparent:
        checked = {**checked, TRACEPARENT: traceparent}
    schedule(services.redis, kind, checked, at)
    log.info("request_scheduled", merchant_id=checked["merchant_id"], request=kind, door=door, at=iso(at))
    return {"outcome": "scheduled", "merchant_id": checked["merchant_id"], "next_attempt_at": iso(at)}


def _connect(request: object, door: Door, traceparent: str) -> Summary:
    return start_run(wiring().acceptance.accept(request, door, traceparent=traceparent), door)


def _revalidate(request: object, door: Door, traceparent: str) -> Summary:
    return _started("revalidate", wiring().acceptance.revalidate(request, door, traceparent=traceparent), door)


def _disconnect(request: object, door: Door, traceparent: str) -> Summary:
    return _started("disconnect", wiring().acceptance.disconnect(request, door, traceparent=traceparent), door)


def _started(kind: str, asked: Asked, door: Door) -> Summary:
    log.info("request_accepted", merchant_id=asked.merchant_id, request=kind, outcome=asked.outcome, door=door)
    start_work(asked)
    return {"outcome": asked.outcome, "merchant_id": asked.merchant_id}

"""What both doors share: a request is accepted or refused, and the work of an accepted one is dispatched.

The doors are the queue `occ` and the inbox. Each function answers with a summary: `outcome`, and ids or the refusal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

import redis
import structlog
from celery import Task
from celery.exceptions import Reject

from integrations.connections.status import iso
from integrations.errors import RequestRefused, TransientError
from integrations.messages.scheduled import due_time, schedule, server_time
from integrations.oracle_commerce.accept import REPEATED, Accepted, Asked, Door
from integrations.oracle_commerce.reports import parse_reports
from integrations.oracle_commerce.request import request_id_of
from integrations.silence.heard import Report
from tasks.dispatch import dispatch
from tasks.wiring import wiring
from tasks.worker.broker.options import NOT_BEFORE, request_set_aside
from tasks.worker.message_view import chain_id
from tasks.worker.traces import TRACEPARENT, describe, parse_traceparent, traceparent_in, traceparent_of

log = structlog.get_logger(__name__)

Summary = dict[str, object]

_KINDS = {f"occ.{kind}": kind for kind in ("connect", "revalidate", "disconnect", "heard")}
_AT_ONCE = 1.0  # seconds: an eta nearer than this is no wait


@dataclass(frozen=True, slots=True)
class Origin:
    """How a request came in.

    `traceparent`: the trace its message came in; the trace a request itself names goes before it. `reference`: the id
    of the inbox entry or Celery message; the messages of what it begins lead back there.
    """

    door: Door
    traceparent: str = ""
    reference: str = ""


def connect(request: object, origin: Origin) -> Summary:
    """Begin the run a connect request asks for: accepted, unchanged, repeated or refused.

    Raises TransientError or redis.RedisError if the request could not be recorded; then the producer still has it.
    """
    return _answer("connect", request, origin, _connect)


def revalidate(request: object, origin: Origin) -> Summary:
    """Re-validate a connection now. Raises like `connect`."""
    return _answer("revalidate", request, origin, _revalidate)


def disconnect(request: object, origin: Origin) -> Summary:
    """Disconnect a merchant. Raises like `connect`."""
    return _answer("disconnect", request, origin, _disconnect)


def heard(requests: Sequence[object], door: Door, references: Sequence[str] = ()) -> Summary:
    """Note which slots were heard from, as their receiver reports it; each request may hold many reports.

    `references`: the id of the entry or message of each. A report changes nothing at a store and starts no work. Raises
    redis.RedisError or TransientError if it could not be noted; noting it twice does no harm.
    """
    services = wiring()
    reports: list[Report] = []
    refusal: RequestRefused | None = None
    refused = 0
    for request, reference in zip_longest(requests, references, fillvalue=""):
        try:
            with services.acceptance.noting_refusals("heard", request, door, str(reference)):
                reports += parse_reports(request)
        except RequestRefused as problem:
            refusal, refused = problem, refused + 1
    if refusal is not None:
        log.warning("reports_refused", requests=refused, field=refusal.field, code=refusal.code, door=door)
    taken = services.heard.take(reports)
    services.counts.heard(taken=taken.taken, unknown=taken.unknown, refused=refused)
    if refusal is not None and not reports:
        return {"outcome": "refused", "field": refusal.field, "code": refusal.code, "remedy": refusal.remedy}
    return {"outcome": "accepted", "reports": taken.taken, "unknown": taken.unknown}


def heard_from_queue(task: "Task[Any, Any]", args: Sequence[object], report: Mapping[str, object]) -> Summary:
    """The same for a Celery message: one report in its fields, or several as `reports`."""
    given: object = list(args) if args else report.get("reports", report) if len(report) == 1 else report
    try:
        return heard([given], Door.CELERY, [chain_id(task.request.id)])
    except (redis.RedisError, TransientError) as error:
        log.warning("request_put_back", error=type(error).__name__)
        raise Reject(requeue=True) from None  # acknowledged, it would be gone


def from_queue(
    answer: Callable[[object, Origin], Summary],
    task: "Task[Any, Any]",
    args: Sequence[object],
    request: Mapping[str, object],
) -> Summary:
    """Answer a request that came as a Celery message. What could not be recorded goes back to the queue."""
    # OpenTelemetry's Celery instrumentation puts the producer's trace among the headers of its message.
    traceparent = parse_traceparent(getattr(task.request, TRACEPARENT, None))
    origin = Origin(Door.CELERY, traceparent, chain_id(task.request.id))
    given: object = list(args) if args else request
    at = due_time(getattr(task.request, NOT_BEFORE, None))
    try:
        if at is not None and at > server_time(wiring().redis) + _AT_ONCE:
            return _answer(answer.__name__, given, origin, partial(_schedule, answer.__name__, at))
        return answer(given, origin)
    except (redis.RedisError, TransientError) as error:
        log.warning("request_put_back", error=type(error).__name__)
        raise Reject(requeue=True) from None  # acknowledged, it would be gone


def _note_set_aside(message: Any, reason: str, **_: object) -> None:
    """Whoever sent a request as a Celery message hears that it was set aside; of other messages nobody does."""
    kind = _KINDS.get(str(message.headers.get("task")))
    if kind is None:
        return
    body = [] if message.headers.get("compression") else message.payload
    request = body[1] if isinstance(body, list) and len(body) > 1 else None
    reference = chain_id(message.headers.get("id"))
    wiring().acceptance.note_set_aside(kind, request, Door.CELERY, reason, reference=reference)


request_set_aside.connect(_note_set_aside, weak=False, dispatch_uid="occ: requests that are set aside")


def start_run(accepted: Accepted, door: Door) -> Summary:
    """Dispatch the first work of an accepted connect request, and that of a store it moves away from."""
    connection = accepted.connection
    if accepted.started:
        named = {"request_id": connection.request_id} if connection.request_id else {}
        log.info("run_started", merchant_id=connection.merchant_id, run=connection.run, door=door, **named)
        if accepted.former is not None:
            dispatch(accepted.former, [target for target, _ in accepted.former.unfinished()])
        dispatch(connection, connection.ready(connection.updated_at))
    outcome = "accepted" if accepted.started else REPEATED if accepted.repeated else "unchanged"
    return {"outcome": outcome, "merchant_id": connection.merchant_id, "run": connection.run}


def start_work(asked: Asked) -> None:
    """Dispatch the work of an accepted request to revalidate or disconnect, if it made any."""
    if asked.committed is not None:
        now = asked.committed.snapshot.now()
        dispatch(asked.committed.after, sorted(asked.committed.after.ready(now), key=str))


def _answer(kind: str, request: object, origin: Origin, take: Callable[[object, Origin], Summary]) -> Summary:
    given = traceparent_in(request) or origin.traceparent
    request_id = request_id_of(request)
    with wiring().traces.request(kind, given) as span:
        try:
            summary = take(request, replace(origin, traceparent=given or traceparent_of(span)))
        except RequestRefused as refusal:
            named = {"request_id": request_id} if request_id else {}
            log.warning(
                "request_refused",
                request=kind,
                field=refusal.field,
                code=refusal.code,
                remedy=refusal.remedy,
                door=origin.door,
                **named,
            )
            summary = {"outcome": "refused", "field": refusal.field, "code": refusal.code, "remedy": refusal.remedy}
        if request_id:
            summary["request_id"] = request_id
        names = ("outcome", "merchant_id", "run", "field", "code", "request_id")
        facts: dict[str, Any] = {name: summary.get(name) for name in names}
        describe(span, door=origin.door, **facts)
        return summary


def _schedule(kind: str, at: float, request: object, origin: Origin) -> Summary:
    """Keep a request that is to be taken up later, once it is seen to be one that would be accepted."""
    services = wiring()

    def keep(checked: Mapping[str, object]) -> float:
        with_trace = {**checked, TRACEPARENT: origin.traceparent} if origin.traceparent else checked
        schedule(services.redis, services.records.clock, kind, with_trace, at)
        return at

    merchant_id = services.acceptance.keep_for_later(kind, request, origin.door, keep, reference=origin.reference)
    log.info("request_scheduled", merchant_id=merchant_id, request=kind, door=origin.door, at=iso(at))
    return {"outcome": "scheduled", "merchant_id": merchant_id, "next_attempt_at": iso(at)}


def _connect(request: object, origin: Origin) -> Summary:
    acceptance = wiring().acceptance
    accepted = acceptance.accept(request, origin.door, traceparent=origin.traceparent, reference=origin.reference)
    return start_run(accepted, origin.door)


def _revalidate(request: object, origin: Origin) -> Summary:
    acceptance = wiring().acceptance
    asked = acceptance.revalidate(request, origin.door, traceparent=origin.traceparent, reference=origin.reference)
    return _started("revalidate", asked, origin.door)


def _disconnect(request: object, origin: Origin) -> Summary:
    acceptance = wiring().acceptance
    asked = acceptance.disconnect(request, origin.door, traceparent=origin.traceparent, reference=origin.reference)
    return _started("disconnect", asked, origin.door)


def _started(kind: str, asked: Asked, door: Door) -> Summary:
    request_id = asked.committed.after.request_id if asked.committed else ""
    named = {"request_id": request_id} if request_id else {}
    log.info("request_accepted", merchant_id=asked.merchant_id, request=kind, outcome=asked.outcome, door=door, **named)
    start_work(asked)
    return {"outcome": asked.outcome, "merchant_id": asked.merchant_id}

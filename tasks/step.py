"""What every step has in common: claim the work in the record, do it, record the outcome, start what is next.

The tasks chain through the record. A message is only a hint to look at it: lost, late or doubled, it harms nothing.
"""

import time
import uuid
from collections.abc import Sequence
from functools import partial

import redis
import structlog

from integrations.connections.change import Moment, Stop
from integrations.connections.in_one_go import Done
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.lifecycle.requests import go_on
from integrations.connections.record import Cause, Connection, SlotStatus, Step, Target, merchant_of
from integrations.connections.records import Committed
from integrations.connections.status import iso
from integrations.egress.deadline import Deadline
from integrations.server.trouble import server_shortage
from tasks.celery import QuietTask
from tasks.claimed_step import ClaimedAhead, ClaimedStep, Start, Threads
from tasks.dispatch import FreeThreads, dispatch
from tasks.queues import QUARANTINE
from tasks.wiring import Wiring, wiring
from tasks.worker.handing_on import claimed_for
from tasks.worker.message_view import chain_id
from tasks.worker.traces import describe, opened

log = structlog.get_logger(__name__)

_WRITE_AGAIN_EVERY = 0.5  # seconds


def run(task: QuietTask, merchant_id: str, run: int, target: Target) -> dict[str, object]:
    """Run a step for one of the tasks; in the quarantine queue, alone."""
    queue = (task.request.delivery_info or {}).get("routing_key")
    task_id, ahead = chain_id(task.request.id), claimed_for(task.request.id or "")
    return run_step(
        wiring(),
        dispatch,
        merchant_id,
        run,
        target,
        alone=queue == QUARANTINE,
        task_id=task_id,
        threads=FreeThreads(),
        ahead=ahead if isinstance(ahead, ClaimedAhead) else None,
    )


def run_step(
    services: Wiring,
    start: Start,
    merchant_id: str,
    run: int,
    target: Target,
    *,
    alone: bool = False,
    task_id: str = "",
    threads: Threads | None = None,
    ahead: ClaimedAhead | None = None,
) -> dict[str, object]:
    """Do one piece of work if it is there to be done; returns its outcome as Flower shows it.

    `alone`: in the quarantine queue, with nothing else in this process. `task_id`: of the task that does it.
    `threads`: those that may take what follows. `ahead`: if it is claimed already.
    """
    owner = ahead.owner if ahead else uuid.uuid4().hex
    claimed_step = ClaimedStep(services, run, target, alone, owner=owner, task_id=task_id, threads=threads)
    claimed_step.ahead = ahead
    if alone:
        return _run_claimed(claimed_step, start, merchant_id)
    with services.bulkhead.attempt() as patience:
        claimed_step.patience = patience
        return _run_claimed(claimed_step, start, merchant_id)


def _run_claimed(claimed_step: ClaimedStep, start: Start, merchant_id: str) -> dict[str, object]:
    services, run, target = claimed_step.services, claimed_step.run, claimed_step.target
    ahead = claimed_step.ahead
    claimed = ahead.by if ahead else services.records.change(merchant_id, claimed_step.claim)
    if isinstance(claimed, Stop):
        services.counts.nothing_done(target)
        return _nothing_to_do(claimed)
    if claimed_step.stood_back:
        services.counts.stood_back(target)
        return {"outcome": "stood_back"}
    with opened(claimed_step.span(claimed.after)) as span:
        work = claimed.after.work_on(target)
        describe(span, merchant_id=merchant_id, run=run, slot=target.slot, attempt=work.attempts if work else None)
        named = {"request_id": claimed.after.request_id} if claimed.after.request_id else {}
        describe(span, **named)
        with structlog.contextvars.bound_contextvars(**named):
            summary = _carry_out(claimed_step, start, claimed)
        describe(span, **{name: str(summary[name]) for name in ("outcome", "cause", "reason") if name in summary})
        return summary


def _carry_out(claimed_step: ClaimedStep, start: Start, claimed: Committed) -> dict[str, object]:
    services, target, merchant_id = claimed_step.services, claimed_step.target, claimed.after.merchant_id
    recorded: Committed | Stop = claimed
    done: list[Done] = []
    if claimed_step.holds(claimed.after):  # else it was given up instead: it took its workers down too often
        lease = claimed_step.lease(claimed)
        done = claimed_step.attempt(claimed.snapshot, claimed.after, lease)
        recorded = _recorded(claimed_step, done, claimed, lease)
    if isinstance(recorded, Stop):
        log.warning("outcome_dropped", reason=recorded.reason)
        services.counts.nothing_done(target)
        if services.records.load(merchant_id).sealed_key is None:
            # Forgotten while this was under way, which may have bought a token with it.
            services.tokens.drop(merchant_id)
        return _nothing_to_do(recorded)
    if recorded.after.disconnection is not None:
        _after_disconnection(services, start, recorded)
    now = recorded.snapshot.now()
    claimed_step.hand_on(recorded, start)
    # The same work once more (the old key, after a new one was turned down) is new: its message is this one.
    was_ready = (recorded.before.ready(now) if recorded.before else set()) - {target}
    start(recorded.after, sorted(recorded.after.ready(now) - was_ready, key=str))
    summaries = {step.target: _summary(recorded.after, step.target) for step in done}
    summaries[target] = _summary(recorded.after, target) if len(done) <= 1 else _done(recorded.after)
    if Target(Step.CHECK_SHIPPING_METHODS) in summaries and recorded.after.disconnection is None:
        _look_for_others(services, recorded.after)
    services.counts.steps_done(claimed.after, recorded, summaries)
    summary, last = summaries[target], done[-1] if done else None
    if last is not None and isinstance(last.outcome, Failed) and last.target != target:
        # Whoever watches this task has to see what did not succeed in it.
        summary = {**summaries[last.target], "step": last.target.step}
        summary |= {"slot": last.target.slot} if last.target.slot else {}
    log.info("recorded", **{"step": target.step, **summary})
    return summary


def _recorded(claimed_step: ClaimedStep, done: Sequence[Done], claimed: Committed, lease: Deadline) -> Committed | Stop:
    """Write the outcomes down. A server that is full or away is waited for while the lease lasts: nothing else can go
    on either, and an outcome that is lost looks like a worker that died.
    """
    decide = partial(claimed_step.record, done)
    while True:
        try:
            return claimed_step.services.records.change(claimed.after.merchant_id, decide, known=claimed.snapshot)
        except redis.RedisError as error:
            shortage = server_shortage(error)
            if shortage is None or lease.remaining() < _WRITE_AGAIN_EVERY:
                raise
            log.warning("outcome_waits", lacking=shortage)
            time.sleep(_WRITE_AGAIN_EVERY)


def _after_disconnection(services: Wiring, start: Start, recorded: Committed) -> None:
    """Whoever waited for a store to be left need wait no longer, and whoever shared it may have it alone now."""
    if recorded.after.disconnected:
        services.shared_stores.left(recorded.after)
        services.tokens.drop(recorded.after.merchant_id)
    former, merchant_id = recorded.after.merchant_id, merchant_of(recorded.after.merchant_id)
    if former != merchant_id and recorded.after.disconnected:
        following = services.records.change(merchant_id, lambda it, now: go_on(it, Moment(now, services.pace)))
        if isinstance(following, Committed):
            start(following.after, [Target(following.after.step)])


def _look_for_others(services: Wiring, connection: Connection) -> None:
    """Once per run and re-validation: here the store has just been seen to be there."""
    others = services.shared_stores.review(connection)
    if others and not connection.shares_store_with:
        services.counts.store_shared()
        log.warning("store_shared", store_url=connection.store_url, others=list(others))


def _nothing_to_do(stop: Stop) -> dict[str, object]:
    return {"outcome": "nothing_to_do", "reason": stop.reason}


def _summary(connection: Connection, target: Target) -> dict[str, object]:
    """The outcome as Flower shows it."""
    if target.slot is not None:
        slot = connection.slots[target.slot]
        # Other systems read the verdict, which stands; whoever looks at this attempt wants to know that it failed.
        waits = slot.status is SlotStatus.REGISTERED and slot.next_attempt_at is not None
        outcome = SlotStatus.RETRYING if waits else slot.status
        summary = _without_none(outcome, slot.cause, slot.next_attempt_at)
        # Then nothing has failed.
        return {**summary, "required": False} if outcome is SlotStatus.NOT_OFFERED and not slot.required else summary
    if connection.cause is not None:
        return _without_none("waits", connection.cause, connection.due_at)
    if connection.trouble is not None and connection.step is target.step:  # else it is that of a step to come
        return _without_none("ended", connection.trouble.cause, connection.due_at)
    return _done(connection)


def _done(connection: Connection) -> dict[str, object]:
    return {"outcome": "done", "connection": connection.status}


def _without_none(outcome: str, cause: Cause | None, next_attempt_at: float | None) -> dict[str, object]:
    summary = {"outcome": outcome, "cause": cause.code if cause else None, "next_attempt_at": iso(next_attempt_at)}
    return {name: value for name, value in summary.items() if value is not None}

"""What every step has in common: claim the work in the record, do it, record the outcome, start what is next.

The tasks chain through the record. A message is only a hint to look at it: lost, late or doubled, it harms nothing.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
from opentelemetry.trace import Span

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle.claims import claim, is_mine, stand_back
from integrations.connections.lifecycle.outcomes import Failed, Outcome, SlotRemoved, record
from integrations.connections.lifecycle.requests import go_on, is_at_rest
from integrations.connections.record import Cause, Connection, SlotStatus, Target, merchant_of
from integrations.connections.records import Committed, Snapshot
from integrations.connections.status import iso
from integrations.egress.deadline import Deadline
from integrations.egress.patience import Patience
from integrations.errors import IntegrationError, RequestRefused, TransientError
from integrations.oracle_commerce.steps import STEPS, Attempt
from tasks.celery import QuietTask
from tasks.dispatch import dispatch
from tasks.queues import QUARANTINE
from tasks.wiring import Wiring, wiring
from tasks.worker.traces import describe, opened, traceparent_of

log = structlog.get_logger(__name__)

Start = Callable[[Connection, Iterable[Target]], None]
"""Sends the messages for work that may be started."""

_CLAIM_HEADROOM = 2.0  # seconds of a lease kept to record the outcome in


def run(task: QuietTask, merchant_id: str, run: int, target: Target) -> dict[str, object]:
    """Run a step for one of the tasks; in the quarantine queue, alone."""
    queue = (task.request.delivery_info or {}).get("routing_key")
    return run_step(wiring(), dispatch, merchant_id, run, target, alone=queue == QUARANTINE)


def run_step(
    services: Wiring, start: Start, merchant_id: str, run: int, target: Target, *, alone: bool = False
) -> dict[str, object]:
    """Do one piece of work if it is there to be done; tells in plain words what came of it.

    `alone`: in the quarantine queue, with nothing else in this process.
    """
    if alone:
        return _run_claimed(_ClaimedStep(services, run, target, alone, owner=uuid.uuid4().hex), start, merchant_id)
    with services.bulkhead.attempt() as patience:
        claimed_step = _ClaimedStep(services, run, target, alone, owner=uuid.uuid4().hex, patience=patience)
        return _run_claimed(claimed_step, start, merchant_id)


def _run_claimed(claimed_step: "_ClaimedStep", start: Start, merchant_id: str) -> dict[str, object]:
    services, run, target = claimed_step.services, claimed_step.run, claimed_step.target
    claimed = services.records.change(
        merchant_id, claimed_step.claim, known=services.records.load(merchant_id, with_token=True)
    )
    if isinstance(claimed, Stop):
        services.counts.nothing_done(target)
        return _nothing_to_do(claimed)
    if claimed_step.stood_back:
        services.counts.stood_back(target)
        return {"outcome": "stood_back"}
    with opened(claimed_step.span()) as span:
        work = claimed.after.work_on(target)
        describe(span, merchant_id=merchant_id, run=run, slot=target.slot, attempt=work.attempts if work else None)
        summary = _carry_out(claimed_step, start, claimed)
        describe(span, **{name: str(summary[name]) for name in ("outcome", "cause", "reason") if name in summary})
        return summary


def _carry_out(claimed_step: "_ClaimedStep", start: Start, claimed: Committed) -> dict[str, object]:
    services, target, merchant_id = claimed_step.services, claimed_step.target, claimed.after.merchant_id
    recorded: Committed | Stop = claimed
    if claimed_step.holds(claimed.after):  # else it was given up instead: it took its workers down too often
        outcome = claimed_step.attempt(claimed.snapshot, claimed.after)
        recorded = services.records.change(merchant_id, partial(claimed_step.record, outcome), known=claimed.snapshot)
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
    # The same work once more (the old key, after a new one was turned down) is new: its message is this one.
    was_ready = (claimed.before.ready(now) if claimed.before else set()) - {target}
    start(recorded.after, sorted(recorded.after.ready(now) - was_ready, key=str))
    summary = _summary(recorded.after, target)
    services.counts.step_done(target, claimed.after, recorded, summary)
    log.info("recorded", step=target.step, **summary)
    return summary


def _after_disconnection(services: Wiring, start: Start, recorded: Committed) -> None:
    """Whoever waited for a store to be left need wait no longer."""
    former, merchant_id = recorded.after.merchant_id, merchant_of(recorded.after.merchant_id)
    if former != merchant_id and recorded.after.disconnected:
        following = services.records.change(merchant_id, lambda it, now: go_on(it, Moment(now, services.pace)))
        if isinstance(following, Committed):
            start(following.after, [Target(following.after.step)])


@dataclass(slots=True)
class _ClaimedStep:
    """One worker's turn at one piece of work."""

    services: Wiring
    run: int
    target: Target
    alone: bool
    owner: str
    patience: Patience | None = None
    stood_back: bool = False
    """Whether the work was left alone for now, as no place was free for it."""
    _began: float = field(default_factory=time.time)
    _span: tuple[str, Span] | None = None  # and the trace it was made for

    def span(self) -> Span:
        """Of this turn, once the work is claimed."""
        return self._span_in("")

    def _span_in(self, traceparent: str) -> Span:
        if self._span is None or traceparent not in {"", self._span[0]}:
            # Others may have begun the trace meanwhile; then what was made for one of our own is dropped, never ended.
            self._span = traceparent, self.services.traces.step(self.target.step, traceparent, self._began)
        return self._span[1]

    def claim(self, connection: Connection | None, now: float) -> Change | Stop:
        """Take the work, for one lease."""
        if connection is None:
            return Stop("unknown_connection")
        at = Moment(now, self.services.pace)
        claimed = claim(connection, self.run, self.target, self.owner, at, alone=self.alone)
        if isinstance(claimed, Stop):
            return claimed
        self.stood_back = self.holds(claimed.connection) and not self._may_wait(claimed.connection)
        if self.stood_back:
            return stand_back(connection, self.target, random.random(), at)  # noqa: S311 - jitter
        span = self._span_in(connection.traceparent)  # looks, and runs nobody traced, begin a trace with their first
        return _in_trace(claimed, connection.traceparent or traceparent_of(span))

    def _may_wait(self, connection: Connection) -> bool:
        """Whether there is a place for work that needs one."""
        work = connection.work_on(self.target)
        needs_place = work is not None and work.stood_back > 0 and self.patience is not None
        return not needs_place or (self.patience is not None and self.patience.take_place())

    def holds(self, connection: Connection) -> bool:
        """Whether our claim stands."""
        return is_mine(connection, self.run, self.target, self.owner)

    def record(self, outcome: Outcome, connection: Connection | None, now: float) -> Change | Stop:
        """Write the outcome down, if the work is still ours."""
        if connection is None or not self.holds(connection):
            return Stop("superseded")
        return _in_trace(
            record(connection, self.target, outcome, Moment(now, self.services.pace)), connection.traceparent
        )

    def attempt(self, snapshot: Snapshot, connection: Connection) -> Outcome:
        """Do the step at the store; whatever goes wrong becomes an outcome too."""
        work = connection.work_on(self.target)
        number, since = (work.attempts, work.claim.since) if work and work.claim else (1, 0.0)
        structlog.contextvars.bind_contextvars(attempt=number)
        deadline = Deadline.after(self.services.pace.lease - _CLAIM_HEADROOM)
        try:
            if self._is_wanted_again(connection):
                return SlotRemoved(wrote=False, moved_back=True)
            outcome = STEPS[self.target.step](
                Attempt(
                    store=self.services.store(snapshot, connection, deadline),
                    connection=connection,
                    target=self.target,
                    since=since,
                    wanted=self.services.wanted,
                )
            )
        except IntegrationError as error:
            self.services.outages.note(connection, error.code)
            log.info("attempt_failed", step=self.target.step, cause=error.code, detail=error.detail)
            asked_to_wait = error.retry_after if isinstance(error, TransientError) else None
            return self._failed(Cause(error.code, error.detail), number, asked_to_wait)
        except RequestRefused as refused:
            log.warning("credential_unusable", reason=refused.code)  # its sealing key was retired
            return self._failed(Cause("credential_unusable", refused.code), number)
        except Exception as error:
            # Nothing that goes wrong here may leave work without an outcome; the policy bounds how often it is tried.
            log.exception("attempt_crashed", step=self.target.step)
            return self._failed(Cause("internal_error", type(error).__name__), number)
        self.services.outages.note(connection, None)
        return outcome

    def _is_wanted_again(self, connection: Connection) -> bool:
        """Whether the merchant has come back to the store that is being left: our callback URL belongs there."""
        merchant_id = merchant_of(connection.merchant_id)
        if merchant_id == connection.merchant_id:
            return False
        present = self.services.records.load(merchant_id).connection
        return present is not None and present.disconnection is None and present.store_url == connection.store_url

    def _failed(self, cause: Cause, attempt: int, asked_to_wait: float | None = None) -> Failed:
        return Failed(cause, self.services.retry.delay(attempt, asked_to_wait))


def _in_trace(change: Change, traceparent: str) -> Change:
    """All work of a run, or of a look, belongs to one trace; the next look begins another."""
    kept = "" if is_at_rest(change.connection) else traceparent
    return replace(change, connection=replace(change.connection, traceparent=kept))


def _nothing_to_do(stop: Stop) -> dict[str, object]:
    return {"outcome": "nothing_to_do", "reason": stop.reason}


def _summary(connection: Connection, target: Target) -> dict[str, object]:
    """The outcome as Flower shows it."""
    if target.slot is not None:
        slot = connection.slots[target.slot]
        # Other systems read the verdict, which stands; whoever looks at this attempt wants to know that it failed.
        waits = slot.status is SlotStatus.REGISTERED and slot.next_attempt_at is not None
        outcome = SlotStatus.RETRYING if waits else slot.status
        return _without_none(outcome, slot.cause, slot.next_attempt_at)
    if connection.cause is not None:
        return _without_none("waits", connection.cause, connection.due_at)
    if connection.trouble is not None and connection.step is target.step:  # else it is that of a step to come
        return _without_none("ended", connection.trouble.cause, connection.due_at)
    return {"outcome": "done", "connection": connection.status}


def _without_none(outcome: str, cause: Cause | None, next_attempt_at: float | None) -> dict[str, object]:
    summary = {"outcome": outcome, "cause": cause.code if cause else None, "next_attempt_at": iso(next_attempt_at)}
    return {name: value for name, value in summary.items() if value is not None}

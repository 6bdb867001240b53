"""One worker's attempt at one piece of work: claim it in the record, do it at the store, write down what came of it."""

import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog
from opentelemetry.trace import Span

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.failures import Failure, failure_of
from integrations.connections.in_one_go import Done, may_take_all, next_step, record_all, taken
from integrations.connections.lifecycle.claims import claim, claim_ahead, give_back, is_mine, stand_back
from integrations.connections.lifecycle.outcomes import Failed, Outcome, SlotRemoved, record
from integrations.connections.lifecycle.requests import is_at_rest
from integrations.connections.record import NO_CHAIN, Chain, Connection, Target, merchant_of
from integrations.connections.records import Committed, Snapshot
from integrations.egress.deadline import Deadline
from integrations.egress.patience import Patience
from integrations.oracle_commerce.steps import STEPS, Attempt, look_at_slot
from integrations.oracle_commerce.store import Store
from tasks.wiring import CLAIM_HEADROOM, Wiring
from tasks.worker.traces import traceparent_of

log = structlog.get_logger(__name__)

Start = Callable[[Connection, Iterable[Target]], None]
"""Sends the messages for work that may be started."""


class Threads(Protocol):
    """Threads that take what is claimed for them; `dispatch.FreeThreads` are those of a worker."""

    def room(self) -> int:
        """How many are free."""

    def take(self, connection: Connection, target: Target, *, claimed: object, give_back: Callable[[], object]) -> bool:
        """Whether one takes it. `claimed`: for `run_step`. `give_back`: for the case that it is never begun."""


@dataclass(frozen=True, slots=True)
class ClaimedAhead:
    """Work that was claimed for a task by the change that made it ready."""

    owner: str
    by: Committed


@dataclass(slots=True)
class ClaimedStep:
    """One worker's attempt at one piece of work."""

    services: Wiring
    run: int
    target: Target
    alone: bool
    owner: str
    task_id: str = ""
    threads: Threads | None = None
    ahead: ClaimedAhead | None = None
    patience: Patience | None = None
    stood_back: bool = False
    """Whether the work was left alone for now, as no place was free for it."""
    _store: Store | None = None
    _open_store: Callable[[], Store] = field(init=False)
    _began: float = field(default_factory=time.time)
    _span: tuple[str, Span] | None = None  # and the trace it was made for
    _claimed_ahead: dict[Target, str] = field(default_factory=dict)  # and by which owner

    def span(self, claimed: Connection) -> Span:
        """Of this attempt, once the work is claimed."""
        return self._span_in(claimed.traceparent if self.ahead else "")

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
        span = self._span_in(connection.traceparent)  # without a trace, the first step begins one
        # Likewise a chain.
        chain = connection.chain if connection.chain.root else Chain(self.task_id, self.task_id)
        return _placed(claimed, connection.traceparent or traceparent_of(span), chain)

    def _may_wait(self, connection: Connection) -> bool:
        """Whether there is a place for work that needs one."""
        work = connection.work_on(self.target)
        needs_place = work is not None and work.stood_back > 0 and self.patience is not None
        return not needs_place or (self.patience is not None and self.patience.take_place())

    def holds(self, connection: Connection) -> bool:
        """Whether our claim stands."""
        return is_mine(connection, self.run, self.target, self.owner)

    def lease(self, claimed: Committed) -> Deadline:
        """When our claim ends, but for the time that it takes to record the outcome."""
        work = claimed.after.work_on(self.target)
        until = work.claim.until if work and work.claim else 0.0
        return Deadline.after(until - claimed.snapshot.now() - CLAIM_HEADROOM)

    def record(self, done: Sequence[Done], connection: Connection | None, now: float) -> Change | Stop:
        """Write down what was done, if the work is still ours, and claim what follows for threads that are free."""
        if connection is None or not self.holds(connection):
            return Stop("superseded")
        at = Moment(now, self.services.pace)
        recorded = record_all(connection, self.owner, done, at)
        chain = connection.chain
        if recorded.connection.step is not connection.step and self.task_id:
            chain = replace(chain, parent=self.task_id)  # of the work of the next stage
        following = sorted(recorded.connection.ready(now) - connection.ready(now), key=str)
        return self._claim_ahead(_placed(recorded, connection.traceparent, chain), following, at)

    def _claim_ahead(self, change: Change, following: Sequence[Target], at: Moment) -> Change:
        self._claimed_ahead = {}
        connection = change.connection
        for target in following[: self.threads.room() if self.threads and following else 0]:
            owner = uuid.uuid4().hex
            if (claimed := claim_ahead(connection, target, owner, at)) is not None:
                connection, self._claimed_ahead[target] = claimed, owner
        return replace(change, connection=connection)

    def hand_on(self, recorded: Committed, start: Start) -> None:
        """Give what was claimed for free threads to them. What none takes after all is given back and sent."""
        merchant_id, run = recorded.after.merchant_id, recorded.after.run
        for target, owner in self._claimed_ahead.items():
            undo = partial(give_back, run=run, target=target, owner=owner)
            undone = partial(self.services.records.change, merchant_id, undo)
            ahead = ClaimedAhead(owner, recorded)
            taken = self.threads and self.threads.take(recorded.after, target, claimed=ahead, give_back=undone)
            if not taken and isinstance(left := undone(), Committed):
                start(left.after, [target])

    def attempt(self, snapshot: Snapshot, connection: Connection, lease: Deadline) -> list[Done]:
        """Do the step at the store, and with it a re-validation to its end, as long as all is in order.

        What is not, or is slow, is left to tasks of their own.
        """
        self._open_store = partial(self.services.store, snapshot, connection, lease)
        target, takes_all = self.target, self.patience is not None and may_take_all(connection, self.target)
        work = connection.work_on(target)
        claimed, began = connection, work.claim.since if work and work.claim else 0.0
        done: list[Done] = []
        over: set[Target] = set()
        while True:
            outcome = self._outcome(claimed, target)
            at = Moment(snapshot.now(), self.services.pace)
            if outcome is None:
                over.add(target)
            else:
                done.append(Done(target, outcome, began))
                if isinstance(outcome, Failed) or not takes_all:
                    return done
                if target.slot is None:
                    connection = record(claimed, target, outcome, at).connection
                else:
                    over.add(target)  # what comes of one slot changes nothing about the next
            following = next_step(connection, over, at.now)
            if following is None or self.patience is None or not self.patience.is_short:
                return done
            target, began = following, at.now
            claimed = taken(connection, target, self.owner, began, at)

    def _outcome(self, connection: Connection, target: Target) -> Outcome | None:
        """Of one step; whatever goes wrong becomes an outcome too. None if it takes a task of its own."""
        work = connection.work_on(target)
        number, since = (work.attempts, work.claim.since) if work and work.claim else (1, 0.0)
        structlog.contextvars.bind_contextvars(attempt=number)
        try:
            if self._is_wanted_again(connection):
                return SlotRemoved(wrote=False, moved_back=True)
            self._store = self._store or self._open_store()
            do = STEPS[target.step] if target.step is self.target.step or target.slot is None else look_at_slot
            outcome = do(
                Attempt(
                    store=self._store,
                    connection=connection,
                    target=target,
                    since=since,
                    wanted=self.services.wanted,
                    writers=self.services.writers,
                )
            )
        except Exception as error:  # work is never left without an outcome; the policy bounds its attempts
            failure = failure_of(error)
            if failure.is_ours:
                log.exception("attempt_crashed", step=target.step)
            return self._failed(failure, connection, target, number)
        if target == self.target:  # once is enough: the others are of the same merchant, moments later
            self._note(connection, None)
        return outcome

    def _note(self, connection: Connection, code: str | None) -> None:
        accepted = self._store is not None and self._store.key_accepted
        self.services.outages.note(connection, code, key_accepted=accepted)

    def _is_wanted_again(self, connection: Connection) -> bool:
        """Whether the merchant has come back to the store that is being left: our callback URL belongs there."""
        merchant_id = merchant_of(connection.merchant_id)
        if merchant_id == connection.merchant_id:
            return False
        present = self.services.records.load(merchant_id).connection
        return present is not None and present.disconnection is None and present.store_url == connection.store_url

    def _failed(self, failure: Failure, connection: Connection, target: Target, attempt: int) -> Failed:
        cause = failure.cause
        if failure.of_store:
            self._note(connection, cause.code)
            log.info("attempt_failed", step=target.step, cause=cause.code, detail=cause.detail)
        elif cause.code == "credential_unusable":
            log.warning("credential_unusable", reason=cause.detail)
        elif not failure.is_ours:
            log.warning("attempt_cut_short", step=target.step, lacking=cause.detail)
        wait = self.services.retry.delay(attempt, failure.retry_after)
        waits = failure.key_refused and self.services.outages.verdict_waits(connection, self.services.pace)
        return Failed(cause, wait, verdict_waits=waits, learnt=failure.learnt)


def _placed(change: Change, traceparent: str, chain: Chain) -> Change:
    """All work of a run, or of a re-validation, belongs to one trace and one chain; the next one begins others."""
    if is_at_rest(change.connection):
        traceparent, chain = "", NO_CHAIN
    if (change.connection.traceparent, change.connection.chain) == (traceparent, chain):
        return change
    return replace(change, connection=replace(change.connection, traceparent=traceparent, chain=chain))

"""Several steps that one claim covers: a re-validation that finds all in order takes a single task. Pure.

What is recorded is what it would be if each step had been a task of its own: the same function decides on each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from integrations.connections.change import Change, Moment, Note, with_work
from integrations.connections.lifecycle.outcomes import Outcome, record
from integrations.connections.record import Claim, Connection, SlotStatus, Step, Target
from integrations.connections.timeline import is_news


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done, and when it began, by the pipeline's clock."""

    target: Target
    outcome: Outcome
    began: float


def may_take_all(connection: Connection, target: Target) -> bool:
    """Whether the task that has claimed this may go on to the end of a re-validation.

    Not again where it was tried before, had to make way, or took a worker down: then each step answers for itself.
    """
    work = connection.work_on(target)
    if work is None or target.step is not Step.VALIDATE_KEY or not connection.is_onboarded:
        return False
    return connection.candidate is None and (work.attempts, work.deaths, work.stood_back) == (1, 0, 0)


def next_step(connection: Connection, over: set[Target], now: float) -> Target | None:
    """What to do next in the same go: the steps before the slots, and each slot that was in order the last time.

    `over`: what was done, or is left to a task of its own.
    """
    ready = (target for target in sorted(connection.ready(now) - over, key=str) if target.step is not Step.VALIDATE_KEY)
    return next((target for target in ready if target.slot is None or _was_in_order(connection, target.slot)), None)


def taken(connection: Connection, target: Target, owner: str, began: float, at: Moment) -> Connection:
    """The connection with the next step claimed, as its own task would claim it."""
    work = connection.work_on(target)
    if work is None:
        raise ValueError("only work that is there can be taken")
    claim = Claim(owner, until=at.now + at.pace.lease, since=began)
    return with_work(connection, target, replace(work, claim=claim, attempts=work.attempts + 1))


def record_all(connection: Connection, owner: str, done: Sequence[Done], at: Moment) -> Change:
    """What the outcomes make of the record, one after the other. The first was claimed in it; the others never are.

    Of each, the timeline says what it would say of it alone. Only a new application key would change what is kept
    beside the record, and that never comes in one go.
    """
    first, *others = done
    change = record(connection, first.target, first.outcome, at)
    notes = _news(connection, change)
    for following in others:
        if change.connection.work_on(following.target) is None:
            continue  # somebody has changed the record meanwhile: it is not wanted any more
        claimed = taken(change.connection, following.target, owner, following.began, at)
        change = record(claimed, following.target, following.outcome, at)
        notes += _news(claimed, change)
    return replace(change, notes=tuple(notes)) if others else change


def _news(before: Connection, change: Change) -> list[Note]:
    return [note for note in change.notes if is_news(note, before, change.connection)]


def _was_in_order(connection: Connection, name: str) -> bool:
    slot = connection.slots[name]
    return slot.verdict is SlotStatus.REGISTERED and slot.in_order_at is not None and slot.cause is None

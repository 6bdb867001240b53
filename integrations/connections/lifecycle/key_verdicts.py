"""What it means that the store said no to an application key. Pure.

One no is a doubt; a second, some minutes later, is a verdict. A no to a new key never harms the one that works.
"""

from dataclasses import replace

from integrations.connections.change import (
    Change,
    Keys,
    Moment,
    Note,
    at_once,
    at_time,
    begun_at,
    claimed_work,
    with_cause,
    with_work,
)
from integrations.connections.record import (
    Candidate,
    Cause,
    Connection,
    KeyVerdict,
    Slot,
    SlotStatus,
    Step,
    Target,
)


def key_refused(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """The store said no to the application key.

    Whichever step met it, the connection goes back to validating the key; unfinished slots wait for the answer.
    """
    if connection.candidate is not None:
        return _candidate_refused(connection, target, cause, at)
    work = claimed_work(connection, target)
    doubted_since = connection.credential.doubted_since
    if doubted_since is None:
        return _doubt(connection, target, cause, at)
    asked_at = begun_at(work) or at.now
    if asked_at - doubted_since < at.pace.confirm_rejection:
        # Asked before the doubt was old enough, told only now: the same no once more.
        return _held_back(connection, target, cause, doubted_since + at.pace.confirm_rejection, at)
    again = at.now + at.pace.revalidate_every
    rejected = replace(
        connection,
        credential=replace(connection.credential, verdict=KeyVerdict.REJECTED),
        step=Step.VALIDATE_KEY,
        work=at_time(again),
        cause=cause,
        trouble=None,
        slots={name: _without_key(slot, cause) for name, slot in connection.slots.items()},
        updated_at=at.now,
    )
    return Change(rejected, (Note("key_rejected", target, work.attempts, cause, asked_at, {"until": again}),))


def candidate_turned_down(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """The new key is not good enough. The old one goes on, beginning with a look at how things are."""
    line = Note("new_key_rejected", target, claimed_work(connection, target).attempts, cause)
    kept = replace(
        connection,
        candidate=None,
        key_refusal=cause,
        step=Step.VALIDATE_KEY,
        work=at_once(at),
        cause=None,
        updated_at=at.now,
    )
    return Change(kept, (line,), Keys(forget_candidate=True))


def _candidate_refused(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    candidate = connection.candidate or Candidate("")
    asked_at = begun_at(claimed_work(connection, target)) or at.now
    if candidate.doubted_since is not None and asked_at - candidate.doubted_since >= at.pace.confirm_rejection:
        return candidate_turned_down(connection, target, cause, at)
    doubted_since = candidate.doubted_since or at.now
    doubted = replace(connection, candidate=replace(candidate, doubted_since=doubted_since))
    until = doubted_since + at.pace.confirm_rejection
    held = _held_back(doubted, target, Cause("new_key_doubted", cause.detail), until, at)
    return replace(held, connection=replace(held.connection, step=Step.VALIDATE_KEY))


def _doubt(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """The first no. The key is validated once more, later, and everything else waits for that."""
    again = at.now + at.pace.confirm_rejection
    doubted = replace(
        connection,
        credential=replace(connection.credential, verdict=KeyVerdict.DOUBTED, doubted_since=at.now),
        updated_at=at.now,
    )
    held = _held_back(doubted, target, Cause("key_doubted", cause.detail), again, at)
    if target.step is Step.VALIDATE_KEY:
        return held
    return replace(held, connection=replace(held.connection, step=Step.VALIDATE_KEY, work=at_time(again)))


def _held_back(connection: Connection, target: Target, doubt: Cause, until: float, at: Moment) -> Change:
    """Give the work back until the key is validated. To the merchant it is a doubt, not yet a rejection."""
    work = claimed_work(connection, target)
    waiting = at_time(until)  # the second exchange is no further attempt at the first
    held = with_cause(with_work(connection, target, waiting), target, doubt)
    line = Note(doubt.code, target, work.attempts, doubt, begun_at(work), {"until": until})
    return Change(replace(held, updated_at=at.now), (line,))


def _without_key(slot: Slot, cause: Cause) -> Slot:
    """A slot that was under way has failed with the key; one with a verdict keeps it, one never tried stays pending."""
    if slot.work is None:
        return slot
    verdict = slot.verdict or SlotStatus.FAILED
    return replace(slot, verdict=verdict, work=None, last_attempts=slot.attempts, cause=cause)

"""What it means that the store said no to an application key. Pure.

One no is a doubt; a second, some minutes later, is a verdict. A no to a new key never harms the one that works. While
it may be everybody's key that is refused, a verdict waits, for a day at most, and the key is tried less and less often.
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
    DAY,
    Candidate,
    Cause,
    Connection,
    KeyVerdict,
    Slot,
    SlotStatus,
    Step,
    Target,
)

_LONGEST_WAIT = DAY
_ASKED_AGAIN_AFTER = 0.2  # of the age of the doubt: some 40 exchanges in a day


def key_refused(
    connection: Connection, target: Target, cause: Cause, at: Moment, *, verdict_waits: bool = False
) -> Change:
    """The store said no to the application key.

    Whichever step met it, the connection goes back to validating the key; unfinished slots wait for the answer.
    """
    if connection.candidate is not None:
        return _candidate_refused(connection, target, cause, at, verdict_waits=verdict_waits)
    work = claimed_work(connection, target)
    doubted_since = connection.credential.doubted_since
    if doubted_since is None:
        return _doubt(connection, target, cause, at)
    asked_at = begun_at(work) or at.now
    if asked_at - doubted_since < at.pace.confirm_rejection:
        # Asked before the doubt was old enough, told only now: the same no once more.
        return _held_back(connection, target, cause, doubted_since + at.pace.confirm_rejection, at)
    known = connection.credential.verdict is KeyVerdict.REJECTED
    if verdict_waits and not known and asked_at - doubted_since < _LONGEST_WAIT:
        again = _once_more(doubted_since, at)
        return _back_to_the_key(connection, target, Cause("key_doubted", cause.detail), again, at)
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
    """The new key is not good enough. The old one stays in use, beginning with a re-validation."""
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


def _candidate_refused(
    connection: Connection, target: Target, cause: Cause, at: Moment, *, verdict_waits: bool
) -> Change:
    candidate = connection.candidate or Candidate("")
    asked_at = begun_at(claimed_work(connection, target)) or at.now
    doubted_since = candidate.doubted_since or at.now
    until = doubted_since + at.pace.confirm_rejection
    if candidate.doubted_since is not None and asked_at >= until:
        if not verdict_waits or asked_at - doubted_since >= _LONGEST_WAIT:
            return candidate_turned_down(connection, target, cause, at)
        until = _once_more(doubted_since, at)
    doubted = replace(connection, candidate=replace(candidate, doubted_since=doubted_since))
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
    return _back_to_the_key(doubted, target, Cause("key_doubted", cause.detail), again, at)


def _once_more(doubted_since: float, at: Moment) -> float:
    """When a key is tried again whose verdict waits."""
    wait = max(at.now - doubted_since, at.pace.confirm_rejection) * _ASKED_AGAIN_AFTER
    return at.now + min(wait, at.pace.recheck_degraded)


def _back_to_the_key(connection: Connection, target: Target, doubt: Cause, until: float, at: Moment) -> Change:
    held = _held_back(connection, target, doubt, until, at)
    if target.step is Step.VALIDATE_KEY:
        return held
    return replace(held, connection=replace(held.connection, step=Step.VALIDATE_KEY, work=at_time(until)))


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

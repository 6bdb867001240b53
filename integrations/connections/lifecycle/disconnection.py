"""Disconnecting: our callback URL is taken out of every slot, each on its own, and the application key forgotten. Pure.

What the store refuses is recorded as left behind and tried again, less and less often; the key is kept for that, and
forgotten when the last slot is done or the time for it is over.
"""

from collections.abc import Mapping
from dataclasses import replace

from integrations.connections.change import (
    Change,
    Keys,
    Moment,
    Note,
    Stop,
    at_once,
    at_time,
    begun_at,
    claimed_work,
    slot_name,
)
from integrations.connections.record import (
    FOR_PEOPLE_TO_DECIDE,
    Cause,
    Connection,
    Disconnection,
    Slot,
    SlotStatus,
    Step,
    Target,
    Work,
)

_FORGET_ALL = Keys(forget_current=True, forget_candidate=True)


def disconnect(connection: Connection | None, at: Moment, *, forget_now: bool = False) -> Change | Stop:
    """Leave the store. `forget_now`: the key is forgotten at once, and what is in the store stays there."""
    if connection is None:
        return Stop("unknown_connection")
    if connection.disconnection is not None and not (forget_now and _has_work(connection)):
        return Stop("disconnected" if connection.disconnected else "under_way")
    begun = begin(connection, at) if connection.disconnection is None else connection
    asked = Note("disconnect_asked", details={"forget": "now" if forget_now else "end"})
    if not forget_now:
        return Change(begun, (asked,), Keys(forget_candidate=True))
    forgotten = Cause("credential_forgotten")
    slots = {name: _without_our_key(slot, forgotten) for name, slot in begun.slots.items()}
    return Change(replace(begun, slots=slots, updated_at=at.now), (asked, Note("key_forgotten")), _FORGET_ALL)


def begin(connection: Connection, at: Moment) -> Connection:
    """The connection with the work of leaving its store; tasks of its run end quietly."""
    return replace(
        connection,
        run=connection.run + 1,
        updated_at=at.now,
        step=Step.DISCONNECT,
        work=None,
        candidate=None,
        disconnection=connection.disconnection
        or Disconnection(at.now, at.now + at.pace.clean_up_for, connection.status),
        slots={name: _to_remove(slot, at) for name, slot in connection.slots.items()},
    )


def _to_remove(slot: Slot, at: Moment) -> Slot:
    if slot.verdict is SlotStatus.REMOVED:
        return slot
    forgiven = replace(slot, repairs=(), unanswered=(), writes_in_vain=0)
    return replace(forgiven, work=_work(slot, at), last_attempts=slot.attempts, cause=None)


def _work(slot: Slot, at: Moment) -> Work:
    """A task that is still busy with the slot may be about to write: it is given the rest of its lease."""
    held = slot.work.claim if slot.work and slot.work.is_held(at.now) else None
    until = max(slot.not_before, held.until if held else 0.0)
    return at_time(until) if until > at.now else at_once(at)


def slot_removed(connection: Connection, target: Target, details: Mapping[str, object], at: Moment) -> Change:
    """Our callback URL is not in the slot any more, or never was."""
    return _finished(connection, target, SlotStatus.REMOVED, at, details=details)


def left_behind(
    connection: Connection, target: Target, cause: Cause, at: Moment, *, until: float = 0.0, soon: bool = False
) -> Change:
    """The store did not let us take our callback URL out: reported at once, and tried again, not before `until`.

    `soon`: it may pass, so the first attempts follow each other at the retry policy's pace.
    """
    work = claimed_work(connection, target)
    if _never_there(connection.slots[slot_name(target)]):
        return _finished(connection, target, SlotStatus.REMOVED, at, details={"never_there": True})
    at_once = soon and work.attempts < at.pace.retry_attempts
    again = until if at_once else max(until, _next_try(work.attempts, at))
    if connection.disconnection is None or again > connection.disconnection.until:
        if cause.code not in FOR_PEOPLE_TO_DECIDE:
            return _finished(connection, target, SlotStatus.LEFT_BEHIND, at, cause=cause)
        again = at.now + at.pace.revalidate_every
    slot = connection.slots[slot_name(target)]
    waiting = replace(work, claim=None, not_before=again, due_at=again, deaths=0, deaths_alone=0)
    vain = slot.writes_in_vain if at_once else 0
    kept = replace(slot, verdict=SlotStatus.LEFT_BEHIND, work=waiting, cause=cause, writes_in_vain=vain)
    line = Note("slot_left_behind", target, work.attempts, cause, begun_at(work), {"until": again})
    return Change(_with_slot(connection, target, kept, at), (line,))


def _next_try(attempts: int, at: Moment) -> float:
    rarest = max(at.pace.recheck_degraded, at.pace.revalidate_every / 4)
    return at.now + min(at.pace.recheck_degraded * 2.0 ** min(attempts - 1, 30), rarest)


def _finished(
    connection: Connection,
    target: Target,
    verdict: SlotStatus,
    at: Moment,
    *,
    cause: Cause | None = None,
    details: Mapping[str, object] | None = None,
) -> Change:
    slot = connection.slots[slot_name(target)]
    finished = replace(slot, verdict=verdict, work=None, last_attempts=slot.attempts, cause=cause)
    line = Note(f"slot_{verdict}", target, slot.attempts, cause, begun_at(slot.work), details or {})
    left = _with_slot(connection, target, finished, at)
    if _has_work(left):
        return Change(left, (line,))
    return Change(left, (line, Note("key_forgotten")), _FORGET_ALL)


def _with_slot(connection: Connection, target: Target, slot: Slot, at: Moment) -> Connection:
    return replace(connection, slots={**connection.slots, slot_name(target): slot}, updated_at=at.now)


def _without_our_key(slot: Slot, cause: Cause) -> Slot:
    if slot.verdict is SlotStatus.REMOVED:
        return slot
    never_there = _never_there(slot)
    verdict = SlotStatus.REMOVED if never_there else SlotStatus.LEFT_BEHIND
    return replace(slot, verdict=verdict, work=None, cause=None if never_there else cause)


def _never_there(slot: Slot) -> bool:
    """Whether no task ever set out to put our callback URL into it: an attempt is counted before it is made."""
    return slot.verdict is None and slot.in_order_at is None and slot.last_attempts == 0


def _has_work(connection: Connection) -> bool:
    return any(slot.work for slot in connection.slots.values())

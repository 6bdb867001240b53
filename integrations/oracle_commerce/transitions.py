"""What may happen to a connection. Pure: each function takes the record and the time, and tells what it becomes.

A result is either a `Change` (the record afterwards, with what the timeline shall say of it) or a `Stop` (nothing
changes, and why). Anything that runs twice, late or beside its twin ends in a `Stop`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from integrations.oracle_commerce.connection import (
    Cause,
    Claim,
    Connection,
    Credential,
    KeyVerdict,
    ShippingMethods,
    ShippingVerdict,
    Slot,
    SlotStatus,
    Step,
    Target,
    Trouble,
    Work,
)
from integrations.oracle_commerce.schedule import Pace

DEATHS_ALONE = 3
_OUR_OWN = {"worker_lost", "internal_error"}  # waiting for the store will not mend these
NO_DETAILS: Mapping[str, bool] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Moment:
    """The time by the server's clock, and the paces that count from it."""

    now: float
    pace: Pace


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the timeline."""

    what: str
    target: Target | None = None
    attempt: int | None = None
    cause: Cause | None = None
    started_at: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """The record as it is afterwards. `target` is the claimed or finished work, for those who go on with it."""

    connection: Connection
    notes: tuple[Note, ...] = ()
    sealed_key: str | None = field(default=None, repr=False)  # set when the application key changes


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing changes."""

    reason: str


# --- Beginning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Desired:
    """What a checked connect request asks for."""

    merchant_id: str
    store_url: str
    sealed_key: str = field(repr=False)
    fingerprint: str
    expires_at: float | None
    slots: Mapping[str, bool]  # slot name -> required


def begin(
    connection: Connection | None, desired: Desired, first: Step, at: Moment, *, replace_key: bool = False
) -> Change | Stop:
    """Start a run; the same store with the same key starts nothing new.

    `replace_key`: the key we have can no longer be opened; it gives way to the same one, sealed anew.
    """
    if (
        connection is not None
        and not connection.disconnected
        and not _lacks_its_key(connection)
        and connection.store_url == desired.store_url
        and connection.credential.fingerprint == desired.fingerprint
    ):
        if not replace_key:
            return Stop("unchanged")
        return Change(replace(connection, updated_at=at.now), (Note("key_replaced"),), sealed_key=desired.sealed_key)
    run = connection.run + 1 if connection else 1
    started = Connection(
        merchant_id=desired.merchant_id,
        store_url=desired.store_url,
        run=run,
        started_at=at.now,
        updated_at=at.now,
        credential=Credential(fingerprint=desired.fingerprint, expires_at=desired.expires_at),
        step=first,
        work=_at_once(at),
        slots={name: Slot(required=required) for name, required in desired.slots.items()},
    )
    details: dict[str, object] = {"store_url": desired.store_url, "fingerprint": desired.fingerprint}
    return Change(started, (Note("run_started", details=details),), sealed_key=desired.sealed_key)


# --- Claiming -------------------------------------------------------------------------------------------------------


def claim(
    connection: Connection, run: int, target: Target, owner: str, at: Moment, *, alone: bool = False
) -> Change | Stop:
    """Take a piece of work for one lease, counting the attempt before anything is done about it.

    A lease that ended without an outcome is counted as a death of its worker. Work that was there at several deaths is
    a suspect and runs in the quarantine lane only (`alone`); what dies there too is given up.
    """
    if run != connection.run:
        return Stop("superseded")
    work = connection.work_on(target)
    if work is None:
        return Stop("already_done")
    if not work.is_ready(at.now):
        return Stop("held_by_another" if work.is_held(at.now) else "not_yet")
    work = work.with_death_counted()
    if work.deaths_alone >= DEATHS_ALONE or work.attempts >= at.pace.retry_attempts:
        return _give_up(_with_work(connection, target, work), target, Cause("worker_lost"), at)
    if work.is_suspect and not alone:
        return Stop("quarantined")
    claimed = replace(
        work,
        claim=Claim(owner, until=at.now + at.pace.lease, since=at.now, alone=alone),
        due_at=at.now + at.pace.lease,
        attempts=work.attempts + 1,
    )
    return Change(_with_work(connection, target, claimed))


def is_mine(connection: Connection, run: int, target: Target, owner: str) -> bool:
    """Whether the claim is still ours, so that our outcome counts."""
    work = _any_work(connection, target)
    return run == connection.run and work is not None and work.claim is not None and work.claim.owner == owner


# --- Outcomes. All take a record in which the claim is still the caller's ---------------------------------------------


def key_proven(connection: Connection, target: Target, following: Step, at: Moment) -> Change:
    """The store exchanged the application key for an access token."""
    proven = replace(connection.credential, verdict=KeyVerdict.VALID, doubted_since=None)
    return _advance(replace(connection, credential=proven), target, following, at, {})


def shipping_checked(connection: Connection, target: Target, enabled: int, following: Step, at: Moment) -> Change:
    """The store told how many enabled shipping methods it has; with none, the run ends until there are some."""
    if enabled:
        checked = replace(connection, shipping_methods=ShippingMethods(ShippingVerdict.CONFIGURED, enabled))
        return _advance(checked, target, following, at, {"enabled": enabled})
    again = at.now + at.pace.recheck_degraded
    missing = replace(
        connection,
        shipping_methods=ShippingMethods(ShippingVerdict.MISSING, 0),
        trouble=None,
        cause=None,
        work=Work(not_before=again, due_at=again),
        updated_at=at.now,
    )
    return Change(missing, (_note("no_shipping_methods", connection, target),))


def slot_registered(connection: Connection, target: Target, at: Moment, *, wrote: bool, rival: bool = False) -> Change:
    """Our callback URL is in the slot. `rival`: somebody else changed the slot while we did."""
    details = {"wrote": wrote} | ({"changed_meanwhile": True} if rival else {})
    return _slot_finished(connection, target, SlotStatus.REGISTERED, at, details=details)


def waits(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """The attempt failed in a way that may pass: try again at `until`, or give up after the last attempt."""
    work = _claimed(connection, target)
    if work.attempts >= at.pace.retry_attempts:
        return _give_up(connection, target, cause, at, until=until)
    return _waiting(connection, target, cause, replace(work, not_before=until, due_at=until), at)


def gives_way(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """Another worker was in the way, so this was no attempt: come back at `until`."""
    work = _claimed(connection, target)
    again = replace(work, not_before=until, due_at=until, attempts=work.attempts - 1)
    return _waiting(connection, target, cause, again, at)


def ended(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """Somebody must act: the step, or this slot alone, ends without success."""
    if target.slot is not None:
        verdict = SlotStatus.NOT_OFFERED if cause.code == "slot_not_offered" else SlotStatus.FAILED
        return _slot_finished(connection, target, verdict, at, cause=cause)
    return _step_ended(connection, target, Trouble(cause, passing=False), at)


def key_refused(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """The store said no to the application key. One no is a doubt; a second, some minutes later, is a verdict.

    Whichever step met it, the connection goes back to validating the key; unfinished slots wait for the answer.
    """
    work = _claimed(connection, target)
    doubted_since = connection.credential.doubted_since
    if doubted_since is None:
        return _doubt(connection, target, cause, at)
    asked_at = _since(work) or at.now
    if asked_at - doubted_since < at.pace.confirm_rejection:
        # Asked before the doubt was old enough, told only now: the same no once more.
        return _held_back(connection, target, cause, doubted_since + at.pace.confirm_rejection, at)
    again = at.now + at.pace.revalidate_every
    rejected = replace(
        connection,
        credential=replace(connection.credential, verdict=KeyVerdict.REJECTED),
        step=Step.VALIDATE_KEY,
        work=Work(not_before=again, due_at=again),
        cause=cause,
        trouble=None,
        slots={name: _without_key(slot, cause) for name, slot in connection.slots.items()},
        updated_at=at.now,
    )
    return Change(rejected, (Note("key_rejected", target, work.attempts, cause, asked_at, {"until": again}),))


def _doubt(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """The first no. The key is validated once more, later, and everything else waits for that."""
    again = at.now + at.pace.confirm_rejection
    doubted = replace(
        connection,
        credential=replace(connection.credential, verdict=KeyVerdict.DOUBTED, doubted_since=at.now),
        updated_at=at.now,
    )
    held = _held_back(doubted, target, cause, again, at)
    if target.step is Step.VALIDATE_KEY:
        return held
    return replace(held, connection=replace(held.connection, step=Step.VALIDATE_KEY, work=Work(again, again)))


def _held_back(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """Give the work back until the key is validated. To the merchant it is a doubt, not yet a rejection."""
    work = _claimed(connection, target)
    doubt = Cause("key_doubted", cause.detail)
    waiting = Work(not_before=until, due_at=until)  # the second exchange is no further attempt at the first
    held = _with_cause(_with_work(connection, target, waiting), target, doubt)
    note = Note("key_doubted", target, work.attempts, doubt, _since(work), {"until": until})
    return Change(replace(held, updated_at=at.now), (note,))


# --- How it is done -------------------------------------------------------------------------------------------------


def _at_once(at: Moment) -> Work:
    """Work a message is being sent for: the tick looks only if that message is lost."""
    return Work(not_before=at.now, due_at=at.now + at.pace.lease)


def _advance(
    connection: Connection, target: Target, following: Step, at: Moment, details: Mapping[str, object]
) -> Change:
    note = _note(f"{target.step}_done", connection, target, details)
    clear = replace(connection, step=following, trouble=None, cause=None, updated_at=at.now)
    if following is not Step.REGISTER_SLOT:
        return Change(replace(clear, work=_at_once(at)), (note,))
    slots = {name: replace(slot, work=_opened(slot, at)) for name, slot in clear.slots.items()}
    return Change(replace(clear, work=None, slots=slots, wrote_to_store=False), (note,))


def _opened(slot: Slot, at: Moment) -> Work:
    """A slot another task is still busy with (the key was doubted meanwhile) keeps its claim."""
    if slot.work is not None and slot.work.is_held(at.now):
        return slot.work
    asked = max(slot.not_before, slot.work.not_before if slot.work else 0.0)
    return Work(asked, asked) if asked > at.now else _at_once(at)


def _waiting(connection: Connection, target: Target, cause: Cause, work: Work, at: Moment) -> Change:
    since = _since(work)
    changed = _with_cause(_with_work(connection, target, replace(work, claim=None)), target, cause)
    note = Note("waits", target, work.attempts, cause, since, {"until": work.not_before})
    return Change(replace(changed, updated_at=at.now), (note,))


def _give_up(connection: Connection, target: Target, cause: Cause, at: Moment, *, until: float = 0.0) -> Change:
    """The last attempt is over: recorded as failed, and left to the next look, but not to one before `until`."""
    if target.slot is not None:
        return _slot_finished(connection, target, SlotStatus.FAILED, at, cause=cause, not_before=until)
    return _step_ended(connection, target, Trouble(cause, passing=cause.code not in _OUR_OWN), at, until=until)


def _step_ended(connection: Connection, target: Target, trouble: Trouble, at: Moment, *, until: float = 0.0) -> Change:
    again = max(at.now + at.pace.recheck_degraded, until)
    what = "gave_up" if trouble.passing else "ended"
    ended_here = replace(
        connection, trouble=trouble, cause=None, work=Work(not_before=again, due_at=again), updated_at=at.now
    )
    return Change(ended_here, (replace(_note(what, connection, target), cause=trouble.cause),))


def _slot_finished(
    connection: Connection,
    target: Target,
    verdict: SlotStatus,
    at: Moment,
    *,
    cause: Cause | None = None,
    details: Mapping[str, bool] = NO_DETAILS,
    not_before: float = 0.0,
) -> Change:
    name = _slot_name(target)
    slot = connection.slots[name]
    finished = replace(
        slot, verdict=verdict, work=None, last_attempts=slot.attempts, cause=cause, not_before=not_before
    )
    since = _since(slot.work) if slot.work else None
    note = Note(f"slot_{verdict}", target, finished.last_attempts, cause, since, details)
    changed = replace(
        connection,
        slots={**connection.slots, name: finished},
        wrote_to_store=connection.wrote_to_store or details.get("wrote", False),
        updated_at=at.now,
    )
    if changed.step is Step.REGISTER_SLOT and not any(slot.work for slot in changed.slots.values()):
        changed = _rest(changed, at)
    return Change(changed, (note,))


def _rest(connection: Connection, at: Moment) -> Connection:
    """All slots have an outcome: look at the connection again when there is reason to."""
    again = at.pace.next_look(connection, at.now)
    return replace(connection, step=Step.VALIDATE_KEY, work=Work(not_before=again, due_at=again))


def _lacks_its_key(connection: Connection) -> bool:
    causes = [
        connection.trouble.cause if connection.trouble else None,
        *(slot.cause for slot in connection.slots.values()),
    ]
    return any(cause is not None and cause.code == "credential_unusable" for cause in causes)


def _slot_name(target: Target) -> str:
    if target.slot is None:
        raise ValueError("a slot's outcome needs the slot")
    return target.slot


def _any_work(connection: Connection, target: Target) -> Work | None:
    """The work behind a target; a slot's also while the connection went back to validating its key."""
    if target.slot is not None:
        slot = connection.slots.get(target.slot)
        return slot.work if slot else None
    return connection.work if connection.step is target.step else None


def _claimed(connection: Connection, target: Target) -> Work:
    work = _any_work(connection, target)
    if work is None:
        raise ValueError("only claimed work has an outcome")
    return work


def _with_work(connection: Connection, target: Target, work: Work) -> Connection:
    if target.slot is None:
        return replace(connection, work=work)
    slot = replace(connection.slots[target.slot], work=work)
    return replace(connection, slots={**connection.slots, target.slot: slot})


def _with_cause(connection: Connection, target: Target, cause: Cause) -> Connection:
    if target.slot is None:
        return replace(connection, cause=cause)
    slot = replace(connection.slots[target.slot], cause=cause)
    return replace(connection, slots={**connection.slots, target.slot: slot})


def _without_key(slot: Slot, cause: Cause) -> Slot:
    """A slot that was under way has failed with the key; one with a verdict keeps it, one never tried stays pending."""
    if slot.work is None:
        return slot
    verdict = slot.verdict or SlotStatus.FAILED
    return replace(slot, verdict=verdict, work=None, last_attempts=slot.attempts, cause=cause)


def _since(work: Work) -> float | None:
    return work.claim.since if work.claim else None


def _note(what: str, connection: Connection, target: Target, details: Mapping[str, object] | None = None) -> Note:
    work = _any_work(connection, target)
    return Note(
        what, target, work.attempts if work else None, None, _since(work) if work else None, dict(details or {})
    )

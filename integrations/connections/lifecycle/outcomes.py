"""What may happen to the work of a connection: it is claimed, and has an outcome. Pure.

Each function takes the record and the time, and tells what the record becomes. Anything that runs twice, late or beside
its twin ends in a `Stop`. How work comes about is in `requests.py` and `disconnection.py`, what a refused application
key does in `key_verdicts.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from integrations.connections.change import (
    Change,
    Keys,
    Moment,
    Note,
    Stop,
    any_work,
    at_once,
    at_time,
    begun_at,
    claimed_work,
    noted,
    slot_name,
    with_cause,
    with_work,
)
from integrations.connections.drift import MENDABLE, Drift, Seen
from integrations.connections.lifecycle import disconnection
from integrations.connections.record import (
    Cause,
    Claim,
    Connection,
    ConnectionStatus,
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
from integrations.connections.schedule import days_left_to_tell

DEATHS_ALONE = 3
_OUR_OWN = {"worker_lost", "internal_error"}  # waiting for the store will not mend these


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
    tried_enough = target.step is not Step.DISCONNECT and work.attempts >= at.pace.retry_attempts
    if work.deaths_alone >= DEATHS_ALONE or tried_enough:
        return _give_up(with_work(connection, target, work), target, Cause("worker_lost"), at)
    if work.is_suspect and not alone:
        return Stop("quarantined")
    claimed = replace(
        work,
        claim=Claim(owner, until=at.now + at.pace.lease, since=at.now, alone=alone),
        due_at=at.now + at.pace.lease,
        attempts=work.attempts + 1,
    )
    return Change(_with_expiry_told(with_work(connection, target, claimed), at))


def is_mine(connection: Connection, run: int, target: Target, owner: str) -> bool:
    """Whether the claim is still ours, so that our outcome counts."""
    work = any_work(connection, target)
    return run == connection.run and work is not None and work.claim is not None and work.claim.owner == owner


def _with_expiry_told(connection: Connection, at: Moment) -> Connection:
    """Each step towards the end of the key is told once: the record remembers the last."""
    credential = connection.credential
    if connection.departure is not None:
        return connection  # nobody needs a new key for a store that is being left
    days = days_left_to_tell(credential.expires_at, at.now)
    if days is None or (credential.expiry_told is not None and days >= credential.expiry_told):
        return connection
    return replace(connection, credential=replace(credential, expiry_told=days))


# --- Outcomes. All take a record in which the claim is still the caller's ---------------------------------------------


def key_proven(connection: Connection, target: Target, following: Step, at: Moment) -> Change:
    """The store exchanged the application key for an access token. A new key has yet to show what it may do."""
    if connection.candidate is not None:
        hopeful = replace(connection.candidate, doubted_since=None)
        return _advance(replace(connection, candidate=hopeful), target, following, at, {})
    proven = replace(connection.credential, verdict=KeyVerdict.VALID, doubted_since=None)
    return _advance(replace(connection, credential=proven), target, following, at, {})


def shipping_checked(
    connection: Connection,
    target: Target,
    enabled: int,
    following: Step,
    at: Moment,
    *,
    slots: Mapping[str, bool] | None = None,
) -> Change:
    """The store told how many enabled shipping methods it has; with none, the run ends until there are some.

    A new key that got this far takes the place of the old one, and a new run begins with it. `slots`: name -> required,
    if the settings may want others than when the run began.
    """
    line = noted("no_shipping_methods", connection, target)
    keys = Keys(promote=connection.candidate is not None)
    connection = _with_candidate_promoted(connection, at)
    if enabled:
        if slots is not None:
            connection = _with_slots(connection, slots)
        checked = replace(connection, shipping_methods=ShippingMethods(ShippingVerdict.CONFIGURED, enabled))
        return replace(_advance(checked, target, following, at, {"enabled": enabled}), keys=keys)
    missing = replace(
        connection,
        shipping_methods=ShippingMethods(ShippingVerdict.MISSING, 0),
        trouble=None,
        cause=None,
        work=at_time(at.pace.next_try(connection, at.now)),
        looks_in_trouble=connection.looks_in_trouble + 1,
        updated_at=at.now,
    )
    return Change(missing, (line,), keys)


def _with_candidate_promoted(connection: Connection, at: Moment) -> Connection:
    candidate = connection.candidate
    if candidate is None:
        return connection
    credential = Credential(candidate.fingerprint, candidate.expires_at, KeyVerdict.VALID)
    return replace(
        connection,
        run=connection.run + 1,
        started_at=at.now,
        credential=credential,
        candidate=None,
        key_refusal=None,
    )


@dataclass(frozen=True, slots=True)
class Registered:
    """Our callback URL is in the slot, and what was found on the way. `rival`: somebody else wrote when we did."""

    wrote: bool
    store_id: str = ""
    rival: bool = False
    drift: tuple[Drift, ...] = ()
    seen: Seen | None = None
    lost: tuple[str, ...] = ()  # settings of the slot, by name
    missed: int | None = None  # deliveries given up meanwhile


def slot_registered(connection: Connection, target: Target, found: Registered, at: Moment) -> Change:
    """Our callback URL is in the slot: it was there, or we put it there, for the first time or back."""
    slot = connection.slots[slot_name(target)]
    repaired = found.wrote and slot.in_order_at is not None
    lasting = next((code for code in found.drift if code not in MENDABLE), None)
    seen = found.seen
    if seen is not None and slot.seen is not None and Drift.SECRET_RESET in found.drift:
        seen = replace(seen, secret=slot.seen.secret)  # stays reported until people have said that they know (repair)
    finished = replace(
        slot,
        store_id=found.store_id,
        seen=seen,
        in_order_at=at.now,
        drift=found.drift,
        repairs=(*slot.recent_repairs(at.now), *([at.now] if repaired else [])),
        missed=found.missed if repaired else slot.missed,
    )
    details: dict[str, object] = {"wrote": found.wrote}
    details |= {"changed_meanwhile": True} if found.rival else {}
    details |= {"drift": list(found.drift)} if found.drift else {}
    details |= {"missed_events": found.missed} if found.missed is not None else {}
    details |= {"in_order_before": slot.in_order_at} if repaired else {}
    what = "slot_repaired" if repaired else "slot_registered"
    cause = Cause(lasting, ", ".join(found.lost)) if lasting else None
    changed = replace(connection, wrote_to_store=connection.wrote_to_store or found.wrote)
    return _slot_finished(changed, target, finished, SlotStatus.REGISTERED, at, cause=cause, what=what, details=details)


def slot_contested(connection: Connection, target: Target, drift: tuple[Drift, ...], at: Moment) -> Change:
    """Somebody keeps undoing our repairs. From now on we look, and write no more until people have decided."""
    slot = connection.slots[slot_name(target)]
    told = slot.cause if slot.verdict is SlotStatus.CONTESTED else None
    cause = told or Cause("slot_contested", f"{len(slot.recent_repairs(at.now))} repairs in a day")
    contested = replace(slot, drift=drift)
    return _slot_finished(connection, target, contested, SlotStatus.CONTESTED, at, cause=cause)


def waits(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """The attempt failed in a way that may pass: try again at `until`, or give up after the last attempt.

    What a store wants left alone for longer than we are patient is told now, and looked at when it allows.
    """
    work = claimed_work(connection, target)
    if cause.code == "registration_not_kept":
        connection = _with_repair_counted(connection, target, at)
    if work.attempts >= at.pace.retry_attempts or until > at.now + at.pace.patience:
        return _give_up(connection, target, cause, at, until=until)
    return waiting(connection, target, cause, replace(work, not_before=until, due_at=until), at)


def gives_way(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """We did not get as far as the store, so this was no attempt: come back at `until`."""
    work = claimed_work(connection, target)
    again = replace(work, not_before=until, due_at=until, attempts=work.attempts - 1)
    return waiting(connection, target, cause, again, at)


def ended(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """Somebody must act: the step, or this slot alone, ends without success."""
    if target.slot is None:
        return _step_ended(connection, target, Trouble(cause, passing=False), at)
    slot = connection.slots[slot_name(target)]
    gone = cause.code == "slot_not_offered"
    if gone and slot.in_order_at is not None:
        slot = replace(slot, drift=(Drift.SLOT_GONE,))
    verdict = SlotStatus.NOT_OFFERED if gone else SlotStatus.FAILED
    return _slot_finished(connection, target, slot, verdict, at, cause=cause)


def waiting(connection: Connection, target: Target, cause: Cause, work: Work, at: Moment) -> Change:
    """The work is given back until its time has come."""
    changed = with_cause(with_work(connection, target, replace(work, claim=None)), target, cause)
    line = Note("waits", target, work.attempts, cause, begun_at(work), {"until": work.not_before})
    return Change(replace(changed, updated_at=at.now), (line,))


# --- How it is done -------------------------------------------------------------------------------------------------


def _advance(
    connection: Connection, target: Target, following: Step, at: Moment, details: Mapping[str, object]
) -> Change:
    line = noted(f"{target.step}_done", connection, target, details)
    advanced = replace(connection, step=following, cause=None, updated_at=at.now)
    if following is not Step.REGISTER_SLOT:  # trouble stays until what comes before the slots is all well
        return Change(replace(advanced, work=at_once(at)), (line,))
    slots = {name: replace(slot, work=_opened(slot, at)) for name, slot in advanced.slots.items()}
    return Change(replace(advanced, trouble=None, work=None, slots=slots, wrote_to_store=False), (line,))


def _with_slots(connection: Connection, wanted: Mapping[str, bool]) -> Connection:
    """The slots the settings want now. One they no longer name stays only if we may be in it: then until we leave."""
    kept = {
        name: replace(slot, required=wanted.get(name, False), wanted=name in wanted)
        for name, slot in connection.slots.items()
        if name in wanted or slot.in_order_at is not None
    }
    return replace(connection, slots={**kept, **{name: Slot(wanted[name]) for name in wanted if name not in kept}})


def _with_repair_counted(connection: Connection, target: Target, at: Moment) -> Connection:
    """A write that was undone at once is a repair too: whoever fights over a slot must not make us write for ever."""
    slot = connection.slots[slot_name(target)]
    if slot.in_order_at is None:
        return connection
    counted = replace(slot, repairs=(*slot.recent_repairs(at.now), at.now))
    return replace(connection, slots={**connection.slots, slot_name(target): counted})


def _opened(slot: Slot, at: Moment) -> Work | None:
    """A slot another task is still busy with (the key was doubted meanwhile) keeps its claim."""
    if slot.work is not None and slot.work.is_held(at.now):
        return slot.work
    if not slot.wanted:
        return None
    asked = max(slot.not_before, slot.work.not_before if slot.work else 0.0)
    return at_time(asked) if asked > at.now else at_once(at)


def _give_up(connection: Connection, target: Target, cause: Cause, at: Moment, *, until: float = 0.0) -> Change:
    """The last attempt is over: recorded as failed, and left to the next look, but not to one before `until`."""
    if target.step is Step.DISCONNECT:
        return disconnection.left_behind(connection, target, cause, at, until=until)
    if target.slot is None:
        trouble = Trouble(cause, passing=cause.code not in _OUR_OWN, not_before=until)
        return _step_ended(connection, target, trouble, at)
    slot = replace(connection.slots[slot_name(target)], not_before=until)
    return _slot_finished(connection, target, slot, SlotStatus.FAILED, at, cause=cause)


def _step_ended(connection: Connection, target: Target, trouble: Trouble, at: Moment) -> Change:
    again = max(at.pace.next_try(connection, at.now), trouble.not_before)
    ended_here = replace(
        connection,
        trouble=trouble,
        cause=None,
        work=at_time(again),
        looks_in_trouble=connection.looks_in_trouble + 1,
        updated_at=at.now,
    )
    what = "gave_up" if trouble.passing else "ended"
    return Change(ended_here, (replace(noted(what, connection, target), cause=trouble.cause),))


def _slot_finished(
    connection: Connection,
    target: Target,
    slot: Slot,
    verdict: SlotStatus,
    at: Moment,
    *,
    cause: Cause | None = None,
    what: str = "",
    details: Mapping[str, object] | None = None,
) -> Change:
    name = slot_name(target)
    finished = replace(
        slot,
        verdict=verdict,
        work=None,
        last_attempts=slot.attempts,
        cause=cause,
        not_before=slot.not_before if slot.not_before > at.now else 0.0,
    )
    line = Note(what or f"slot_{verdict}", target, finished.last_attempts, cause, begun_at(slot.work), details or {})
    changed = replace(connection, slots={**connection.slots, name: finished}, updated_at=at.now)
    if changed.step is Step.REGISTER_SLOT and not any(slot.work for slot in changed.slots.values()):
        changed = _rest(changed, at)
    return Change(changed, (line,))


def _rest(connection: Connection, at: Moment) -> Connection:
    """All slots have an outcome: look at the connection again when there is reason to."""
    again = at.pace.next_look(connection, at.now)
    in_trouble = 0 if connection.status is ConnectionStatus.ACTIVE else connection.looks_in_trouble + 1
    return replace(connection, step=Step.VALIDATE_KEY, work=at_time(again), looks_in_trouble=in_trouble)

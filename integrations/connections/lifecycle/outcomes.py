"""What came of an attempt, and what that makes of the record. Pure.

An outcome is data: steps and errors make one, and `record` says what becomes of the connection. The claim must still be
the caller's. How work comes about is in `requests.py` and `disconnection.py`, how it is claimed in `claims.py`, what a
refused application key does in `key_verdicts.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from integrations.connections.causes import Evidence, IfNew, Passing, explain
from integrations.connections.change import (
    Change,
    Keys,
    Moment,
    Note,
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
from integrations.connections.lifecycle import disconnection, flow, key_verdicts
from integrations.connections.lifecycle.failed_deliveries import LogRead, with_log_read
from integrations.connections.record import (
    Cause,
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
from integrations.learnt import Learnt, Spelling


@dataclass(frozen=True, slots=True)
class KeyProven:
    """The store exchanged the application key for an access token. A new key has yet to show what it may do."""


@dataclass(frozen=True, slots=True)
class NewKeyTurnedDown:
    """The new application key may not do what the one we have may do."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class ShippingMethodsChecked:
    """The store has so many enabled shipping methods.

    `slots`: name -> required, as the settings want them now. `log`: what the store's log of failed deliveries said, if
    it was read.
    """

    enabled: int
    slots: Mapping[str, bool] | None = None
    log: LogRead | None = None


@dataclass(frozen=True, slots=True)
class SlotRegistered:
    """Our callback URL is in the slot: it was there, or we put it there, for the first time or back.

    `rival`: somebody else wrote when we did. `lost`: settings of the slot, by name. `missed`: how many deliveries the
    store gave up on meanwhile, None if it does not say.
    """

    wrote: bool
    store_id: str = ""
    rival: bool = False
    drift: tuple[Drift, ...] = ()
    seen: Seen | None = None
    lost: tuple[str, ...] = ()
    missed: int | None = None
    spelling: Spelling | None = None


@dataclass(frozen=True, slots=True)
class SlotContested:
    """Somebody keeps undoing our repairs. `slot`: the record that this was judged by."""

    drift: tuple[Drift, ...]
    slot: Slot


@dataclass(frozen=True, slots=True)
class SlotRemoved:
    """Our callback URL is not in the slot any more, or never was.

    `gone`: the slot itself is not there. `rival`: somebody else wrote when we did. `moved_back`: it stays, for the
    merchant has come back to this store.
    """

    wrote: bool
    gone: bool = False
    rival: bool = False
    moved_back: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt did not succeed. `retry_in`: seconds until the next, if the cause may pass.

    `verdict_waits`: a refused key is no verdict yet, for those of others may be refused as well. `learnt`: what the
    attempt learnt of the slot all the same.
    """

    cause: Cause
    retry_in: float = 0.0
    verdict_waits: bool = False
    learnt: Learnt | None = None


Outcome = KeyProven | NewKeyTurnedDown | ShippingMethodsChecked | SlotRegistered | SlotContested | SlotRemoved | Failed


def record(connection: Connection, target: Target, outcome: Outcome, at: Moment) -> Change:  # noqa: PLR0911 - one each
    """What the outcome of an attempt makes of the record."""
    match outcome:
        case KeyProven():
            return _key_proven(connection, target, at)
        case NewKeyTurnedDown(cause):
            return key_verdicts.candidate_turned_down(connection, target, cause, at)
        case ShippingMethodsChecked(enabled=0):
            return with_log_read(_shipping_methods_missing(connection, target, at), outcome.log)
        case ShippingMethodsChecked():
            return with_log_read(_shipping_methods_found(connection, target, outcome, at), outcome.log)
        case SlotRegistered():
            return _slot_registered(connection, target, outcome, at)
        case SlotContested():
            return _slot_contested(connection, target, outcome, at)
        case SlotRemoved():
            given = {"wrote": outcome.wrote}
            more = {"gone": outcome.gone, "changed_meanwhile": outcome.rival, "moved_back": outcome.moved_back}
            given |= {name: True for name, is_so in more.items() if is_so}
            return disconnection.slot_removed(connection, target, given, at)
        case Failed(cause, retry_in):
            known = _with_learnt(connection, target, outcome.learnt, at)
            if outcome.verdict_waits and cause.code == "key_rejected" and target.step is not Step.DISCONNECT:
                return key_verdicts.key_refused(known, target, cause, at, verdict_waits=True)
            return _failed(known, target, cause, at.now + retry_in, at)


def _failed(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """What a cause means here. `until`: when to try again, if it may pass."""
    meaning = explain(cause.code)
    may_pass = meaning.passing is Passing.YES
    if meaning.passing is Passing.NO_ATTEMPT:
        return _gives_way(connection, target, cause, until, at)
    if target.step is Step.DISCONNECT:
        return disconnection.left_behind(connection, target, cause, at, until=until if may_pass else 0.0, soon=may_pass)
    if cause.code == "key_rejected":
        return key_verdicts.key_refused(connection, target, cause, at)
    if may_pass or (connection.is_onboarded and meaning.passing is Passing.WHERE_IT_WORKED):
        return _waits(connection, target, cause, until, at)
    if connection.candidate is not None and meaning.if_new is IfNew.BAD_KEY:
        return key_verdicts.candidate_turned_down(connection, target, cause, at)
    return _ended(connection, target, cause, at)


# --- How it is done -------------------------------------------------------------------------------------------------


def _key_proven(connection: Connection, target: Target, at: Moment) -> Change:
    if connection.candidate is not None:
        hopeful = replace(connection.candidate, doubted_since=None)
        return _advance(replace(connection, candidate=hopeful), target, at, {})
    proven = replace(connection.credential, verdict=KeyVerdict.VALID, doubted_since=None)
    return _advance(replace(connection, credential=proven), target, at, {})


def _shipping_methods_found(
    connection: Connection, target: Target, found: ShippingMethodsChecked, at: Moment
) -> Change:
    """A new key that got this far takes the place of the old one, and a new run begins with it."""
    keys = Keys(promote=connection.candidate is not None)
    checked = replace(
        _with_candidate_promoted(connection, at),
        shipping_methods=ShippingMethods(ShippingVerdict.CONFIGURED, found.enabled),
    )
    if found.slots is not None:
        checked = _with_slots(checked, found.slots)
    return replace(_advance(checked, target, at, {"enabled": found.enabled}), keys=keys)


def _shipping_methods_missing(connection: Connection, target: Target, at: Moment) -> Change:
    """The run ends until there are some. A new key has shown all the same that it may read them."""
    line = noted("no_shipping_methods", connection, target)
    keys = Keys(promote=connection.candidate is not None)
    connection = _with_candidate_promoted(connection, at)
    missing = replace(
        connection,
        shipping_methods=ShippingMethods(ShippingVerdict.MISSING, 0),
        trouble=None,
        cause=None,
        work=at_time(at.pace.next_try(connection, at.now)),
        failed_revalidations=connection.failed_revalidations + 1,
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


def _slot_registered(connection: Connection, target: Target, found: SlotRegistered, at: Moment) -> Change:
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
        spelling=found.spelling,
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


def _slot_contested(connection: Connection, target: Target, found: SlotContested, at: Moment) -> Change:
    """From now on we read, and write no more until people have decided."""
    slot = connection.slots[slot_name(target)]
    if (slot.verdict, slot.repairs) != (found.slot.verdict, found.slot.repairs):
        # Somebody requested a repair meanwhile: this was no attempt at one.
        return _gives_way(connection, target, slot.cause or Cause("slot_contested"), at.now, at)
    known = slot.cause if slot.verdict is SlotStatus.CONTESTED else None
    cause = known or Cause("slot_contested", f"{len(slot.recent_repairs(at.now))} repairs in a day")
    contested = replace(slot, drift=found.drift)
    return _slot_finished(connection, target, contested, SlotStatus.CONTESTED, at, cause=cause)


def _waits(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """The attempt failed in a way that may pass: try again at `until`, or give up after the last attempt.

    What a store wants left alone for longer than we are patient is reported now, and re-validated when it allows.
    """
    work = claimed_work(connection, target)
    if work.attempts >= at.pace.retry_attempts or until > at.now + at.pace.patience:
        return give_up(connection, target, cause, at, until=until)
    again = replace(work, not_before=until, due_at=until, stood_back=min(work.stood_back, 1))
    return _waiting(connection, target, cause, again, at)


def _gives_way(connection: Connection, target: Target, cause: Cause, until: float, at: Moment) -> Change:
    """It ended for a reason of our own, so this was no attempt: come back at `until`.

    Whoever waits for a slot that many of ours write to comes back often, so that leaves one line in the timeline.
    """
    work = claimed_work(connection, target)
    again = replace(work, not_before=until, due_at=until, attempts=work.attempts - 1)
    if cause.code == "made_way":
        again = replace(again, stood_back=again.stood_back + 1)
    waiting = _waiting(connection, target, cause, again, at)
    is_known = target.slot is not None and connection.slots[target.slot].cause == cause
    return replace(waiting, notes=()) if is_known and cause.code == "slot_being_written" else waiting


def _ended(connection: Connection, target: Target, cause: Cause, at: Moment) -> Change:
    """Somebody must act: the step, or this slot alone, ends without success."""
    if target.slot is None:
        return _step_ended(connection, target, Trouble(cause, passing=False), at)
    slot = connection.slots[slot_name(target)]
    gone = cause.code == "slot_not_offered"
    if gone and slot.in_order_at is not None:
        slot = replace(slot, drift=(Drift.SLOT_GONE,))
    verdict = SlotStatus.NOT_OFFERED if gone else SlotStatus.FAILED
    return _slot_finished(connection, target, slot, verdict, at, cause=cause)


def _waiting(connection: Connection, target: Target, cause: Cause, work: Work, at: Moment) -> Change:
    """The work is given back until its time has come."""
    changed = with_cause(with_work(connection, target, replace(work, claim=None)), target, cause)
    line = Note("waits", target, work.attempts, cause, begun_at(work), {"until": work.not_before})
    return Change(replace(changed, updated_at=at.now), (line,))


def _advance(connection: Connection, target: Target, at: Moment, details: Mapping[str, object]) -> Change:
    line = noted(f"{target.step}_done", connection, target, details)
    advanced = replace(connection, step=flow.after(target.step), cause=None, updated_at=at.now)
    if advanced.step is not Step.REGISTER_SLOT:  # trouble stays until what comes before the slots is all well
        return Change(replace(advanced, work=at_once(at)), (line,))
    slots = {name: replace(slot, work=_opened(slot, at), writes_in_vain=0) for name, slot in advanced.slots.items()}
    return Change(replace(advanced, trouble=None, work=None, slots=slots, wrote_to_store=False), (line,))


def _with_slots(connection: Connection, wanted: Mapping[str, bool]) -> Connection:
    """The slots the settings want now. One they no longer name stays only if we may be in it: then until we leave."""
    kept = {
        name: replace(slot, required=wanted.get(name, False), wanted=name in wanted)
        for name, slot in connection.slots.items()
        if name in wanted or slot.in_order_at is not None or slot.spelling is not None
    }
    return replace(connection, slots={**kept, **{name: Slot(wanted[name]) for name in wanted if name not in kept}})


def _with_learnt(connection: Connection, target: Target, learnt: Learnt | None, at: Moment) -> Connection:
    """What an attempt that failed has to say of its slot.

    A write in vain counts as a repair: whoever undoes it at once, or whatever the store does with it, must not make us
    write for ever. One that nobody saw the end of counts by itself.
    """
    if learnt is None or target.slot is None:
        return connection
    slot = connection.slots[target.slot]
    spelling = learnt.spelling if learnt.spelling != Spelling() else None
    is_sent = (
        spelling is not None and spelling.before is not None and spelling.before != (slot.spelling or spelling).before
    )
    if spelling is not None and (learnt.writes or learnt.unseen or is_sent):
        spelling = replace(spelling, at=at.now)
    known = replace(
        slot,
        spelling=spelling,
        writes_in_vain=slot.writes_in_vain + learnt.writes + learnt.unseen,
        repairs=(*slot.recent_repairs(at.now), *[at.now] * learnt.writes) if learnt.writes else slot.repairs,
        unanswered=(*slot.recent_unanswered(at.now), *[at.now] * learnt.unseen) if learnt.unseen else slot.unanswered,
        store_id=learnt.store_id or slot.store_id,
    )
    return replace(connection, slots={**connection.slots, target.slot: known})


def _opened(slot: Slot, at: Moment) -> Work | None:
    """A slot another task is still busy with (the key was doubted meanwhile) keeps its claim."""
    if slot.work is not None and slot.work.is_held(at.now):
        return slot.work
    if not slot.wanted:
        return None
    asked = max(slot.not_before, slot.work.not_before if slot.work else 0.0)
    return at_time(asked) if asked > at.now else at_once(at)


def give_up(connection: Connection, target: Target, cause: Cause, at: Moment, *, until: float = 0.0) -> Change:
    """The last attempt is over: recorded as failed, and left to the next re-validation, not before `until`."""
    if target.step is Step.DISCONNECT:
        return disconnection.left_behind(connection, target, cause, at, until=until)
    if target.slot is None:
        trouble = Trouble(cause, passing=explain(cause.code).evidence is not Evidence.NOTHING, not_before=until)
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
        failed_revalidations=connection.failed_revalidations + 1,
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
    """All slots have an outcome: re-validate the connection when there is reason to."""
    again = at.pace.next_revalidation(connection, at.now)
    in_trouble = 0 if connection.status is ConnectionStatus.ACTIVE else connection.failed_revalidations + 1
    return replace(connection, step=flow.FIRST, work=at_time(again), failed_revalidations=in_trouble)

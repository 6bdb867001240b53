"""How a run or a re-validation begins: what each kind of request makes of a record.

A connect request, a new key, another store, or what an operator asks for.

Pure, like `outcomes.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from integrations.connections.change import Change, Keys, Moment, Note, Stop, at_once, at_time
from integrations.connections.drift import Seen
from integrations.connections.lifecycle import disconnection, flow
from integrations.connections.record import (
    NO_CHAIN,
    Candidate,
    Chain,
    Connection,
    ConnectionStatus,
    Credential,
    KeyVerdict,
    Slot,
    SlotStatus,
    Work,
    former_id,
)
from integrations.learnt import Spelling


@dataclass(frozen=True, slots=True)
class Desired:
    """What a checked connect request asks for."""

    merchant_id: str
    store_url: str
    sealed_key: str = field(repr=False)
    fingerprint: str
    expires_at: float | None
    slots: Mapping[str, bool]  # slot name -> required
    phase: float | None = None  # of a connection that is new
    traceparent: str = ""
    chain: Chain = NO_CHAIN
    request_id: str = ""


def begin(connection: Connection | None, desired: Desired, at: Moment, *, replace_key: bool = False) -> Change | Stop:
    """Start a run; the same store with the same key starts nothing new.

    A new key for a connection that works has to prove itself first. Another store takes the place of the old one, which
    is disconnected with its own key.

    `replace_key`: the key we have can no longer be opened; it gives way to the same one, sealed anew.
    """
    if connection is not None and connection.store_url != desired.store_url:
        return _move(connection, desired, at)
    if connection is None or connection.disconnection is not None or _lacks_its_key(connection):
        return _start(connection, desired, at)
    if connection.credential.fingerprint == desired.fingerprint and replace_key:
        again = replace(connection, updated_at=at.now, request_id=desired.request_id)
        return Change(again, (Note("key_replaced", details=_named(desired)),), Keys(current=desired.sealed_key))
    if desired.fingerprint in _fingerprints(connection):
        return Stop("unchanged")
    if connection.credential.verdict in {KeyVerdict.VALID, KeyVerdict.DOUBTED}:
        return _reauthorise(connection, desired, at)
    return _start(connection, desired, at)


def revalidate_now(connection: Connection | None, at: Moment, *, repair: bool = False) -> Change | Stop:
    """Re-validate at once instead of when it is due. A wait the store has asked for is kept.

    `repair`: people have decided: slots that were given up as contested are written again, and what had changed in a
    slot is accepted as it is now.
    """
    if connection is None:
        return Stop("unknown_connection")
    if connection.disconnection is not None:
        return Stop("disconnected")
    if repair:
        slots = {name: _forgiven(slot) for name, slot in connection.slots.items()}
        connection = replace(connection, slots=slots)
    work = connection.work
    rejected = connection.credential.verdict is KeyVerdict.REJECTED
    resting = rejected or connection.trouble is not None or connection.cause is None
    beginning = connection.status is ConnectionStatus.ONBOARDING  # it may have to wait for who was here before it
    if work is None or beginning or not resting or work.claim is not None or work.not_before <= at.now:
        # Under way already; its waits are the retry policy's.
        return Change(replace(connection, updated_at=at.now), (Note("repair_asked"),)) if repair else Stop("under_way")
    earliest = connection.trouble.not_before if connection.trouble else 0.0
    sooner = at_once(at) if earliest <= at.now else at_time(earliest)
    line = Note("repair_asked" if repair else "look_asked")
    return Change(replace(connection, work=sooner, updated_at=at.now), (line,))


def go_on(connection: Connection | None, at: Moment) -> Change | Stop:
    """The store the merchant has left was dealt with: the new run need not wait any longer."""
    if connection is None or connection.work is None or connection.status is not ConnectionStatus.ONBOARDING:
        return Stop("nothing_waits")
    if connection.work.claim is not None or connection.work.attempts or connection.work.not_before <= at.now:
        return Stop("under_way")
    return Change(replace(connection, work=at_once(at), updated_at=at.now), (Note("former_store_left"),))


def is_at_rest(connection: Connection) -> bool:
    """Whether a run or a re-validation has ended: what begins next is another, or nothing."""
    work = connection.work
    if work is None:
        return not any(slot.work for slot in connection.slots.values())
    if connection.is_under_way or connection.credential.verdict is KeyVerdict.DOUBTED:
        return False
    if connection.cause is not None and connection.credential.verdict is not KeyVerdict.REJECTED:
        return False  # between two attempts
    return work.claim is None and not work.attempts and work.due_at == work.not_before  # no message is on its way


def _start(connection: Connection | None, desired: Desired, at: Moment) -> Change:
    run = connection.run + 1 if connection else 1
    started = Connection(
        merchant_id=desired.merchant_id,
        store_url=desired.store_url,
        run=run,
        started_at=at.now,
        updated_at=at.now,
        credential=Credential(fingerprint=desired.fingerprint, expires_at=desired.expires_at),
        step=flow.FIRST,
        work=_after_disconnection(connection, at),
        slots=_slots_of(desired, connection if connection and connection.store_url == desired.store_url else None),
        phase=connection.phase if connection else desired.phase,
        traceparent=desired.traceparent,
        chain=desired.chain,
        request_id=desired.request_id,
    )
    details: dict[str, object] = {"store_url": desired.store_url, "fingerprint": desired.fingerprint}
    line = Note("run_started", details=details | _named(desired))
    return Change(started, (line,), Keys(current=desired.sealed_key, forget_candidate=True))


def _reauthorise(connection: Connection, desired: Desired, at: Moment) -> Change:
    """The old key and all that was established with it stay until the new one has proven itself."""
    proving = replace(
        connection,
        updated_at=at.now,
        candidate=Candidate(desired.fingerprint, desired.expires_at),
        key_refusal=None,
        step=flow.FIRST,
        work=at_once(at),
        cause=None,
        slots={name: _idle(slot, at) for name, slot in connection.slots.items()},
        traceparent=desired.traceparent,
        chain=desired.chain,
        request_id=desired.request_id,
    )
    line = Note("reauthorisation_started", details={"fingerprint": desired.fingerprint} | _named(desired))
    return Change(proving, (line,), Keys(candidate=desired.sealed_key))


def _move(connection: Connection, desired: Desired, at: Moment) -> Change:
    """Our callback URL is taken out of the old store with the old key; then, or after a lease, the new run goes on."""
    started = _start(connection, desired, at)
    if connection.disconnected and not any(slot.work for slot in connection.slots.values()):
        return started
    were_there = any(slot.in_order_at is not None for slot in connection.slots.values())
    if connection.disconnection is None and connection.credential.verdict is KeyVerdict.PENDING and not were_there:
        return started  # nothing of ours ever got there
    renamed = former_id(connection.merchant_id, connection.run)
    leaving = replace(
        connection,
        merchant_id=renamed,
        traceparent=desired.traceparent,
        chain=desired.chain,
        request_id=desired.request_id,
    )
    former = disconnection.begin(leaving, at)
    waiting = replace(started.connection, work=at_time(at.now + at.pace.lease))
    return replace(started, connection=waiting, former=former)


def _after_disconnection(connection: Connection | None, at: Moment) -> Work:
    """A task that is just taking our callback URL out must not do so after we have put it in."""
    if connection is None or connection.disconnection is None:
        return at_once(at)
    claims = [slot.work.claim for slot in connection.slots.values() if slot.work and slot.work.claim]
    until = max((claim.until for claim in claims), default=at.now)
    return at_time(until) if until > at.now else at_once(at)


def _named(desired: Desired) -> dict[str, object]:
    """The id of the request, for the timeline."""
    return {"request_id": desired.request_id} if desired.request_id else {}


def _fingerprints(connection: Connection) -> set[str]:
    candidate = {connection.candidate.fingerprint} if connection.candidate else set()
    return {connection.credential.fingerprint, *candidate}


def _idle(slot: Slot, at: Moment) -> Slot:
    """Free of work; but a task that is still busy with the slot may be about to write: its lease is waited for."""
    held = slot.work.claim if slot.work and slot.work.is_held(at.now) else None
    asked = max(slot.not_before, slot.work.not_before if slot.work else 0.0, held.until if held else 0.0)
    return replace(slot, work=None, last_attempts=slot.attempts, not_before=asked)


def _slots_of(desired: Desired, connection: Connection | None) -> dict[str, Slot]:
    """The slots of a new run. `connection`: what we were to the same store before: where we may be is not forgotten."""
    slots = {name: Slot(required=required) for name, required in desired.slots.items()}
    for name, slot in connection.slots.items() if connection else ():
        was_left = connection is not None and connection.disconnection is not None
        if was_left and name in slots:
            slots[name] = replace(slots[name], seen=_crowd_of(slot))
        if (slot.in_order_at is None and slot.spelling is None) or slot.verdict is SlotStatus.REMOVED:
            continue
        if name not in slots:
            slots[name] = replace(slot, required=False, wanted=False, work=None)
        elif was_left:  # behind
            slots[name] = replace(
                slots[name], not_before=slot.not_before, store_id=slot.store_id, spelling=slot.spelling
            )
        else:
            slots[name] = replace(
                slots[name],
                not_before=slot.not_before,
                store_id=slot.store_id,
                seen=slot.seen,
                in_order_at=slot.in_order_at,
                repairs=slot.repairs,
                unanswered=slot.unanswered,
                spelling=slot.spelling,
            )
    return slots


def _crowd_of(slot: Slot) -> Seen | None:
    """Where we have been, one answer that shows fewer others than there were, or none at all, is not believed.

    None where we never were. Nothing else of what was seen is ours to watch yet.
    """
    if slot.seen is None and slot.spelling is None and slot.in_order_at is None:
        return None
    return Seen(others=slot.seen.others if slot.seen else 0)


def _forgiven(slot: Slot) -> Slot:
    known = slot.spelling
    kept = Spelling(ours=known.ours, bent=known.bent) if known is not None and (known.ours or known.bent) else None
    forgiven = replace(slot, repairs=(), unanswered=(), writes_in_vain=0, seen=None, spelling=kept)
    return replace(forgiven, verdict=SlotStatus.FAILED) if slot.verdict is SlotStatus.CONTESTED else forgiven


def _lacks_its_key(connection: Connection) -> bool:
    causes = [
        connection.trouble.cause if connection.trouble else None,
        *(slot.cause for slot in connection.slots.values()),
    ]
    return any(cause is not None and cause.code == "credential_unusable" for cause in causes)

"""What each step does at the store, and its outcome.

A step returns its outcome or raises an IntegrationError. It neither waits nor retries, nor does it know who asks: that
is for `tasks/`. What outcomes and errors make of the record is in `connections/lifecycle/outcomes.py`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NoReturn

from integrations.connections.drift import MENDABLE
from integrations.connections.lifecycle import failed_deliveries
from integrations.connections.lifecycle.failed_deliveries import LogRead
from integrations.connections.lifecycle.outcomes import (
    KeyProven,
    NewKeyTurnedDown,
    Outcome,
    ShippingMethodsChecked,
    SlotContested,
    SlotRegistered,
    SlotRemoved,
)
from integrations.connections.record import Cause, Connection, Slot, SlotStatus, Step, Target, merchant_of
from integrations.errors import CredentialRejected, IntegrationError, PermanentError
from integrations.learnt import Learnt, Spelling
from integrations.oracle_commerce import missed_events, registration
from integrations.oracle_commerce.given_up import AskedFor, given_up
from integrations.oracle_commerce.one_writer import Lease, OneWriter
from integrations.oracle_commerce.settled import Settled
from integrations.oracle_commerce.slot import BodyStyle, Ours, callback_url_for
from integrations.oracle_commerce.store import Store
from integrations.oracle_commerce.store_url import is_dev_store
from integrations.settings import BlindWrites, SlotSpec

MOST_WRITES_IN_VAIN = 2
"""In one re-validation. What two writes do not bring about, a third does not."""

_SETTLES_WITHIN = 20.0  # seconds after which a store shows what it has accepted, and no cache an answer from before


@dataclass(frozen=True, slots=True)
class Wanted:
    """What stores should carry, from the settings."""

    callback_url: str
    slots: Mapping[str, SlotSpec]
    body: BodyStyle
    repairs_per_day: int = 3
    former_callback_urls: tuple[str, ...] = ()
    delivery_check_after: float = 0.0  # seconds since the log of failed deliveries was read; 0: never
    blind_writes: BlindWrites = "dev_stores"

    @property
    def required(self) -> dict[str, bool]:
        """Slot name -> whether a connection is incomplete without it."""
        return {name: spec.required for name, spec in self.slots.items()}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step at one store. `since`: when it was claimed, by the pipeline's clock."""

    store: Store
    connection: Connection
    target: Target
    since: float
    wanted: Wanted
    writers: OneWriter

    @property
    def slot(self) -> Slot:
        """The slot the step is about, as it is recorded."""
        return self.connection.slots[self.target.slot or ""]

    @property
    def slot_id(self) -> str:
        """What the store calls it."""
        name = self.target.slot or ""
        spec = self.wanted.slots.get(name)
        if spec is not None and self.target.step is not Step.DISCONNECT:
            return spec.id
        return self.slot.store_id or (spec or SlotSpec(name)).id  # the settings may be others than when it went in

    @property
    def ours(self) -> Ours:
        """What is ours in this slot."""
        ours = ours_in(self.wanted, self.connection, self.target.slot or "")
        return replace(ours, age=max(0.0, self.since - ours.remembered.at))

    @property
    def others_at_least(self) -> int:
        """How many URLs of others are in this slot, as far as is known: those of other merchants of ours are."""
        return int(bool(self.connection.shares_store_with))

    @property
    def may_write(self) -> bool:
        """Whether writing may still help: not if it was in vain in this re-validation, or too often within a day.

        Where the first write was in vain, the next may cost somebody their URL: the last one of a day is kept for
        putting that back.
        """
        slot = self.slot
        written = len(slot.recent_repairs(self.since)) + len(slot.recent_unanswered(self.since))
        is_first = slot.in_order_at is None and self.target.step is not Step.DISCONNECT
        kept = int(is_first and bool(slot.recent_repairs(self.since)))
        return slot.writes_in_vain < MOST_WRITES_IN_VAIN and written + kept < self.wanted.repairs_per_day

    @property
    def unanswered(self) -> str:
        """The cause for which nobody knows what became of the last write; "" if that is known."""
        slot = self.slot
        cause = slot.cause if slot.writes_in_vain or slot.recent_unanswered(self.since) else None
        return cause.code if cause is not None and cause.code in registration.UNSEEN else ""

    @property
    def settles_in(self) -> float:
        """For how many seconds what went in moments ago may not be shown yet, although the store has accepted it."""
        last = max(self.slot.in_order_at or 0.0, *self.slot.repairs, 0.0)
        return max(0.0, last + _SETTLES_WITHIN - self.since)

    def only_writer(self) -> AbstractContextManager[Lease]:
        """While this lasts, nobody else of us writes this slot. Raises TransientError if somebody is about to."""
        return self.writers.of(self.connection.store_url, self.slot_id)


def ours_in(wanted: Wanted, connection: Connection, name: str) -> Ours:
    """What is ours in a slot of a connection."""
    merchant_id, slot = merchant_of(connection.merchant_id), connection.slots.get(name)
    return Ours(
        callback_url_for(wanted.callback_url, merchant_id, name),
        former=tuple(callback_url_for(it, merchant_id, name) for it in wanted.former_callback_urls),
        template=wanted.callback_url,
        remembered=(slot.spelling if slot else None) or Spelling(),
    )


def validate_key(attempt: Attempt) -> Outcome:
    """Exchange the application key for an access token: proves that the key is alive, and nothing more."""
    attempt.store.exchange_key(since=attempt.since)
    return KeyProven()


def check_shipping_methods(attempt: Attempt) -> Outcome:
    """The store must have at least one enabled shipping method.

    A key that is to replace one that works must be allowed to read what the old one reads, slots included.
    """
    try:
        enabled = sum(method.enabled for method in attempt.store.shipping_methods())
        if attempt.connection.candidate is not None:
            _read_a_slot(attempt)
    except PermanentError as refused:
        if attempt.connection.candidate is None or refused.code != "permission_denied":
            raise
        return NewKeyTurnedDown(Cause(refused.code, refused.detail))
    return ShippingMethodsChecked(enabled, attempt.wanted.required, _read_log_if_due(attempt))


def register_slot(attempt: Attempt) -> Outcome:
    """Our callback URL goes into one slot, and back into it; but not again and again against somebody's will."""
    slot = attempt.slot
    was_there = slot.in_order_at is not None
    fought_over = slot.verdict is SlotStatus.CONTESTED
    enough = len(slot.recent_repairs(attempt.since)) >= attempt.wanted.repairs_per_day
    repair = not fought_over and not (was_there and enough)
    blind = attempt.wanted.blind_writes
    try:
        with attempt.only_writer() as lease:
            found = registration.register(
                Settled(attempt.store, lease, attempt.slot_id, attempt.ours.callback_url, puts_in=True),
                attempt.slot_id,
                attempt.ours,
                attempt.wanted.body,
                once_registered=was_there,
                seen=slot.seen,
                repair=repair,
                may_write=attempt.may_write,
                unanswered=attempt.unanswered,
                blindly=blind == "yes" or (blind == "dev_stores" and is_dev_store(attempt.connection.store_url)),
                at_least=attempt.others_at_least,
            )
    except IntegrationError as error:
        if error.learnt is not None:
            error.learnt = replace(error.learnt, store_id=attempt.slot_id)
        raise
    if not repair and MENDABLE & {*found.drift}:
        return SlotContested(found.drift, slot)
    missed = _missed(attempt, slot.in_order_at) if found.wrote and slot.in_order_at is not None else None
    return _registered(attempt, found, missed)


def look_at_slot(attempt: Attempt) -> SlotRegistered | None:
    """Read a slot that was in order the last time; None unless it still is: then `register_slot` does what it takes.

    Nothing is written, so it needs no lease. Raises TransientError where the store does not answer, and
    CredentialRejected.
    """
    try:
        found = registration.register(
            _ToBeRead(attempt.store),
            attempt.slot_id,
            attempt.ours,
            attempt.wanted.body,
            once_registered=True,
            seen=attempt.slot.seen,
        )
    except CredentialRejected:
        raise
    except (_WouldWrite, PermanentError):
        return None
    return None if found.drift else _registered(attempt, found, missed=None)


def disconnect(attempt: Attempt) -> Outcome:
    """Our callback URL comes out of one slot, whatever else is in it."""
    with attempt.only_writer() as lease:
        removal = registration.unregister(
            Settled(attempt.store, lease, attempt.slot_id, attempt.ours.callback_url, puts_in=False),
            attempt.slot_id,
            attempt.ours,
            attempt.wanted.body,
            once_registered=attempt.slot.in_order_at is not None,
            seen=attempt.slot.seen,
            may_write=attempt.may_write,
            unanswered=attempt.unanswered,
            settles_in=attempt.settles_in,
            at_least=attempt.others_at_least,
        )
    if removal.left is not None:
        left = PermanentError(*removal.left)
        left.learnt = Learnt(spelling=removal.spelling, store_id=attempt.slot_id)
        raise left
    return SlotRemoved(wrote=removal.wrote, gone=removal.gone, rival=removal.rival)


STEPS: Mapping[Step, Callable[[Attempt], Outcome]] = {
    Step.VALIDATE_KEY: validate_key,
    Step.CHECK_SHIPPING_METHODS: check_shipping_methods,
    Step.REGISTER_SLOT: register_slot,
    Step.DISCONNECT: disconnect,
}


class _WouldWrite(Exception):
    """A slot is not as it should be."""


@dataclass(frozen=True, slots=True)
class _ToBeRead:
    """A store in which nothing is written."""

    _store: Store

    def read_slot(self, slot_id: str) -> dict[str, object]:
        return self._store.read_slot(slot_id)

    def list_slots(self) -> list[dict[str, object]]:
        return self._store.list_slots()

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> NoReturn:  # noqa: ARG002 - as stores have it
        raise _WouldWrite


def _registered(attempt: Attempt, found: registration.Registration, missed: int | None) -> SlotRegistered:
    return SlotRegistered(
        store_id=attempt.slot_id,
        wrote=found.wrote,
        rival=found.rival,
        drift=found.drift,
        seen=found.seen,
        lost=found.lost,
        missed=missed,
        spelling=found.spelling,
    )


def _read_a_slot(attempt: Attempt) -> None:
    """A harmless read. That the store lacks the slot says nothing about the key."""
    spec = next(iter(attempt.wanted.slots.values()))
    try:
        attempt.store.read_slot(spec.id)
    except PermanentError as refused:
        if refused.code != "slot_not_offered":
            raise


def _read_log_if_due(attempt: Attempt) -> LogRead | None:
    """What the store's log of failed deliveries says, when it is time to read it."""
    connection, now = attempt.connection, attempt.since
    if not failed_deliveries.is_due(connection, attempt.wanted.delivery_check_after, now):
        return None
    since = failed_deliveries.since(connection, now)
    asked = {
        name: AskedFor(ours_in(attempt.wanted, connection, name), since)
        for name, slot in connection.slots.items()
        if slot.wanted and slot.in_order_at is not None
    }
    return LogRead(now, given_up(attempt.store, asked, now))


def _missed(attempt: Attempt, since: float) -> int | None:
    missed = missed_events.missed(attempt.store, attempt.ours, since)
    return missed.total if missed else None

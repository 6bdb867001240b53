"""What each step does at the store, and its outcome.

A step returns its outcome or raises an IntegrationError. It neither waits nor retries, nor does it know who asks: that
is for `tasks/`. What outcomes and errors make of the record is in `connections/lifecycle/outcomes.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
from integrations.errors import PermanentError
from integrations.oracle_commerce import missed_events, registration
from integrations.oracle_commerce.given_up import AskedFor, given_up
from integrations.oracle_commerce.slot import BodyStyle, callback_url_for
from integrations.oracle_commerce.store import Store
from integrations.settings import SlotSpec


@dataclass(frozen=True, slots=True)
class Wanted:
    """What stores should carry, from the settings."""

    callback_url: str
    slots: Mapping[str, SlotSpec]
    body: BodyStyle
    repairs_per_day: int = 3
    former_callback_urls: tuple[str, ...] = ()
    delivery_check_after: float = 0.0  # seconds since the log of failed deliveries was looked into; 0: never

    @property
    def required(self) -> dict[str, bool]:
        """Slot name -> whether a connection is incomplete without it."""
        return {name: spec.required for name, spec in self.slots.items()}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step at one store. `since`: when it was claimed, by the server's clock."""

    store: Store
    connection: Connection
    target: Target
    since: float
    wanted: Wanted

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
    def callback_url(self) -> str:
        """Our URL for this slot of this merchant."""
        return self._url(self.wanted.callback_url)

    @property
    def former(self) -> tuple[str, ...]:
        """What it was before."""
        return tuple(map(self._url, self.wanted.former_callback_urls))

    def _url(self, template: str) -> str:
        return callback_url_for(template, merchant_of(self.connection.merchant_id), self.target.slot or "")


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
    fought_over = slot.verdict is SlotStatus.CONTESTED
    repair = not fought_over and len(slot.recent_repairs(attempt.since)) < attempt.wanted.repairs_per_day
    found = registration.register(
        attempt.store,
        attempt.slot_id,
        attempt.callback_url,
        attempt.wanted.body,
        former=attempt.former,
        once_registered=slot.in_order_at is not None,
        seen=slot.seen,
        repair=repair,
    )
    if not repair and MENDABLE & {*found.drift}:
        return SlotContested(found.drift, slot)
    missed = _missed(attempt, slot.in_order_at) if found.wrote and slot.in_order_at is not None else None
    return SlotRegistered(
        store_id=attempt.slot_id,
        wrote=found.wrote,
        rival=found.rival,
        drift=found.drift,
        seen=found.seen,
        lost=found.lost,
        missed=missed,
    )


def disconnect(attempt: Attempt) -> Outcome:
    """Our callback URL comes out of one slot, whatever else is in it."""
    removal = registration.unregister(
        attempt.store, attempt.slot_id, attempt.callback_url, attempt.wanted.body, former=attempt.former
    )
    if removal.left:
        raise PermanentError("slot_unreadable")
    return SlotRemoved(wrote=removal.wrote, gone=removal.gone, rival=removal.rival)


STEPS: Mapping[Step, Callable[[Attempt], Outcome]] = {
    Step.VALIDATE_KEY: validate_key,
    Step.CHECK_SHIPPING_METHODS: check_shipping_methods,
    Step.REGISTER_SLOT: register_slot,
    Step.DISCONNECT: disconnect,
}


def _read_a_slot(attempt: Attempt) -> None:
    """A harmless look. That the store lacks the slot says nothing about the key."""
    spec = next(iter(attempt.wanted.slots.values()))
    try:
        attempt.store.read_slot(spec.id)
    except PermanentError as refused:
        if refused.code != "slot_not_offered":
            raise


def _read_log_if_due(attempt: Attempt) -> LogRead | None:
    """What the store's log of failed deliveries says, when it is time to look into it."""
    connection, now = attempt.connection, attempt.since
    if not failed_deliveries.is_due(connection, attempt.wanted.delivery_check_after, now):
        return None
    merchant_id, since = merchant_of(connection.merchant_id), failed_deliveries.since(connection, now)
    asked = {
        name: AskedFor(callback_url_for(attempt.wanted.callback_url, merchant_id, name), since)
        for name, slot in connection.slots.items()
        if slot.wanted and slot.in_order_at is not None
    }
    return LogRead(now, given_up(attempt.store, asked, now))


def _missed(attempt: Attempt, since: float) -> int | None:
    missed = missed_events.missed(attempt.store, attempt.callback_url, since)
    return missed.total if missed else None

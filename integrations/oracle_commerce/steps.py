"""What each step does at the store, and what its answer makes of the record.

A step either returns its outcome, a function from the record to the record, or raises an IntegrationError. It neither
waits nor retries, nor does it know who asks: that is for `tasks/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from integrations.oracle_commerce import registration, transitions
from integrations.oracle_commerce.connection import Connection, Step, Target
from integrations.oracle_commerce.slots import BodyStyle, callback_url_for
from integrations.oracle_commerce.store import Store
from integrations.oracle_commerce.transitions import Change, Moment
from integrations.settings import SlotSpec

Outcome = Callable[[Connection, Moment], Change]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What stores should carry, from the settings."""

    callback_url: str
    slots: Mapping[str, SlotSpec]
    body: BodyStyle


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step at one store. `since`: when it was claimed, by the server's clock."""

    store: Store
    merchant_id: str
    target: Target
    since: float
    following: Step
    wanted: Wanted
    once_registered: bool = False


def validate_key(attempt: Attempt) -> Outcome:
    """Exchange the application key for an access token: proves that the key is alive, and nothing more."""
    attempt.store.exchange_key(since=attempt.since)
    return partial(_key_proven, attempt)


def check_shipping_methods(attempt: Attempt) -> Outcome:
    """The store must have at least one enabled shipping method."""
    enabled = sum(method.enabled for method in attempt.store.shipping_methods())
    return partial(_shipping_checked, attempt, enabled)


def register_slot(attempt: Attempt) -> Outcome:
    """Our callback URL goes into one slot."""
    name = attempt.target.slot or ""
    spec = attempt.wanted.slots.get(name) or SlotSpec(name)  # a run of earlier settings may still know another slot
    url = callback_url_for(attempt.wanted.callback_url, attempt.merchant_id, name)
    registered = registration.register(
        attempt.store, spec.id, url, attempt.wanted.body, once_registered=attempt.once_registered
    )
    return partial(_slot_registered, attempt, registered)


STEPS: Mapping[Step, Callable[[Attempt], Outcome]] = {
    Step.VALIDATE_KEY: validate_key,
    Step.CHECK_SHIPPING_METHODS: check_shipping_methods,
    Step.REGISTER_SLOT: register_slot,
}


def _key_proven(attempt: Attempt, connection: Connection, at: Moment) -> Change:
    return transitions.key_proven(connection, attempt.target, attempt.following, at)


def _shipping_checked(attempt: Attempt, enabled: int, connection: Connection, at: Moment) -> Change:
    return transitions.shipping_checked(connection, attempt.target, enabled, attempt.following, at)


def _slot_registered(
    attempt: Attempt, registered: registration.Registration, connection: Connection, at: Moment
) -> Change:
    return transitions.slot_registered(connection, attempt.target, at, wrote=registered.wrote, rival=registered.rival)

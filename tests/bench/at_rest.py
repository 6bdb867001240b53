"""Connections as a connect leaves them, made by the real transitions without a store: benchmarks need many."""

from collections.abc import Mapping

from integrations.connections.change import Change, Keys, Moment, Stop
from integrations.connections.drift import Seen
from integrations.connections.lifecycle import claims, outcomes, requests
from integrations.connections.lifecycle.outcomes import KeyProven, ShippingMethodsChecked, SlotRegistered
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Connection, Step, Target

SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
NOTHING_SEEN: Mapping[str, Seen] = {}


def connected(desired: Desired, at: Moment, *, seen: Mapping[str, Seen] = NOTHING_SEEN) -> Change:
    """A connection all of whose slots were written at this moment, waiting for its second look."""
    connection = _after(requests.begin(None, desired, at))
    steps = (Target(Step.VALIDATE_KEY), Target(Step.CHECK_SHIPPING_METHODS))
    for target in (*steps, *(Target(Step.REGISTER_SLOT, name) for name in desired.slots)):
        claimed = _after(claims.claim(connection, connection.run, target, "a worker", at))
        connection = outcome(claimed, target, at, wrote=True, seen=seen).connection
    return Change(connection, keys=Keys(current=desired.sealed_key))


def looked_at(connection: Connection, at: Moment) -> Connection:
    """The same after a look that found everything in order."""
    seen = {name: slot.seen for name, slot in connection.slots.items() if slot.seen}
    while targets := sorted(connection.ready(at.now), key=str):
        for target in targets:
            claimed = _after(claims.claim(connection, connection.run, target, "a worker", at))
            connection = outcome(claimed, target, at, wrote=False, seen=seen).connection
    return connection


def outcome(
    connection: Connection, target: Target, at: Moment, *, wrote: bool, seen: Mapping[str, Seen] = NOTHING_SEEN
) -> Change:
    """What a healthy store makes of the record."""
    if target.step is Step.VALIDATE_KEY:
        return outcomes.record(connection, target, KeyProven(), at)
    if target.step is Step.CHECK_SHIPPING_METHODS:
        slots = {name: slot.required for name, slot in connection.slots.items()}
        return outcomes.record(connection, target, ShippingMethodsChecked(1, slots=slots), at)
    name = target.slot or ""
    return outcomes.record(connection, target, SlotRegistered(wrote=wrote, store_id=name, seen=seen.get(name)), at)


def _after(result: Change | Stop) -> Connection:
    if isinstance(result, Stop):
        raise TypeError(f"nothing changed: {result.reason}")
    return result.connection

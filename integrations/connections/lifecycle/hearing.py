"""What it means for the record that a slot is heard from, or no longer is. Pure.

Deliveries are reported all the time; the record changes only when a slot is heard from for the first time in a run,
falls silent, or comes back. Nothing here is work, and nothing leads to a call to a store.
"""

from collections.abc import Mapping
from dataclasses import replace

from integrations.connections.change import Change, Note, Stop
from integrations.connections.record import Connection, Silence, Slot, Step, Target

_CLOCKS_DIFFER = 60.0
"""Seconds by which the receiver's clock may be behind ours."""


def heard(connection: Connection | None, name: str, at: float) -> Change | Stop:
    """A slot was heard from, most recently at this time."""
    slot = _slot(connection, name)
    if connection is None or slot is None:
        return Stop("unknown_slot")
    if at < connection.started_at - _CLOCKS_DIFFER:
        return Stop("of_a_former_run")  # it proves nothing of how the slot is now
    if slot.heard_at is not None and slot.silence is None:
        return Stop("known")
    if slot.silence is not None and at <= slot.silence.since:
        return Stop("late")
    details: dict[str, object] = {} if slot.silence is None else {"silent_since": slot.silence.since}
    return _changed(connection, name, replace(slot, heard_at=slot.heard_at or at, silence=None), "slot_heard", details)


def fell_silent(connection: Connection | None, name: str, silence: Silence) -> Change | Stop:
    """A slot has not been heard from for much longer than ever."""
    slot = _slot(connection, name)
    if connection is None or slot is None:
        return Stop("unknown_slot")
    if slot.silence == silence:
        return Stop("known")
    reported = slot.silence is not None
    details: dict[str, object] = {"heard_last": silence.since, "longest_pause": silence.longest_pause}
    return _changed(connection, name, replace(slot, silence=silence), "" if reported else "slot_silent", details)


def _slot(connection: Connection | None, name: str) -> Slot | None:
    if connection is None or connection.disconnection is not None:
        return None
    slot = connection.slots.get(name)
    return slot if slot is not None and slot.wanted else None


def _changed(connection: Connection, name: str, slot: Slot, what: str, details: Mapping[str, object]) -> Change:
    notes = (Note(what, Target(Step.REGISTER_SLOT, name), details=details),) if what else ()
    return Change(replace(connection, slots={**connection.slots, name: slot}), notes)

"""What a store's log of failed deliveries means for the record: evidence that what receives them fails. Pure.

Nothing follows from it but a finding and an event; the slots are as registered as they were.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from integrations.connections.change import Change, Note
from integrations.connections.record import Connection, GivenUp, Slot, Step, Target

WEEK = 7 * 86400.0
"""Seconds. What was given up longer ago is no longer reported: nobody has sent it again, and nobody will."""


@dataclass(frozen=True, slots=True)
class LogRead:
    """What the log said at a time, slot by slot, where there is something. None: the store did not say."""

    at: float
    given_up: Mapping[str, GivenUp] | None


def is_due(connection: Connection, after: float, now: float) -> bool:
    """Whether to read the log with this re-validation. `after`: seconds since the last time; 0 for never.

    While something is reported, each re-validation reads it, so that the finding goes as soon as it is fixed.
    """
    if not after or connection.disconnection is not None or connection.candidate is not None:
        return False
    if not any(slot.in_order_at is not None for slot in connection.slots.values()):
        return False
    if any(slot.given_up is not None for slot in connection.slots.values()):
        return True
    last = connection.log_read_at if connection.log_read_at is not None else connection.started_at
    return now - last >= after


def since(connection: Connection, now: float) -> float:
    """From when on what was given up is of interest."""
    return max(connection.started_at, now - WEEK)


def with_log_read(change: Change, log: LogRead | None) -> Change:
    """The change, and what the log says in it. Without a log, what is known stays."""
    if log is None:
        return change
    connection = replace(change.connection, log_read_at=log.at)
    given_up = log.given_up
    if given_up is None:
        return replace(change, connection=connection)
    slots = {name: replace(slot, given_up=given_up.get(name)) for name, slot in connection.slots.items()}
    notes = [note for name, slot in connection.slots.items() for note in _notes(name, slot, slots[name])]
    return replace(change, connection=replace(connection, slots=slots), notes=(*change.notes, *notes))


def _notes(name: str, was: Slot, slot: Slot) -> list[Note]:
    target, now = Target(Step.REGISTER_SLOT, name), slot.given_up
    if now is not None and was.given_up is None:
        details = {"given_up": now.count, "first_at": now.first, "last_at": now.last, "error": now.error}
        return [Note("deliveries_failing", target, details=details)]
    return [Note("deliveries_cleared", target)] if now is None and was.given_up is not None else []

"""One line of a connection's history, as it is kept and shown, and which lines are worth keeping. Pure."""

from integrations.connections.change import Note
from integrations.connections.findings import EVIDENCE, findings_of
from integrations.connections.record import Connection, ConnectionStatus, Slot

_DONE = {"validate_key_done", "check_shipping_methods_done"}


def is_news(note: Note, before: Connection | None, after: Connection) -> bool:
    """Whether a line says anything that the record does not.

    A re-validation finds everything in order, day after day: the record says when. Seven lines for each would drown
    what did happen, and be most of the server's memory.
    """
    if before is None or any(map(_has_news, (before, after))):
        return True
    if note.attempt != 1 or before.candidate is not None or before.shipping_methods != after.shipping_methods:
        return True
    if note.what == "slot_registered" and note.target is not None and note.target.slot is not None:
        slot = before.slots[note.target.slot]
        return bool(note.details.get("wrote")) or "drift" in note.details or not _was_in_order(slot, before)
    return note.what not in _DONE


def _has_news(connection: Connection) -> bool:
    if connection.status is not ConnectionStatus.ACTIVE:
        return True
    return any(finding.code not in EVIDENCE for finding in findings_of(connection))


def _was_in_order(slot: Slot, connection: Connection) -> bool:
    """In this run: with a new application key, everything is found out anew."""
    return slot.in_order_at is not None and slot.in_order_at >= connection.started_at


def timeline_entry(note: Note, connection: Connection, now: float) -> dict[str, object]:
    """A JSON object: when, which run, what, and as far as they apply: step, slot, attempt, cause, since when."""
    entry: dict[str, object] = {"at": round(now, 3), "run": connection.run, "what": note.what}
    if note.target is not None:
        entry["step"] = note.target.step
        if note.target.slot:
            entry["slot"] = note.target.slot
    if note.attempt is not None:
        entry["attempt"] = note.attempt
    if note.cause is not None:
        entry["cause"] = note.cause.code
        if note.cause.detail:
            entry["detail"] = note.cause.detail
    if note.started_at is not None:
        entry["started_at"] = round(note.started_at, 3)
    return {**entry, **note.details}

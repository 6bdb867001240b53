"""One line of a connection's history, as it is kept and shown. Pure."""

from integrations.oracle_commerce.change import Note
from integrations.oracle_commerce.connection import Connection


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

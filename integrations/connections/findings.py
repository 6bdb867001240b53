"""What there is to report of a connection. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from integrations.cloud_event import timestamp
from integrations.connections.record import (
    FOR_PEOPLE_TO_DECIDE,
    Cause,
    Connection,
    GivenUp,
    KeyVerdict,
    ShippingVerdict,
    Silence,
    Slot,
    SlotStatus,
)

EVIDENCE = frozenset({"slot_silent", "deliveries_failing", "store_shared"})
"""Findings that no step makes: they say something of deliveries, or of other connections, not of this one."""

_OF_THE_KEY = {"key_rejected", "key_doubted", "new_key_doubted"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check has to report. `code` is explained in `causes.py`."""

    code: str
    detail: str = ""
    slot: str | None = None
    next_attempt_at: float | None = None


def findings_of(connection: Connection) -> tuple[Finding, ...]:
    """Everything there is to report, the connection's first, then slot by slot."""
    disconnecting = connection.disconnection is not None
    reported = ((name, slot) for name, slot in connection.slots.items() if slot.wanted or disconnecting)
    slots = (finding for name, slot in reported for finding in _of_slot(connection, name, slot))
    if disconnecting:
        return tuple(slots)
    return (*_of_key(connection), *_of_steps(connection), *_of_store(connection), *slots)


def _again(connection: Connection) -> float | None:
    return connection.work.not_before if connection.work else None


def _of_key(connection: Connection) -> Iterator[Finding]:
    credential, again = connection.credential, _again(connection)
    if credential.verdict is KeyVerdict.REJECTED:
        said = connection.cause.detail if connection.cause and connection.cause.code == "key_rejected" else ""
        yield Finding("key_rejected", said, next_attempt_at=again)
    elif credential.verdict is KeyVerdict.DOUBTED:
        yield Finding("key_doubted", next_attempt_at=again)
    if connection.candidate is not None and connection.candidate.doubted_since is not None:
        yield Finding("new_key_doubted", next_attempt_at=again)
    if connection.key_refusal is not None:
        yield Finding("new_key_rejected", connection.key_refusal.detail or connection.key_refusal.code)
    if credential.expiry_reported is not None and credential.verdict is not KeyVerdict.REJECTED:
        days = "1 day" if credential.expiry_reported == 1 else f"{credential.expiry_reported} days"
        yield Finding("key_expiring", f"{days} or less")


def _of_steps(connection: Connection) -> Iterator[Finding]:
    again = _again(connection)
    if connection.trouble is not None:
        yield Finding(connection.trouble.cause.code, connection.trouble.cause.detail, next_attempt_at=again)
    elif connection.cause is not None and connection.cause.code not in _OF_THE_KEY:  # told above
        yield Finding(connection.cause.code, connection.cause.detail, next_attempt_at=again)
    if connection.shipping_methods.verdict is ShippingVerdict.MISSING:
        yield Finding("no_shipping_methods", next_attempt_at=again)


def _of_store(connection: Connection) -> Iterator[Finding]:
    if connection.shares_store_with:
        yield Finding("store_shared", f"with {', '.join(connection.shares_store_with)}")


def _of_slot(connection: Connection, name: str, slot: Slot) -> Iterator[Finding]:
    again = slot.next_attempt_at
    if slot.verdict is SlotStatus.LEFT_BEHIND:
        yield Finding("left_behind", _why(slot.cause), slot=name, next_attempt_at=again)
    elif slot.cause is not None:
        yield Finding(slot.cause.code, slot.cause.detail, slot=name, next_attempt_at=again or _again(connection))
    if slot.given_up is not None and connection.disconnection is None:
        yield Finding("deliveries_failing", _given_up(slot.given_up), slot=name)
    if slot.silence is not None and connection.disconnection is None:
        yield Finding("slot_silent", _silence(slot.silence), slot=name)


def _why(cause: Cause | None) -> str:
    """What is left is named, where it is known; other evidence says nothing to those who have to act."""
    if cause is None:
        return ""
    return f"{cause.code}: {cause.detail}" if cause.code in FOR_PEOPLE_TO_DECIDE else cause.code


def _given_up(given_up: GivenUp) -> str:
    first, last = timestamp(given_up.first), timestamp(given_up.last)
    return f"{given_up.count} given up from {first} to {last}; the last one: {given_up.error}"


def _silence(silence: Silence) -> str:
    last = timestamp(silence.since)
    return f"last heard from at {last}; longest pause before: {silence.longest_pause / 3600:.1f} hours"

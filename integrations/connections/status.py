"""A connection as other programs read it: the JSON object behind `occ status --json`. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from integrations.connections.causes import explain
from integrations.connections.findings import Finding, findings_of
from integrations.connections.record import Connection, GivenUp, Slot, merchant_of
from integrations.connections.rhythm import Rhythm

LEFT = "left"


def counted_as(connection: Connection) -> str:
    """Where a record is listed by status: under its status, or as a store that its merchant has left."""
    return connection.status if merchant_of(connection.merchant_id) == connection.merchant_id else LEFT


def status_object(connection: Connection, rhythms: Mapping[str, Rhythm] | None = None) -> dict[str, object]:
    """The contract with those who read it: fields may be added (some are there only when there is something to
    say), never removed. Times are ISO 8601, UTC. `rhythms`: what was heard of its slots."""
    heard = rhythms or {}
    return {
        "merchant_id": connection.merchant_id,
        "store_url": connection.store_url,
        "run": connection.run,
        "status": connection.status,
        **({"request_id": connection.request_id} if connection.request_id else {}),
        "credential": {
            "verdict": connection.credential.verdict,
            "fingerprint": connection.credential.fingerprint,
            "expires_at": iso(connection.credential.expires_at),
            **({"candidate": connection.candidate.fingerprint} if connection.candidate else {}),
        },
        "shipping_methods": {
            "verdict": connection.shipping_methods.verdict,
            "enabled": connection.shipping_methods.enabled,
        },
        "slots": {name: _slot(slot, heard.get(name)) for name, slot in connection.slots.items()},
        "findings": [finding_object(finding) for finding in findings_of(connection)],
        "due_at": iso(connection.due_at),
        "updated_at": iso(connection.updated_at),
    }


def finding_object(finding: Finding) -> dict[str, object]:
    """A finding with its explanation."""
    explanation = explain(finding.code)
    return {
        "code": finding.code,
        "actor": explanation.actor,
        "explanation": explanation.sentence,
        "detail": finding.detail or None,
        "slot": finding.slot,
        "next_attempt_at": iso(finding.next_attempt_at),
    }


def _slot(slot: Slot, rhythm: Rhythm | None) -> dict[str, object]:
    return {
        "status": slot.status,
        "attempts": slot.attempts,
        "cause": slot.cause.code if slot.cause else None,
        "next_attempt_at": iso(slot.next_attempt_at),
        **({"drift": list(slot.drift)} if slot.drift else {}),
        **({"missed_events": slot.missed} if slot.missed is not None else {}),
        **({"given_up": _given_up(slot.given_up)} if slot.given_up is not None else {}),
        **({"heard": _heard(slot, rhythm)} if rhythm is not None else {}),
    }


def _given_up(given_up: GivenUp) -> dict[str, object]:
    return {
        "deliveries": given_up.count,
        "first_at": iso(given_up.first),
        "last_at": iso(given_up.last),
        "error": given_up.error,
    }


def _heard(slot: Slot, rhythm: Rhythm) -> dict[str, object]:
    return {
        "last_at": iso(rhythm.last),
        "deliveries": rhythm.count,
        "longest_pause": rhythm.longest_pause,
        "silent": slot.silence is not None,
        "silent_at": iso(rhythm.silent_at),
    }


def iso(seconds: float | None) -> str | None:
    """Seconds since the epoch as `2026-11-23T15:02:00.000Z`; a time beyond the calendar as its end."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.max.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

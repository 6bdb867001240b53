"""Events for other systems, as CloudEvents 1.0: what a change of a connection means to them. Pure.

`id` is the same however often an event is delivered; `sequence` grows with the events of one merchant. An id holds a
part of the id of its change: writes that a failover has lost had other ids, whatever has the same version now.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping

from integrations.cloud_event import cloud_event, timestamp
from integrations.connections.causes import explain
from integrations.connections.findings import findings_of
from integrations.connections.known_request import KnownRequest
from integrations.connections.record import Connection, ConnectionStatus, KeyVerdict, Slot, merchant_of

_About = tuple[str, str, Mapping[str, object]]
"""What happened, what sets its id apart from others of the same change, and the particulars."""

REQUEST_REFUSED = "occ.request.refused"
_OF_CHANGE_ID = 8  # letters

TROUBLED = frozenset({ConnectionStatus.DEGRADED, ConnectionStatus.UNREACHABLE, ConnectionStatus.NEEDS_REAUTHORISATION})


def status_event(
    before: Connection | None, after: Connection, *, version: int, now: float, change_id: str = ""
) -> dict[str, object] | None:
    """The event about a new status, None if the status stayed. A store that was left is nobody's status."""
    was = before.status if before else None
    return status_event_since(was, after, version=version, now=now, change_id=change_id)


def status_event_since(
    was: ConnectionStatus | None, after: Connection, *, version: int, now: float, change_id: str = ""
) -> dict[str, object] | None:
    """The same, from the status that other systems heard of last."""
    if after.status is was or merchant_of(after.merchant_id) != after.merchant_id:
        return None
    recovered = after.status is ConnectionStatus.ACTIVE and was in TROUBLED
    data = {
        "status": after.status,
        "previous_status": was,
        "findings": [
            {"code": finding.code, "slot": finding.slot, "actor": explain(finding.code).actor}
            for finding in findings_of(after)
        ],
    }
    what = "recovered" if recovered else after.status
    return _event(what, after, "", data, version=version, now=now, change_id=change_id)


def other_events(
    before: Connection | None, after: Connection, *, version: int, now: float, change_id: str = ""
) -> list[dict[str, object]]:
    """The events about what is worth knowing while the status stays: the key's end, drift, a shared store."""
    if before is None:
        return []
    return [
        _event(what, after, f".{suffix}", data, version=version, now=now, change_id=change_id)
        for what, suffix, data in (
            *_about_key(before, after),
            *_about_store(before, after),
            *_about_slots(before, after),
        )
    ]


def refused_event(refused: KnownRequest, sequence: str) -> dict[str, object]:
    """That a request was refused, for who sent it. `sequence`: what the server puts its number in the place of.

    It is about no connection: its subject is `request`. The same entry or message refused twice has one id.
    """
    in_inbox = refused.door == "inbox"
    distinct = [refused.door, refused.reference, "" if refused.reference else sequence]
    return {
        **cloud_event(
            REQUEST_REFUSED,
            event_id=f"request:{hashlib.sha256(json.dumps(distinct).encode()).hexdigest()[:32]}",
            subject="request",
            now=refused.at,
            sequence=0,
            data={
                "request": refused.request,
                "door": refused.door,
                "merchant_id": refused.merchant_id,
                "request_id": refused.request_id or None,
                "stream_id": refused.reference if in_inbox and refused.reference else None,
                "message_id": refused.reference if not in_inbox and refused.reference else None,
                "field": refused.field,
                "code": refused.code,
                "remedy": refused.remedy,
            },
        ),
        "sequence": sequence,
    }


def _about_key(before: Connection, after: Connection) -> Iterator[_About]:
    reported, expires_at = after.credential.expiry_reported, after.credential.expires_at
    if reported is not None and expires_at is not None and reported != before.credential.expiry_reported:
        yield "key_expiring", "expiry", {"days": reported, "expires_at": timestamp(expires_at)}
    if before.candidate is None or after.candidate is not None:
        return
    credential = after.credential
    if credential.fingerprint == before.candidate.fingerprint and credential.verdict is KeyVerdict.VALID:
        yield "reauthorised", "key", {"fingerprint": after.credential.fingerprint}
    elif after.key_refusal is not None:
        refused: dict[str, object] = {"fingerprint": before.candidate.fingerprint, "code": after.key_refusal.code}
        yield "reauthorisation_failed", "key", refused


def _about_store(before: Connection, after: Connection) -> Iterator[_About]:
    if bool(before.shares_store_with) != bool(after.shares_store_with) and after.disconnection is None:
        yield "store_shared", "shared", {"with": list(after.shares_store_with)}


def _about_slots(before: Connection, after: Connection) -> Iterator[_About]:
    for name, slot in after.slots.items():
        was = before.slots.get(name)
        if was is None:
            continue
        yield from _about_hearing(name, was, slot)
        yield from _about_given_up(name, was, slot, same_run=before.run == after.run)
        if not slot.drift:
            continue
        repaired = slot.in_order_at != was.in_order_at and slot.repairs[-1:] not in {(), was.repairs[-1:]}
        if repaired or {*slot.drift} - {*was.drift}:
            drift: dict[str, object] = {
                "slot": name,
                "drift": list(slot.drift),
                "repaired": repaired,
                "missed_events": slot.missed,
            }
            yield "drifted", f"drift.{name}", drift | {"missed_events": slot.missed}


def _about_hearing(name: str, was: Slot, slot: Slot) -> Iterator[_About]:
    """What many slots have in common is one event for operators: `silence/many.py`."""
    silence = slot.silence
    if silence is not None:
        if not silence.among_many and (was.silence is None or was.silence.among_many):
            reported = {
                "slot": name,
                "heard_last": timestamp(silence.since),
                "longest_pause": round(silence.longest_pause),
            }
            yield "slot.silent", f"silent.{name}", reported
        return
    came_back = was.silence is not None and not was.silence.among_many
    if slot.heard_at is not None and (was.heard_at is None or came_back):
        since = timestamp(was.silence.since) if came_back and was.silence is not None else None
        yield "slot.heard", f"heard.{name}", {"slot": name, "heard_at": timestamp(slot.heard_at), "silent_since": since}


def _about_given_up(name: str, was: Slot, slot: Slot, *, same_run: bool) -> Iterator[_About]:
    now = slot.given_up
    if now is not None and was.given_up is None:
        times = {"first_at": timestamp(now.first), "last_at": timestamp(now.last)}
        reported = {"slot": name, "given_up": now.count, **times, "error": now.error}
        yield "slot.deliveries_failing", f"failing.{name}", reported
    elif now is None and was.given_up is not None and same_run:
        yield "slot.deliveries_cleared", f"cleared.{name}", {"slot": name}


def _event(
    what: str,
    connection: Connection,
    suffix: str,
    data: Mapping[str, object],
    *,
    version: int,
    now: float,
    change_id: str,
) -> dict[str, object]:
    about: dict[str, object] = {
        "merchant_id": connection.merchant_id,
        "store_url": connection.store_url,
        "run": connection.run,
        **({"request_id": connection.request_id} if connection.request_id else {}),
    }
    change = f".{change_id[:_OF_CHANGE_ID]}" if change_id else ""
    return cloud_event(
        f"occ.{what}" if "." in what else f"occ.connection.{what}",
        event_id=f"{connection.merchant_id}.{version}{change}{suffix}",
        subject=merchant_of(connection.merchant_id),
        now=now,
        sequence=version,
        data={**about, **data},
    )

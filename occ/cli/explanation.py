"""A connection in sentences: what happened, why, who acts, and what comes next. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from integrations.connections.causes import Actor, explain
from integrations.connections.findings import findings_of
from integrations.connections.record import (
    Connection,
    ConnectionStatus,
    KeyVerdict,
    ShippingVerdict,
    SlotStatus,
    Step,
    merchant_of,
)
from occ.cli.facts import expiry
from occ.cli.plain_text import ago, date_and_clock, from_now, lasting, one_line
from occ.cli.slot_history import slots_explained

_LATE = 10.0
"""Seconds after its due time that work is taken even by a busy installation; longer, and somebody should look."""

_STATUS = {
    ConnectionStatus.ONBOARDING: "is being connected",
    ConnectionStatus.ACTIVE: "is connected",
    ConnectionStatus.DEGRADED: "works in part",
    ConnectionStatus.NEEDS_REAUTHORISATION: "needs a new application key",
    ConnectionStatus.UNREACHABLE: "cannot be reached",
    ConnectionStatus.DISCONNECTED: "has been disconnected",
}
_KEY = {
    KeyVerdict.PENDING: "The application key has not been tried yet.",
    KeyVerdict.VALID: "The store accepts the application key.",
    KeyVerdict.DOUBTED: "The store refused the application key once; a second exchange decides.",
    KeyVerdict.REJECTED: "The store refuses the application key.",
}
_ACTORS = {
    Actor.MERCHANT: "the merchant acts",
    Actor.OPERATOR: "the operator of this installation acts",
    Actor.ORACLE: "Oracle acts, or whoever runs the store",
    Actor.NOBODY: "nobody has to act",
}


def explained(
    connection: Connection,
    now: float,
    timeline: Sequence[Mapping[str, Any]] = (),
    left: Sequence[Connection] = (),
) -> Iterator[str]:
    """All of it, line by line.

    `timeline`: its history, oldest first. `left`: the records of stores that the merchant has left.
    """
    yield f"{connection.merchant_id}{_headline(connection)}."
    yield ""
    yield "What happened"
    for sentence in _what_happened(connection, now):
        yield f"  {sentence}"
    for sentence in (*slots_explained(connection, timeline, now), *_stores_left(left)):
        yield f"  {one_line(sentence)}"
    reasons = list(findings_explained(connection, now))
    if reasons:
        yield ""
        yield "Why, and who acts"
        yield from (f"  {reason}" for reason in reasons)
    yield ""
    yield "What next"
    yield f"  {_what_next(connection, now)}"
    if reasons and not (connection.is_under_way or connection.departure is not None):
        yield f"  {_once_mended(connection)}"


def findings_explained(connection: Connection, now: float) -> Iterator[str]:
    """Each finding in a line: where, why, who acts, when it is tried again."""
    for finding in findings_of(connection):
        explanation = explain(finding.code)
        where = f"{finding.slot}: " if finding.slot else ""
        evidence = f"{finding.code}, {finding.detail}" if finding.detail else finding.code
        again = f", and we try again {from_now(finding.next_attempt_at, now)}" if finding.next_attempt_at else ""
        yield one_line(f"{where}{explanation.sentence} [{evidence}] - {_ACTORS[explanation.actor]}{again}.")


def is_left_lying(connection: Connection, now: float) -> bool:
    """Work that nobody takes: it has been due for a while, or its message has been out for a while without effect."""
    return any(
        now - work.due_at > _LATE or (not work.attempts and now - work.not_before > _LATE)
        for _, work in connection.unfinished()
    )


def _headline(connection: Connection) -> str:
    merchant_id = merchant_of(connection.merchant_id)
    whose = "" if merchant_id == connection.merchant_id else f", a store that {merchant_id} has left,"
    if connection.departure is not None and not connection.disconnected:
        told = "is being disconnected"
    else:
        told = f"{_STATUS[connection.status]} ({connection.status})"
    return f"{whose} {told}"


def _what_happened(connection: Connection, now: float) -> Iterator[str]:
    began, store = date_and_clock(connection.started_at), one_line(connection.store_url)
    yield f"Run {connection.run} began {began}, with the store {store}."
    yield from _of_departure(connection, now)
    yield from _of_key(connection, now)
    if connection.shipping_methods.verdict is ShippingVerdict.CONFIGURED:
        yield f"Enabled shipping methods: {connection.shipping_methods.enabled}."
    elif connection.shipping_methods.verdict is ShippingVerdict.MISSING:
        yield "The store has no enabled shipping method."
    for status in SlotStatus:
        names = [name for name, slot in connection.slots.items() if slot.status is status]
        if names and (status is not SlotStatus.PENDING or connection.step is Step.REGISTER_SLOT):
            seen = _seen(connection, names, now) if status is SlotStatus.REGISTERED else ""
            yield one_line(f"Slots {status.replace('_', ' ')}: {', '.join(names)}{seen}.")


def _seen(connection: Connection, names: Sequence[str], now: float) -> str:
    """When they were looked at last: a look that finds all in order leaves no line in the timeline."""
    times = [in_order for name in names if (in_order := connection.slots[name].in_order_at) is not None]
    return f"; seen there {ago(min(times), now)}" if times else ""


def _of_departure(connection: Connection, now: float) -> Iterator[str]:
    departure = connection.departure
    if departure is None:
        return
    yield f"It was asked {ago(departure.since, now)} to disconnect, {date_and_clock(departure.since)}."
    if any(slot.work for slot in connection.slots.values()):
        until = date_and_clock(departure.until)
        yield f"What the store refuses is tried again until {until}; the key is kept for that."
    else:
        yield "The application key has been forgotten."


def _of_key(connection: Connection, now: float) -> Iterator[str]:
    credential = connection.credential
    if connection.departure is not None:
        return
    yield _KEY[credential.verdict]
    if credential.expires_at is None:
        yield "The key does not expire: it names no end, or none that can be read."
    else:
        yield f"The key {expiry(credential, now)}, {date_and_clock(credential.expires_at)}."
    if connection.candidate is not None:
        yield (
            f"A new application key ({connection.candidate.fingerprint}) is being tried; the one before stays in use "
            "until the new one has proven itself."
        )
    if connection.key_refusal is not None:
        yield "The last new application key did not prove itself; the one before stays in use."


def _stores_left(left: Sequence[Connection]) -> Iterator[str]:
    for connection in left:
        told = "has been disconnected" if connection.disconnected else "is being disconnected"
        behind = [name for name, slot in connection.slots.items() if slot.verdict is SlotStatus.LEFT_BEHIND]
        more = f", our callback URL left behind in {', '.join(behind)}" if behind else ""
        yield (
            f"The store before, {connection.store_url}, {told}{more}; "
            f"`occ explain {connection.merchant_id}` tells more."
        )


def _what_next(connection: Connection, now: float) -> str:
    if connection.due_at is None:
        return "Nothing, until somebody asks to connect it again."
    if is_left_lying(connection, now):
        waiting = now - min(work.not_before for _, work in connection.unfinished())
        return f"Work has been waiting for {lasting(waiting)} and nobody takes it: are workers and beat running?"
    at_work = sorted(str(target) for target, work in connection.unfinished() if work.is_held(now))
    if at_work:
        return f"Workers are at it now: {', '.join(at_work)}."
    next_start = min(work.not_before for _, work in connection.unfinished())
    trying = connection.is_under_way or connection.departure is not None
    what = "The next attempt is" if trying else "We look again"
    when = from_now(next_start, now)
    return f"{what} {when}." if when == "now" else f"{what} {when}, {date_and_clock(next_start)}."


def _once_mended(connection: Connection) -> str:
    """What those who have acted need not wait for."""
    merchant_id = connection.merchant_id
    if connection.status is ConnectionStatus.NEEDS_REAUTHORISATION:
        return f"With a new application key: `occ connect {merchant_id} ...`, with the same store URL."
    if any(slot.status is SlotStatus.CONTESTED for slot in connection.slots.values()):
        return f"Once it is settled whose the slot is: `occ repair {merchant_id}` writes it again."
    return f"Once that is mended: `occ recheck {merchant_id}` looks now."

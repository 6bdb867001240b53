"""A connection in sentences: what happened, why, who must act, and what comes next. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from integrations.connections.causes import Actor, explain
from integrations.connections.drift import Drift
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
from integrations.connections.rhythm import Rhythm
from occ.actors import MUST_ACT
from occ.cli.facts import expiry
from occ.cli.plain_text import ago, counted, date_and_clock, from_now, lasting, one_line

REPLAYED = "replayed"
"""The line that `occ replay` leaves in a timeline."""

_LATE = 10.0
"""Seconds after its due time by which even a busy installation takes work; longer, and somebody should check."""

_STATUS = {
    ConnectionStatus.ONBOARDING: "is being connected",
    ConnectionStatus.ACTIVE: "is connected",
    ConnectionStatus.DEGRADED: "is not fully connected",
    ConnectionStatus.NEEDS_REAUTHORISATION: "needs a new application key",
    ConnectionStatus.UNREACHABLE: "cannot be reached",
}
_KEY = {
    KeyVerdict.PENDING: "The application key has not been tried yet.",
    KeyVerdict.VALID: "The store accepts the application key.",
    KeyVerdict.DOUBTED: "The store refused the application key once; a second attempt will decide.",
    KeyVerdict.REJECTED: "The store refuses the application key.",
}
_HELPED_BY_A_NEW_KEY = frozenset({"key_rejected", "new_key_rejected", "key_expiring"})
_ENDS_BY_ITSELF = frozenset({"slot_silent"})  # with the next delivery
_DRIFT = MappingProxyType(
    {
        Drift.URL_MISSING: "our callback URL was missing",
        Drift.URL_DUPLICATED: "our callback URL was listed more than once",
        Drift.URL_CHANGED: "our callback URL had been changed",
        Drift.FORMER_URL: "it still had our former callback URL",
        Drift.SLOT_GONE: "the store no longer offers it",
        Drift.PREVIEW_ONLY: "only its preview twin had our callback URL",
        Drift.URLS_ALTERED: "the store changed somebody else's URL when we wrote",
        Drift.SETTINGS_LOST: "a header or the basic authentication was gone",
        Drift.SECRET_RESET: "its secret had been reset",
    }
)


@dataclass(frozen=True, slots=True)
class Repair:
    """Our callback URL was put back at `at`. `missed`: deliveries the store gave up on, None if it keeps no log.

    `in_order_before`: when the slot was last in order before; None in a line of an older release.
    """

    at: float
    drift: tuple[str, ...]
    missed: int | None
    in_order_before: float | None


def repairs_of(slot: str, timeline: Iterable[Mapping[str, Any]]) -> list[Repair]:
    """The repairs of a slot, oldest first, from a timeline in that order."""
    return [
        Repair(float(line["at"]), tuple(line.get("drift", ())), line.get("missed_events"), line.get("in_order_before"))
        for line in timeline
        if line.get("slot") == slot and line.get("what") == "slot_repaired"
    ]


def explained(
    connection: Connection,
    now: float,
    timeline: Sequence[Mapping[str, Any]] = (),
    former: Sequence[Connection] = (),
    heard: Mapping[str, Rhythm] = MappingProxyType({}),
) -> Iterator[str]:
    """All of it, line by line.

    `timeline`: its history, oldest first. `former`: the records of the merchant's former stores. `heard`: what was
    heard of its slots.
    """
    yield f"{_headline(connection)}."
    yield ""
    yield "What happened"
    for sentence in (
        *_what_happened(connection, now),
        *_slots_explained(connection, timeline, now),
        *_heard(connection, heard, now),
        *_former_stores(former),
    ):
        yield f"  {one_line(sentence)}"
    reasons = list(findings_explained(connection, now))
    if reasons:
        yield ""
        yield "Why, and who must act"
        yield from (f"  {reason}" for reason in reasons)
    yield ""
    yield "What next"
    yield f"  {_what_next(connection, now)}"
    if reasons and not (connection.is_under_way or connection.disconnection is not None):
        yield from (f"  {advice}" for advice in _what_helps(connection))


def findings_explained(connection: Connection, now: float) -> Iterator[str]:
    """Each finding in a line: where, why, who must act, when it is tried again."""
    for finding in findings_of(connection):
        explanation = explain(finding.code)
        where = f"{finding.slot}: " if finding.slot else ""
        evidence = f"{finding.code}, {finding.detail}" if finding.detail else finding.code
        again = f" Next try {from_now(finding.next_attempt_at, now)}." if finding.next_attempt_at else ""
        yield one_line(f"{where}{explanation.sentence} [{evidence}] {MUST_ACT[explanation.actor]}{again}")


def is_stuck(connection: Connection, now: float) -> bool:
    """Whether nobody takes its work: it has been due, or its message has been out, for a while without effect."""
    return any(
        now - work.due_at > _LATE or (not work.attempts and now - work.not_before > _LATE)
        for _, work in connection.unfinished()
    )


def _headline(connection: Connection) -> str:
    merchant_id = merchant_of(connection.merchant_id)
    whose = "" if merchant_id == connection.merchant_id else f", a former store of {merchant_id},"
    if connection.disconnection is not None:
        status = "has been disconnected" if connection.disconnected else "is being disconnected"
    elif connection.status is ConnectionStatus.DEGRADED and not _registered(connection):
        status = f"is not working yet ({connection.status})"
    else:
        status = f"{_STATUS[connection.status]} ({connection.status})"
    return f"{connection.merchant_id}{whose} {status}"


def _registered(connection: Connection) -> bool:
    return any(slot.status is SlotStatus.REGISTERED for slot in connection.slots.values())


def _what_happened(connection: Connection, now: float) -> Iterator[str]:
    began = date_and_clock(connection.started_at)
    # Disconnecting counts as a run of its own and keeps the time of the one before.
    run = "The last run" if connection.disconnection is not None else f"Run {connection.run}"
    yield f"{run} began {began}, with the store {connection.store_url}."
    if connection.request_id:
        yield f"The last request that changed it was {connection.request_id}."
    yield from _of_disconnection(connection, now)
    yield from _of_key(connection, now)
    if connection.shipping_methods.verdict is ShippingVerdict.CONFIGURED:
        yield f"Enabled shipping methods: {connection.shipping_methods.enabled}."
    elif connection.shipping_methods.verdict is ShippingVerdict.MISSING:
        yield "The store has no enabled shipping method."
    for status in SlotStatus:
        names = [name for name, slot in connection.slots.items() if slot.status is status]
        if names and (status is not SlotStatus.PENDING or connection.step is Step.REGISTER_SLOT):
            checked = _last_checked(connection, names, now) if status is SlotStatus.REGISTERED else ""
            yield f"Slots {status.replace('_', ' ')}: {', '.join(names)}{checked}."


def _last_checked(connection: Connection, names: Sequence[str], now: float) -> str:
    """A re-validation that finds everything in order leaves no line in the timeline."""
    times = [in_order for name in names if (in_order := connection.slots[name].in_order_at) is not None]
    return f"; last checked {ago(min(times), now)}" if times else ""


def _of_disconnection(connection: Connection, now: float) -> Iterator[str]:
    disconnection = connection.disconnection
    if disconnection is None:
        return
    yield f"Disconnection was requested {ago(disconnection.since, now)}, {date_and_clock(disconnection.since)}."
    if any(slot.work for slot in connection.slots.values()):
        until = date_and_clock(disconnection.until)
        yield f"If the store refuses, we keep trying until {until}, and keep the application key until then."
    else:
        yield "The application key has been forgotten."


def _of_key(connection: Connection, now: float) -> Iterator[str]:
    credential = connection.credential
    if connection.disconnection is not None:
        return
    yield _KEY[credential.verdict]
    if credential.expires_at is None:
        yield "The key has no readable expiry date."
    else:
        yield f"The key {expiry(credential, now)}, {date_and_clock(credential.expires_at)}."
    if connection.candidate is not None:
        yield (
            f"A new application key ({connection.candidate.fingerprint}) is being tried; "
            "the current one stays in use until the new one works."
        )
    if connection.key_refusal is not None:
        yield "The last new application key did not work; the one before stays in use."


def _slots_explained(connection: Connection, timeline: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    """What had changed in slots, when it was repaired, and what was missed."""
    missed_until = 0.0
    for name, slot in connection.slots.items():
        if slot.verdict is SlotStatus.CONTESTED:
            yield f"{name}: {_in_words(slot.drift) or 'somebody keeps undoing our changes'}. We no longer repair it."
            continue
        repairs = repairs_of(name, timeline)
        if not repairs:
            continue
        last, often = repairs[-1], len(slot.recent_repairs(now))
        back = f"repaired {often} times within a day, last" if often > 1 else "repaired"
        yield f"{name}: {_in_words(last.drift) or 'it had drifted'}; {back} {ago(last.at, now)}{_missed(last)}."
        if last.missed is not None:
            missed_until = max(missed_until, last.at)
    if missed_until:
        yield from _of_replay(connection, timeline, missed_until, now)


def _of_replay(
    connection: Connection, timeline: Sequence[Mapping[str, Any]], missed_until: float, now: float
) -> Iterator[str]:
    replays = [line for line in timeline if line.get("what") == REPLAYED and float(line["at"]) >= missed_until]
    if replays:
        events = counted(int(replays[-1].get("requested", 0)), "missed event was", "missed events were")
        yield f"{events} requested from the store {ago(float(replays[-1]['at']), now)}."
    else:
        yield (
            "A store tries no deliveries while our callback URL is missing, so the count covers only those it tried; "
            f"`occ replay {connection.merchant_id}` requests them again."
        )


def _in_words(drift: Sequence[str]) -> str:
    return ", ".join(_DRIFT.get(Drift(one), one) if one in set(Drift) else one for one in drift)


def _missed(repair: Repair) -> str:
    if repair.missed is None:
        return "; no failed-delivery log available"
    return f"; the store gave up on {counted(repair.missed, 'delivery', 'deliveries')}"


def _heard(connection: Connection, heard: Mapping[str, Rhythm], now: float) -> Iterator[str]:
    """What its receiver reported; nothing of slots that nobody reports."""
    for name in connection.slots:
        rhythm = heard.get(name)
        if rhythm is None:
            continue
        pause = f", longest pause {lasting(rhythm.longest_pause)}" if rhythm.longest_pause else ""
        deliveries = counted(rhythm.count, "delivery", "deliveries")
        yield f"{name}: last heard from {ago(rhythm.last, now)}; {deliveries} reported{pause}."


def _former_stores(former: Sequence[Connection]) -> Iterator[str]:
    for connection in former:
        status = "has been disconnected" if connection.disconnected else "is being disconnected"
        behind = [name for name, slot in connection.slots.items() if slot.verdict is SlotStatus.LEFT_BEHIND]
        more = f"; our callback URL was left behind in {', '.join(behind)}" if behind else ""
        yield (
            f"The former store {connection.store_url} {status}{more}. "
            f"`occ explain {connection.merchant_id}` shows the details."
        )


def _what_next(connection: Connection, now: float) -> str:
    if connection.due_at is None:
        return "Nothing, until somebody connects it again."
    if is_stuck(connection, now):
        waiting = now - min(work.not_before for _, work in connection.unfinished())
        return f"Work has been waiting for {lasting(waiting)} and no worker takes it: are workers and beat running?"
    at_work = sorted(str(target) for target, work in connection.unfinished() if work.is_held(now))
    if at_work:
        return f"Workers are on it now: {', '.join(at_work)}."
    next_start = min(work.not_before for _, work in connection.unfinished())
    trying = connection.is_under_way or connection.disconnection is not None
    what = "The next attempt is" if trying else "The next re-validation is"
    when = from_now(next_start, now)
    return f"{what} {when}." if when == "now" else f"{what} {when}, {date_and_clock(next_start)}."


def _what_helps(connection: Connection) -> Iterator[str]:
    """What those who have acted need not wait for. Where waiting is all there is to do, nothing."""
    merchant_id = connection.merchant_id
    codes = {finding.code for finding in findings_of(connection)}
    if codes & _HELPED_BY_A_NEW_KEY:
        yield f"Once you have a new key, run `occ connect {merchant_id} ...` with the same store URL."
    if any(slot.status is SlotStatus.CONTESTED for slot in connection.slots.values()):
        yield f"Once you have settled who manages the slot, run `occ repair {merchant_id}` to write it again."
        return
    if "deliveries_failing" in codes:
        yield f"Once deliveries are received again, run `occ replay {merchant_id}`: the store sends them again."
    if any(explain(code).actor is not Actor.NOBODY for code in codes - _HELPED_BY_A_NEW_KEY - _ENDS_BY_ITSELF):
        yield f"Once fixed, run `occ revalidate {merchant_id}` to check right away."

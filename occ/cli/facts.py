"""A connection as a list of facts: about its key, its shipping methods, and each slot. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from integrations.connections.causes import explain
from integrations.connections.findings import findings_of
from integrations.connections.record import (
    DAY,
    Cause,
    Connection,
    ConnectionStatus,
    Credential,
    KeyVerdict,
    ShippingMethods,
    ShippingVerdict,
    Slot,
    SlotStatus,
    Step,
)
from integrations.connections.rhythm import Rhythm
from integrations.connections.schedule import EXPIRY_WARNINGS
from occ.cli.plain_text import ago, counted, from_now, one_line

KEY = "key"
SHIPPING_METHODS = "shipping methods"
_NOTHING_HEARD: Mapping[str, Rhythm] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known about one subject of a connection: its key, its shipping methods, or a slot.

    `underway`: a worker is on it this moment, so attempts and cause are about to change.
    """

    subject: str
    status: str
    note: str = ""
    attempts: int = 0
    next_attempt_at: float | None = None
    cause: Cause | None = None
    underway: bool = False

    @property
    def remark(self) -> str:
        """The cause with its evidence, or else the note; on one line."""
        if self.cause is None:
            return self.note
        return one_line(f"{self.cause.code} ({self.cause.detail})" if self.cause.detail else self.cause.code)

    @property
    def reason(self) -> str:
        """The cause with its sentence, on one line; empty if there is none."""
        return f"{self.remark}: {explain(self.cause.code).sentence}" if self.cause else ""

    def when(self, now: float) -> str:
        """When it is tried next, seen from now; empty if it is not."""
        return "now" if self.underway else from_now(self.next_attempt_at, now)


def facts(connection: Connection, now: float, heard: Mapping[str, Rhythm] = _NOTHING_HEARD) -> list[Fact]:
    """Everything about one connection, in the order of the steps. `heard`: what was heard of its slots."""
    return [
        _with_work(connection, Step.VALIDATE_KEY, _of_key(connection, now), now),
        _with_work(connection, Step.CHECK_SHIPPING_METHODS, _of_shipping_methods(connection.shipping_methods), now),
        *(_of_slot(name, slot, heard.get(name), now) for name, slot in connection.slots.items()),
    ]


def registered(connection: Connection) -> str:
    """How many of its slots carry our callback URL, as 3/4."""
    statuses = [slot.status for slot in connection.slots.values()]
    return f"{statuses.count(SlotStatus.REGISTERED)}/{len(statuses)}"


def attention(connection: Connection) -> Iterator[str]:
    """What somebody should know, in a few words each: `order-update: slot_refused`."""
    if connection.disconnection is not None and not connection.disconnected:
        yield "being disconnected"
    if connection.candidate is not None:
        yield "new key being tried"
    for finding in findings_of(connection):
        yield one_line(f"{finding.slot}: {finding.code}" if finding.slot else finding.code)


def colour(status: str) -> str:
    """Green for what is in order, yellow for what is under way, red for what needs somebody."""
    if status in _AS_IT_SHOULD_BE:
        return "green"
    return "yellow" if status in _UNDER_WAY else "red"


_AS_IT_SHOULD_BE: frozenset[str] = frozenset(
    {
        *(ConnectionStatus.ACTIVE, ConnectionStatus.DISCONNECTED, SlotStatus.REGISTERED, SlotStatus.REMOVED),
        *(KeyVerdict.VALID, ShippingVerdict.CONFIGURED),
    }
)
_UNDER_WAY: frozenset[str] = frozenset(
    {ConnectionStatus.ONBOARDING, SlotStatus.PENDING, SlotStatus.RETRYING, KeyVerdict.DOUBTED}
)


def _of_shipping_methods(methods: ShippingMethods) -> Fact:
    missing = methods.verdict is ShippingVerdict.MISSING
    note = f"{methods.enabled} enabled" if methods.enabled else ""
    return Fact(SHIPPING_METHODS, methods.verdict, note, cause=Cause("no_shipping_methods") if missing else None)


def expiry(credential: Credential, now: float) -> str:
    """When the key expires; empty if it has no readable expiry date."""
    if credential.expires_at is None:
        return ""
    if credential.expires_at <= now:
        return f"expired {ago(credential.expires_at, now)}"
    return f"expires {from_now(credential.expires_at, now)}"


def _of_key(connection: Connection, now: float) -> Fact:
    """With its expiry, once that is near enough to act, or past."""
    credential = connection.credential
    is_near = credential.expires_at is not None and credential.expires_at - now <= EXPIRY_WARNINGS[0] * DAY
    notes = (expiry(credential, now) if is_near else "", "a new key is being tried" if connection.candidate else "")
    return Fact(KEY, credential.verdict, ", ".join(filter(None, notes)))


def _with_work(connection: Connection, step: Step, fact: Fact, now: float) -> Fact:
    """With the work on it, if the connection is at that step."""
    work = connection.work if connection.step is step else None
    if work is None:
        return fact
    trouble = connection.trouble.cause if connection.trouble else connection.cause
    cause, underway = trouble or fact.cause, work.is_held(now)
    # A connection at rest has a time for its next re-validation, but is not waiting for another attempt.
    again = work.not_before if cause and not underway else None
    return replace(fact, attempts=work.attempts, next_attempt_at=again, cause=cause, underway=underway)


def _of_slot(name: str, slot: Slot, rhythm: Rhythm | None, now: float) -> Fact:
    notes = (_of_drift(slot), f"heard from {ago(rhythm.last, now)}" if rhythm is not None else "")
    return Fact(
        one_line(name),
        slot.status,
        ", ".join(filter(None, notes)),
        attempts=slot.attempts,
        next_attempt_at=slot.next_attempt_at,
        cause=slot.cause,
        underway=slot.work is not None and slot.work.is_held(now),
    )


def _of_drift(slot: Slot) -> str:
    """What the last re-validation found in a slot and repaired."""
    if slot.cause is not None or not slot.drift:
        return ""
    missed = f", {counted(slot.missed, 'delivery', 'deliveries')} given up" if slot.missed else ""
    return f"repaired: {', '.join(slot.drift)}{missed}"

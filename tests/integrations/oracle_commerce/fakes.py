"""What the tests of the core stand on: a hand-driven run.

`Drive` does what workers and tick do with a record, in one thread and with a clock of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from integrations.connections.change import Change, Moment, Note, Stop
from integrations.connections.lifecycle import claims, outcomes, requests
from integrations.connections.lifecycle.outcomes import (
    Failed,
    KeyProven,
    ShippingMethodsChecked,
    SlotRegistered,
    SlotRemoved,
)
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Cause, Connection, Disconnection, SlotStatus, Step, Target
from integrations.connections.schedule import Pace
from integrations.errors import IntegrationError, TransientError

SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
NOON = 1_700_000_000.0
VALIDATE = Target(Step.VALIDATE_KEY)
SHIPPING = Target(Step.CHECK_SHIPPING_METHODS)


def desired(
    *, key: str = "key-1", store: str = "https://ccadmin-z1.oracleoutsourcing.com", slots: tuple[str, ...] = SLOTS
) -> Desired:
    """What a request for merchant m-1 asks for; `key` stands for the application key and its fingerprint."""
    return Desired("m-1", store, f"sealed.v1.k.{key}", key, None, dict.fromkeys(slots, True))


def started(at: Moment, wanted: Desired | None = None) -> Connection:
    """A connection whose first run has just begun."""
    return changed(requests.begin(None, wanted or desired(), at))


def changed(result: Change | Stop) -> Connection:
    """The record after a change that must have happened."""
    assert isinstance(result, Change), result
    return result.connection


def claimed(connection: Connection, target: Target, at: Moment, owner: str = "worker") -> Connection:
    """The record after a claim that must have been granted."""
    after = changed(claims.claim(connection, connection.run, target, owner, at))
    assert claims.is_mine(after, after.run, target, owner)
    return after


def slot(name: str) -> Target:
    """The work on one slot."""
    return Target(Step.REGISTER_SLOT, name)


def removal(name: str) -> Target:
    """The work of leaving one slot."""
    return Target(Step.DISCONNECT, name)


def outcome(error: IntegrationError | None, connection: Connection, target: Target, at: Moment, wait: float) -> Change:
    """What an attempt makes of the record: success, or what `error` means. `wait` is until the next attempt."""
    if error is None:
        return success(connection, target, at)
    return outcomes.record(connection, target, Failed(Cause(error.code, error.detail), wait), at)


def disconnected_one(connection: Connection) -> Connection:
    """Disconnected, with nothing left behind."""
    slots = {
        name: replace(slot, verdict=SlotStatus.REMOVED, work=None, cause=None)
        for name, slot in connection.slots.items()
    }
    return replace(connection, disconnection=Disconnection(0.0, 0.0), step=Step.DISCONNECT, work=None, slots=slots)


def success(connection: Connection, target: Target, at: Moment) -> Change:
    """What a healthy store makes of the record."""
    if target.step is Step.VALIDATE_KEY:
        return outcomes.record(connection, target, KeyProven(), at)
    if target.step is Step.CHECK_SHIPPING_METHODS:
        return outcomes.record(connection, target, ShippingMethodsChecked(2), at)
    if target.step is Step.DISCONNECT:
        return outcomes.record(connection, target, SlotRemoved(wrote=True), at)
    return outcomes.record(connection, target, SlotRegistered(wrote=True), at)


Script = Callable[[Target, int, float], IntegrationError | None]
"""What the store does to a target at its nth attempt, at a time."""


def all_is_well(target: Target, attempt: int, now: float) -> None:
    """A healthy store."""


def says(error: IntegrationError, *, only: Target | None = None) -> Script:
    """A store that answers everything, or one target, with this error."""

    def script(target: Target, attempt: int, now: float) -> IntegrationError | None:
        return error if only in {None, target} else None

    return script


@dataclass
class Drive:
    """Runs a connection to its end, doing at every moment all the work that may be done then."""

    connection: Connection
    pace: Pace
    script: Script
    now: float = NOON
    wait: float = 2.0
    notes: list[tuple[float, Note]] = field(default_factory=list)
    attempts: list[tuple[float, Target]] = field(default_factory=list)
    has_key: bool = True  # the application key is kept

    def at_once(self) -> None:
        """Everything that may be done without waiting."""
        while ready := sorted(self.connection.ready(self.now), key=str):
            for target in ready:
                self.do(target)

    def until(self, end: float) -> None:
        """Go on, due time by due time, until `end`."""
        self.at_once()
        while (due := self.connection.due_at) is not None and due <= end:
            self.now = max(self.now, due)
            before = self.connection
            self.at_once()
            assert self.connection != before, "something is due and nothing can be done about it"
        self.now = end

    def do(self, target: Target) -> None:
        """One attempt at this work."""
        at = Moment(self.now, self.pace)
        work = self.connection.work_on(target)
        alone = work is not None and work.is_suspect
        claim = claims.claim(self.connection, self.connection.run, target, "worker", at, alone=alone)
        if isinstance(claim, Stop):  # what was done before it at this moment has settled it
            return
        self._take(claim)
        if not claims.is_mine(self.connection, self.connection.run, target, "worker"):
            return
        work = self.connection.work_on(target)
        assert work is not None
        self.attempts.append((self.now, target))
        error = self.script(target, work.attempts, self.now)
        wait = max(self.wait, (error.retry_after or 0.0) if isinstance(error, TransientError) else 0.0)
        self._take(outcome(error, self.connection, target, at, wait))

    def _take(self, change: Change) -> None:
        self.connection = change.connection
        self.has_key = (self.has_key or change.keys.promote) and not change.keys.forget_current
        self.notes += [(self.now, note) for note in change.notes]

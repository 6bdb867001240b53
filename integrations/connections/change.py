"""A change of a connection, and what all changes are made of. Pure.

A result is either a `Change` (the record afterwards, with what the timeline shall say of it) or a `Stop` (nothing
changes, and why).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from integrations.connections.record import SLOT_STEPS, Cause, Connection, Target, Work
from integrations.connections.schedule import Pace


@dataclass(frozen=True, slots=True)
class Moment:
    """The time by the pipeline's clock, and the paces that count from it."""

    now: float
    pace: Pace


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the timeline."""

    what: str
    target: Target | None = None
    attempt: int | None = None
    cause: Cause | None = None
    started_at: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Keys:
    """What happens to the sealed application keys beside the record, together with the change.

    First the candidate's takes the place of the current one (`promote`), then some are written, then some forgotten.
    """

    current: str | None = field(default=None, repr=False)
    candidate: str | None = field(default=None, repr=False)
    promote: bool = False
    forget_current: bool = False
    forget_candidate: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """The record as it is afterwards.

    `former`: the record of the store the merchant leaves with this change; it takes the application key along.
    """

    connection: Connection
    notes: tuple[Note, ...] = ()
    keys: Keys = Keys()
    former: Connection | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing changes."""

    reason: str


def at_once(at: Moment) -> Work:
    """Work a message is being sent for: the tick sends another only if that message is lost."""
    return Work(not_before=at.now, due_at=at.now + at.pace.lease)


def at_time(moment: float) -> Work:
    """Work that the tick hands out when its time has come."""
    return Work(not_before=moment, due_at=moment)


def any_work(connection: Connection, target: Target) -> Work | None:
    """The work behind a target; a slot's also while the connection went back to validating its key."""
    if target.slot is not None:
        slot = connection.slots.get(target.slot)
        return slot.work if slot else None
    return connection.work if connection.step is target.step else None


def claimed_work(connection: Connection, target: Target) -> Work:
    """The work whose outcome is being recorded."""
    work = any_work(connection, target)
    if work is None:
        raise ValueError("only claimed work has an outcome")
    return work


def slot_name(target: Target) -> str:
    """The slot a slot's step is about."""
    if target.slot is None or target.step not in SLOT_STEPS:
        raise ValueError("a slot's outcome needs the slot")
    return target.slot


def with_work(connection: Connection, target: Target, work: Work) -> Connection:
    """The connection with other work behind the target."""
    if target.slot is None:
        return replace(connection, work=work)
    slot = replace(connection.slots[target.slot], work=work)
    return replace(connection, slots={**connection.slots, target.slot: slot})


def with_cause(connection: Connection, target: Target, cause: Cause) -> Connection:
    """The connection with the cause of the target's last attempt."""
    if target.slot is None:
        return replace(connection, cause=cause)
    slot = replace(connection.slots[target.slot], cause=cause)
    return replace(connection, slots={**connection.slots, target.slot: slot})


def begun_at(work: Work | None) -> float | None:
    """When the attempt began."""
    return work.claim.since if work and work.claim else None


def noted(what: str, connection: Connection, target: Target, details: Mapping[str, object] | None = None) -> Note:
    """A line about the work behind the target, as it was before its outcome."""
    work = any_work(connection, target)
    return Note(what, target, work.attempts if work else None, None, begun_at(work), dict(details or {}))

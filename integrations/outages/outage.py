"""What is an outage, and what it means for the events it held: many stores fail alike, so it is us, or all of Oracle.

Pure. Counting is in `outages.py`, holding in `records.py`, telling in `held_events.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from integrations.cloud_event import operator_event, timestamp
from integrations.connections.causes import Evidence, IfNew, OutageKind, explain
from integrations.connections.events import TROUBLED
from integrations.connections.findings import findings_of
from integrations.connections.record import Connection, ConnectionStatus

DAY = 86400.0


def evidence(connection: Connection, code: str | None) -> OutageKind | Evidence:
    """What the outcome of an attempt says of the world; `connection` is as it was before the outcome.

    Only news counts. A store that is known to be in such trouble is asked again and again: some dead stores would soon
    be most of those that are asked.
    """
    if code is None:
        return Evidence.ANSWERED
    meaning = explain(code)
    if isinstance(meaning.evidence, Evidence):
        return meaning.evidence
    if connection.disconnection is not None or _is_known_to_fail(connection):
        return Evidence.NOTHING
    untried = connection.status is ConnectionStatus.ONBOARDING or connection.candidate is not None
    return Evidence.NOTHING if untried and meaning.if_new is IfNew.MISTAKE else meaning.evidence


def _is_known_to_fail(connection: Connection) -> bool:
    return connection.status in TROUBLED and any(
        isinstance(explain(finding.code).evidence, OutageKind) for finding in findings_of(connection)
    )


# --- When an outage begins and ends -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """From which share of the merchants asked, and from how many, failing alike is an outage. `window`: seconds."""

    share: float
    merchants: int
    window: float


@dataclass(frozen=True, slots=True)
class Tally:
    """How many merchants' stores were asked in a span of time, and how many of them failed, by kind."""

    asked: int
    failing: Mapping[OutageKind, int] = field(default_factory=dict)

    def share(self, kind: OutageKind) -> float:
        """Of those asked. The counts are estimates: more may seem to fail than were asked."""
        return min(1.0, self.failing.get(kind, 0) / self.asked) if self.asked else 0.0


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage with the figures it was declared on. `since`: seconds since the epoch, by the pipeline's clock."""

    kind: str  # a `OutageKind`, perhaps one of a newer release
    since: float
    share: float
    failing: int
    asked: int


def beginning(rules: Rules, tallies: Sequence[Tally], now: float) -> Outage | None:
    """The outage that begins, if one does. `tallies`: of the whole window, and of its latest part.

    The latest part is enough: a window full of good answers would hide for minutes that nothing works any more.
    """
    if not rules.share:
        return None
    outages = [
        Outage(kind, now, tally.share(kind), failing, tally.asked)
        for tally in tallies
        for kind, failing in tally.failing.items()
        if failing >= rules.merchants and tally.share(kind) >= rules.share
    ]
    return max(outages, key=lambda outage: (outage.share, outage.failing), default=None)


def goes_on(rules: Rules, tallies: Sequence[Tally], outage: Outage, now: float, *, held: int) -> bool:
    """Whether it is still on: until the share is under half of what it takes, for any way of failing.

    Where nobody was asked there is nothing to judge by: it goes on while merchants' events are held, for a day at most.
    """
    if not rules.share:
        return False
    if not any(tally.asked for tally in tallies):
        return held > 0 and now - outage.since < DAY
    return any(tally.share(kind) >= rules.share / 2 for tally in tallies for kind in tally.failing)


# --- What becomes of a held event -------------------------------------------------------------------------------------


class Next(Enum):
    """What becomes of the news that is held of a merchant."""

    DROP = "drop"  # all is as other systems know it
    REPORT = "tell"
    REVALIDATE = "look"  # what is recorded comes from the outage: see how it is now
    WAIT = "wait"


def next_for_held(
    connection: Connection | None,
    heard: str | None,
    now: float,
    *,
    outage_is_on: bool,
    ended_at: float,
    patience: float,
) -> Next:
    """What to do about held news. `heard`: the status that other systems know.

    Trouble is reported only if it was found after the outage: until somebody has looked again, it may be the outage's.
    Stores that are still being tried `patience` seconds after its end are reported as they are.
    """
    if connection is None or heard is None or connection.status == heard:
        return Next.DROP
    if connection.status not in TROUBLED:
        return Next.REPORT
    resting = all(
        work.claim is None and work.attempts == 0 and work.not_before > now for _, work in connection.unfinished()
    )
    if outage_is_on:
        return Next.REVALIDATE if resting else Next.WAIT
    if not resting:
        return Next.REPORT if now > ended_at + patience else Next.WAIT
    return Next.REPORT if connection.updated_at > ended_at else Next.REVALIDATE


# --- Events for operators --------------------------------------------------------------------------------------------


def started_event(outage: Outage, number: int) -> dict[str, object]:
    """The CloudEvent for operators; `number` grows with each of them."""
    return _operator_event("outage_started", outage, number, outage.since, {})


def ended_event(outage: Outage, number: int, now: float, *, held: int) -> dict[str, object]:
    """The same at its end. `held`: of how many merchants there is news that may have to be reported now."""
    return _operator_event("outage_ended", outage, number, now, {"ended_at": timestamp(now), "held": held})


def _operator_event(
    what: str, outage: Outage, number: int, now: float, more: Mapping[str, object]
) -> dict[str, object]:
    about = {
        "kind": outage.kind,
        "share": round(outage.share, 3),
        "failing": outage.failing,
        "asked": outage.asked,
        "since": timestamp(outage.since),
    }
    return operator_event(what, number=number, now=now, data={**about, **more})

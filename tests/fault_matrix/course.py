"""What happens to a connection from some moment on, look by look, until nothing changes any more."""

from dataclasses import dataclass, field
from typing import Any

from integrations.connections.change import any_work
from integrations.connections.findings import findings_of
from integrations.connections.record import (
    ConnectionStatus,
    KeyVerdict,
    ShippingVerdict,
    SlotStatus,
    Step,
    Target,
)
from tests.fault_matrix.stand import Stand, Wait

_MOST_REVALIDATIONS = 60
_EXACT = 1e-3  # seconds: times are floats
_SHORTEST_REST = 3600.0  # of a slot that was left behind: between two tries, not between two looks


@dataclass(frozen=True)
class SlotState:
    """Where a slot stands."""

    status: SlotStatus
    drift: tuple[str, ...]
    recent_repairs: int


@dataclass(frozen=True)
class State:
    """Where a connection stands. `findings`: (code, slot or None)."""

    status: ConnectionStatus
    key: KeyVerdict
    shipping_methods: ShippingVerdict
    has_candidate: bool
    findings: tuple[tuple[str, str | None], ...]
    slots: dict[str, SlotState]
    key_forgotten: bool


@dataclass
class Look:
    """All that was done between two rests. `waits` are those of the work that was tried most often.

    `rest`: seconds until the next look, None if there will be none.
    """

    began_at: float
    waits: list[Wait]
    met: list[str]
    events: list[dict[str, Any]]
    state: State
    rest: float | None

    @property
    def pause(self) -> float | None:
        """The rest as far as people care: in minutes or, if it is longer than an hour and a half, in hours."""
        if self.rest is None:
            return None
        unit = 60 if self.rest < 5400 else 3600
        return float(round(self.rest / unit) * unit)

    def is_like(self, before: "Look") -> bool:
        """Whether it found and told nothing new. A rest that doubles goes on doing so up to its bound."""
        if self.events or self.state != before.state or self.pause is None or before.pause is None:
            return False
        return self.pause in {before.pause, 2 * before.pause}


@dataclass
class Course:
    """A connection's looks, one after the other."""

    stand: Stand
    looks: list[Look] = field(default_factory=list)

    def look(self) -> Look:
        """Everything until the next rest."""
        stand, began_at = self.stand, self.stand.now
        first_line, first_event = len(stand.records.lines), len(stand.records.told)
        waits: dict[str | None, list[Wait]] = {}
        while True:
            while ready := sorted(stand.connection.ready(stand.now), key=str):
                for target in ready:
                    wait = self._try(target)
                    if wait is not None:
                        waits.setdefault(self._waiting(target).slot, []).append(wait)
            due = stand.connection.due_at
            if due is None or self._rests():
                break
            stand.clock.advance(due - stand.now)
        busiest = max(waits, key=lambda slot: (slot is None, len(waits[slot])), default=None)
        look = Look(
            began_at=began_at,
            waits=waits.get(busiest, []),
            met=[note.cause.code for _, _, note in stand.records.lines[first_line:] if note.cause],
            events=stand.records.told[first_event:],
            state=state_of(stand),
            rest=None if due is None else due - stand.now,
        )
        self.looks.append(look)
        return look

    def until_settled(self, *, at_least: float = 0.0) -> None:
        """Look again and again, until a look changes nothing and tells nobody anything, or nothing is left to do.

        What changes then is the rest, which may grow; see `Look.is_like`. `at_least`: seconds to go on for anyway.
        """
        until = self.stand.now + at_least
        for _ in range(_MOST_REVALIDATIONS):
            look = self.look()
            settled = len(self.looks) > 1 and look.is_like(self.looks[-2]) and self.stand.now >= until
            disconnection = self.stand.connection.disconnection
            if look.rest is None or (settled and disconnection is None):
                return
            # What is like this until the time for it is over need not be looked at every time.
            left = disconnection.until - self.stand.now if settled and disconnection else 0.0
            self.stand.clock.advance(max(look.rest, left))
        raise AssertionError(f"does not settle: {self.looks[-1]}")

    def until_resting_alike(self) -> None:
        """Go on until the rests do not grow any more."""
        while len(self.looks) < 2 or self.looks[-1].pause != self.looks[-2].pause:
            self.stand.clock.advance(self.look().rest or 0.0)

    def _try(self, target: Target) -> Wait | None:
        """Do one piece of work; the wait that came of it, if it is not done."""
        stand = self.stand
        stand.retry.taken()
        stand.work_on(target)
        by_policy = stand.retry.taken()
        work = any_work(stand.connection, self._waiting(target))
        if work is None or work.claim is not None or work.not_before <= stand.now:
            return None
        wait = work.not_before - stand.now
        if self._rests() or (stand.connection.disconnection is not None and wait >= _SHORTEST_REST):
            return None
        return by_policy if by_policy is not None and abs(wait - by_policy.longest) < _EXACT else Wait(wait, wait)

    def _waiting(self, tried: Target) -> Target:
        """What an attempt has left waiting: in a re-validation in one go, perhaps not what it began with."""
        connection = self.stand.connection
        if tried.step is not Step.VALIDATE_KEY or connection.step is Step.VALIDATE_KEY:
            return tried
        waiting = (target for target, work in connection.unfinished() if work.not_before > self.stand.now)
        return next(waiting, tried)

    def _rests(self) -> bool:
        """Whether nothing is under way: what is due next is a look."""
        connection = self.stand.connection
        if connection.disconnection is not None:
            return all(work.not_before - self.stand.now >= _SHORTEST_REST for _, work in connection.unfinished())
        doubted = connection.credential.verdict is KeyVerdict.DOUBTED or (
            connection.candidate is not None and connection.candidate.doubted_since is not None
        )
        work = connection.work
        return not doubted and work is not None and work.attempts == 0


def state_of(stand: Stand) -> State:
    """Where the connection stands now."""
    connection = stand.connection
    return State(
        status=connection.status,
        key=connection.credential.verdict,
        shipping_methods=connection.shipping_methods.verdict,
        has_candidate=connection.candidate is not None,
        findings=tuple((finding.code, finding.slot) for finding in findings_of(connection)),
        slots={
            name: SlotState(slot.status, slot.drift, len(slot.recent_repairs(stand.now)))
            for name, slot in connection.slots.items()
        },
        key_forgotten=stand.records.load(connection.merchant_id).sealed_key is None,
    )

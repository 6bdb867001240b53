"""The calls a store has received: what tests and benchmarks count and measure."""

from collections import Counter, deque
from dataclasses import dataclass, field

KEPT_CALLS = 20_000  # of one store, in detail; the counters have no limit
CLOCK_BLUR = 0.002  # rounding between the client's clock and ours is no undercut


@dataclass(slots=True)
class Call:
    """One call. Times are seconds: `arrived`, `answered` of the monotonic clock, `arrived_wall` since the epoch.

    `token` is the serial number of the access token that came with it, `body` the JSON of a write, `outcome` one of
    pending, answered, abandoned (the client left first), reset, hung, cut. `sent`: of an answer without an end, the
    bytes that went out.
    """

    number: int
    endpoint: str
    method: str
    slot: str | None
    arrived: float
    arrived_wall: float
    status: int | None = None
    fault: str | None = None
    token: int | None = None
    body: object | None = None
    answered: float | None = None
    outcome: str = "pending"
    sent: int = 0

    def described(self) -> dict[str, object]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class InFlight:
    """How many calls are being answered, and how many were at the busiest moment."""

    now: int = 0
    most: int = 0

    def enter(self) -> None:
        """One more."""
        self.now += 1
        self.most = max(self.most, self.now)

    def leave(self) -> None:
        """One less."""
        self.now -= 1


@dataclass(slots=True)
class CallLog:
    """Everything counted about one store; `everywhere` is shared by the stores of one simulator."""

    everywhere: InFlight = field(default_factory=InFlight)
    in_flight: InFlight = field(default_factory=InFlight)
    entries: deque[Call] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    endpoints: Counter[str] = field(default_factory=Counter)
    slots: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    repeated_writes: int = 0
    undercuts: list[dict[str, object]] = field(default_factory=list)
    _asked_to_wait: dict[str, float] = field(default_factory=dict)

    def arrive(self, endpoint: str, method: str, slot: str | None, now: float, wall: float) -> Call:
        """A call has come in."""
        call = Call(self.endpoints.total() + 1, endpoint, method, slot, now, wall)
        self.entries.append(call)
        self.endpoints[endpoint] += 1
        if slot is not None:
            self.slots[f"{endpoint}:{slot}"] += 1
        self.in_flight.enter()
        self.everywhere.enter()
        self._check_for_undercut(call)
        return call

    def decide(self, call: Call, status: int, fault: str | None) -> None:
        """What the answer will be is known."""
        call.status = status
        call.fault = fault
        self.statuses[f"{call.endpoint} {status}"] += 1
        if fault is not None:
            self.faults[fault] += 1

    def finish(self, call: Call, now: float, outcome: str) -> None:
        """The answer is out, or nobody waits for it any more. Only the first time counts."""
        if call.outcome != "pending":
            return
        call.outcome = outcome
        call.answered = now
        self.in_flight.leave()
        self.everywhere.leave()

    def ask_to_wait(self, call: Call, until: float) -> None:
        """The answer carries a Retry-After: the next call for this slot (or endpoint) is due `until` (monotonic)."""
        self._asked_to_wait[call.slot or call.endpoint] = until

    def _check_for_undercut(self, call: Call) -> None:
        until = self._asked_to_wait.pop(call.slot or call.endpoint, None)
        if until is not None and call.arrived < until - CLOCK_BLUR:
            early = until - call.arrived
            self.undercuts.append({"call": call.number, "endpoint": call.endpoint, "slot": call.slot, "by": early})

    def reset(self) -> None:
        """Forget what was counted; calls in flight stay in flight."""
        self.entries.clear()
        for counter in (self.endpoints, self.slots, self.statuses, self.faults):
            counter.clear()
        self.in_flight.most = self.in_flight.now
        self.connections = 0
        self.repeated_writes = 0
        self.undercuts.clear()

    def summary(self) -> dict[str, object]:
        """All figures as JSON."""
        return {
            "calls": self.endpoints.total(),
            "endpoints": dict(self.endpoints),
            "slots": dict(self.slots),
            "statuses": dict(self.statuses),
            "faults": dict(self.faults),
            "in_flight": self.in_flight.now,
            "max_in_flight": self.in_flight.most,
            "connections": self.connections,
            "repeated_writes": self.repeated_writes,
            "retry_after_undercut": list(self.undercuts),
        }

"""One merchant's connection at one simulated store, worked on by the real tasks' code, in one thread, without waiting.

It is kept by hand; here its calls take the clock's time, and what the retry policy chose is noted. Settings are the
defaults.
"""

import random
from dataclasses import dataclass
from typing import Any

from integrations.connections.record import Connection, Target
from integrations.egress.answer import Answer
from integrations.egress.deadline import Deadline
from integrations.errors import IntegrationError
from occ.simulator.clocks import StoppedClock
from occ.simulator.direct import DirectSession
from occ.simulator.store import SimulatedStore
from tasks.retry import RetryPolicy
from tests.integrations.oracle_commerce.by_hand import Desk

EPOCH = 1_799_971_200.0  # a midnight: where the period of the first connection begins
OTHERS_URL = "https://orders.example.net/inbound"
OTHERS_HEADERS = {"X-Order-Source": "shop"}
OTHERS_LOGIN = {"username": "orders", "password": "not-ours"}


class Stand:
    """A store, the connection to it, and everything the tasks work with.

    `target`: the calls that a fault is about, as the simulator's fault scripts name them. `settings`: those that are
    not the default.
    """

    def __init__(self, target: str, **settings: Any) -> None:
        self.target = target
        self.desk = Desk(EPOCH, **settings)
        self.clock, self.records, self.wiring = self.desk.clock, self.desk.records, self.desk.services
        contents = {"urls": [OTHERS_URL], "headers": OTHERS_HEADERS, "basicAuthentication": OTHERS_LOGIN}
        self.store = self.desk.store(
            slots={spec.id: contents for spec in self.wiring.settings.slots.values()},
            own_urls_start_with="https://hooks.example.com",
        )
        self.session = StandSession(self.store, self.clock, self.wiring.settings.call_deadline)
        self.retry = NotedRetryPolicy(self.wiring.retry)
        self.wiring.session, self.wiring.retry = self.session, self.retry

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.desk.now

    @property
    def connection(self) -> Connection:
        """The record as it is."""
        return self.desk.connection

    def connect(self) -> None:
        """A producer's request, with the store's own key."""
        self.desk.connect(self.store)

    def work_on(self, target: Target) -> None:
        """One task, as a worker runs it."""
        self.desk.message("m-1", self.connection.run, target)


class StandSession(DirectSession):
    """Calls of the store in the clock's time. `trouble`: what the real session would raise instead of an answer."""

    def __init__(self, store: SimulatedStore, clock: StoppedClock, call_deadline: float) -> None:
        super().__init__(store, clock.advance)
        self._deadline = _WholeCall(call_deadline)
        self.trouble: IntegrationError | None = None

    def request(self, method: str, url: str, *, deadline: Deadline, **call: Any) -> Answer:  # noqa: ARG002
        """One call. The session's own deadline is the nearer one: an attempt has the longer lease."""
        if self.trouble is not None:
            raise self.trouble.with_traceback(None)
        return super().request(method, url, deadline=self._deadline, **call)


class _WholeCall(Deadline):
    """A deadline that has all its time left: the real clock stands still for the length of a call."""

    def remaining(self) -> float:
        return self.at


@dataclass(frozen=True, slots=True)
class Wait:
    """How long the retry policy would wait: jitter lies between the two (seconds)."""

    shortest: float
    longest: float


class NotedRetryPolicy(RetryPolicy):
    """The real policy with its dice loaded: it always waits as long as it may, and notes how short it might have."""

    def __init__(self, policy: RetryPolicy) -> None:
        super().__init__(policy.first, policy.longest)
        object.__setattr__(self, "_noted", [])  # the policy is frozen

    _noted: list[Wait]

    def delay(self, attempt: int, retry_after: float | None = None, **_: object) -> float:
        """The longest wait."""
        shortest, longest = (super(NotedRetryPolicy, self).delay(attempt, retry_after, rng=dice) for dice in _DICE)
        self._noted.append(Wait(shortest, longest))
        return longest

    def taken(self) -> Wait | None:
        """The wait since asked last, None if there was none."""
        return self._noted.pop() if self._noted else None


class _Loaded(random.Random):
    def __init__(self, side: int) -> None:
        super().__init__(0)
        self._side = side

    def uniform(self, a: float, b: float) -> float:
        return (a, b)[self._side]


_DICE = (_Loaded(0), _Loaded(1))

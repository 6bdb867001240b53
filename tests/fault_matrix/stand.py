"""One merchant's connection at one simulated store, worked on by the real tasks' code, in one thread, without waiting.

Only what holds things is replaced: records and access tokens lie in memory, calls go straight into the store, and the
clock moves when told. Settings are the defaults.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import redis

from integrations.answer import Answer
from integrations.deadline import Deadline
from integrations.errors import IntegrationError
from integrations.oracle_commerce.acceptance import Door
from integrations.oracle_commerce.access_token import AccessToken, AccessTokens
from integrations.oracle_commerce.change import Change, Note, Stop
from integrations.oracle_commerce.connection import Connection, Target
from integrations.oracle_commerce.events import other_events, status_event
from integrations.oracle_commerce.records import Committed, Records, Snapshot
from integrations.sealing import Keyring, SealingKey, seal
from integrations.settings import Settings
from tasks.retry import RetryPolicy
from tasks.step import run_step
from tasks.wiring import Wiring
from tests.simulator.application_keys import make_application_key
from tests.simulator.clocks import StoppedClock
from tests.simulator.direct import DirectSession
from tests.simulator.store import SimulatedStore

MERCHANT = "m-1"
EPOCH = 1_799_971_200.0  # a midnight: where the period of the first connection begins
OTHERS_URL = "https://orders.example.net/inbound"
OTHERS_HEADERS = {"X-Order-Source": "shop"}
OTHERS_LOGIN = {"username": "orders", "password": "not-ours"}

_NO_SERVER = "redis://127.0.0.1:1/0"  # never dialled
_CALLBACK_URL = "https://hooks.example.com/occ/{merchant_id}/{slot}"


class Stand:
    """A store, the connection to it, and everything the tasks work with.

    `target`: the calls that a fault is about, as the simulator's fault scripts name them. `settings`: those that are
    not the default.
    """

    def __init__(self, target: str, **settings: Any) -> None:
        self.target = target
        self.clock = StoppedClock(EPOCH)
        self.wiring = Wiring(_settings(**settings))
        contents: dict[str, Any] = {
            "urls": [OTHERS_URL],
            "headers": OTHERS_HEADERS,
            "basicAuthentication": OTHERS_LOGIN,
        }
        self.store = SimulatedStore(
            MERCHANT,
            clocks=self.clock.clocks,
            shows_secrets=True,
            application_key=make_application_key(issued_at=EPOCH, lifetime=None),
            slots={spec.id: contents for spec in self.wiring.settings.slots.values()},
            own_urls_start_with="https://hooks.example.com",
        )
        self.records = MemoryRecords(self.clock.clocks.wall)
        self.session = StandSession(self.store, self.clock, self.wiring.settings.call_deadline)
        self.retry = NotedRetryPolicy(self.wiring.retry)
        self.wiring.records = self.records
        self.wiring.tokens = MemoryTokens(self.wiring.keyring, self.clock.clocks.wall)
        self.wiring.session = self.session
        self.wiring.retry = self.retry

    # -- the record

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.clock.clocks.wall()

    @property
    def connection(self) -> Connection:
        """The record as it is."""
        connection = self.records.load(MERCHANT).connection
        assert connection is not None
        return connection

    # -- what people ask for

    def connect(self, application_key: str | None = None) -> None:
        """A producer's request, with the store's own key unless another is told."""
        key = application_key or self.store.application_key
        newest = self.wiring.keyring.newest
        request = {
            "merchant_id": MERCHANT,
            "store_url": self.store.url,
            "application_key": seal(newest.public_key, newest.key_id, MERCHANT, key),
        }
        self.wiring.acceptance.accept(request, Door.CELERY)

    def disconnect(self) -> None:
        """A wish to leave the store."""
        self.wiring.acceptance.disconnect({"merchant_id": MERCHANT}, Door.CELERY)

    # -- what workers do

    def work_on(self, target: Target) -> None:
        """One task, as a worker runs it."""
        work = self.connection.work_on(target)
        alone = work is not None and work.is_suspect
        run_step(self.wiring, lambda *_: None, MERCHANT, self.connection.run, target, alone=alone)

    def callback_url(self, slot: str) -> str:
        """Ours, for a slot."""
        return _CALLBACK_URL.replace("{merchant_id}", MERCHANT).replace("{slot}", slot)


@cache
def _sealing_key() -> SealingKey:
    return SealingKey.generate()


def _settings(**settings: Any) -> Settings:
    # An outage is declared from many merchants' failures; this is about one.
    own: dict[str, Any] = {"redis_url": _NO_SERVER, "sealing_keys": (_sealing_key(),), "callback_url": _CALLBACK_URL}
    return Settings(**own, outage_share=0.0, **settings)


@dataclass(frozen=True, slots=True)
class StoppedSnapshot(Snapshot):
    """A snapshot whose time is the clock's."""

    clock: Callable[[], float] = float

    def now(self) -> float:
        """Epoch seconds."""
        return self.clock()


class MemoryRecords(Records):
    """Records without a server: what is written with a change is the same, and kept in lists."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(_no_server())
        self._clock = clock
        self._snapshots: dict[str, Snapshot] = {}
        self.events_told: list[dict[str, Any]] = []
        self.notes: list[Note] = []

    def load(self, merchant_id: str) -> Snapshot:
        """The connection of a merchant."""
        empty = StoppedSnapshot(None, 0, None, None, 0.0, 0.0, clock=self._clock)
        return self._snapshots.get(merchant_id, empty)

    def next_number(self) -> int:
        """The number of a new connection."""
        return len(self._snapshots)

    def change(
        self,
        merchant_id: str,
        decide: Callable[[Connection | None, float], Change | Stop],
        *,
        known: Snapshot | None = None,  # noqa: ARG002
        durably: bool = False,  # noqa: ARG002
    ) -> Committed | Stop:
        """Apply what `decide` makes of the connection; nobody races us."""
        snapshot = self.load(merchant_id)
        before, now, version = snapshot.connection, self._clock(), snapshot.version + 1
        decided = decide(before, now)
        if isinstance(decided, Stop):
            return decided
        news = status_event(before, decided.connection, version=version, now=now)
        self.events_told += [news] if news else []
        self.events_told += other_events(before, decided.connection, version=version, now=now)
        self.notes += decided.notes
        self._snapshots[merchant_id] = snapshot.after(decided)
        return Committed(before, decided.connection, self._snapshots[merchant_id], decided.former)


class MemoryTokens(AccessTokens):
    """Access tokens without a server: freshness and renewal are the real ones."""

    def __init__(self, keyring: Keyring, clock: Callable[[], float]) -> None:
        super().__init__(_no_server(), keyring, lock_lease=60.0)
        self._clock = clock
        self._shared: tuple[str, AccessToken] | None = None

    def drop(self, merchant_id: str) -> None:  # noqa: ARG002
        """Forget the token."""
        self._shared = None

    def _lock(self, merchant_id: str) -> Any:  # noqa: ARG002
        return _FreeLock()

    def _share(self, merchant_id: str, fingerprint: str, token: AccessToken) -> None:  # noqa: ARG002
        self._shared = fingerprint, token

    def _cached(self, merchant_id: str, fingerprint: str, newer_than: float) -> AccessToken | None:  # noqa: ARG002
        if self._shared is None or self._shared[0] != fingerprint:
            return None
        token = self._shared[1]
        return token if token.issued_at > newer_than and token.is_fresh(self._clock()) else None

    def _now(self) -> float:
        return self._clock()


class _FreeLock:
    def acquire(self, *, blocking: bool) -> bool:  # noqa: ARG002
        return True

    def release(self) -> None:
        pass


@cache
def _no_server() -> redis.Redis:
    return redis.Redis.from_url(_NO_SERVER)


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

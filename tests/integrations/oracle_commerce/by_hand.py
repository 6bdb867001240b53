"""Connections kept by hand: our whole code but Celery and the server, in one thread and on a stopped clock.

`Desk` accepts requests, does all work when it is due, and keeps the records and events in memory. The stores are
simulated ones behind our real client. Every record is written out and read again with every change.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import redis

from integrations.connections.change import Change, Moment, Note, Stop
from integrations.connections.commit import commit_of
from integrations.connections.findings import findings_of
from integrations.connections.known_request import KnownRequest
from integrations.connections.lifecycle import claims
from integrations.connections.record import Connection, Target, Work
from integrations.connections.records import Committed, Records, Snapshot
from integrations.connections.schedule import Pace
from integrations.connections.shared_stores import SharedStores
from integrations.connections.stored_record import record_in, record_text
from integrations.egress.answer import Answer
from integrations.egress.session import GuardedSession
from integrations.oracle_commerce.accept import Acceptance, Accepted, Asked, Door
from integrations.oracle_commerce.access_token import AccessTokens
from integrations.oracle_commerce.one_writer import Lease, OneWriter
from integrations.outages.outages import Outages
from integrations.sealing.keyring import Keyring, SealingKey, seal
from integrations.settings import Settings
from occ.simulator.application_keys import make_application_key
from occ.simulator.clocks import StoppedClock
from occ.simulator.direct import DirectSession
from occ.simulator.store import SimulatedStore
from tasks.retry import RetryPolicy
from tasks.step import run_step
from tasks.wiring import Wiring
from tasks.worker.counting import Counts
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS

THEIRS = "https://oms.example.net/in"
OURS = SealingKey.generate()
FIRST, SECOND = "https://ccadmin-test-z1a2.oracleoutsourcing.com", "https://ccadmin-test-z9b8.oracleoutsourcing.com"


def ours(slot: str, merchant_id: str = "m-1") -> str:
    """Our callback URL."""
    return f"https://hooks.example.com/occ/{merchant_id}/{slot}"


@dataclass(frozen=True, slots=True)
class _Read(Snapshot):
    """A snapshot whose time is that of the stopped clock."""

    clock: StoppedClock = field(default_factory=StoppedClock)

    def now(self) -> float:
        return self.clock.clocks.wall()


class RecordsInMemory(Records):
    """What the commit of a change does, without a server."""

    def __init__(self, clock: StoppedClock) -> None:
        self.kept: dict[str, Snapshot] = {}
        self.told: list[dict[str, Any]] = []  # events
        self.lines: list[tuple[float, str, Note]] = []
        self.writes_out = True
        self.stopped = clock

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return float(self.stopped.clocks.wall())

    @property
    def connection(self) -> Connection:
        """The only record."""
        (snapshot,) = self.kept.values()
        assert snapshot.connection is not None
        return snapshot.connection

    def load(self, merchant_id: str) -> Snapshot:
        return self.kept.get(merchant_id) or _Read(None, 0, None, None, 0.0, 0.0, clock=self.stopped)

    def count(self) -> int:
        return len(self.kept)

    def next_number(self) -> int:
        return len(self.kept)

    def change(
        self,
        merchant_id: str,
        decide: Callable[[Connection | None, float], Change | Stop],
        *,
        known: Snapshot | None = None,  # noqa: ARG002 - nobody else changes anything meanwhile
        durably: bool = False,  # noqa: ARG002 - there is no disk
    ) -> Committed | Stop:
        snapshot = self.load(merchant_id)
        now = snapshot.now()
        decided = decide(snapshot.connection, now)
        if isinstance(decided, Stop):
            return decided
        before, connection = snapshot.connection, decided.connection
        commit = commit_of(merchant_id, before, decided, version_read=snapshot.version, now=now)
        after = snapshot.after(decided, commit.version)
        assert not self.writes_out or record_in(record_text(connection)) == connection
        if decided.former is not None:
            key = snapshot.sealed_key
            self.kept[decided.former.merchant_id] = _Read(decided.former, 1, key, None, 0.0, 0.0, clock=self.stopped)
        self.kept[merchant_id] = after
        self.told += commit.all_events
        self.lines += [(now, merchant_id, note) for note in commit.notes]
        return Committed(before, connection, after, decided.former)

    def note_refusal(self, refused: KnownRequest, *, reported: bool = False) -> None:
        pass


class _Tokens(AccessTokens):
    """Access tokens without a server. `busy`: another worker is just buying one, for longer than anybody waits."""

    def __init__(self) -> None:
        super().__init__(redis.Redis(), Keyring([OURS]), lock_lease=60.0, patience=0.0)  # never dialled
        self.busy = False

    def drop(self, merchant_id: str) -> None:
        del merchant_id  # there are no others
        self._kept.clear()

    def _take(self, *_: object) -> bool:
        return not self.busy

    def _end(self, *_: object) -> None:
        pass


class _Session(GuardedSession):
    """The way out to whichever simulated store has the address."""

    def __init__(self, stores: Mapping[str, SimulatedStore]) -> None:
        self._stores = stores
        self.then: list[Callable[[], object]] = []  # what happens right after the next call

    def request(self, method: str, url: str, **call: Any) -> Answer:
        services = urlsplit(url)
        direct = DirectSession(self._stores[f"{services.scheme}://{services.netloc}"])
        answer = direct.request(method, url, **call)
        while self.then:
            self.then.pop()()
        return answer

    def close(self) -> None:
        """There is nothing to close."""


class _NeverOurselves(Outages):
    """Nothing is held because everybody fails."""

    def __init__(self) -> None:
        pass

    def note(self, connection: Connection, code: str | None, *, key_accepted: bool = False) -> None:
        pass

    def verdict_waits(self, connection: Connection, pace: Pace) -> bool:  # noqa: ARG002
        return False


class _OnlyWriter(OneWriter):
    """Everything is done in one thread."""

    def __init__(self) -> None:
        pass

    @contextmanager
    def of(self, store_url: str, slot_id: str) -> Iterator[Lease]:  # noqa: ARG002
        yield Lease()


class _NobodyElse(SharedStores):
    """Who shares a store is not looked for."""

    def __init__(self) -> None:
        pass

    def review(self, connection: Connection) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def left(self, connection: Connection) -> None:
        pass


class _Uncounted(Counts):
    """No metrics: they are written by a thread, to a server."""

    def _add(self, counted: Mapping[str, int]) -> None:
        pass


class _Steady(RetryPolicy):
    """The longest wait the policy may choose."""

    def delay(self, attempt: int, retry_after: float | None = None, **_: object) -> float:
        return max(retry_after or 0.0, min(self.longest, self.first * 2.0 ** min(attempt - 1, 60)))


class Desk:
    """Everything that keeps connections, done by hand. Merchant m-1 unless another is named."""

    def __init__(self, epoch: float = NOON, /, **settings: object) -> None:
        self.clock = StoppedClock(epoch)
        self.stores: dict[str, SimulatedStore] = {}
        self.records = RecordsInMemory(self.clock)
        self.tokens = _Tokens()
        self.twice = False  # every message comes twice
        self.restart(**settings)

    def restart(self, **settings: object) -> None:
        """New processes, with these settings."""
        settings = {"callback_url": "https://hooks.example.com/occ/{merchant_id}/{slot}", **settings}
        chosen = Settings(redis_url="redis://localhost:6379/0", sealing_keys=(OURS,), **settings)
        self.services = Wiring(chosen)
        self.services.records, self.services.tokens = self.records, self.tokens
        self.session = _Session(self.stores)
        self.services.session, self.services.outages = self.session, _NeverOurselves()
        self.services.writers, self.services.shared_stores = _OnlyWriter(), _NobodyElse()
        self.services.counts = _Uncounted(chosen.redis_url)
        self.services.retry = _Steady(chosen.retry_first, chosen.retry_max)
        self.services.acceptance = Acceptance(self.records, Keyring([OURS]), chosen, self.services.pace)

    @property
    def pace(self) -> Pace:
        """The durations."""
        return self.services.pace

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return float(self.clock.clocks.wall())

    # --- What people ask for

    def store(self, url: str = FIRST, /, **changes: object) -> SimulatedStore:
        """A store with somebody else's URL in each slot."""
        held = {name: {"urls": [THEIRS]} for name in self.services.wanted.slots}
        key = make_application_key(issued_at=NOON, lifetime=None)
        changes = {"slots": held, "shows_secrets": True, "application_key": key} | changes
        found = SimulatedStore(url, url=url, clocks=self.clock.clocks, **changes)  # type: ignore[arg-type]
        self.stores[found.url] = found
        return found

    def connect(self, store: SimulatedStore, key: str | None = None, merchant_id: str = "m-1") -> Accepted:
        """Ask for a connection, with the store's own key or another."""
        sealed = seal(OURS.public_key, OURS.key_id, merchant_id, key or store.application_key)
        request = {"merchant_id": merchant_id, "store_url": store.url, "application_key": sealed}
        return self.services.acceptance.accept(request, Door.INBOX)

    def revalidate(self, **choice: object) -> Asked:
        """Ask for a look."""
        return self.services.acceptance.revalidate({"merchant_id": "m-1", **choice}, Door.COMMAND_LINE)

    def disconnect(self, **choice: object) -> Asked:
        """Ask to disconnect."""
        return self.services.acceptance.disconnect({"merchant_id": "m-1", **choice}, Door.COMMAND_LINE)

    # --- What workers and tick do

    def at_once(self) -> None:
        """Everything that may be done without waiting."""
        for _ in range(1000):
            ready = [(name, it, target) for name, it in self._all() for target in sorted(it.ready(self.now), key=str)]
            if not ready:
                return
            for name, connection, target in ready:
                for _ in range(1 + self.twice):
                    self.message(name, connection.run, target)
        raise AssertionError("there is no end to the work of this moment")

    def one(self) -> None:
        """The first piece of work of m-1 that is ready."""
        self.message("m-1", self.connection.run, min(self.connection.ready(self.now), key=str))

    def message(self, merchant_id: str, run: int, target: Target) -> dict[str, object]:
        """A message arrives."""
        connection = self.records.load(merchant_id).connection
        work = connection.work_on(target) if connection else None
        return run_step(
            self.services, _sends_nothing, merchant_id, run, target, alone=work is not None and work.is_suspect
        )

    def hold(self, target: Target) -> None:
        """A worker takes the work, and is not heard of."""
        moment = Moment(self.now, self.services.pace)
        run = self.connection.run

        def decide(connection: Connection | None, _: float) -> Change | Stop:
            assert connection is not None
            return claims.claim(connection, run, target, "held", moment)

        assert isinstance(self.records.change("m-1", decide), Committed)

    def put(self, work: Work) -> None:
        """What is to be done for m-1 is this."""
        decide = lambda connection, _: Change(replace(connection, work=work))  # noqa: E731
        assert isinstance(self.records.change("m-1", decide), Committed)

    def until(self, end: float) -> None:
        """Go on, due time by due time."""
        self.at_once()
        while (due := min((it.due_at for _, it in self._all() if it.due_at is not None), default=end + 1)) <= end:
            assert due > self.now, "something is due and nothing can be done about it"
            self.clock.advance(due - self.now)
            self.at_once()
        self.clock.advance(max(0.0, end - self.now))

    def wait(self, seconds: float) -> None:
        """Go on for so long."""
        self.until(self.now + seconds)

    def next_revalidation(self) -> None:
        """Go on until work of this connection is due, and do it."""
        assert self.connection.due_at is not None
        self.until(self.connection.due_at)

    # --- What can be seen

    @property
    def connection(self) -> Connection:
        """The record of m-1."""
        return self.record("m-1")

    def record(self, record_id: str) -> Connection:
        """Any record."""
        connection = self.records.load(record_id).connection
        assert connection is not None
        return connection

    @property
    def status(self) -> str:
        """The status of m-1."""
        return str(self.connection.status)

    @property
    def slots(self) -> dict[str, str]:
        """The status of each slot of m-1."""
        return {name: str(slot.status) for name, slot in self.connection.slots.items()}

    def events(self) -> list[str]:
        """The types of the events told since this was asked last."""
        types = [str(event["type"]).removeprefix("occ.connection.") for event in self.records.told]
        self.last_events = list(self.records.told)
        self.records.told.clear()
        return types

    def findings(self, record_id: str = "m-1") -> list[tuple[str, str | None]]:
        """What there is to report."""
        return [(finding.code, finding.slot) for finding in findings_of(self.record(record_id))]

    def kept_key(self, record_id: str = "m-1") -> str | None:
        """The application key that is kept as the current one."""
        sealed = self.records.load(record_id).sealed_key
        return Keyring([OURS]).open(sealed, "m-1") if sealed else None

    def _all(self) -> list[tuple[str, Connection]]:
        return [(name, it.connection) for name, it in self.records.kept.items() if it.connection is not None]


def connected(**settings: object) -> tuple[Desk, SimulatedStore]:
    """An active connection that has had its second look."""
    desk = Desk(**settings)
    store = desk.store()
    desk.connect(store)
    desk.wait(600)
    assert desk.status == "active"
    desk.events()
    store.reset_counts()
    return desk, store


def there(store: SimulatedStore) -> set[str]:
    """The slots that carry our callback URL; somebody else's must be in all of them."""
    assert all(THEIRS in store.urls(name) for name in SLOTS)
    return {name for name in SLOTS if ours(name) in store.urls(name)}


def _sends_nothing(connection: Connection, targets: Iterable[Target]) -> None:
    """What is ready is found in the records."""

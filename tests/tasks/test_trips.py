"""What a connect and a re-validation cost in exact numbers: hints, HTTP calls, and Redis commands.

Times vary with the machine, these numbers do not. They may change only in a commit that says why: a lower one is what
somebody has saved, a higher one needs a reason in the commit's message. The commands are all those of our own code from
the request to the last outcome, those inside scripts included and the scripts themselves not. What Celery and Kombu add
for each message is not in it; `./run bench connect` counts that too.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import pytest
import redis

from integrations import clock
from integrations.connections import records
from integrations.connections.change import Change, Stop
from integrations.connections.record import Connection, ConnectionStatus, Target
from integrations.connections.records import Committed, Records
from integrations.oracle_commerce.accept import Door
from integrations.sealing.keyring import SealingKey, seal
from integrations.settings import Settings
from occ.simulator.direct import DirectSession
from occ.simulator.store import SimulatedStore
from tasks.claimed_step import ClaimedAhead
from tasks.step import run_step
from tasks.wiring import Wiring

pytestmark = pytest.mark.server

STORE_URL = "https://ccadmin-test-z1a2.oracleoutsourcing.com"
SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
UNCOUNTED = {"hello", "client|setinfo", "select", "ping", "info", "config|resetstat", "evalsha", "pexpire"}
"""What opens or checks a connection, and the counting itself. Scripts are counted apart: one trip each. PEXPIRE
comes with the first outcome of a merchant in each part of the outage window, so the clock decides whether there is one.
"""


@dataclass(frozen=True)
class Cost:
    """What some work has cost."""

    hints: int
    calls: dict[str, int]
    commands: int
    scripts: int


class OneWorker:
    """Does everything there is a message for, one after the other, and counts."""

    def __init__(self, redis_url: str, client: redis.Redis, **settings: object) -> None:
        key = SealingKey.generate()
        theirs = {name: {"urls": ["https://oms.example.net/in"]} for name in SLOTS}
        self.store = SimulatedStore("m-1", url=STORE_URL, slots=theirs)
        self.services = Wiring(
            Settings(
                redis_url=redis_url,
                sealing_keys=(key,),
                callback_url="https://hooks.example.com/occ/{merchant_id}/{slot}",
                **settings,
            )
        )
        self.services.session = DirectSession(self.store)
        self._client = client
        self._sealed = seal(key.public_key, key.key_id, "m-1", self.store.application_key)
        self._messages: list[tuple[int, Target, ClaimedAhead | None]] = []
        self._sent = 0

    def connect(self) -> None:
        """A connection is asked for, and made."""
        request = {"merchant_id": "m-1", "store_url": STORE_URL, "application_key": self._sealed}
        accepted = self.services.acceptance.accept(request, Door.CELERY)
        self._send(accepted.connection, accepted.connection.ready(accepted.connection.updated_at))
        self._work()

    def revalidate(self) -> None:
        """A connection that is in order is looked at."""
        committed = self.services.acceptance.revalidate({"merchant_id": "m-1"}, Door.CELERY).committed
        assert isinstance(committed, Committed)
        self._send(committed.after, committed.after.ready(committed.snapshot.now()))
        self._work()

    def another_day(self) -> None:
        """What was written last is not remembered any more."""
        self.services.records._latest = records._Latest()

    def cost_of(self, work: Callable[[], None]) -> Cost:
        """What it costs; whatever is counted, the connection is active afterwards."""
        calls, sent = dict(self.store.calls.endpoints), self._sent
        self._client.config_resetstat()
        work()
        stats = self._client.info("commandstats")
        counted = {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}
        connection = self.services.records.load("m-1").connection
        assert connection is not None
        assert connection.status is ConnectionStatus.ACTIVE
        made = {name: count - calls.get(name, 0) for name, count in self.store.calls.endpoints.items()}
        return Cost(
            hints=self._sent - sent,
            calls={name: count for name, count in made.items() if count},
            commands=sum(count for name, count in counted.items() if name not in UNCOUNTED),
            scripts=counted.get("evalsha", 0),
        )

    def _send(self, connection: Connection, targets: Iterable[Target]) -> None:
        for target in sorted(targets, key=str):
            self._messages.append((connection.run, target, None))
            self._sent += 1

    def room(self) -> int:
        """Its threads are free."""
        return 8

    def take(self, connection: Connection, target: Target, *, claimed: object, give_back: object) -> bool:  # noqa: ARG002
        """One of them does it."""
        assert isinstance(claimed, ClaimedAhead)
        self._messages.append((connection.run, target, claimed))
        self._sent += 1
        return True

    def _work(self) -> None:
        while self._messages:
            run, target, ahead = self._messages.pop(0)
            run_step(self.services, self._send, "m-1", run, target, threads=self, ahead=ahead)


@pytest.fixture
def worker(redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneWorker]:
    """One whose server knows all scripts and has no connection yet. It knows the time."""
    # How often the clock is looked at is a matter of time, not of work: once in ten seconds, and once in one.
    monkeypatch.setattr(clock, "_READ_EVERY", float("inf"))
    monkeypatch.setattr(clock, "_TRUST_FOR", float("inf"))
    monkeypatch.setattr(records, "_RECENT", float("inf"))
    first = OneWorker(redis_url, redis_client)
    first.connect()
    first.revalidate()
    first.services.redis.close()
    redis_client.flushdb()
    worker = OneWorker(redis_url, redis_client)
    worker.services.records.clock.now()
    yield worker
    worker.services.redis.close()


def test_what_a_connect_costs(worker: OneWorker) -> None:
    assert worker.cost_of(worker.connect) == Cost(
        hints=6,  # key, shipping methods, four slots; what travels of them, `end_to_end/test_handing_on.py` counts
        calls={"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4},
        commands=65,  # 12 of them, and 8 scripts, for the lease on writing each slot; 2 for who shares the store
        scripts=19,
    )


def test_what_a_revalidation_of_a_connection_in_order_costs(worker: OneWorker) -> None:
    worker.connect()
    worker.another_day()
    assert worker.cost_of(worker.revalidate) == Cost(
        hints=1,
        calls={"login": 1, "shipping_methods": 1, "read_slot": 4},
        commands=21,
        scripts=6,
    )


def test_what_a_connection_at_rest_takes_of_the_servers_memory(worker: OneWorker, redis_client: redis.Redis) -> None:
    """With its history; the lists it stands in take some 280 bytes more. The server's settings see to it."""
    worker.connect()
    sizes = {what: redis_client.memory_usage(f"occ:{what}:m-1") or 0 for what in ("connection", "timeline")}
    assert sum(sizes.values()) < 3600, sizes


def test_a_second_copy_of_a_message_costs_one_trip(worker: OneWorker) -> None:
    worker.connect()
    connection = worker.services.records.load("m-1").connection
    assert connection is not None
    target = Target(connection.step)

    def again() -> None:
        run_step(worker.services, lambda *_: None, "m-1", connection.run, target)

    assert worker.cost_of(again) == Cost(hints=0, calls={}, commands=1, scripts=0)


def test_a_lost_race_costs_one_trip_more(worker: OneWorker) -> None:
    worker.connect()
    stale = worker.services.records.load("m-1")
    first = Records(worker.services.redis).change("m-1", _seen_again)  # somebody else

    def race() -> None:
        assert isinstance(first, Committed)
        second = worker.services.records.change("m-1", _seen_again, known=stale)
        assert isinstance(second, Committed)
        assert second.before == first.after

    # The version, what was written meanwhile; the version, the record.
    assert worker.cost_of(race) == Cost(hints=0, calls={}, commands=4, scripts=2)


def test_what_was_just_written_is_read_again_before_it_is_left_alone(worker: OneWorker) -> None:
    """Somebody else may have made work of it since."""
    worker.connect()
    Records(worker.services.redis).change("m-1", lambda it, now: _seen_again(it, now + 60))
    seen: list[float] = []

    def look(connection: Connection | None, _: float) -> Stop:
        assert connection is not None
        seen.append(connection.updated_at)
        return Stop("nothing_to_do")

    assert worker.services.records.change("m-1", look) == Stop("nothing_to_do")
    assert len(seen) == 2
    assert seen[1] > seen[0]


def _seen_again(connection: Connection | None, now: float) -> Change | Stop:
    return Change(replace(connection, updated_at=now)) if connection else Stop("unknown_connection")


def test_only_what_fails_is_evidence_of_an_outage(redis_url: str, redis_client: redis.Redis) -> None:
    """One merchant is enough for one here."""
    redis_client.flushdb()
    worker = OneWorker(redis_url, redis_client, outage_share=0.1, outage_merchants=1)
    worker.connect()
    assert worker.services.outages.review() is None
    worker.store.fail("login", 503)
    with contextlib.suppress(AssertionError):
        worker.revalidate()
    found = worker.services.outages.review()
    worker.services.redis.close()
    assert found is not None
    assert (found.failing, found.asked) == (1, 1)

"""What a connect and a re-validation cost in exact numbers: messages, HTTP calls, and Redis commands.

Times vary with the machine, these numbers do not. They may change only in a commit that says why: a lower one is what
somebody has saved, a higher one needs a reason in the commit's message. The commands are all those of our own code from
the request to the last outcome, those inside scripts included and the scripts themselves not. What Celery and Kombu add
for each message is not in it; `./run bench connect` counts that too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest
import redis

from integrations.connections.record import Connection, ConnectionStatus, Target
from integrations.connections.records import Committed
from integrations.oracle_commerce.accept import Door
from integrations.sealing.keyring import SealingKey, seal
from integrations.settings import Settings
from occ.simulator.direct import DirectSession
from occ.simulator.store import SimulatedStore
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

    messages: int
    calls: dict[str, int]
    commands: int
    scripts: int


class OneWorker:
    """Does everything there is a message for, one after the other, and counts."""

    def __init__(self, redis_url: str, client: redis.Redis) -> None:
        key = SealingKey.generate()
        theirs = {name: {"urls": ["https://oms.example.net/in"]} for name in SLOTS}
        self.store = SimulatedStore("m-1", url=STORE_URL, slots=theirs)
        self.services = Wiring(
            Settings(
                redis_url=redis_url,
                sealing_keys=(key,),
                callback_url="https://hooks.example.com/occ/{merchant_id}/{slot}",
            )
        )
        self.services.session = DirectSession(self.store)
        self._client = client
        self._sealed = seal(key.public_key, key.key_id, "m-1", self.store.application_key)
        self._messages: list[tuple[int, Target]] = []
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
            messages=self._sent - sent,
            calls={name: count for name, count in made.items() if count},
            commands=sum(count for name, count in counted.items() if name not in UNCOUNTED),
            scripts=counted.get("evalsha", 0),
        )

    def _send(self, connection: Connection, targets: Iterable[Target]) -> None:
        for target in sorted(targets, key=str):
            self._messages.append((connection.run, target))
            self._sent += 1

    def _work(self) -> None:
        while self._messages:
            run, target = self._messages.pop(0)
            run_step(self.services, self._send, "m-1", run, target)


@pytest.fixture
def worker(redis_url: str, redis_client: redis.Redis) -> Iterator[OneWorker]:
    """One whose server knows all scripts and has no connection yet."""
    first = OneWorker(redis_url, redis_client)
    first.connect()
    first.revalidate()
    first.services.redis.close()
    redis_client.flushdb()
    worker = OneWorker(redis_url, redis_client)
    yield worker
    worker.services.redis.close()


def test_what_a_connect_costs(worker: OneWorker) -> None:
    assert worker.cost_of(worker.connect) == Cost(
        messages=6,  # key, shipping methods, four slots; besides these the producer's own
        calls={"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4},
        commands=105,
        scripts=21,
    )


def test_what_a_revalidation_of_a_connection_in_order_costs(worker: OneWorker) -> None:
    worker.connect()
    assert worker.cost_of(worker.revalidate) == Cost(
        messages=6,
        calls={"login": 1, "shipping_methods": 1, "read_slot": 4},
        commands=89,
        scripts=21,
    )


def test_a_second_copy_of_a_message_costs_one_trip(worker: OneWorker) -> None:
    worker.connect()
    connection = worker.services.records.load("m-1").connection
    assert connection is not None
    target = Target(connection.step)

    def again() -> None:
        run_step(worker.services, lambda *_: None, "m-1", connection.run, target)

    assert worker.cost_of(again) == Cost(messages=0, calls={}, commands=3, scripts=0)  # TIME, HMGET, GET

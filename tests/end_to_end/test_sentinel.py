"""The master is killed under load, and sentinels put another in its place: work goes on, what was confirmed is there.

`TEST_KILLS=10 TEST_KILL_EVERY=60` runs the long form.
"""

import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
import structlog

from integrations.connections.records import Records
from occ.simulator.store import SimulatedStore
from tasks.wiring import connect
from tests.end_to_end.requests import await_true
from tests.pipeline import Pipeline, running
from tests.sentinels import Sentinels, sentinels
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

log = structlog.get_logger(__name__)

KILLS = int(os.environ.get("TEST_KILLS", "1"))
KILL_EVERY = float(os.environ.get("TEST_KILL_EVERY", "0"))  # seconds
RESUMES_WITHIN = 10.0 if KILLS > 1 else 60.0  # the figure is for a machine that does nothing else


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Sentinels]:
    with sentinels(tmp_path, number=3 if KILLS > 1 else 1) as it:
        yield it


@pytest.fixture
def pipeline(group: Sentinels, tmp_path: Path) -> Iterator[Pipeline]:
    with running(Pipeline(tmp_path / "pipeline", settings={"OCC_REDIS_URL": group.url}), workers=2) as it:
        it.redis = connect(group.url)
        it.records = Records(it.redis)
        yield it
        it.redis.close()


def has_a_slot(store: SimulatedStore) -> bool:
    """Whether work at a store has come to its slots."""
    return store.calls.endpoints["write_slot"] > 0


class Producer:
    """Posts requests to the inbox, each again until a replica has it too."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.confirmed: list[SimulatedStore] = []

    def post_one_more(self) -> None:
        pipeline = self.pipeline
        store = pipeline.simulator.add(f"m-{len(self.confirmed)}")
        request = json.dumps(pipeline.request(store))
        wait_until(lambda: self._posted(request), what="a request to be confirmed")
        self.confirmed.append(store)

    def _posted(self, request: str) -> bool:
        """At least once: the inbox takes the same request twice for one."""
        try:
            with self.pipeline.redis.pipeline(transaction=False) as pipe:
                pipe.xadd("occ:inbox", {"request": request})
                pipe.wait(1, 1000)
                return bool(pipe.execute()[1] >= 1)
        except redis.RedisError:
            return False


@pytest.mark.timeout(1500 + KILLS * (KILL_EVERY + 60))
def test_a_master_that_is_killed_under_load_is_replaced_and_nothing_confirmed_is_lost(
    pipeline: Pipeline, group: Sentinels
) -> None:
    producer = Producer(pipeline)
    resumed = []
    for _ in range(KILLS):
        began = time.monotonic()
        for _ in range(5):
            producer.post_one_more()
        while time.monotonic() < began + KILL_EVERY:
            producer.post_one_more()
            time.sleep(1.0)  # else the last one would wait for thousands before it
        port = group.kill_master()
        killed = time.monotonic()
        producer.post_one_more()
        last = producer.confirmed[-1]
        await_true(partial(has_a_slot, last), "work to go on", within=PATIENCE)
        resumed.append(time.monotonic() - killed)
        group.start(port, replica_of=group.master)
        wait_until(lambda: group.sees_replicas, what="the killed server to follow")
    log.info("resumed", after=[round(seconds, 1) for seconds in resumed], confirmed=len(producer.confirmed))
    assert max(resumed) <= RESUMES_WITHIN
    names = [store.name for store in producer.confirmed]
    pipeline.await_end(*names, within=120)
    assert {pipeline.status(name)["status"] for name in names} == {"active"}
    for store in producer.confirmed:
        assert store.summary()["foreign_urls_lost"] == []

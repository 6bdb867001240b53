"""What follows a task at once needs no message while a thread of its worker is free; else it travels as ever."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """No beat: a tick is a message too."""
    with Pipeline(tmp_path) as pipeline:
        yield pipeline


def start(pipeline: Pipeline, *options: str, **environment: str) -> str:
    name = pipeline.start_worker(*options, environment=environment)
    pipeline.await_workers()
    return name


def sent(pipeline: Pipeline) -> int:
    """Messages that went into a queue."""
    return int(pipeline.redis.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"])


def connect(pipeline: Pipeline, name: str) -> int:
    """Connect a store of this name; the messages it took."""
    store, before = pipeline.simulator.add(name), sent(pipeline)
    pipeline.send(pipeline.request(store))
    return messages_until_active(pipeline, store, before)


def messages_until_active(pipeline: Pipeline, store: SimulatedStore, before: int) -> int:
    pipeline.await_end(store.name)
    wait_until(lambda: pipeline.redis.hlen("unacked") == 0, what="everything to be acknowledged")
    assert pipeline.status(store.name)["status"] == "active"
    assert dict(store.calls.endpoints) == {"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4}
    return sent(pipeline) - before


def test_a_connect_is_one_message_to_a_worker_that_is_free(pipeline: Pipeline) -> None:
    start(pipeline, "--concurrency=8")
    assert connect(pipeline, "free") == 1


def test_what_no_thread_is_free_for_travels(pipeline: Pipeline) -> None:
    """The only thread goes on with what it has begun; of four slots, three wait for whoever is free."""
    start(pipeline, "--concurrency=1")
    assert connect(pipeline, "busy") == 1 + 3


def test_with_processes_everything_travels(pipeline: Pipeline) -> None:
    start(pipeline, "--concurrency=2", OCC_POOL="prefork")
    assert connect(pipeline, "processes") == 1 + 6


def test_what_follows_a_message_that_came_back_travels(pipeline: Pipeline) -> None:
    """Whoever had it before may have died of it."""
    store = pipeline.simulator.add("again")
    pipeline.send(pipeline.request(store))
    message = json.loads(str(pipeline.redis.rpop("occ")))
    message["properties"]["delivery_info"]["redelivered"] = True
    before = sent(pipeline)
    pipeline.redis.lpush("occ", json.dumps(message))
    start(pipeline, "--concurrency=8")
    assert messages_until_active(pipeline, store, before) == 1 + 1


def test_a_worker_that_stops_leaves_what_follows_to_others(pipeline: Pipeline) -> None:
    name = start(pipeline, "--concurrency=8")
    store = pipeline.simulator.add("stopping", faults={"login": [{"fault": "slow", "delay": 1}]})
    pipeline.send(pipeline.request(store))
    wait_until(lambda: store.calls.in_flight.now == 1, what="the login")
    pipeline.processes[name].send_signal(signal.SIGTERM)
    assert pipeline.processes[name].wait(timeout=180) == 0
    assert pipeline.redis.llen("occ.steps") == 1
    before = sent(pipeline)
    start(pipeline, "--concurrency=8")
    assert messages_until_active(pipeline, store, before) == 0

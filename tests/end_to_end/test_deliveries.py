"""Real workers deliver real changes to a receiver over HTTP, and are killed while they do."""

import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from integrations.connections.records import EVENTS
from integrations.deliveries.deliveries import GROUP, RECEIVER
from tests.pipeline import Pipeline, running
from tests.receiving import SECRET, ReceiverServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

KILLS = 4
MERCHANTS = 12


@pytest.fixture(scope="module")
def receiver_of_all() -> Iterator[ReceiverServer]:
    with ReceiverServer(clock=time.time) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def pipeline_of_all(tmp_path_factory: pytest.TempPathFactory, receiver_of_all: ReceiverServer) -> Iterator[Pipeline]:
    settings = {
        "OCC_RECEIVER_URL": receiver_of_all.url,
        "OCC_RECEIVER_SECRETS": SECRET,
        "OCC_RECEIVER_NETWORKS": "127.0.0.0/8",
        "OCC_LEASE": "6",
        "OCC_CALL_DEADLINE": "1",
        "OCC_CONCURRENCY": "8",
    }
    with running(Pipeline(tmp_path_factory.mktemp("deliveries"), settings=settings)) as pipeline:
        # Events that were told before the first tick are nobody's to deliver.
        wait_until(lambda: pipeline.redis.exists(EVENTS) == 1, what="the first tick to begin deliveries")
        yield pipeline


@pytest.fixture
def receiver(receiver_of_all: ReceiverServer) -> ReceiverServer:
    """Takes everything."""
    receiver_of_all.answer = lambda _: 204
    return receiver_of_all


@pytest.fixture
def pipeline(pipeline_of_all: Pipeline, receiver: ReceiverServer) -> Pipeline:
    """With two workers. The stream keeps what earlier tests wrote: workers report anew what they do not find there."""
    pipeline_of_all.replace_workers(2)
    return pipeline_of_all


def told(pipeline: Pipeline) -> dict[str, list[str]]:
    """What the stream holds: by merchant, ids in order."""
    found: dict[str, list[str]] = defaultdict(list)
    entries: Any = pipeline.redis.xrange(EVENTS)
    for _, fields in entries:
        event = json.loads(fields["event"])
        found[event["subject"]].append(event["id"])
    return dict(found)


def output_of_workers(pipeline: Pipeline) -> bytes:
    return b"".join(pipeline.output(name) for name in pipeline.running_workers())


def await_all_delivered(pipeline: Pipeline, receiver: ReceiverServer) -> None:
    wait_until(lambda: receiver.processed() == told(pipeline), what="all events to arrive, in order")
    wait_until(lambda: not [*pipeline.redis.scan_iter("occ:deliver*")], what="the lanes to be cleared away")


def test_changes_are_delivered_and_no_secret_is_anywhere(pipeline: Pipeline, receiver: ReceiverServer) -> None:
    stores = pipeline.simulator.add_many(3, "told-{n}")
    for store in stores:
        pipeline.post(pipeline.request(store))
    pipeline.await_end(*(store.name for store in stores))
    await_all_delivered(pipeline, receiver)
    merchants = {store.name for store in stores}
    types = {delivery.event["type"] for delivery in receiver.taken if delivery.event["subject"] in merchants}
    assert types == {"occ.connection.onboarding", "occ.connection.active"}
    assert receiver.unsigned == 0
    logs = output_of_workers(pipeline)
    kept = b"".join(file.read_bytes() for file in (pipeline.folder / "server").rglob("*") if file.is_file())
    for spelling in (SECRET.encode(), SECRET.removeprefix("whsec_").encode()):
        assert spelling not in logs
        assert spelling not in kept
    assert b'"outcome": "delivered"' in logs


def test_workers_killed_while_they_deliver_lose_no_event_and_mix_up_none(
    pipeline: Pipeline, receiver: ReceiverServer
) -> None:
    """Killed at random, and now and then in the very moment in which the receiver has the event and nobody knows."""
    dice = random.Random(6)  # noqa: S311 - the same each time
    receiver.answer = lambda _: (time.sleep(0.02), 204)[1]  # type: ignore[func-returns-value]
    merchants = [f"m-{number}" for number in range(MERCHANTS)]
    number, before = 0, len(receiver.taken)
    for _ in range(KILLS):
        for _ in range(60):
            number += 1
            merchant = dice.choice(merchants)
            event = {"id": f"{merchant}.{number}", "type": "occ.connection.active", "subject": merchant}
            pipeline.redis.xadd(EVENTS, {"event": json.dumps(event)})
        seen = len(receiver.taken)
        enough = seen + dice.randrange(1, 30)
        wait_until(lambda enough=enough: len(receiver.taken) >= enough, what="deliveries to be under way")  # type: ignore[misc]
        pipeline.kill(dice.choice(pipeline.running_workers()), signal.SIGKILL)
        pipeline.start_worker()
    await_all_delivered(pipeline, receiver)
    assert receiver.unsigned == 0
    twice = len(receiver.taken) - before - number
    assert twice <= KILLS * 16, "what was under way"


def test_a_receiver_that_comes_back_gets_what_it_missed_and_the_pipeline_went_on(
    pipeline: Pipeline, receiver: ReceiverServer
) -> None:
    before, taken = output_of_workers(pipeline), len(receiver.taken)
    receiver.answer = lambda _: 503
    stores = pipeline.simulator.add_many(4, "missed-{n}")
    for store in stores:
        pipeline.post(pipeline.request(store))
    pipeline.await_end(*(store.name for store in stores))
    wait_until(lambda: pipeline.redis.hget(RECEIVER, "failing_since") is not None, what="it to be noticed")
    assert len(receiver.taken) == taken
    receiver.answer = lambda _: 204
    await_all_delivered(pipeline, receiver)
    assert pipeline.redis.hget(RECEIVER, "failing_since") is None
    group = {found["name"]: found for found in pipeline.redis.xinfo_groups(EVENTS)}[GROUP]
    assert (group["lag"], group["pending"]) == (0, 0)
    for line in (b"receiver_fails", b"receiver_takes_events"):
        assert output_of_workers(pipeline).count(line) - before.count(line) == 1


def test_a_worker_that_is_frozen_in_mid_delivery_and_thaws_out_changes_nothing(
    pipeline: Pipeline, receiver: ReceiverServer
) -> None:
    frozen: list[str] = []

    def freeze_once(_: dict[str, Any]) -> int:
        if not frozen:
            frozen.extend(pipeline.running_workers())
            for name in frozen:
                os.kill(pipeline.processes[name].pid, signal.SIGSTOP)
        return 204

    receiver.answer = freeze_once
    for number in range(1, 6):
        event = {"id": f"frozen.{number}", "type": "occ.connection.active", "subject": "frozen"}
        pipeline.redis.xadd(EVENTS, {"event": json.dumps(event)})
    wait_until(lambda: bool(frozen), what="the workers to be frozen")
    pipeline.start_worker()
    await_all_delivered(pipeline, receiver)
    for name in frozen:
        os.kill(pipeline.processes[name].pid, signal.SIGCONT)
    pipeline.redis.xadd(EVENTS, {"event": json.dumps({**event, "id": "frozen.6"})})
    await_all_delivered(pipeline, receiver)
    assert receiver.processed()["frozen"] == [f"frozen.{number}" for number in range(1, 7)]

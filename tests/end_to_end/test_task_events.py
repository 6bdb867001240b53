"""What workers tell those who watch of a slot that failed; and that nothing is redelivered, retried or traced back."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from integrations.connections.causes import CAUSES
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]

REFUSED = {"write_slot:order-update": [{"fault": "bad_request", "times": "always"}]}
ENDS = {"task-succeeded", "task-failed", "task-retried", "task-rejected", "task-revoked"}


@pytest.fixture(params=["threads", "prefork"])
def pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """A worker; with processes, what a task returned reaches those who watch as text."""
    with Pipeline(tmp_path) as pipeline:
        pipeline.start_worker("--concurrency=3", environment={"OCC_POOL": request.param})
        pipeline.start_beat()
        pipeline.await_workers()
        yield pipeline


def heard(channel: redis.client.PubSub) -> Iterator[dict[str, Any]]:
    """What was told about tasks since this was asked last."""
    while (message := channel.get_message(ignore_subscribe_messages=True, timeout=0.2)) is not None:
        told = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
        yield from (event for event in (told if isinstance(told, list) else [told]) if "uuid" in event)


def test_a_failed_slot_is_told_as_failed_once_and_only_told(pipeline: Pipeline) -> None:
    store = pipeline.simulator.add("m-1", faults=REFUSED)
    events: list[dict[str, Any]] = []
    with pipeline.redis.pubsub() as channel:  # type: ignore[no-untyped-call]
        channel.psubscribe("*celeryev*")
        wait_until(lambda: pipeline.redis.pubsub_numpat() > 0)
        pipeline.send(pipeline.request(store))
        pipeline.post({"merchant_id": "m-2", "store_url": "https://evil.example.com", "application_key": "x"})

        def all_told() -> bool:
            events.extend(heard(channel))
            return sum(event["type"] in ENDS for event in events) >= 8

        wait_until(all_told, what="six steps and two requests to end")
        wait_until(
            lambda: pipeline.redis.hlen("unacked") == 0 and not any(map(pipeline.redis.llen, ("occ", "occ.steps")))
        )
        events += heard(channel)
    received = Counter(event["uuid"] for event in events if event["type"] == "task-received")
    assert set(received.values()) == {1}
    assert len(received) == 8
    ended = {event["uuid"]: event for event in events if event["type"] in ENDS}
    named = {event["uuid"]: event for event in events if event["type"] == "task-received"}
    ends = sorted(
        (named[uuid]["name"], event["type"]) for uuid, event in ended.items() if event["type"] != "task-succeeded"
    )
    assert ends == [("occ.connect", "task-failed"), ("occ.register_slot", "task-failed")]
    (slot,) = [
        event for uuid, event in ended.items() if event["type"] == "task-failed" and "slot" in named[uuid]["kwargs"]
    ]
    assert slot["exception"] == f"failed: slot_refused: {CAUSES['slot_refused'].sentence}"
    assert slot["result"] == "{'outcome': 'failed', 'cause': 'slot_refused'}"
    assert not slot.get("traceback")
    assert {named[uuid]["root_id"] for uuid in named if "m-1" in named[uuid]["kwargs"]} == {
        uuid for uuid, event in named.items() if event["name"] == "occ.connect" and "m-1" in event["kwargs"]
    }
    assert b"Traceback" not in pipeline.output("worker-1")
    assert b'"task_failed"' not in pipeline.output("worker-1")
    assert store.calls.endpoints["write_slot"] == 4, "the store was asked once for each slot"

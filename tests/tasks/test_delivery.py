"""What a tick does about deliveries: with a receiver, and where there is none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis
from structlog.testing import capture_logs

from integrations.connections.records import DUE, EVENTS
from integrations.deliveries.deliveries import WORK, Deliveries, Rules
from tasks import delivery
from tasks.wiring import Wiring
from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.server


class Parts:
    """As much of the wiring as a tick needs for deliveries; counts what was missed."""

    def __init__(self, client: redis.Redis, *, receiver: bool) -> None:
        self.deliveries = Deliveries(client, Rules())
        self.receiver = object() if receiver else None
        self.counts, self.missed = self, 0

    def events_missed(self, number: int) -> None:
        self.missed += number


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def deal_out(parts: Parts) -> None:
    delivery.deal_out(cast("Wiring", parts))


def happens(client: redis.Redis, number: int) -> Any:
    event = {"id": f"m-1.{number}", "type": "occ.connection.active", "subject": "m-1"}
    return client.xadd(EVENTS, {"event": json.dumps(event)})


def test_what_was_trimmed_before_it_was_dealt_out_is_told_and_counted(client: redis.Redis) -> None:
    parts = Parts(client, receiver=True)
    deal_out(parts)
    for number in range(5):
        happens(client, number)
    client.xtrim(EVENTS, maxlen=2, approximate=False)
    with capture_logs() as lines:
        deal_out(parts)
    assert parts.missed == 3
    assert [(line["event"], line["events"]) for line in lines] == [("events_trimmed_before_delivery", 3)]
    assert client.llen("occ:deliveries:m-1") == 2


def test_without_a_receiver_what_waits_is_kept_and_not_handed_out_again_and_again(client: redis.Redis) -> None:
    with_one = Parts(client, receiver=True)
    deal_out(with_one)
    happens(client, 1)
    deal_out(with_one)
    seconds, _ = client.time()
    parts = Parts(client, receiver=False)
    deal_out(parts)
    delivery.start(cast("Wiring", parts), ["m-1"])
    due = client.zscore(DUE, f"m-1|{WORK}")
    assert due is not None
    assert due >= seconds + 3600
    assert client.llen("occ:deliveries:m-1") == 1


def test_a_broker_that_does_not_say_how_much_waits_keeps_no_work_back() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCC_")}
    asked = subprocess.run(
        [sys.executable, "-c", "from tasks.backlog import room_for_steps; print(room_for_steps(7))"],
        env={**environment, "PYTHONPATH": str(REPOSITORY), "OCC_REDIS_URL": "redis://127.0.0.1:1/0"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.stdout.splitlines()[-1:] == ["7"], asked.stderr

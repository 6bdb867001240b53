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
from integrations.deliveries.deliveries import WORK, Deliveries
from integrations.deliveries.outbox import DeliveryPace
from tasks import delivery
from tasks.wiring import Wiring
from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.server


class Services:
    """As much of the wiring as a tick needs for deliveries; counts what was missed."""

    def __init__(self, client: redis.Redis, *, receiver: bool) -> None:
        self.deliveries = Deliveries(client, DeliveryPace(lease=60, first_wait=2, patience=3600))
        self.receiver = object() if receiver else None
        self.counts, self.missed = self, 0

    def events_missed(self, number: int) -> None:
        self.missed += number


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def fill_outboxes(services: Services) -> None:
    delivery.fill_outboxes(cast("Wiring", services))


def happens(client: redis.Redis, number: int) -> Any:
    event = {"id": f"m-1.{number}", "type": "occ.connection.active", "subject": "m-1"}
    return client.xadd(EVENTS, {"event": json.dumps(event)})


def test_what_was_trimmed_before_it_was_moved_is_logged_and_counted(client: redis.Redis) -> None:
    services = Services(client, receiver=True)
    fill_outboxes(services)
    for number in range(5):
        happens(client, number)
    client.xtrim(EVENTS, maxlen=2, approximate=False)
    with capture_logs() as lines:
        fill_outboxes(services)
    assert services.missed == 3
    assert [(line["event"], line["events"]) for line in lines] == [("events_trimmed_before_delivery", 3)]
    assert client.llen("occ:deliveries:m-1") == 2


def test_without_a_receiver_what_waits_is_kept_and_not_dispatched_again_and_again(client: redis.Redis) -> None:
    with_one = Services(client, receiver=True)
    fill_outboxes(with_one)
    happens(client, 1)
    fill_outboxes(with_one)
    seconds, _ = client.time()
    services = Services(client, receiver=False)
    fill_outboxes(services)
    delivery.dispatch_deliveries(cast("Wiring", services), ["m-1"])
    due = client.zscore(DUE, f"m-1|{WORK}")
    assert due is not None
    assert due >= seconds + 3600
    assert client.llen("occ:deliveries:m-1") == 1


def test_a_broker_that_does_not_say_how_much_waits_keeps_no_work_back() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCC_")}
    asked = subprocess.run(
        [sys.executable, "-c", "from tasks.waiting import room_for_steps; print(room_for_steps(7))"],
        env={**environment, "PYTHONPATH": str(REPOSITORY), "OCC_REDIS_URL": "redis://127.0.0.1:1/0"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert asked.stdout.splitlines()[-1:] == ["7"], asked.stderr

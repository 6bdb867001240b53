"""Our server is full in the middle of an attempt: that costs no attempt, nobody is blamed, no outcome is lost."""

from threading import Timer
from typing import Any

import pytest
import redis

from integrations.egress.answer import Answer
from occ.simulator.direct import DirectSession
from occ.simulator.store import SimulatedStore
from tests.tasks.test_trips import OneWorker

pytestmark = pytest.mark.server


class FullAtLogin(DirectSession):
    """The store answers, and our server has no room for what it said; a moment later it has."""

    def __init__(self, store: SimulatedStore, client: redis.Redis) -> None:
        super().__init__(store)
        self._client = client

    def request(self, method: str, url: str, **call: Any) -> Answer:
        answer = super().request(method, url, **call)
        if url.endswith("/login"):
            self._client.config_set("maxmemory", 1)
            Timer(1.0, self._client.config_set, ("maxmemory", 0)).start()
        return answer


def test_a_server_that_is_full_for_a_moment_costs_no_attempt(redis_url: str, redis_client: redis.Redis) -> None:
    worker = OneWorker(redis_url, redis_client)
    worker.services.session = FullAtLogin(worker.store, redis_client)
    worker.connect()
    connection = worker.services.records.load("m-1").connection
    assert connection is not None
    assert connection.cause is not None
    assert (connection.cause.code, connection.cause.detail) == ("out_of_resources", "memory of our server")
    assert connection.work is not None
    assert (connection.work.claim, connection.work.attempts) == (None, 0)
    assert worker.store.calls.endpoints["login"] == 1

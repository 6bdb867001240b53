"""What can happen to a server while workers hold messages: they live on, and what they held is done."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import pytest
import redis

from occ.local.server import EmbeddedServer
from tests.tasks.worker.broker.messages import QUEUE, encoded, good, task_message
from tests.tasks.worker.broker.workers import Worker, settled, worker
from tests.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]

MESSAGES = 40
KILLS = int(os.environ.get("TEST_SERVER_KILLS", "1"))


@pytest.mark.timeout(1500 + 60 * KILLS)
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_nothing_that_happens_to_the_server_ends_a_worker(tmp_path: Path, pool: str) -> None:
    with (
        EmbeddedServer(tmp_path / "server") as server,
        redis.Redis.from_url(server.url) as client,
        worker(server, tmp_path, pool, prefetch="4") as running,
    ):

        def kill() -> None:
            pid = server.pid
            assert pid is not None
            os.kill(pid, SIGKILL)
            assert eventually(lambda: server.pid is None)
            time.sleep(0.4)
            server.start()

        def cut() -> None:
            for kind in ("normal", "pubsub", "normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)
                time.sleep(0.1)

        def fill() -> None:
            client.config_set("maxmemory", 1)
            time.sleep(1)
            client.config_set("maxmemory", 0)

        for happening in (fill, cut, *[kill] * KILLS):
            assert not lost_under_load(client, running, happening), running.log[-3000:]


def lost_under_load(client: redis.Redis, running: Worker, happening: Callable[[], None]) -> int:
    """How many messages nobody handled when this happens to a worker that has its hands full."""
    client.delete("noted")
    for mark in range(MESSAGES):
        client.lpush(QUEUE, encoded(task_message(mark=mark, seconds=0.02 + mark % 5 * 0.05)))
    assert eventually(lambda: bool(client.llen("noted"))), running.log[-3000:]
    happening()
    assert eventually(lambda: settled(client)), running.log[-3000:]
    client.lpush(QUEUE, good())
    assert eventually(lambda: b"'good'" in client.lrange("noted", 0, -1)), running.log[-3000:]
    assert running.is_alive

    def lost() -> int:
        return MESSAGES - len(set(client.lrange("noted", 0, -1)) - {b"'good'"})

    eventually(lambda: not lost(), within=60)
    return lost()

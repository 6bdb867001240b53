"""Workers that find poison in their queue live on, handle the next message, and lose nothing."""

from pathlib import Path

import pytest
import redis

from integrations.messages.quarantine import QUARANTINE, list_quarantine, requeue
from occ.local.server import EmbeddedServer
from tests.tasks.worker.broker.messages import (
    MORE_POISON,
    NO_TASKS,
    POISON,
    QUEUE,
    encoded,
    generated,
    good,
    task_message,
)
from tests.tasks.worker.broker.workers import settled, worker
from tests.waiting import eventually, wait_until

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtLTEifQ.c2lnbmF0dXJlLW9mLXRoZS1rZXk"
GENERATED = 500
SEED = 20261123


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_poison_harms_no_worker(server: EmbeddedServer, redis_client: redis.Redis, tmp_path: Path, pool: str) -> None:
    with worker(server, tmp_path, pool) as running:
        for name, message in (POISON | MORE_POISON).items():
            assert set_aside_and_gone_on(redis_client, message), (name, running.log[-3000:])
        assert running.is_alive

        redis_client.delete("noted", QUARANTINE)
        redis_client.lpush(QUEUE, *generated(GENERATED, SEED))
        redis_client.lpush(QUEUE, good())
        wait_until(lambda: redis_client.llen("noted") + redis_client.llen(QUARANTINE) >= GENERATED + 1)
        assert eventually(lambda: settled(redis_client)), running.log[-3000:]
        assert running.is_alive
        assert redis_client.llen("noted") + redis_client.llen(QUARANTINE) == GENERATED + 1
        assert redis_client.llen(QUARANTINE) > GENERATED / 2
        assert b"'good'" in redis_client.lrange("noted", 0, -1)


def set_aside_and_gone_on(client: redis.Redis, message: bytes) -> bool:
    """Whether a worker put this into quarantine, did not run it, and handled the next one."""
    client.delete("noted", QUARANTINE)
    client.lpush(QUEUE, message)
    client.lpush(QUEUE, good("next"))
    gone_on = eventually(lambda: bool(client.llen("noted")) and settled(client))
    return gone_on and client.lrange("noted", 0, -1) == [b"'next'"] and client.llen(QUARANTINE) == 1


def test_what_is_in_quarantine_can_be_returned_and_says_nothing_in_the_log(
    server: EmbeddedServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    unknown = encoded(task_message(task="test.not_yet", application_key=JWT))
    later = encoded(task_message(task="test.not_yet", mark="later"))
    with worker(server, tmp_path, "threads") as running:
        for message in (unknown, *NO_TASKS.values(), encoded(task_message(JWT, headers={"timelimit": JWT})), later):
            redis_client.lpush(QUEUE, message)
        assert eventually(lambda: redis_client.llen(QUARANTINE) == len(NO_TASKS) + 3)
        newest, secret, *_, oldest = list_quarantine(redis_client)
        assert newest.reason == oldest.reason == "the task is unknown"
        assert secret.withheld == oldest.withheld == "secret"
        requeue(redis_client, newest.id)  # it is unknown still, so it comes back
        assert eventually(lambda: list_quarantine(redis_client)[0].at > newest.at)
        assert redis_client.llen(QUARANTINE) == len(NO_TASKS) + 3
    assert "eyJ" not in running.log
    assert "poison" not in running.log


def test_the_stock_consumer_still_dies_of_malformed_tasks(
    server: EmbeddedServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with worker(server, tmp_path, "threads", consumer="stock") as running:
        redis_client.lpush(QUEUE, NO_TASKS["time limit not a pair"])
        redis_client.lpush(QUEUE, good())
        eventually(lambda: not running.is_alive or bool(redis_client.llen("noted")))
        if running.is_alive:
            pytest.fail("celery survives a malformed task: TolerantConsumer.create_task_handler may go")

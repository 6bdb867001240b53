"""The due set in memory does what the scripts of `records.py` do on a server."""

import random
from collections.abc import Iterator

import pytest
import redis

from integrations.connections.commit import due_member
from integrations.connections.records import Records
from tests.bench.due_set import DueSet

pytestmark = pytest.mark.server

MEMBERS = [("m-1", None), ("m-1", "order-submit"), ("m-2", None), ("m-3", "order-update"), ("m-4", None)]
FAR = 1e6  # seconds; the server's clock goes on meanwhile


@pytest.fixture
def records(redis_url: str) -> Iterator[Records]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Records(client)


def server_time(records: Records) -> float:
    seconds, microseconds = records.redis.time()
    return float(seconds) + float(microseconds) / 1e6


@pytest.mark.parametrize("seed", range(10))
def test_after_any_sequence_the_same_is_due_on_the_server_and_in_memory(records: Records, seed: int) -> None:
    dice, memory = random.Random(seed), DueSet()  # noqa: S311 - dice
    takings = []
    for _ in range(60):
        merchant_id, slot = dice.choice(MEMBERS)
        member = due_member(merchant_id, slot)
        what = dice.choice(("commit", "commit", "take", "put off", "settle"))
        if what == "commit":
            due = server_time(records) + dice.choice((-3, -2, -1, 1)) * FAR * dice.random()
            memory.commit({member: f"{due:.6f}"})
            records.redis.zadd("occ:due", {member: f"{due:.6f}"})
        elif what == "take":
            limit, put_off = dice.randrange(1, 6), dice.choice((-1, 1)) * FAR
            theirs = records.take_due(limit, put_off)
            until, ours = memory.take_due(server_time(records), limit, put_off)
            assert [due_member(*work) for work in theirs.work] == ours
            takings.append((theirs, until, ours))
        elif what == "put off" and takings:
            theirs, until, ours = takings.pop(dice.randrange(len(takings)))
            records.put_off(theirs, 2 * FAR)
            memory.put_off(until, ours, server_time(records), 2 * FAR)
        elif what == "settle":
            records.redis.zrem("occ:due", member)
            memory.settle(member)
        there: dict[str, float] = dict(records.redis.zrange("occ:due", 0, -1, withscores=True))  # type: ignore[arg-type]
        assert memory.scores() == pytest.approx(there, abs=5)
        first = memory.first()
        assert (first is None) == (not there)
        assert first is None or first == pytest.approx(min(there.values()), abs=5)

"""Due times on a real server: they are what the records say, and nothing that is due is lost or handed out twice."""

import random
from collections.abc import Callable
from functools import partial

import pytest
import redis

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import claims, outcomes
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.record import Cause, Connection, Target
from integrations.connections.records import Committed, Records
from tests.integrations.oracle_commerce.fakes import SHIPPING, SLOTS, VALIDATE, slot, success
from tests.integrations.oracle_commerce.recorded import (
    QUICK,
    at_once,
    begin,
    claim,
    committed,
    derived,
    do,
    due_set,
    finish,
    registering,
)

pytestmark = pytest.mark.server


# --- Due work --------------------------------------------------------------------------------------------------------


CAUSE = Cause("store_error")
OUTCOMES: tuple[Callable[[Connection, Target, Moment], Change], ...] = (
    success,
    success,
    success,
    lambda c, target, at: outcomes.record(c, target, Failed(CAUSE, 5), at),
    lambda c, target, at: outcomes.record(c, target, Failed(CAUSE), at),
    lambda c, target, at: outcomes.record(c, target, Failed(CAUSE), at),
)


class AnySequence:
    """Workers that claim and record in any order, some of them too late, while the clock runs ahead of the server's."""

    def __init__(self, records: Records, dice: random.Random) -> None:
        self.records = records
        self.dice = dice
        self.ahead = 0.0
        self.held: dict[tuple[str, Target], tuple[str, int]] = {}

    def step(self, merchant_id: str) -> None:
        """One claim or one outcome."""
        self.ahead += self.dice.choice((0, 0, 0, 3, 12))
        target = self.dice.choice((VALIDATE, SHIPPING, *map(slot, SLOTS)))
        held = self.held.pop((merchant_id, target), None)
        if held is not None:
            self._record(merchant_id, target, *held)
            return
        owner = f"worker-{self.dice.random()}"

        def claim(connection: Connection | None, now: float) -> Change | Stop:
            assert connection is not None
            return claims.claim(connection, connection.run, target, owner, Moment(now + self.ahead, QUICK))

        result = self.records.change(merchant_id, claim)
        if isinstance(result, Committed):
            self.held[merchant_id, target] = owner, result.after.run

    def _record(self, merchant_id: str, target: Target, owner: str, run: int) -> None:
        outcome = self.dice.choice(OUTCOMES)

        def record(connection: Connection | None, now: float) -> Change | Stop:
            if connection is None or not claims.is_mine(connection, run, target, owner):
                return Stop("superseded")
            return outcome(connection, target, Moment(now + self.ahead, QUICK))

        self.records.change(merchant_id, record)


@pytest.mark.parametrize("seed", range(4))
def test_the_due_set_is_what_the_records_say_after_any_sequence(
    records: Records, client: redis.Redis, seed: int
) -> None:
    merchants = [f"m-{number}" for number in range(3)]
    sequence = AnySequence(records, random.Random(seed))  # noqa: S311
    for number in range(180):
        merchant_id = merchants[number % 3]
        if number % 45 < 3:
            begin(records, merchant_id, key=f"key-{number}")
        sequence.step(merchant_id)
        expected: dict[str, object] = {}
        for snapshot in records.load_many(merchants):
            if snapshot.connection:
                expected |= derived(snapshot.connection)
        assert due_set(client) == expected


def test_only_what_is_due_is_taken_and_it_is_put_off(records: Records, client: redis.Redis) -> None:
    client.zadd("occ:due", {"m-1": 1.0, "m-2|order-submit": 2.0, "m-3": 4e9})
    assert list(records.take_due(10, put_off=60).work) == [("m-1", None), ("m-2", "order-submit")]
    assert list(records.take_due(10, put_off=60).work) == []
    seconds, _ = client.time()
    assert due_set(client)["m-1"] == pytest.approx(seconds + 60, abs=2)
    assert set(due_set(client)) == {"m-1", "m-2|order-submit", "m-3"}, "a member leaves only when its work is finished"


def test_the_oldest_is_taken_first_and_no_more_than_asked(records: Records, client: redis.Redis) -> None:
    client.zadd("occ:due", {f"m-{number}": float(number) for number in range(1, 8)})
    assert records.overdue().count == 7
    assert list(records.take_due(3, put_off=60).work) == [("m-1", None), ("m-2", None), ("m-3", None)]
    assert records.overdue().count == 4, "what was taken is put off"


def test_two_ticks_never_get_the_same_work(records: Records, client: redis.Redis) -> None:
    client.zadd("occ:due", {f"m-{number}": 1.0 for number in range(400)})

    def take(index: int) -> list[tuple[str, str | None]]:
        taken: list[tuple[str, str | None]] = []
        while some := records.take_due(7, put_off=60).work:
            taken += some
        return taken

    taken = [work for works in at_once(8, take) for work in works]
    assert len(taken) == len(set(taken)) == 400


def test_work_the_tick_has_put_off_stays_put_off_when_other_work_is_recorded(
    records: Records, client: redis.Redis
) -> None:
    registering(records)
    client.zadd("occ:due", {f"m-1|{name}": 1.0 for name in SLOTS})
    assert len(records.take_due(10, put_off=1000).work) == 4
    put_off = due_set(client)["m-1|order-update"]
    do(records, slot("order-submit"))
    assert due_set(client)["m-1|order-update"] == put_off
    assert "m-1|order-submit" not in due_set(client)


def test_a_due_time_without_work_is_taken_out(records: Records, client: redis.Redis) -> None:
    begin(records)
    before = due_set(client)
    client.zadd("occ:due", {"m-1|order-submit": 1.0, "gone": 1.0})
    for merchant_id, name in (("m-1", "order-submit"), ("gone", None), ("m-1", None)):
        records.settle_due(records.load(merchant_id), merchant_id, name)
    assert due_set(client) == before, "and one with work is not"


def test_a_due_time_is_not_lost_when_its_work_comes_back_while_it_is_settled(
    records: Records, client: redis.Redis
) -> None:
    """Whatever order settling and recording take, the set is what the record says afterwards."""
    for _ in range(20):
        client.flushall()
        begin(records)
        committed(claim(records, VALIDATE))
        finish(records, VALIDATE)
        committed(claim(records, SHIPPING))
        settle = partial(records.settle_due, records.load("m-1"), "m-1", "order-submit")
        at_once(2, lambda index: settle() if index else finish(records, SHIPPING))  # noqa: B023
        connection = records.load("m-1").connection
        assert connection is not None
        assert set(due_set(client)) == set(derived(connection))


def test_a_due_time_that_came_with_a_newer_record_is_not_settled_away(records: Records, client: redis.Redis) -> None:
    begin(records)
    do(records, VALIDATE)
    before = records.load("m-1")
    committed(claim(records, SHIPPING))
    finish(records, SHIPPING)  # the slots become due between the look at the record and the settling
    records.settle_due(before, "m-1", "order-submit")
    assert "m-1|order-submit" in due_set(client)


def test_work_whose_message_was_sent_is_put_off_further(records: Records, client: redis.Redis) -> None:
    client.zadd("occ:due", {"m-1": 1.0, "m-2": 1.0})
    taken = records.take_due(10, put_off=10)
    before = due_set(client)
    client.zadd("occ:due", {"m-2": 5.0})  # a worker was quick, and its work is due again
    records.put_off(taken, 60)
    assert due_set(client)["m-1"] > before["m-1"] + 40
    assert due_set(client)["m-2"] == 5.0
    client.zrem("occ:due", "m-1")
    records.put_off(taken, 60)
    assert "m-1" not in due_set(client), "what is finished does not come back"

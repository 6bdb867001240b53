"""Connections in the records of a real server, and many threads that change them at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TypeVar

import pytest
import redis

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import claims, requests
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Connection, Target
from integrations.connections.records import Committed, Records
from integrations.connections.schedule import Pace
from tests.integrations.oracle_commerce.fakes import SHIPPING, VALIDATE, desired, success
from tests.usual import PACE

T = TypeVar("T")
QUICK = replace(
    PACE, lease=10, retry_attempts=3, confirm_rejection=30, second_look=40, recheck_degraded=60, revalidate_every=99
)


def wanted(merchant_id: str, key: str = "key-1") -> Desired:
    return replace(desired(key=key), merchant_id=merchant_id)


def begin(records: Records, merchant_id: str = "m-1", *, key: str = "key-1", durably: bool = False) -> Committed:
    def decide(connection: Connection | None, now: float) -> Change | Stop:
        return requests.begin(connection, wanted(merchant_id, key), Moment(now, PACE))

    return committed(records.change(merchant_id, decide, durably=durably))


def committed(result: Committed | Stop) -> Committed:
    assert isinstance(result, Committed), result
    return result


def claim(records: Records, target: Target, owner: str = "worker", pace: Pace = PACE) -> Committed | Stop:
    def decide(connection: Connection | None, now: float) -> Change | Stop:
        assert connection is not None
        return claims.claim(connection, connection.run, target, owner, Moment(now, pace))

    return records.change("m-1", decide)


def finish(records: Records, target: Target, outcome: Callable[..., Change] = success, pace: Pace = PACE) -> Committed:
    def decide(connection: Connection | None, now: float) -> Change | Stop:
        assert connection is not None
        return outcome(connection, target, Moment(now, pace))

    return committed(records.change("m-1", decide))


def change(records: Records, decide: Callable[[Connection | None, Moment], Change | Stop]) -> Committed:
    return committed(records.change("m-1", lambda connection, now: decide(connection, Moment(now, PACE))))


def do(records: Records, target: Target) -> Committed:
    committed(claim(records, target))
    return finish(records, target)


def registering(records: Records) -> Connection:
    begin(records)
    do(records, VALIDATE)
    return do(records, SHIPPING).after


def due_set(client: redis.Redis) -> dict[str, float]:
    return dict(client.zrange("occ:due", 0, -1, withscores=True))  # type: ignore[arg-type]


def derived(connection: Connection) -> dict[str, object]:
    return {
        connection.merchant_id if name is None else f"{connection.merchant_id}|{name}": pytest.approx(due, abs=1e-5)
        for name, due in connection.due().items()
    }


def at_once(number: int, work: Callable[[int], T]) -> list[T]:
    """What `number` threads that start together make of it."""
    barrier = Barrier(number)

    def start(index: int) -> T:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(start, range(number)))


def begin_again(records: Records) -> Committed | Stop:
    def decide(connection: Connection | None, now: float) -> Change | Stop:
        return requests.begin(connection, wanted("m-1"), Moment(now, PACE))

    return records.change("m-1", decide, durably=True)

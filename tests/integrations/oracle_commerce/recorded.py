"""Connections in the records of a real server, and many threads that change them at once."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import TypeVar

import pytest
import redis

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import claims, requests
from integrations.connections.lifecycle.outcomes import (
    Failed,
    KeyProven,
    Outcome,
    ShippingMethodsChecked,
    SlotRegistered,
    record,
)
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Cause, Connection, Target
from integrations.connections.records import Committed, Records
from integrations.connections.schedule import Pace
from tests.integrations.oracle_commerce.fakes import SHIPPING, SLOTS, VALIDATE, desired, slot, success
from tests.usual import PACE
from tests.waiting import wait_until

T = TypeVar("T")
QUICK = replace(
    PACE, lease=10, retry_attempts=3, confirm_rejection=30, second_look=40, recheck_degraded=60, revalidate_every=99
)


def wanted(merchant_id: str, key: str = "key-1") -> Desired:
    return replace(desired(key=key), merchant_id=merchant_id)


def connected_by(merchant_id: str, connection: Connection | None, now: float, *, key: str = "key-1") -> Change | Stop:
    """What a connect request makes of the record."""
    return requests.begin(connection, wanted(merchant_id, key), Moment(now, PACE))


def begin(records: Records, merchant_id: str = "m-1", *, key: str = "key-1", durably: bool = False) -> Committed:
    return committed(records.change(merchant_id, partial(connected_by, merchant_id, key=key), durably=durably))


def committed(result: Committed | Stop) -> Committed:
    assert isinstance(result, Committed), result
    return result


def claim(
    records: Records, target: Target, owner: str = "worker", pace: Pace = PACE, *, merchant_id: str = "m-1"
) -> Committed | Stop:
    def decide(connection: Connection | None, now: float) -> Change | Stop:
        assert connection is not None
        return claims.claim(connection, connection.run, target, owner, Moment(now, pace))

    return records.change(merchant_id, decide)


def finish(
    records: Records,
    target: Target,
    outcome: Callable[..., Change] = success,
    pace: Pace = PACE,
    *,
    merchant_id: str = "m-1",
) -> Committed:
    def decide(connection: Connection | None, now: float) -> Change | Stop:
        assert connection is not None
        return outcome(connection, target, Moment(now, pace))

    return committed(records.change(merchant_id, decide))


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


class Worker:
    """Plays what workers do to records, with the real transitions and without stores; on a server or in memory.

    Each method is one step of one merchant's run.
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    def await_run(self, merchant_id: str = "m-1") -> None:
        """Wait until a request has been accepted."""
        wait_until(lambda: self._records.load(merchant_id).connection is not None, what="a request")

    def begin(
        self,
        merchant_id: str = "m-1",
        store_url: str = "https://ccadmin-z1a2.oracleoutsourcing.com",
        *,
        request_id: str = "",
    ) -> None:
        """A request was accepted."""
        wanted = Desired(
            merchant_id, store_url, "sealed.v1.k.x", "f" * 16, None, dict.fromkeys(SLOTS, True), request_id=request_id
        )
        committed(self._records.change(merchant_id, lambda it, now: requests.begin(it, wanted, Moment(now, PACE))))

    def connect(self, merchant_id: str = "m-1", failing: Mapping[str, Cause] | None = None) -> None:
        """A whole run; the slots in `failing` end for good with their cause."""
        self.begin(merchant_id)
        self.finish(merchant_id, failing)

    def finish(self, merchant_id: str = "m-1", failing: Mapping[str, Cause] | None = None) -> None:
        """The rest of a run that has begun."""
        self.prove_key(merchant_id)
        self.count_shipping_methods(2, merchant_id)
        for name in SLOTS:
            cause = (failing or {}).get(name)
            self.do(slot(name), SlotRegistered(wrote=True) if cause is None else Failed(cause), merchant_id)

    def prove_key(self, merchant_id: str = "m-1") -> None:
        """The store exchanges the key."""
        self.do(VALIDATE, KeyProven(), merchant_id)

    def refuse_key(self, merchant_id: str = "m-1") -> None:
        """The store says no to the key, once."""
        self.do(VALIDATE, Failed(Cause("key_rejected", "HTTP 401")), merchant_id)

    def count_shipping_methods(self, enabled: int, merchant_id: str = "m-1") -> None:
        """The store tells of so many."""
        self.do(SHIPPING, ShippingMethodsChecked(enabled), merchant_id)

    def register(self, name: str, merchant_id: str = "m-1") -> None:
        """Our callback URL is in the slot."""
        self.do(slot(name), SlotRegistered(wrote=True), merchant_id)

    def wait(self, target: Target, cause: Cause, seconds: float, merchant_id: str = "m-1") -> None:
        """An attempt fails, and may be repeated after so many seconds."""
        self.do(target, Failed(cause, seconds), merchant_id)

    def end(self, target: Target, cause: Cause, merchant_id: str = "m-1") -> None:
        """A step ends for good."""
        self.do(target, Failed(cause), merchant_id)

    def claim(self, target: Target, merchant_id: str = "m-1") -> None:
        """The step is begun."""
        committed(claim(self._records, target, merchant_id=merchant_id))

    def do(self, target: Target, outcome: Outcome, merchant_id: str = "m-1") -> None:
        """One attempt, and what came of it."""
        self.claim(target, merchant_id)
        finish(self._records, target, lambda it, of, at: record(it, of, outcome, at), merchant_id=merchant_id)


def begin_again(records: Records) -> Committed | Stop:
    def decide(connection: Connection | None, now: float) -> Change | Stop:
        return requests.begin(connection, wanted("m-1"), Moment(now, PACE))

    return records.change("m-1", decide, durably=True)

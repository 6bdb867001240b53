"""Records of stores that merchants have left are forgotten, and nothing else is."""

from dataclasses import replace

import pytest
import redis

from integrations.connections.change import at_time
from integrations.connections.former_stores import KEPT, KEPT_LEFT_BEHIND, FormerStores, is_over, to_forget
from integrations.connections.record import Connection, Disconnection, SlotStatus, Step, former_id
from integrations.connections.records import Records
from integrations.connections.stored_record import record_text
from tests.integrations.oracle_commerce.by_hand import connected

NOW = 2_000_000_000.0


def left(*, name: str = former_id("m-1", 1), stays: bool = False, updated_at: float = NOW) -> Connection:
    """The record of a store that a merchant has left."""
    desk, _ = connected()
    connection = desk.connection
    slots = {slot: replace(it, verdict=SlotStatus.REMOVED, work=None) for slot, it in connection.slots.items()}
    if stays:
        first = next(iter(slots))
        slots[first] = replace(slots[first], verdict=SlotStatus.LEFT_BEHIND)
    return replace(
        connection,
        merchant_id=name,
        slots=slots,
        step=Step.DISCONNECT,
        work=None,
        disconnection=Disconnection(NOW, NOW),
        updated_at=updated_at,
    )


@pytest.mark.parametrize(("stays", "kept"), [(False, KEPT), (True, KEPT_LEFT_BEHIND)])
def test_a_former_store_is_kept_for_a_while_and_longer_where_something_of_ours_stays(stays: bool, kept: float) -> None:
    assert not is_over(left(stays=stays), NOW + kept)
    assert is_over(left(stays=stays), NOW + kept + 1)


def test_what_has_work_left_and_the_merchants_own_record_are_never_forgotten() -> None:
    assert not is_over(left(name="m-1"), NOW + 10 * KEPT_LEFT_BEHIND)
    busy = left()
    slots = {slot: replace(it, work=at_time(NOW)) for slot, it in busy.slots.items()}
    assert not is_over(replace(busy, slots=slots), NOW + 10 * KEPT_LEFT_BEHIND)
    assert not is_over(replace(busy, disconnection=None), NOW + 10 * KEPT_LEFT_BEHIND)


def test_of_each_merchant_the_last_few_are_kept_and_all_where_something_of_ours_stays() -> None:
    stores = [replace(left(name=former_id("m-1", run)), run=run) for run in (2, 10, 11, 3, 12)]
    stores += [replace(left(name=former_id("m-2", run), stays=True), run=run) for run in range(1, 8)]
    assert sorted(to_forget(stores, NOW)) == [former_id("m-1", 2), former_id("m-1", 3)]
    assert to_forget(stores[:3], NOW) == []


@pytest.mark.server
def test_it_goes_with_all_that_belongs_to_it(records: Records, client: redis.Redis) -> None:
    now = records.clock.now()
    old, recent = former_id("m-1", 1), former_id("m-2", 1)
    for record in (left(name=old, updated_at=now - KEPT - 60), left(name=recent, updated_at=now)):
        name = record.merchant_id
        client.hset(f"occ:connection:{name}", mapping={"version": 7, "record": record_text(record)})
        client.xadd(f"occ:timeline:{name}", {"entry": "{}"})
        client.zadd("occ:connections", {name: 0})
        client.zadd("occ:status:left", {name: 0})
    assert FormerStores(records).forget_some() == 1
    assert not [key for key in client.scan_iter() if old in key]
    assert client.zrange("occ:connections", 0, -1) == client.zrange("occ:status:left", 0, -1) == [recent]
    assert records.load(recent).connection is not None

"""The lists by status are right at any time, whoever changes connections; where they are not, they become it."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import requests
from integrations.connections.record import Connection, KeyVerdict
from integrations.connections.records import Records
from integrations.connections.status import counted_as
from integrations.connections.status_index import STATUSES, StatusIndex, status_key
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.recorded import at_once, begin, committed, wanted
from tests.usual import PACE

pytestmark = pytest.mark.server

OF_0_1_0 = "occ:statuses"
"""Where workers of release 0.1.0 counted."""


@pytest.fixture
def records(redis_url: str) -> Iterator[Records]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Records(client)


def put(records: Records, name: str, status: str) -> None:
    """Make the connection of this status, whatever it was."""
    made = healthy(merchant_id=name)
    rejected = replace(made.credential, verdict=KeyVerdict.REJECTED)
    made = replace(made, credential=rejected) if status == "needs_reauthorisation" else made
    assert made.status == status
    committed(records.change(name, lambda _, now: Change(replace(made, updated_at=now))))


def listed(records: Records) -> dict[str, list[str]]:
    found = {str(status): records.redis.zrange(status_key(status), 0, -1) for status in STATUSES}
    return {status: list(map(str, ids)) for status, ids in found.items() if ids}


def counts(records: Records) -> dict[str, int]:
    return {status: len(ids) for status, ids in listed(records).items()}


def looked_at(records: Records) -> dict[str, int]:
    """The same from the records themselves."""
    return dict(Counter(counted_as(snapshot.connection) for snapshot in records.all() if snapshot.connection))


def list_anew(index: StatusIndex) -> int:
    """Tick after tick, to the end."""
    for _ in range(1000):
        if (corrected := index.go_on()) is not None:
            return corrected
    raise AssertionError("listed 1,000 pages")


def names(index: StatusIndex, *statuses: str, page: int = 500) -> list[str]:
    found = (snapshot.connection for snapshot in index.snapshots(statuses, page=page))
    return [connection.merchant_id for connection in found if connection]


def test_a_connection_moves_from_list_to_list_with_its_status(records: Records) -> None:
    begin(records, "m-1")
    assert counts(records) == {"onboarding": 1}
    put(records, "m-1", "active")
    put(records, "m-2", "active")
    put(records, "m-1", "needs_reauthorisation")
    assert counts(records) == looked_at(records) == {"active": 1, "needs_reauthorisation": 1}


def test_a_store_that_was_left_is_listed_apart(records: Records) -> None:
    put(records, "m-1", "active")
    moved = replace(wanted("m-1"), store_url="https://ccadmin-z2.oracleoutsourcing.com")

    def move(connection: Connection | None, now: float) -> Change | Stop:
        return requests.begin(connection, moved, Moment(now, PACE))

    assert committed(records.change("m-1", move)).former is not None
    assert counts(records) == looked_at(records) == {"onboarding": 1, "left": 1}


def test_those_with_a_status_are_found_without_reading_the_others(records: Records) -> None:
    for number in range(40):
        put(records, f"m-{number:02}", "needs_reauthorisation" if number % 10 == 5 else "active")
    begin(records, "m-12x")
    index = StatusIndex(records)
    list_anew(index)
    records.redis.config_resetstat()
    assert names(index, "needs_reauthorisation", "onboarding", page=2) == ["m-05", "m-12x", "m-15", "m-25", "m-35"]
    read = records.redis.info("commandstats")["cmdstat_hmget"]["calls"]
    assert read == 5
    assert index.count(["needs_reauthorisation", "onboarding"]) == 5
    assert len(names(index)) == index.count() == 41


def test_what_no_commit_listed_is_found_by_listing_anew(records: Records) -> None:
    """As after an upgrade from a release that has no lists; and what somebody deleted by hand is no longer listed."""
    for number in range(450):
        put(records, f"m-{number}", "active" if number % 3 else "needs_reauthorisation")
    records.redis.delete(*(status_key(status) for status in STATUSES))
    records.redis.zadd(status_key("active"), {"gone": 0, "zzz-gone": 0, "m-0": 0})
    index = StatusIndex(records)
    assert sorted(names(index, "active")) == sorted(names(index)), "not listed yet: all are read"
    assert list_anew(index) == 450
    assert counts(records) == looked_at(records) == {"active": 300, "needs_reauthorisation": 150}


def test_while_a_worker_of_0_1_0_is_at_work_nobody_relies_on_the_lists(records: Records) -> None:
    put(records, "m-1", "active")
    put(records, "m-2", "needs_reauthorisation")
    assert list_anew(StatusIndex(records)) == 0
    assert names(StatusIndex(records), "active") == ["m-1"]
    records.redis.hset(OF_0_1_0, "active", 1)  # it has changed something, and moved nobody
    records.redis.zrem(status_key("active"), "m-1")
    assert names(StatusIndex(records), "active") == ["m-1", "m-2"]
    assert list_anew(StatusIndex(records)) == 1
    assert names(StatusIndex(records), "active") == ["m-1"]


def test_nothing_is_listed_at_once_and_not_again_before_it_is_time(records: Records) -> None:
    assert StatusIndex(records).go_on() == 0
    put(records, "m-1", "active")
    assert StatusIndex(records).go_on() is None
    assert StatusIndex(records, every=0.0).go_on() is None  # a page
    assert StatusIndex(records).go_on() == 0  # another process goes on where that one was


def test_the_record_of_another_release_is_listed_as_unreadable(records: Records) -> None:
    put(records, "m-1", "active")
    put(records, "m-2", "active")
    records.redis.hset("occ:connection:m-2", "record", '{"made": "later"}')
    list_anew(StatusIndex(records))
    assert counts(records) == {"active": 1, "unreadable": 1}


def test_listing_anew_is_exact_while_everything_changes(records: Records) -> None:
    """Several ticks list, on top of each other, while connections come and change: none is lost or listed twice."""
    for number in range(300):
        put(records, f"m-{number:04d}", "active")
    records.redis.zrem(status_key("active"), *(f"m-{number:04d}" for number in range(17)))
    over = threading.Event()

    def change(seed: int) -> None:
        choose = random.Random(seed)  # noqa: S311 - reproducible
        while not over.is_set():
            name = f"m-{choose.randrange(450):04d}"
            if choose.random() < 0.2:
                begin_if_new(records, f"{name}-{choose.randrange(1000)}")
            else:
                put(records, name, choose.choice(["active", "needs_reauthorisation"]))

    threads = [threading.Thread(target=change, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        at_once(2, lambda _: [list_anew(StatusIndex(records, every=0.0)) for _ in range(2)])
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert counts(records) == looked_at(records)
    ids = [merchant_id for found in listed(records).values() for merchant_id in found]
    assert len(ids) == len(set(ids)) == records.count()


def begin_if_new(records: Records, name: str) -> None:
    if records.load(name).connection is None:
        begin(records, name)

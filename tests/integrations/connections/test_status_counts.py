"""Counts by status are right at any time, whoever changes connections meanwhile; where they are not, they become it."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import pytest
import redis

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import requests
from integrations.connections.record import Connection, KeyVerdict
from integrations.connections.records import Records
from integrations.connections.status import counted_as
from integrations.connections.status_counts import StatusCounts
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.recorded import at_once, begin, committed, wanted
from tests.usual import PACE

pytestmark = pytest.mark.server


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


def counts(records: Records) -> dict[str, int]:
    stored = records.redis.hgetall("occ:statuses")
    return {str(name): int(count) for name, count in stored.items() if name != "recounted_to" and int(count)}


def looked_at(records: Records) -> dict[str, int]:
    """The same from the records themselves."""
    return dict(Counter(counted_as(snapshot.connection) for snapshot in records.all() if snapshot.connection))


def recount(status_counts: StatusCounts) -> int:
    """Tick after tick, to the end."""
    for _ in range(1000):
        if (wrong := status_counts.go_on()) is not None:
            return wrong
    raise AssertionError("counted 1,000 pages")


def test_a_connection_moves_from_count_to_count_with_its_status(records: Records) -> None:
    begin(records, "m-1")
    assert counts(records) == {"onboarding": 1}
    put(records, "m-1", "active")
    put(records, "m-2", "active")
    put(records, "m-1", "needs_reauthorisation")
    assert counts(records) == looked_at(records) == {"active": 1, "needs_reauthorisation": 1}


def test_a_store_that_was_left_is_counted_apart(records: Records) -> None:
    put(records, "m-1", "active")
    moved = replace(wanted("m-1"), store_url="https://ccadmin-z2.oracleoutsourcing.com")

    def move(connection: Connection | None, now: float) -> Change | Stop:
        return requests.begin(connection, moved, Moment(now, PACE))

    assert committed(records.change("m-1", move)).former is not None
    assert counts(records) == looked_at(records) == {"onboarding": 1, "left": 1}


def test_what_no_commit_counted_is_found_by_the_recount(records: Records) -> None:
    for number in range(450):
        put(records, f"m-{number}", "active" if number % 3 else "needs_reauthorisation")
    records.redis.hset("occ:statuses", mapping={"active": -7, "unreachable": 2, "left": 1})
    assert recount(StatusCounts(records)) == 3
    assert counts(records) == looked_at(records) == {"active": 300, "needs_reauthorisation": 150}


def test_nothing_to_count_is_counted_at_once_and_not_again_before_it_is_time(records: Records) -> None:
    assert StatusCounts(records).go_on() == 0
    put(records, "m-1", "active")
    assert StatusCounts(records).go_on() is None
    assert StatusCounts(records, every=0.0).go_on() is None  # a page
    assert StatusCounts(records).go_on() == 0  # another process goes on where that one was


def test_the_record_of_another_release_is_counted_as_unreadable(records: Records) -> None:
    put(records, "m-1", "active")
    put(records, "m-2", "active")
    records.redis.hset("occ:connection:m-2", "record", '{"made": "later"}')
    recount(StatusCounts(records))
    assert counts(records) == {"active": 1, "unreadable": 1}


def test_counting_anew_is_exact_while_everything_changes(records: Records) -> None:
    """Several ticks count, on top of each other, while connections come and change: none is lost or counted twice."""
    for number in range(300):
        put(records, f"m-{number:04d}", "active")
    records.redis.hset("occ:statuses", mapping={"active": 17, "degraded": -2})
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
        wrong = chain(*at_once(2, lambda _: recounts(StatusCounts(records, every=0.0), 2)))
        assert len([counts for counts in wrong if counts]) == 1, (
            "the first finds what was wrong before, later ones nothing"
        )
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert counts(records) == looked_at(records)


def recounts(status_counts: StatusCounts, number: int) -> list[int]:
    """Tick after tick, until that many recounts have ended here; how many counts each found wrong."""
    found: list[int] = []
    while len(found) < number:
        if (wrong := status_counts.go_on()) is not None:
            found.append(wrong)
    return found


def begin_if_new(records: Records, name: str) -> None:
    if records.load(name).connection is None:
        begin(records, name)

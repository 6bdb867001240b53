"""Connections that share a store say so, for as long as it is so."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from integrations.connections.change import Change
from integrations.connections.findings import Finding, findings_of
from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.records import EVENTS, Records
from integrations.connections.shared_stores import MOST_NAMED, SharedStores, stores_key
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.fakes import disconnected_one

pytestmark = pytest.mark.server

STORE, ANOTHER = "https://ccadmin-z1.oracleoutsourcing.com", "https://ccadmin-z2.oracleoutsourcing.com"


@pytest.fixture
def shared_stores(records: Records) -> SharedStores:
    return SharedStores(records)


def connected(records: Records, merchant_id: str, store_url: str = STORE) -> Connection:
    """In order, and written."""
    connection = healthy(merchant_id=merchant_id, store_url=store_url)
    records.change(merchant_id, lambda _, _now: Change(connection))
    return stored(records, merchant_id)


def stored(records: Records, merchant_id: str) -> Connection:
    connection = records.load(merchant_id).connection
    assert connection is not None
    return connection


def changed(records: Records, connection: Connection) -> Connection:
    records.change(connection.merchant_id, lambda _, _now: Change(connection))
    return connection


def shared_with(records: Records, merchant_id: str) -> list[Finding]:
    return [finding for finding in findings_of(stored(records, merchant_id)) if finding.code == "store_shared"]


def lines(records: Records, merchant_id: str) -> list[str]:
    return [str(line["what"]) for line in records.timeline(merchant_id)]


def test_whoever_has_a_store_alone_has_no_finding(records: Records, shared_stores: SharedStores) -> None:
    one, other = connected(records, "m-1"), connected(records, "m-2", ANOTHER)
    assert shared_stores.review(one) == shared_stores.review(other) == ()
    assert shared_with(records, "m-1") == shared_with(records, "m-2") == []
    assert lines(records, "m-1") == []


def test_both_say_so_as_soon_as_the_second_comes_and_stay_active(records: Records, shared_stores: SharedStores) -> None:
    one, other = connected(records, "m-1"), connected(records, "m-2", STORE.upper().replace("HTTPS", "https"))
    shared_stores.review(one)
    assert shared_stores.review(other) == ("m-1",)
    assert shared_with(records, "m-1") == [Finding("store_shared", "with m-2")]
    assert shared_with(records, "m-2") == [Finding("store_shared", "with m-1")]
    assert {stored(records, name).status for name in ("m-1", "m-2")} == {ConnectionStatus.ACTIVE}
    for _ in range(3):  # said once
        shared_stores.review(stored(records, "m-1"))
        shared_stores.review(stored(records, "m-2"))
    assert lines(records, "m-1") == lines(records, "m-2") == ["store_shared"]


def test_it_is_over_when_one_of_two_is_disconnected(records: Records, shared_stores: SharedStores) -> None:
    one, other = connected(records, "m-1"), connected(records, "m-2")
    shared_stores.review(one)
    shared_stores.review(other)
    gone = changed(records, disconnected_one(stored(records, "m-2")))
    shared_stores.left(gone)
    assert shared_with(records, "m-1") == []
    assert lines(records, "m-1") == ["store_shared", "store_shared_no_more"]
    told = [json.loads(fields["event"]) for _, fields in cast("Any", records.redis.xrange(EVENTS))]
    shared = [event for event in told if event["type"] == "occ.connection.store_shared"]
    assert [(event["subject"], event["data"]["with"]) for event in shared] == [
        ("m-2", ["m-1"]),
        ("m-1", ["m-2"]),
        ("m-1", []),
    ]
    assert findings_of(stored(records, "m-2")) == ()


def test_a_look_finds_out_that_it_is_over_where_nobody_told(records: Records, shared_stores: SharedStores) -> None:
    for number, gone in enumerate(("moved", "disconnected", "deleted")):
        store, one, other = f"https://ccadmin-y{number}.oracleoutsourcing.com", f"a-{number}", f"b-{number}"
        connected(records, one, store)
        shared_stores.review(stored(records, one))
        shared_stores.review(connected(records, other, store))
        assert shared_with(records, one)
        if gone == "moved":
            changed(records, replace(stored(records, other), store_url=ANOTHER))
        elif gone == "disconnected":
            changed(records, disconnected_one(stored(records, other)))
        else:
            records.redis.delete(f"occ:connection:{other}")
        assert shared_stores.review(stored(records, one)) == ()
        assert shared_with(records, one) == []
        assert records.redis.zrange(stores_key(store), 0, -1) == [one]


def test_many_at_one_store_name_a_few_and_cost_no_more(records: Records, shared_stores: SharedStores) -> None:
    names = [f"m-{number:03}" for number in range(40)]
    for name in names:
        shared_stores.review(connected(records, name))
    for name in names:
        assert len(stored(records, name).shares_store_with) == MOST_NAMED
        assert name not in stored(records, name).shares_store_with
    records.redis.config_resetstat()
    shared_stores.review(stored(records, names[-1]))
    read = records.redis.info("commandstats")["cmdstat_hmget"]["calls"]
    assert read <= MOST_NAMED + 2

"""Wrong requests, through both doors: a clear refusal where an operator sees it, and nothing of a key anywhere."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from integrations.sealing.keyring import SealingKey, seal
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

CANARY = make_application_key(subject="canary-in-the-clear")
STRANGER = SealingKey.generate()

WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    # what is wrong -> the changed fields, the field and the code of the refusal
    "missing_store_url": ({"store_url": None}, "store_url", "missing"),
    "missing_key": ({"application_key": ""}, "application_key", "missing"),
    "number_as_url": ({"store_url": 7}, "store_url", "not_text"),
    "bad_url": ({"store_url": "ftp://ccadmin-test-z1.oracleoutsourcing.com"}, "store_url", "bad_store_url"),
    "storefront": (
        {"store_url": "https://ccstore-test-zabc.oracleoutsourcing.com"},
        "store_url",
        "storefront_host",
    ),
    "foreign_host": ({"store_url": "https://evil.example.com"}, "store_url", "host_not_allowed"),
    "clear_key": ({"application_key": CANARY}, "application_key", "not_sealed"),
    "clear_key_with_bearer": ({"application_key": f"Bearer {CANARY}"}, "application_key", "not_sealed"),
    "unknown_key_id": (
        {"application_key": seal(STRANGER.public_key, STRANGER.key_id, "m-x", CANARY)},
        "application_key",
        "unknown_key_id",
    ),
    "oversized": ({"application_key": "sealed.v1.x." + "A" * 20_000}, "application_key", "too_large"),
    "extra_field": ({"applicationkey": CANARY}, "request", "unknown_field"),
    "bad_merchant_id": ({"merchant_id": "m 1|x"}, "merchant_id", "bad_merchant_id"),
}


@pytest.fixture(scope="module")
def store(shared: Pipeline) -> SimulatedStore:
    return shared.simulator.add("refused")


def await_refusal(shared: Pipeline, door: str, field: str, code: str) -> dict[str, Any]:
    """The latest refusal of that kind."""
    found: list[dict[str, Any]] = []

    def seen() -> bool:
        wanted = {"door": door, "field": field, "code": code}
        found.extend(one for one in shared.records.refusals(count=200) if wanted.items() <= one.items())
        return bool(found)

    wait_until(seen, what=f"{door} to refuse {field} with {code}")
    return found[0]


def await_event(shared: Pipeline, door: str, field: str, code: str) -> dict[str, Any]:
    """What its sender hears of the latest refusal of that kind."""
    wanted = {"door": door, "field": field, "code": code}
    found: list[dict[str, Any]] = []

    def seen() -> bool:
        told = [event["data"] for _, event in shared.records.events() if event["type"] == "occ.request.refused"]
        found.extend(data for data in told if wanted.items() <= data.items())
        return bool(found)

    wait_until(seen, what=f"the event that {field} was refused at the {door}")
    return found[-1]


def test_who_sends_a_request_with_an_id_hears_what_became_of_it(shared: Pipeline) -> None:
    """Through both doors, at once or later: refused, accepted, done once; and its id is in events, logs and status."""
    store = shared.simulator.add("with-an-id")
    wrong = shared.request(store, store_url="https://www.shop.example", request_id="order 66: \u00e4")
    shared.post(wrong)
    event = await_event(shared, "inbox", "store_url", "host_not_allowed")
    wait_until(lambda: known(shared, "order 66: \u00e4") == "refused", what="it to be known as refused")
    assert event["stream_id"]
    assert known(shared, event["stream_id"]) == "refused"

    right = shared.request(store, request_id="order 67")
    shared.producer.send_task("occ.connect", kwargs=right, queue="occ", countdown=2)
    wait_until(lambda: known(shared, "order 67") == "scheduled", what="it to be kept for later")
    shared.await_end(store.name)
    assert known(shared, "order 67") == "accepted"
    assert shared.status(store.name)["request_id"] == "order 67"
    told = [event["data"] for _, event in shared.records.events() if event["subject"] == store.name]
    assert {data["request_id"] for data in told} == {"order 67"}
    lines = b"\n".join(shared.output(name) for name in shared.running_workers()).splitlines()
    steps = [json.loads(line) for line in lines if b'"recorded"' in line and store.name.encode() in line]
    assert [line["request_id"] for line in steps] == ["order 67"] * 6

    shared.post(shared.request(store, request_id="order 67", store_url=f"{store.url}/occs-admin"))
    shared.redis.xadd("occ:inbox", {"disconnect": json.dumps({"merchant_id": store.name, "request_id": "order 67"})})
    await_event(shared, "inbox", "request_id", "request_id_reused")
    assert shared.status(store.name)["status"] == "active"
    assert len([call for call in store.calls.endpoints.elements() if call == "login"]) == 1


def known(shared: Pipeline, name: str) -> str:
    """What became of a request."""
    request = shared.records.request_ids.find(name)
    return request.outcome if request else ""


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_by_both_doors(shared: Pipeline, store: SimulatedStore, case: str) -> None:
    changes, field, code = WRONG[case]
    merchant_id = changes.get("merchant_id", f"wrong-{case.replace('_', '-')}")
    request = shared.request(store, merchant_id) | changes
    shared.send(request)
    shared.post(request)
    for door in ("celery", "inbox"):
        refusal = await_refusal(shared, door, field, code)
        assert refusal["remedy"]
        event = await_event(shared, door, field, code)
        assert event["remedy"] == refusal["remedy"]
        assert [event["stream_id"] is None, event["message_id"] is None] == [door == "celery", door == "inbox"]
    if case != "bad_merchant_id":
        assert shared.connection(merchant_id) is None
    assert sum(store.calls.endpoints.values()) == 0
    assert_nothing_of_the_key_is_left(shared)


def test_a_key_sealed_for_another_merchant_is_refused(shared: Pipeline, store: SimulatedStore) -> None:
    stolen = shared.request(store, "its-owner")["application_key"]
    shared.send(shared.request(store, "a-thief") | {"application_key": stolen})
    await_refusal(shared, "celery", "application_key", "sealed_for_another_merchant")
    assert shared.connection("a-thief") is None


@pytest.mark.parametrize("request_text", ["[]", '"text"', "null", "{", "", "\x00", "[" * 5000])
def test_what_is_no_object_is_refused(shared: Pipeline, request_text: str) -> None:
    shared.redis.delete("occ:refused")
    shared.post(request_text)
    await_refusal(shared, "inbox", "request", "not_an_object")
    wait_until(lambda: shared.redis.xlen("occ:inbox") == 0, what="it to leave the inbox")


def test_an_entry_without_the_field_is_refused(shared: Pipeline) -> None:
    shared.redis.delete("occ:refused")
    shared.redis.xadd("occ:inbox", {"something": "else"})
    await_refusal(shared, "inbox", "request", "not_an_object")


def test_positional_arguments_are_refused(shared: Pipeline) -> None:
    shared.redis.delete("occ:refused")
    shared.send([CANARY])
    await_refusal(shared, "celery", "request", "not_an_object")
    assert_nothing_of_the_key_is_left(shared)


def assert_nothing_of_the_key_is_left(shared: Pipeline) -> None:
    """Neither in the server nor in a log, whole or in parts."""
    wait_until(lambda: not in_server(shared), what="the message to be acknowledged")
    for name in shared.processes:
        for part in CANARY.split("."):
            assert part.encode() not in shared.output(name)


def in_server(shared: Pipeline) -> bool:
    """Whether any value in the server holds a part of the key."""
    parts = CANARY.split(".")[1:]  # every key starts alike
    readers: dict[str, Callable[[str], Any]] = {
        "string": shared.redis.get,
        "hash": shared.redis.hgetall,
        "list": lambda key: shared.redis.lrange(key, 0, -1),
        "zset": lambda key: shared.redis.zrange(key, 0, -1),
        "set": shared.redis.smembers,
        "stream": shared.redis.xrange,
    }
    for key in shared.redis.scan_iter():
        kind = str(shared.redis.type(key))
        value = readers[kind](key) if kind in readers else ""
        if any(part in f"{key} {value}" for part in parts):
            return True
    return False

"""The example receivers of stores' deliveries: what is signed is taken once, and the slot is reported as heard from."""

import base64
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from integrations.oracle_commerce.reports import parse_reports
from occ.simulator.deliveries import SIGNATURE, SIGNATURE_SHA512
from occ.simulator.runner import Simulator
from occ.simulator.store import SimulatedStore
from tests.order_receiver import PYTHON, OrderReceiver
from tests.waiting import wait_until

pytestmark = pytest.mark.server

SLOT = "order-submit"
SECRET = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(params=["python", "node"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[OrderReceiver]:
    command, folder = PYTHON, tmp_path
    if request.param == "node":
        command, folder = ["node", "receive-orders.mjs"], request.getfixturevalue("node_project")
    receiver = OrderReceiver(command, folder, tmp_path / "ledger", redis_url)
    receiver.secrets = {"m-9": {SLOT: SECRET}}
    yield receiver
    receiver.kill()


@pytest.fixture
def stores(receiver: OrderReceiver) -> Iterator[list[SimulatedStore]]:
    """Three, one for each way of signing, that send to the receiver; it knows their secrets."""
    with Simulator() as simulator:
        stores = []
        for number, signs_with in enumerate(("sha1", "sha512", "both"), 1):
            # Attempts enough for a receiver that a busy machine is slow to start.
            slots = {SLOT: {"urls": [receiver.url(f"m-{number}")], "maxNumberOfResendAttempts": 2000}}
            stores.append(simulator.add(f"m-{number}", slots=slots, signs_with=signs_with, resend_delay=0.2))
        receiver.secrets |= {store.name: {SLOT: store.secret(SLOT)} for store in stores}
        receiver.start()
        yield stores


def reported(client: redis.Redis) -> dict[tuple[str, str], int]:
    """How often each slot was reported."""
    counts: dict[tuple[str, str], int] = {}
    entries: Any = client.xrange("occ:inbox")
    for _, fields in entries:
        for report in parse_reports(json.loads(fields["heard"])):
            assert report.at is not None
            counts[report.merchant_id, report.slot] = counts.get((report.merchant_id, report.slot), 0) + 1
    return counts


def test_orders_arrive_once_whatever_the_release_signs_with_and_are_reported(
    receiver: OrderReceiver, stores: list[SimulatedStore], redis_url: str
) -> None:
    orders = [(store.name, SLOT, store.place_order()) for store in stores for _ in range(5)]
    receiver.kill()
    orders += [(store.name, SLOT, store.place_order()) for store in stores for _ in range(5)]
    receiver.start()
    wait_until(lambda: len(receiver.taken()) == len(orders), what="all orders")
    arrived = [(merchant_id, slot, content["order"]["id"]) for merchant_id, slot, content in receiver.taken()]
    assert sorted(arrived) == sorted(orders)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        expected = {(store.name, SLOT) for store in stores}
        wait_until(lambda: reported(client).keys() == expected, what="the reports")


def test_a_message_that_comes_twice_is_taken_once(receiver: OrderReceiver) -> None:
    receiver.start()
    body = b'{"order": {"id": "o1"}}'
    headers = {SIGNATURE: base64.b64encode(hmac.digest(base64.b64decode(SECRET), body, "sha512")).decode()}
    assert [receiver.post(body, headers) for _ in range(3)] == [204] * 3
    receiver.kill()
    receiver.start()
    assert receiver.post(body, headers) == 204
    assert receiver.taken() == [("m-9", SLOT, {"order": {"id": "o1"}})]


def test_what_is_not_signed_with_the_secret_of_its_slot_is_turned_away(receiver: OrderReceiver, redis_url: str) -> None:
    receiver.start()
    body = b'{"order": {"id": "o1"}}'

    def signed(key: bytes, algorithm: str, content: bytes = body) -> str:
        return base64.b64encode(hmac.digest(key, content, algorithm)).decode()

    key = base64.b64decode(SECRET)
    good = signed(key, "sha1")
    refused = [
        {},
        {SIGNATURE: ""},
        {SIGNATURE: "no base64"},
        {SIGNATURE: signed(key, "sha256")},
        {SIGNATURE: signed(bytes(32), "sha1")},
        {SIGNATURE: signed(SECRET.encode(), "sha1")},
        {SIGNATURE: signed(key, "sha1", b"{}")},
        {SIGNATURE: good, SIGNATURE_SHA512: signed(bytes(32), "sha512")},
    ]
    assert [receiver.post(body, headers) for headers in refused] == [401] * len(refused)
    for merchant_id, slot in (("m-8", SLOT), ("m-9", "order-update"), ("__proto__", "toString")):
        assert receiver.post(body, {SIGNATURE: good}, merchant_id, slot) == 401
    assert receiver.post(body, {SIGNATURE: good}) == 204
    assert len(receiver.taken()) == 1
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        wait_until(lambda: reported(client) == {("m-9", SLOT): 1}, what="the report")

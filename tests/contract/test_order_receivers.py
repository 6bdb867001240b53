"""The example receivers of stores' deliveries: what is signed is taken once, and the slot is reported as heard from."""

import base64
import hmac
import http.client
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from integrations.oracle_commerce.reports import parse_reports
from occ.simulator.deliveries import SIGNATURE, SIGNATURE_SHA512
from occ.simulator.runner import Simulator
from occ.simulator.store import SimulatedStore
from tests.contract.conftest import EXAMPLES
from tests.waiting import wait_until

pytestmark = pytest.mark.server

SLOT = "order-submit"
SECRET = base64.b64encode(bytes(range(32))).decode()


class OrderReceiver:
    """One receiver in a process of its own, always at the same port."""

    def __init__(self, command: list[str], folder: Path, ledger: Path, redis_url: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.command, self.folder, self.ledger = [*command, str(self.port), str(ledger)], folder, ledger
        self.secrets: dict[str, dict[str, str]] = {"m-9": {SLOT: SECRET}}
        self._redis_url = redis_url
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        secrets = self.ledger.with_name("secrets.json")
        secrets.write_text(json.dumps(self.secrets), encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "REDIS_URL": self._redis_url, "SECRETS": str(secrets)}
        with self.ledger.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(self.command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        wait_until(self._listens, what="the receiver to listen")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def url(self, merchant_id: str, slot: str = SLOT) -> str:
        return f"http://127.0.0.1:{self.port}/occ/{merchant_id}/{slot}"

    def post(self, body: bytes, headers: Mapping[str, str], merchant_id: str = "m-9", slot: str = SLOT) -> int:
        """As anybody may."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection.request("POST", f"/occ/{merchant_id}/{slot}", body, dict(headers))
            return connection.getresponse().status

    def taken(self) -> list[tuple[str, str, Any]]:
        """Merchant, slot and content of what it made of messages."""
        if not self.ledger.exists():
            return []
        if self.ledger.read_bytes()[:6] == b"SQLite":
            with closing(sqlite3.connect(self.ledger)) as database:
                rows = database.execute("SELECT merchant_id, slot, body FROM messages ORDER BY rowid").fetchall()
            return [(merchant_id, slot, json.loads(body)) for merchant_id, slot, body in rows]
        lines = [line.split("\t") for line in self.ledger.read_text(encoding="utf-8").splitlines()]
        return [(merchant_id, slot, json.loads(json.loads(body))) for _, merchant_id, slot, body in lines]


@pytest.fixture(params=["python", "node"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[OrderReceiver]:
    command, folder = [sys.executable, "receive_orders.py"], EXAMPLES / "python"
    if request.param == "node":
        command, folder = ["node", "receive-orders.mjs"], request.getfixturevalue("node_project")
    receiver = OrderReceiver(command, folder, tmp_path / "ledger", redis_url)
    yield receiver
    receiver.kill()


@pytest.fixture
def stores(receiver: OrderReceiver) -> Iterator[list[SimulatedStore]]:
    """Three, one for each way of signing, that send to the receiver; it knows their secrets."""
    with Simulator() as simulator:
        stores = []
        for number, signs_with in enumerate(("sha1", "sha512", "both"), 1):
            slots = {SLOT: {"urls": [receiver.url(f"m-{number}")]}}
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

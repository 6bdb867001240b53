"""The example receivers: they take what is signed, once, and are killed and started again while it comes."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
import redis

from integrations.deliveries.receiver import Receiver, Verdict
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.settings import DevStore
from integrations.signing import SigningSecret
from tests.contract.conftest import EXAMPLES
from tests.integrations.deliveries.test_deliveries import PACE, Stage
from tests.ports import free_port
from tests.receiving import SECRET
from tests.waiting import wait_until

pytestmark = pytest.mark.server

OTHER = "whsec_" + "b" * 44


class Example:
    """One receiver in a process of its own, always at the same port."""

    def __init__(self, command: list[str], folder: Path, ledger: Path) -> None:
        self.port = free_port()
        self.command, self.folder, self.ledger = [*command, str(self.port), str(ledger)], folder, ledger
        self.session = GuardedSession(dev_stores=(DevStore(ip_network("127.0.0.0/8"), None),))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], "RECEIVER_SECRETS": f"{OTHER} {SECRET}"}
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

    def receiver(self, secret: str = SECRET) -> Receiver:
        """As the pipeline calls it."""
        return Receiver(self.session, f"http://127.0.0.1:{self.port}/", [SigningSecret.parse(secret)])

    def rows(self) -> list[tuple[str, str]]:
        """Merchant and id of what it made of events."""
        if self.ledger.read_bytes()[:6] == b"SQLite":
            with closing(sqlite3.connect(self.ledger)) as database:
                return database.execute("SELECT merchant_id, id FROM changes ORDER BY rowid").fetchall()
        return [(line.split("\t")[1], line.split("\t")[0]) for line in self.ledger.read_text().splitlines()]


@pytest.fixture(params=["python", "node"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Example]:
    command, folder = [sys.executable, "receive_events.py"], EXAMPLES / "python"
    if request.param == "node":
        command, folder = ["node", "receive-events.mjs"], request.getfixturevalue("node_project")
    example = Example(command, folder, tmp_path / "ledger")
    example.start()
    yield example
    example.kill()
    example.session.close()


def test_an_example_takes_each_event_once_and_in_order_though_it_is_killed(example: Example, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        stage = Stage(client, replace(PACE, first_wait=1, longest_pause=4))
        stage.now = time.time()
        stage.receiver = example.receiver()
        for number in range(40):
            if number % 10 == 9:
                example.kill()
            for merchant in ("m-1", "m-2", "m-3"):
                stage.happens(merchant)
            stage.tick()
            if number % 10 == 9:
                example.start()
            stage.now += 1
        stage.go_on(20)
        for lane in stage.written:  # and once more: a worker that died had not said that it was taken
            first = stage.written[lane][0]
            event = f'{{"id": "{first}", "subject": "{lane}", "type": "t"}}'
            assert example.receiver().deliver(first, event, int(time.time()), Deadline.after(9)).reason == "HTTP 204"
        found = {
            lane: [event_id for merchant, event_id in example.rows() if merchant == lane] for lane in stage.written
        }
        assert found == stage.written
        assert stage.nothing_is_left()
        stage.close()


def test_an_example_believes_nothing_that_is_not_signed_or_not_fresh(example: Example) -> None:
    now, event = int(time.time()), '{"id": "m-1.1", "subject": "m-1", "type": "t"}'
    stranger = "whsec_" + "c" * 44
    for secret, at in ((stranger, now), (SECRET, now - 1000), (SECRET, now + 1000)):
        answered = example.receiver(secret).deliver("m-1.1", event, at, Deadline.after(9))
        assert (answered.verdict, answered.reason) == (Verdict.AWAY, "HTTP 401")
    for secret in (SECRET, OTHER):
        assert example.receiver(secret).deliver("m-1.1", event, now, Deadline.after(9)).verdict is Verdict.DELIVERED
    assert example.rows() == [("m-1", "m-1.1")]

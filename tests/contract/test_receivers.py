"""The example receivers: they take what is signed, once, and are killed and started again while it comes."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
import redis

from integrations.deliveries.receiver import Receiver, Verdict
from integrations.egress.addresses import DevStore
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.sealing.signing import SigningSecret
from tests.contract.conftest import EXAMPLES
from tests.example_receiver import ExampleReceiver
from tests.integrations.deliveries.test_deliveries import PACE, Stage
from tests.ledgers import entries_in
from tests.receiving import SECRET

pytestmark = pytest.mark.server

OTHER = "whsec_" + "b" * 44


class Example(ExampleReceiver):
    """One receiver of events."""

    def __init__(self, command: list[str], folder: Path, ledger: Path) -> None:
        super().__init__(command, folder, ledger)
        self.session = GuardedSession(dev_stores=(DevStore(ip_network("127.0.0.0/8"), None),))

    def environment(self) -> dict[str, str]:
        return {"RECEIVER_SECRETS": f"{OTHER} {SECRET}"}

    def receiver(self, secret: str = SECRET) -> Receiver:
        """As the pipeline calls it."""
        return Receiver(self.session, f"http://127.0.0.1:{self.port}/", [SigningSecret.parse(secret)])

    def rows(self) -> list[tuple[str, str]]:
        """Merchant and id of what it made of events."""
        rows, lines = entries_in(self.ledger, "changes", "merchant_id", "id")
        return [*rows, *((merchant_id, event_id) for event_id, merchant_id, *_ in lines)]


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

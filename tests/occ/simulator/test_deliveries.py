"""A store sends signed events to its callback URLs, tries again, gives up into its log, and disables a target."""

import base64
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from occ.simulator.client import SimulatorClient
from occ.simulator.clocks import StoppedClock
from occ.simulator.deliveries import SIGNATURE, SIGNATURE_SHA512, Delivery, is_loopback
from occ.simulator.runner import Simulator
from occ.simulator.store import SimulatedStore
from tests.waiting import wait_until

HERE = "http://127.0.0.1:9/occ/m-1/order-submit"
ALSO_HERE = "http://127.0.0.1:9/erp"
ELSEWHERE = "https://hooks.example.com/occ/m-1/order-submit"
SLOT = "order-submit"


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def store_with(clock: StoppedClock, *urls: str, **changes: object) -> SimulatedStore:
    """A store whose first slot holds these."""
    store = SimulatedStore("m-1", clocks=clock.clocks, slots={SLOT: {"urls": list(urls)}})
    store.change(**changes)
    return store


def sent(store: SimulatedStore, fails: Callable[[str], bool] = lambda _: False) -> list[Delivery]:
    """Everything that is due is sent once."""
    due, _ = store.deliveries_due()
    for delivery in due:
        urls = list(delivery.urls)
        store.delivery_ended(delivery, {url: "Response code 502 received" for url in urls if fails(url)})
        delivery.urls = urls
    return due


def log(store: SimulatedStore) -> list[dict[str, object]]:
    page = store._endpoints.failed_messages.page({})
    items = page["items"]
    assert isinstance(items, list)
    return items


def everything(_: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("signs_with", "headers"),
    [
        ("sha1", {SIGNATURE: "sha1"}),
        ("sha512", {SIGNATURE: "sha512"}),
        ("both", {SIGNATURE: "sha1", SIGNATURE_SHA512: "sha512"}),
    ],
)
def test_an_order_is_told_to_the_slot_signed_over_its_bytes(
    clock: StoppedClock, signs_with: str, headers: dict[str, str]
) -> None:
    store = store_with(clock, HERE, signs_with=signs_with)
    order = store.place_order()
    (delivery,) = sent(store)
    assert json.loads(delivery.body)["order"]["id"] == order
    assert delivery.urls == [HERE]
    key = base64.b64decode(store.secret(SLOT))
    for name, algorithm in headers.items():
        assert base64.b64decode(delivery.headers[name]) == hmac.digest(key, delivery.body, algorithm)
    assert {SIGNATURE, SIGNATURE_SHA512} & delivery.headers.keys() == headers.keys()


def test_headers_and_basic_authentication_of_the_slot_are_sent_along(clock: StoppedClock) -> None:
    content = {"urls": [HERE], "headers": {"X-Key": "k"}, "basicAuthentication": {"user": "password"}}
    store = SimulatedStore("m-1", clocks=clock.clocks, slots={SLOT: content})
    store.place_order()
    (delivery,) = sent(store)
    assert delivery.headers["X-Key"] == "k"
    assert base64.b64decode(delivery.headers["Authorization"].removeprefix("Basic ")) == b"user:password"


def test_the_slots_hear_of_an_order_stage_by_stage(clock: StoppedClock) -> None:
    slots = {name: {"urls": [HERE]} for name in (SLOT, "order-update", "shipment-create", "shipment-update")}
    store = SimulatedStore("m-1", clocks=clock.clocks, slots=slots, order_step=60)
    store.place_order()
    heard = []
    for _ in range(5):
        heard += [delivery.webhook for delivery in sent(store)]
        clock.advance(60)
    assert heard == list(slots)


def test_what_fails_is_tried_again_as_the_slot_says_and_then_lies_in_the_log(clock: StoppedClock) -> None:
    store = store_with(clock, HERE, ALSO_HERE)
    store.place_order()
    attempts = 0
    for _ in range(10):
        attempts += len(sent(store, lambda url: url == HERE))
        clock.advance(3599)
        assert sent(store) == []
        clock.advance(1)
    assert attempts == 6, "the first, and five more"
    (entry,) = log(store)
    assert entry["remainingTargetUrls"] == [HERE]
    assert entry["lastErrorMessage"] == "Response code 502 received"
    assert store.summary()["given_up"] == 1


def test_what_somebody_asks_for_again_is_sent_with_the_same_bytes_and_leaves_the_log(clock: StoppedClock) -> None:
    store = store_with(clock, HERE, resend_delay=0)
    store.place_order()
    (first,) = sent(store, everything)
    for _ in range(5):
        sent(store, everything)
    (message,) = store._endpoints.failed_messages.messages.values()
    message.resend = True
    (again,) = sent(store, everything)
    assert (again.body, again.headers) == (first.body, first.headers)
    assert [entry["resend"] for entry in log(store)] == [False], "it failed once more"
    message.resend = True
    assert len(sent(store)) == 1
    assert log(store) == []


def test_a_target_that_keeps_failing_is_disabled_the_others_go_on_and_the_slot_still_lists_it(
    clock: StoppedClock,
) -> None:
    store = store_with(clock, HERE, ALSO_HERE, resend_delay=0, disables_target_after=2)
    for _ in range(2):
        store.place_order()
        while sent(store, lambda url: url == HERE):
            pass
    assert store.disabled_targets == {HERE}
    assert store.urls(SLOT) == [HERE, ALSO_HERE]
    store.place_order()
    assert [delivery.urls for delivery in sent(store)] == [[ALSO_HERE]]
    store.change(enable_targets=True)
    store.place_order()
    assert [delivery.urls for delivery in sent(store)] == [[HERE, ALSO_HERE]]


def test_one_success_in_between_starts_the_count_anew(clock: StoppedClock) -> None:
    store = store_with(clock, HERE, resend_delay=0, disables_target_after=2)
    for fails in (True, False, True):
        store.place_order()
        while sent(store, lambda _, fails=fails: fails):  # type: ignore[misc]
            pass
    assert store.disabled_targets == set()


def test_nothing_leaves_the_machine(clock: StoppedClock) -> None:
    store = store_with(clock, ELSEWHERE)
    store.place_order()
    store.give_up_delivery(SLOT)
    (message,) = store._endpoints.failed_messages.messages.values()
    message.resend = True
    assert sent(store) == []
    assert message.resend, "it stays queued"


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080/x", True),
        ("http://127.9.9.9/x", True),
        ("http://[::1]:80/", True),
        ("http://localhost:1/", True),
        ("https://hooks.example.com/", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://10.0.0.1/", False),
        ("http://[::1/", False),
        ("", False),
    ],
)
def test_only_loopback_is_here(url: str, here: bool) -> None:
    assert is_loopback(url) is here


# --- Over HTTP --------------------------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """Takes what is POSTed to it, and answers as it is told."""

    url: str
    status: int = 200
    taken: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taking.taken.append((self.path, dict(self.headers), body))
            self.send_response(taking.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taking = Receiver(f"http://127.0.0.1:{server.server_port}/occ")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield taking
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.server
def test_orders_arrive_over_http_by_hand_and_by_themselves() -> None:
    with Simulator() as simulator, SimulatorClient(simulator.control_url) as client, receiver() as taking:
        client.add("m-1", slots={SLOT: {"urls": [f"{taking.url}?a=b"]}}, resend_delay=0.02)
        (order,) = client.place_orders("m-1")
        wait_until(lambda: len(taking.taken) == 1, what="the delivery")
        path, headers, body = taking.taken[0]
        assert path == "/occ?a=b"
        assert json.loads(body)["order"]["id"] == order
        key = base64.b64decode(client.secret("m-1", SLOT))
        assert headers[SIGNATURE_SHA512] == base64.b64encode(hmac.digest(key, body, "sha512")).decode()
        taking.status = 503
        client.place_orders("m-1")
        wait_until(lambda: client.counts("m-1")["given_up"] == 1, what="the store to give up")
        assert len(taking.taken) == 7
        taking.status = 204
        client.set_orders(600)
        wait_until(lambda: client.counts("m-1")["delivered"] >= 4, what="orders that come by themselves")
        client.set_orders(0)
        with pytest.raises(Exception, match="orders"):
            client.set_orders(-1)
        with pytest.raises(Exception, match="count"):
            client.place_orders("m-1", 0)


@pytest.mark.server
def test_nobody_there_is_a_failure() -> None:
    with Simulator() as simulator:
        store = simulator.add("m-1", slots={SLOT: {"urls": ["http://127.0.0.1:1/x"]}}, resend_delay=0)
        store.place_order()
        wait_until(lambda: store.summary()["given_up"] == 1, what="the store to give up")
        assert [entry["lastErrorMessage"] for entry in log(store)] == ["Connection refused"]

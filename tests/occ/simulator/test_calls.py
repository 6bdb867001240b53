import pytest

from occ.simulator.caller import OUR_URL, Caller
from occ.simulator.calls import InFlight
from occ.simulator.clocks import StoppedClock
from occ.simulator.message import Request
from occ.simulator.store import SimulatedStore

SHIPPING = "/ccadmin/v1/shippingMethods"


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(epoch=1_000.0)


@pytest.fixture
def caller(clock: StoppedClock) -> Caller:
    return Caller(SimulatedStore("m-1", clocks=clock.clocks))


def test_every_call_is_counted_by_endpoint_slot_and_status(caller: Caller) -> None:
    caller.exchange("no.such.key")
    caller.login().ask("GET", SHIPPING)
    caller.register()
    caller.register(slot="shipment-create")
    caller.ask("GET", "/nowhere")
    counts = caller.store.summary()
    assert counts["calls"] == 8
    assert counts["endpoints"] == {"login": 2, "shipping_methods": 1, "read_slot": 2, "write_slot": 2, "other": 1}
    assert counts["slots"] == {
        "read_slot:order-submit": 1,
        "write_slot:order-submit": 1,
        "read_slot:shipment-create": 1,
        "write_slot:shipment-create": 1,
    }
    assert counts["statuses"] == {
        "login 401": 1,
        "login 200": 1,
        "shipping_methods 200": 1,
        "read_slot 200": 2,
        "write_slot 200": 2,
        "other 404": 1,
    }


def test_a_call_is_remembered_with_its_times_token_and_body(caller: Caller, clock: StoppedClock) -> None:
    caller.login().login()
    clock.advance(2.5)
    caller.store.fail("write_slot", 503)
    caller.write({"urls": [OUR_URL]})
    assert caller.store.calls_described()[-1] == {
        "number": 3,
        "endpoint": "write_slot",
        "method": "PUT",
        "slot": "order-submit",
        "arrived": 2.5,
        "arrived_wall": 1_002.5,
        "status": 503,
        "fault": "unavailable",
        "token": 2,
        "body": {"urls": [OUR_URL]},
        "answered": 2.5,
        "outcome": "answered",
        "sent": 0,
    }


def test_calls_in_flight_are_counted_per_store_and_everywhere(clock: StoppedClock) -> None:
    everywhere = InFlight()
    stores = [SimulatedStore(name, clocks=clock.clocks, everywhere=everywhere) for name in ("m-1", "m-2")]
    replies = [(store, store.answer(Request("GET", "/ccadmin/v1/registry"))) for store in (*stores, stores[0])]
    assert everywhere.now == 3
    for store, reply in replies:
        assert reply.call is not None
        store.finish(reply.call, "answered")
        store.finish(reply.call, "abandoned")
    assert [store.calls.in_flight.most for store in stores] == [2, 1]
    assert (everywhere.most, everywhere.now) == (3, 0)
    assert {call.outcome for call in stores[0].calls.entries} == {"answered"}


def test_coming_back_before_retry_after_is_noticed(caller: Caller, clock: StoppedClock) -> None:
    caller.store.fail("shipping_methods", {"fault": 429, "retry_after": 5}, {"fault": 429, "retry_after": 5})
    caller.login()
    caller.ask("GET", SHIPPING)
    clock.advance(4)
    caller.ask("GET", SHIPPING)
    clock.advance(5)
    caller.ask("GET", SHIPPING)
    (undercut,) = caller.store.calls.undercuts
    assert undercut == {"call": 3, "endpoint": "shipping_methods", "slot": None, "by": pytest.approx(1)}


def test_a_wait_of_one_slot_says_nothing_about_the_others(caller: Caller, clock: StoppedClock) -> None:
    caller.store.fail("write_slot:order-submit", {"fault": 503, "retry_after_date": 5})
    caller.login().register(slot="order-update")
    caller.write({"urls": [OUR_URL]})
    caller.register(slot="shipment-create")
    assert caller.store.calls.undercuts == []
    clock.advance(4.9)
    caller.read()
    assert [undercut["endpoint"] for undercut in caller.store.calls.undercuts] == ["read_slot"]


def test_counts_can_be_reset_without_touching_the_store(caller: Caller) -> None:
    caller.login().register()
    caller.store.rival_writes("order-submit", "https://rival.example.net/hook")
    caller.write({"urls": []})
    caller.store.reset_counts()
    counts = caller.store.summary()
    assert counts["calls"] == counts["repeated_writes"] == counts["secret_resets"] == 0
    assert counts["endpoints"] == counts["statuses"] == {}
    assert counts["foreign_urls_lost"] == []
    assert caller.read()["urls"] == []


def test_a_healthy_connect_makes_ten_calls(caller: Caller) -> None:
    caller.login().ask("GET", SHIPPING)
    for slot in ("order-submit", "order-update", "shipment-create", "shipment-update"):
        caller.register(slot=slot)
    counts = caller.store.summary()
    assert counts["endpoints"] == {"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4}
    assert counts["foreign_urls_lost"] == counts["foreign_settings_lost"] == counts["retry_after_undercut"] == []

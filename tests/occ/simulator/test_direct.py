"""The short way and the long way to a store must mean the same to our client."""

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from integrations.egress.addresses import DevStore
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import IntegrationError
from integrations.oracle_commerce.client import CommerceCloud
from occ.simulator.clocks import StoppedClock
from occ.simulator.direct import DirectCommerceCloud
from occ.simulator.endless import ENDLESS
from occ.simulator.faults import KINDS
from occ.simulator.runner import Simulator
from occ.simulator.store import SimulatedStore
from tests.waiting import wait_until

pytestmark = pytest.mark.server

OUR_URL = "https://hooks.example.com/occ/m_123/order"
QUICK: dict[str, dict[str, Any]] = {
    "huge": {"size": 3_000_000},
    "gzip_bomb": {"size": 3_000_000},
    "slow": {"delay": 0.01},
    "early_hints": {"every": 0.001},
    "drip_head": {"every": 0.001, "chunk": 300},
    "drip_body": {"every": 0.001, "chunk": 300},
    "status": {"status": 418},
}
MOST_SENT = 3 * 1024 * 1024
"""What we read at most, and what lies unread in the buffers of both systems."""
Work = Callable[[CommerceCloud, str, Deadline], object]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def session(simulator: Simulator) -> Iterator[GuardedSession]:
    session = GuardedSession(dev_stores=[DevStore(ipaddress.ip_network("127.0.0.0/8"), simulator.port)])
    yield session
    session.close()


def outcome(work: Callable[[], object]) -> object:
    try:
        return work()
    except IntegrationError as error:
        return type(error), error.code, error.detail.split(" within ")[0], getattr(error, "retry_after", None)


def log_in(cloud: CommerceCloud, key: str, deadline: Deadline) -> object:
    return cloud.login(key, deadline).lifetime


def list_shipping_methods(cloud: CommerceCloud, key: str, deadline: Deadline) -> object:
    return cloud.shipping_methods(cloud.login(key, deadline).access_token, deadline)


def read_slot(cloud: CommerceCloud, key: str, deadline: Deadline) -> object:
    slot = cloud.read_slot(cloud.login(key, deadline).access_token, "order-submit", deadline)
    return {name: value for name, value in slot.items() if name != "links"}


def write_slot(cloud: CommerceCloud, key: str, deadline: Deadline) -> object:
    token = cloud.login(key, deadline).access_token
    slot = cloud.write_slot(token, "order-submit", {"urls": [OUR_URL]}, deadline)
    return slot and {name: value for name, value in slot.items() if name != "links"}


WORKS: dict[str, Work] = {
    "login": log_in,
    "shipping_methods": list_shipping_methods,
    "read_slot": read_slot,
    "write_slot": write_slot,
}


@pytest.mark.parametrize("endpoint", WORKS)
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"drip"}))
def test_a_fault_means_the_same_with_and_without_sockets(
    simulator: Simulator, session: GuardedSession, endpoint: str, kind: str
) -> None:
    seconds = 0.5 if kind == "hang" else 5
    script = {"fault": kind, **QUICK.get(kind, {})}
    if kind == "reset":
        script["times"] = "always"  # a used connection that is reset at once costs nothing: the call is made once more
    far, near = simulator.add(), SimulatedStore("near")
    for store in (far, near):
        store.fail(endpoint, script)
    clients = (CommerceCloud(session, far.url), far), (DirectCommerceCloud(near), near)
    work = WORKS[endpoint]
    outcomes = [
        outcome(lambda cloud=cloud, store=store: work(cloud, store.application_key, Deadline.after(seconds)))  # type: ignore[misc]
        for cloud, store in clients
    ]
    assert outcomes[0] == outcomes[1]
    assert far.urls("order-submit") == near.urls("order-submit")
    if kind != "reset":
        assert far.calls.statuses == near.calls.statuses
    simulator.remove(far.name)


@pytest.mark.parametrize("of", ENDLESS)
def test_an_answer_without_an_end_costs_the_cap_and_is_named_alike_with_and_without_sockets(
    simulator: Simulator, session: GuardedSession, of: str
) -> None:
    far, near = simulator.add(), SimulatedStore("near")
    for store in (far, near):
        store.fail("login", {"fault": "endless", "of": of})
    clients = (CommerceCloud(session, far.url), far), (DirectCommerceCloud(near), near)
    outcomes = [
        outcome(lambda cloud=cloud, store=store: log_in(cloud, store.application_key, Deadline.after(20)))  # type: ignore[misc]
        for cloud, store in clients
    ]
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0], tuple)
    assert outcomes[0][1] == "answer_too_large"
    wait_until(lambda: far.calls.entries[0].outcome == "abandoned", what="the connection to be closed")
    assert far.calls.entries[0].sent < MOST_SENT
    simulator.remove(far.name)


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_a_bad_connection_means_the_same_with_and_without_sockets(
    simulator: Simulator, session: GuardedSession, kind: str
) -> None:
    far, near = simulator.add(), SimulatedStore("near")
    for store in (far, near):
        store.fail("connection", kind)
    clients = (CommerceCloud(session, far.url), far), (DirectCommerceCloud(near), near)
    codes = [
        outcome(lambda cloud=cloud, store=store: log_in(cloud, store.application_key, Deadline.after(0.5)))  # type: ignore[misc]
        for cloud, store in clients
    ]
    far_error, near_error = codes
    assert isinstance(far_error, tuple)
    assert isinstance(near_error, tuple)
    assert far_error[:2] == near_error[:2]  # whether a reset is met while dialling or later is a matter of luck


def test_an_unreachable_store_is_unreachable_without_sockets() -> None:
    store = SimulatedStore("m-1", reachable=False)
    found = outcome(lambda: log_in(DirectCommerceCloud(store), store.application_key, Deadline.after(5)))
    assert isinstance(found, tuple)
    assert found[1] == "store_unreachable"


def test_it_calls_nobody_but_its_store() -> None:
    store = SimulatedStore("m-1")
    cloud = DirectCommerceCloud(store, shipping_methods_path=".evil.example/x")
    found = outcome(lambda: list_shipping_methods(cloud, store.application_key, Deadline.after(5)))
    assert isinstance(found, tuple)
    assert found[1] == "egress_blocked"


def test_waits_are_passed_on_and_cut_short_by_the_deadline() -> None:
    clock = StoppedClock()
    store = SimulatedStore("m-1", clocks=clock.clocks, latency=2.0)
    cloud = DirectCommerceCloud(store, wait=clock.advance)
    log_in(cloud, store.application_key, Deadline.after(5))
    assert clock.elapsed == 2.0
    assert outcome(lambda: log_in(cloud, store.application_key, Deadline.after(1)))
    assert clock.elapsed == pytest.approx(3.0, abs=0.1)
    assert store.calls.in_flight.now == 0

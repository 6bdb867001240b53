import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from occ.simulator.client import SimulatorClient
from occ.simulator.runner import Simulator
from occ.simulator.setting_error import SettingError

pytestmark = pytest.mark.server

OUR_URL = "https://hooks.example.com/occ/m_123/order"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[SimulatorClient]:
    with SimulatorClient(simulator.control_url) as client:
        yield client
    for name in list(simulator.stores):
        simulator.remove(name)


def call(tenant: dict[str, Any], method: str, path: str, body: str = "", token: str = "") -> tuple[int, Any]:
    parts = urlsplit(tenant["store_url"])
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=180)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def login(tenant: dict[str, Any]) -> tuple[int, Any]:
    return call(tenant, "POST", "/ccadmin/v1/login", "grant_type=client_credentials", tenant["application_key"])


def test_a_store_can_be_made_and_called(client: SimulatorClient) -> None:
    tenant = client.add("m-1", token_lifetime=60)
    status, body = login(tenant)
    assert status == 200
    assert body["expires_in"] == 60
    assert client.counts("m-1")["endpoints"] == {"login": 1}
    assert client.tenants() == [tenant]


def test_many_stores_can_be_made_at_once(client: SimulatorClient, simulator: Simulator) -> None:
    alike = client.add_many(200, "shop-{n}", shipping_methods=0)
    each = client.add_all([{"name": "a"}, {"name": "b", "token_uses": 1}, {}])
    assert [tenant["name"] for tenant in alike[:2]] == ["shop-1", "shop-2"]
    assert len({tenant["store_url"] for tenant in alike + each}) == 203
    assert len({tenant["application_key"] for tenant in alike + each}) == 203
    assert client.about()["tenants"] == len(simulator.stores) == 203
    status, body = login(alike[-1])
    assert status == 200
    assert call(alike[-1], "GET", "/ccadmin/v1/shippingMethods", token=body["access_token"])[1]["items"] == []


def test_faults_are_switched_while_it_runs(client: SimulatorClient) -> None:
    tenant = client.add("m-1")
    client.fail("m-1", "login", {"fault": "throttled", "retry_after": 3, "times": "always"})
    assert login(tenant)[0] == 429
    client.heal("m-1")
    assert login(tenant)[0] == 200
    client.fail("m-1", "login", 503, 401)
    assert client.tenant("m-1")["faults"] == {"login": ["unavailable", "unauthorized"]}


def test_settings_of_some_or_all_stores_can_be_changed(client: SimulatorClient, simulator: Simulator) -> None:
    client.add_many(3)
    assert client.change_all(["m-1", "m-2"], token_uses=1) == 2
    assert client.change_all(latency=0.001) == 3
    assert [store.settings.token_uses for store in simulator.stores.values()] == [1, 1, None]
    assert {store.settings.latency for store in simulator.stores.values()} == {0.001}


def test_the_latency_of_all_can_be_changed(client: SimulatorClient, simulator: Simulator) -> None:
    client.set_latency(0.02, 0.01)
    assert (simulator.latency, simulator.jitter) == (0.02, 0.01)
    client.set_latency(0)


def test_keys_are_revoked_and_stores_taken_down_and_up(client: SimulatorClient) -> None:
    tenant = client.add("m-1")
    client.change("m-1", revoke_keys=True)
    assert login(tenant)[0] == 401
    client.change("m-1", accept_keys=[tenant["application_key"]], reachable=False)
    with pytest.raises(ConnectionRefusedError):
        login(tenant)
    client.change("m-1", reachable=True)
    assert login(tenant)[0] == 200


def test_slots_are_filled_read_and_fought_over(client: SimulatorClient) -> None:
    client.add("m-1", slots={"order-submit": {"urls": ["https://erp.example.net/in"]}})
    assert client.rival_writes("m-1", "order-submit", "https://rival.example.net/hook") == [
        "https://erp.example.net/in",
        "https://rival.example.net/hook",
    ]
    assert client.rival_writes("m-1", "order-submit", OUR_URL, how="replace") == [OUR_URL]
    client.change("m-1", slots={"order-submit": {"urls": []}})
    assert client.urls("m-1", "order-submit") == []
    assert client.give_up_delivery("m-1", "order-submit", [OUR_URL]) == "200001"


def test_calls_are_told_per_store_and_in_total(client: SimulatorClient) -> None:
    first, second = client.add("m-1"), client.add("m-2")
    for tenant in (first, second, first):
        login(tenant)
    summary = client.summary()
    assert summary["totals"]["calls"] == 3
    assert summary["totals"]["endpoints"] == {"login": 3}
    assert summary["totals"]["statuses"] == {"login 200": 3}
    assert summary["totals"]["max_in_flight"] == 1
    assert summary["tenants"]["m-1"]["calls"] == 2
    assert client.counts()["tokens_issued"] == 3
    assert [entry["tenant"] for entry in client.all_calls()] == ["m-1", "m-2", "m-1"]
    assert [entry["number"] for entry in client.calls("m-1")] == [1, 2]


def test_counts_of_some_or_all_stores_can_be_reset(client: SimulatorClient) -> None:
    for tenant in client.add_many(2):
        login(tenant)
    client.reset_counts(["m-1"])
    assert [client.counts(name)["calls"] for name in ("m-1", "m-2")] == [0, 1]
    client.reset_counts()
    assert client.counts()["calls"] == 0


def test_a_store_can_be_removed(client: SimulatorClient) -> None:
    tenant = client.add("m-1")
    client.remove("m-1")
    with pytest.raises(ConnectionRefusedError):
        login(tenant)
    with pytest.raises(KeyError, match="m-1"):
        client.tenant("m-1")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tokens": 1}, "has no tokens"),
        ({"token_lifetime": "long"}, "'token_lifetime' is a number"),
        ({"expires_in": "words"}, "is one of"),
        ({"slots": {"order-submit": 1}}, "maps slot ids"),
        ({"rivals": [{"when": "never"}]}, "'when' is one of"),
        ({"faults": {"login": "explode"}}, "no fault 'explode'"),
        ({"accept_keys": "key"}, "list of texts"),
        ({"drops_times": -1}, "whole number"),
        ({"offers": "order-submit"}, "list of texts"),
        ({"quoted_numbers": 1}, "true or false"),
        ({"clock_ahead": "an hour"}, "is a number"),
        ({"rivals": {}}, "list of rivals"),
        ({"shipping_path": 1}, "is text"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    client: SimulatorClient, changes: dict[str, Any], complaint: str
) -> None:
    client.add("m-1")
    with pytest.raises(SettingError, match=complaint):
        client.change("m-1", **changes)
    with pytest.raises(SettingError, match=complaint):
        client.add("m-2", **changes)
    assert [tenant["name"] for tenant in client.tenants()] == ["m-1"]


def test_a_name_is_given_once(client: SimulatorClient) -> None:
    client.add("m-1")
    with pytest.raises(SettingError, match="already"):
        client.add("m-1")
    with pytest.raises(SettingError, match="no room"):
        client.add("m/1")


@pytest.mark.parametrize(
    ("asked", "body", "status"),
    [
        ("GET /nowhere", "", 404),
        ("PUT /tenants", "", 404),
        ("POST /tenants", "[1]", 400),
        ("POST /tenants", "nonsense", 400),
        ("PATCH /", '{"latency": "long"}', 400),
        ("PATCH /tenants", '{"names": "m-1"}', 400),
        ("PATCH /tenants/m-1", "[]", 400),
        ("POST /tenants/m-1/slots/no-such", "{}", 404),
        ("POST /tenants/m-1/slots/order-submit", '{"how": "gently"}', 400),
        ("DELETE /tenants/m-2", "", 404),
    ],
)
def test_requests_that_make_no_sense_are_answered(
    client: SimulatorClient, simulator: Simulator, asked: str, body: str, status: int
) -> None:
    client.add("m-1")
    control = {"store_url": simulator.control_url}
    method, path = asked.split()
    answered, value = call(control, method, path, body)
    assert answered == status
    assert value["error"]

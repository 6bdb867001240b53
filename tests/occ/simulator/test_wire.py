import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from occ.simulator.listener import bound_socket
from occ.simulator.runner import Simulator, TlsFiles, address_of
from occ.simulator.store import SimulatedStore
from tests.waiting import wait_until

pytestmark = pytest.mark.server

REGISTRY = b"GET /ccadmin/v1/registry HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def store(simulator: Simulator) -> Iterator[SimulatedStore]:
    store = simulator.add()
    yield store
    simulator.remove(store.name)


@pytest.fixture
def client(store: SimulatedStore) -> Iterator[socket.socket]:
    with connected(store) as client:
        yield client


def connected(store: SimulatedStore) -> socket.socket:
    parts = urlsplit(store.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=180)


def answer_on(client: socket.socket) -> bytes:
    """One whole answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += some(client)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += some(client)
    return body


def first_byte(store: SimulatedStore) -> bytes:
    with connected(store) as client:
        client.sendall(REGISTRY)
        return client.recv(1)


def some(client: socket.socket) -> bytes:
    data = client.recv(65_536)
    if not data:
        raise EOFError
    return data


def everything_on(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65_536):
        received += data
    return received


def wait_for_outcome(store: SimulatedStore, outcome: str) -> None:
    wait_until(lambda: store.calls.entries[-1].outcome == outcome, what=outcome)


def test_requests_share_a_connection_and_may_be_sent_in_pieces(store: SimulatedStore, client: socket.socket) -> None:
    for _ in range(3):
        client.sendall(REGISTRY)
        assert b'"login"' in answer_on(client)
    for byte in REGISTRY:
        client.sendall(bytes((byte,)))
    assert b'"login"' in answer_on(client)
    assert store.calls.connections == 1


def test_requests_sent_ahead_are_answered_one_after_the_other(store: SimulatedStore) -> None:
    store.fail("registry", {"fault": "slow", "delay": 0.05})
    with connected(store) as client:
        closing = REGISTRY.replace(b"Host: x", b"Connection: close")
        client.sendall(REGISTRY * 2 + closing)
        assert everything_on(client).count(b"HTTP/1.1 200 OK") == 3
    assert store.calls.in_flight.most == 1


def test_a_body_of_any_length_arrives(store: SimulatedStore) -> None:
    parts = urlsplit(store.url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=180)) as connection:
        bearer = {"Authorization": f"Bearer {store.application_key}"}
        connection.request("POST", "/ccadmin/v1/login", "grant_type=client_credentials", bearer)
        token = json.load(connection.getresponse())["access_token"]
        urls = [f"https://hooks.example.com/{number:05}" for number in range(20_000)]
        body = json.dumps({"urls": urls})
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("PUT", "/ccadmin/v1/webhooks/order-submit", body, headers)
        assert json.load(connection.getresponse())["urls"] == urls
    assert store.urls("order-submit") == urls


@pytest.mark.parametrize(
    "rubbish",
    [
        b"hello\r\n\r\n",
        b"GET / SPDY/3\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_request_is_refused(client: socket.socket, rubbish: bytes) -> None:
    client.sendall(rubbish)
    assert b"400 Bad Request" in everything_on(client)


def test_latency_holds_for_every_answer(simulator: Simulator, store: SimulatedStore, client: socket.socket) -> None:
    store.change(latency=0.1)
    before = time.monotonic()
    client.sendall(REGISTRY)
    answer_on(client)
    assert time.monotonic() - before >= 0.1
    call = store.calls.entries[-1]
    assert call.answered is not None
    assert call.answered - call.arrived >= 0.1


def test_slow_answers_do_not_hold_up_each_other(store: SimulatedStore) -> None:
    store.change(latency=1)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(store)) for _ in range(8)]
        for client in clients:
            client.sendall(REGISTRY)
        for client in clients:
            answer_on(client)
    assert store.calls.in_flight.most == 8
    assert store.calls.in_flight.now == 0


def test_a_connection_can_be_reset_instead_of_an_answer(store: SimulatedStore, client: socket.socket) -> None:
    store.fail("registry", "reset")
    client.sendall(REGISTRY)
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    assert store.calls.entries[-1].outcome == "reset"


def test_an_answer_may_never_come(store: SimulatedStore) -> None:
    store.fail("registry", "hang")
    with connected(store) as client:
        client.sendall(REGISTRY)
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(100)
    wait_for_outcome(store, "abandoned")
    assert store.calls.in_flight.now == 0


def test_an_answer_nobody_waits_for_is_given_up(store: SimulatedStore) -> None:
    store.fail("registry", {"fault": "slow", "delay": 30})
    with connected(store) as client:
        client.sendall(REGISTRY)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(100)
    wait_for_outcome(store, "abandoned")


def test_an_answer_can_be_cut_off(store: SimulatedStore, client: socket.socket) -> None:
    store.fail("registry", "truncated")
    client.sendall(REGISTRY)
    head, _, body = everything_on(client).partition(b"\r\n\r\n")
    assert 0 < len(body) < int(head.partition(b"Content-Length: ")[2])
    wait_for_outcome(store, "cut")


def test_a_connection_can_be_closed_after_an_answer_without_notice(
    store: SimulatedStore, client: socket.socket
) -> None:
    store.fail("registry", "close")
    client.sendall(REGISTRY)
    head, _, body = everything_on(client).partition(b"\r\n\r\n")
    assert b"Connection: close" not in head
    assert json.loads(body)["items"]


@pytest.mark.parametrize("kind", ["drip_head", "drip_body"])
def test_an_answer_can_drip(store: SimulatedStore, client: socket.socket, kind: str) -> None:
    store.fail("registry", *({"fault": kind, "every": every, "chunk": 100} for every in (60, 0.01)))
    with connected(store) as impatient:
        impatient.sendall(REGISTRY)
        if kind == "drip_body":
            assert impatient.recv(65_536).endswith(b"\r\n\r\n")
        impatient.settimeout(0.1)
        with pytest.raises(TimeoutError):
            impatient.recv(65_536)
    client.sendall(REGISTRY)
    assert b'"login"' in answer_on(client)
    call = store.calls.entries[-1]
    assert call.answered is not None
    assert call.answered - call.arrived >= 5 * 0.01
    client.sendall(REGISTRY)
    assert b'"login"' in answer_on(client)


def test_a_dripping_answer_ends_when_the_client_leaves(store: SimulatedStore) -> None:
    store.fail("registry", {"fault": "drip_body", "every": 0.01})
    with connected(store) as client:
        client.sendall(REGISTRY)
        client.recv(10)
    wait_for_outcome(store, "abandoned")


def test_an_answer_can_be_huge_without_filling_our_memory(store: SimulatedStore, client: socket.socket) -> None:
    store.fail("registry", {"fault": "huge", "size": 5_000_000})
    client.sendall(REGISTRY)
    body = answer_on(client)
    assert len(body) == 5_000_000
    assert json.loads(body)["filler"].startswith("xxx")


def test_a_huge_answer_stops_when_the_client_leaves(store: SimulatedStore) -> None:
    store.fail("registry", {"fault": "huge", "size": 10_000_000_000})
    with connected(store) as client:
        client.sendall(REGISTRY)
        client.recv(10)
    wait_for_outcome(store, "abandoned")


def test_the_head_of_an_answer_can_be_huge(store: SimulatedStore, client: socket.socket) -> None:
    store.fail("registry", {"fault": "huge_head", "size": 200_000})
    client.sendall(REGISTRY)
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65_536)
    assert len(received.partition(b"\r\n\r\n")[0]) > 200_000


def test_what_answers_may_not_be_http(store: SimulatedStore, client: socket.socket) -> None:
    store.fail("registry", "not_http")
    client.sendall(REGISTRY)
    assert everything_on(client).startswith(b"SSH-2.0-")


def test_no_content_has_neither_body_nor_length(store: SimulatedStore, client: socket.socket) -> None:
    store.fail("registry", "no_content")
    client.sendall(REGISTRY)
    head = client.recv(65_536)
    assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Content-Length" not in head


# -- before a request is read


def test_a_connection_can_be_reset_at_once(store: SimulatedStore) -> None:
    store.fail("connection", "reset")
    with pytest.raises(ConnectionResetError):
        first_byte(store)
    with connected(store) as client:
        client.sendall(REGISTRY)
        assert answer_on(client)


def test_a_connection_can_hang_from_the_start(store: SimulatedStore) -> None:
    store.fail("connection", "hang")
    with connected(store) as client:
        client.sendall(REGISTRY)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(10)
    assert store.calls.endpoints.total() == 0


def test_a_connection_can_drip(store: SimulatedStore) -> None:
    store.fail("connection", *({"fault": "drip", "every": every, "chunk": 50} for every in (60, 0.002)))
    with connected(store) as impatient:
        impatient.sendall(REGISTRY)
        assert len(impatient.recv(65_536)) == 50
    with connected(store) as client:
        client.sendall(REGISTRY)
        assert b"login" in answer_on(client)


def test_a_store_can_be_down_and_come_back(store: SimulatedStore, client: socket.socket) -> None:
    client.sendall(REGISTRY)
    answer_on(client)
    store.change(reachable=False)
    assert client.recv(10) == b""
    with pytest.raises(ConnectionRefusedError):
        connected(store)
    store.change(reachable=True)
    with connected(store) as again:
        again.sendall(REGISTRY)
        assert answer_on(again)


# -- addresses


def test_every_store_has_an_address_of_its_own_and_the_same_port(simulator: Simulator) -> None:
    stores = simulator.add_many(5, "address-{n}")
    urls = [urlsplit(store.url) for store in stores]
    assert len({url.hostname for url in urls}) == 5
    assert {url.port for url in urls} == {simulator.port}
    for store in stores:
        with connected(store) as client:
            client.sendall(REGISTRY)
            answer_on(client)
        assert store.calls.endpoints["registry"] == 1
        simulator.remove(store.name)
        with pytest.raises(ConnectionRefusedError):
            connected(store)


def test_addresses_are_loopback_and_never_repeat() -> None:
    addresses = [address_of(number) for number in range(100_000)]
    assert len(set(addresses)) == 100_000
    assert addresses[:2] == ["127.1.0.1", "127.1.0.2"]
    assert all(address.startswith("127.") for address in addresses)
    assert not any(address.endswith((".0", ".255")) for address in addresses)


def test_nothing_but_loopback_is_ever_bound() -> None:
    with pytest.raises(ValueError, match="loopback"):
        bound_socket("0.0.0.0", 0)


def test_where_only_one_address_exists_every_store_has_a_port() -> None:
    with Simulator(one_address=True) as simulator:
        urls = [urlsplit(store.url) for store in simulator.add_many(3)]
        assert {url.hostname for url in urls} == {"127.0.0.1"}
        assert len({url.port for url in urls}) == 3
        assert simulator.dev_stores == "127.0.0.1/32:*"


def test_a_taken_port_is_reported() -> None:
    with Simulator() as first, pytest.raises(OSError, match="in use"), Simulator(port=first.port):
        pass


def test_stopping_ends_every_connection() -> None:
    with Simulator() as simulator:
        store = simulator.add()
        store.fail("registry", "hang")
        idle, waiting = connected(store), connected(store)
        waiting.sendall(REGISTRY)
        wait_until(lambda: store.calls.endpoints["registry"] == 1)
        idle.sendall(REGISTRY)
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
    for client in (idle, waiting):
        with client, contextlib.suppress(ConnectionResetError):
            assert everything_on(client) == b""
    simulator.stop()


# -- HTTPS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert(*[address_of(number) for number in range(8)])
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "store.pem")
    with Simulator(tls=TlsFiles(folder / "store.pem", folder / "store.pem")) as simulator:
        yield simulator


def secured(store: SimulatedStore, authority: trustme.CA) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    parts = urlsplit(store.https_url or "")
    plain = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=180)
    try:
        return context.wrap_socket(plain, server_hostname=parts.hostname)
    except BaseException:
        plain.close()
        raise


def test_a_store_answers_over_https_as_well(secure: Simulator, authority: trustme.CA) -> None:
    store = secure.add()
    with secured(store, authority) as client:
        client.sendall(REGISTRY)
        assert b'"login"' in answer_on(client)
    with connected(store) as client:
        client.sendall(REGISTRY)
        assert b'"login"' in answer_on(client)
    assert secure.dev_stores == f"127.0.0.0/8:{secure.port},127.0.0.0/8:{secure.tls_port}"


def test_faults_work_over_https(secure: Simulator, authority: trustme.CA) -> None:
    store = secure.add()
    store.fail("registry", "reset", {"fault": "drip_body", "every": 0.001, "chunk": 200}, "truncated")
    with secured(store, authority) as client:
        client.sendall(REGISTRY)
        assert client.recv(10) == b""  # what Python's TLS makes of a reset
        assert store.calls.entries[-1].outcome == "reset"
    with secured(store, authority) as client:
        client.sendall(REGISTRY)
        assert b'"login"' in answer_on(client)
        client.sendall(REGISTRY)
        with pytest.raises(EOFError):
            answer_on(client)


def test_the_handshake_itself_can_drip_or_hang(secure: Simulator, authority: trustme.CA) -> None:
    store = secure.add()
    store.fail("connection", {"fault": "drip", "every": 0.01, "chunk": 100}, "hang")
    before = time.monotonic()
    with secured(store, authority) as client:
        assert time.monotonic() - before > 0.05
        client.sendall(REGISTRY)
        assert b'"login"' in answer_on(client)
    parts = urlsplit(store.https_url or "")
    plain = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=0.1)
    with plain, pytest.raises(TimeoutError):
        ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)


def test_a_client_that_dislikes_the_certificate_harms_nobody(secure: Simulator, authority: trustme.CA) -> None:
    store = secure.add()
    with pytest.raises(ssl.SSLCertVerificationError):
        secured(store, trustme.CA())
    with secured(store, authority) as client:
        client.sendall(REGISTRY)
        assert answer_on(client)


def test_a_missing_certificate_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Simulator(tls=TlsFiles(tmp_path / "no.pem", tmp_path / "no.pem")):
        pass

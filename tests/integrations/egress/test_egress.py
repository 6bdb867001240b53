import socket
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.egress.addresses import DevStore, is_host_name, is_public
from integrations.egress.deadline import Deadline, obeyed
from integrations.egress.guard import Egress, Resolve, dialling_order
from integrations.egress.session import GuardedSession
from integrations.errors import IntegrationError, PermanentError, RequestRefused, TransientError
from integrations.oracle_commerce.store_url import normalise_store_url
from tests.examples import examples
from tests.integrations.hostile import (
    FORBIDDEN_ADDRESSES,
    HOSTILE_HOSTS,
    HOSTILE_URLS,
    PUBLIC_ADDRESSES,
    dialled,
)
from tests.integrations.wire_servers import STORE, TOKEN, WireServer, answering, hanging, http, resolve_to
from tests.waiting import wait_until

pytestmark = pytest.mark.server


def dev_store(address: str, port: int | None) -> DevStore:
    return DevStore(ip_network(address), port)


def blocked(egress: Egress, host: str = STORE, *, scheme: str = "https", port: int = 443) -> PermanentError:
    with dialled() as record, pytest.raises(PermanentError) as caught:
        egress.dial(scheme, host, port, 1)
    assert record == []
    assert caught.value.code == "egress_blocked"
    return caught.value


# The hostile corpus


def test_the_corpus_is_large_enough() -> None:
    assert len(set(HOSTILE_URLS)) >= 120
    assert len(set(FORBIDDEN_ADDRESSES)) >= 60


@pytest.fixture(scope="module")
def strict() -> GuardedSession:
    """A session as in production, with a resolver that believes everything to be this machine."""
    return GuardedSession(resolve=resolve_to("127.0.0.1"))


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_hostile_url_is_never_dialled(strict: GuardedSession, url: str) -> None:
    with dialled() as record, pytest.raises(PermanentError) as caught:
        strict.request("GET", url, headers={"Authorization": TOKEN}, deadline=Deadline.after(30))
    assert caught.value.code == "egress_blocked"
    assert TOKEN not in str(caught.value)
    assert record == []


@pytest.fixture(scope="module")
def beside_a_dev_store() -> Iterator[tuple[GuardedSession, WireServer]]:
    with WireServer(hanging) as store:
        session = GuardedSession(dev_stores=[dev_store("127.0.0.1/32", store.port)], resolve=resolve_to("127.0.0.1"))
        yield session, store
        session.close()


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_dev_store_opens_the_door_to_nothing_but_itself(
    beside_a_dev_store: tuple[GuardedSession, WireServer], url: str
) -> None:
    session, store = beside_a_dev_store
    with dialled() as record, pytest.raises(PermanentError, match="egress_blocked"):
        session.request("GET", url, headers={}, deadline=Deadline.after(30))
    assert record == []
    assert store.connections == 0


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_no_hostile_url_passes_for_a_store_url(url: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        normalise_store_url(url, allowed_hosts=(), dev_stores=())
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("host", HOSTILE_HOSTS)
def test_a_hostile_host_is_refused_when_dialling_too(host: str) -> None:
    blocked(Egress(resolve=resolve_to("127.0.0.1")), host.strip("[]"))


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_a_name_that_leads_to_a_forbidden_address_is_not_dialled(address: str) -> None:
    error = blocked(Egress(resolve=resolve_to(address)))
    assert address.strip() not in error.detail or not address.strip()


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_one_forbidden_address_among_public_ones_spoils_them_all(address: str) -> None:
    blocked(Egress(resolve=resolve_to("8.8.8.8", "2606:4700::1111", address)))
    blocked(Egress(resolve=resolve_to(address, "8.8.8.8")))


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_may_be_dialled_on_port_443_with_https_only(address: str) -> None:
    egress = Egress(resolve=resolve_to(address))
    assert egress.addresses("https", STORE, 443) == [address]
    blocked(egress, scheme="http")
    blocked(egress, scheme="http", port=80)
    blocked(egress, port=8443)


def test_a_public_address_gains_nothing_from_a_dev_store_on_its_port() -> None:
    egress = Egress([dev_store("127.0.0.0/8", None)], resolve_to("8.8.8.8"))
    blocked(egress, scheme="http", port=80)
    blocked(egress, scheme="http", port=443)
    blocked(egress, port=8443)


@given(st.text(max_size=40))
@settings(max_examples=examples(300))
def test_no_text_is_a_public_address_unless_it_is_one_letter_by_letter(text: str) -> None:
    if is_public(text):
        assert socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


@given(st.ip_addresses(v=4))
@settings(max_examples=examples(500))
def test_we_call_nothing_that_python_knows_not_to_be_global(address: object) -> None:
    if not getattr(address, "is_global", True):
        assert not is_public(str(address))


@given(st.text(alphabet="0123456789abcdefx.-", min_size=1, max_size=30))
@settings(max_examples=examples(300))
def test_what_counts_as_a_name_is_no_number_to_the_c_library(text: str) -> None:
    if is_host_name(text):
        with pytest.raises(OSError, match="illegal IP address string"):
            socket.inet_aton(text)


# Looking up


class Rebinding:
    """Answers each question with the next address."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    def __call__(self, _host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.addresses[self.asked - 1], port))]


def test_what_was_checked_is_what_is_dialled_and_nothing_else() -> None:
    with WireServer(answering(http())) as store, WireServer(hanging, address="127.0.0.2", port=store.port) as inner:
        rebinding = Rebinding("127.0.0.1", "127.0.0.2", "127.0.0.1")
        session = GuardedSession(dev_stores=[dev_store("127.0.0.1/32", store.port)], resolve=rebinding)

        def call() -> int:
            url = f"http://{STORE}:{store.port}/"
            return session.request("GET", url, headers={}, deadline=Deadline.after(30)).status

        with dialled() as record:
            assert call() == 200
            assert call() == 200
            assert rebinding.asked == 1  # the connection is kept, and so is what it was checked for
            session.close()
            with pytest.raises(PermanentError, match="egress_blocked"):
                call()
            assert call() == 200
        session.close()
    assert rebinding.asked == 3
    assert set(record) == {("127.0.0.1", store.port)}
    assert inner.connections == 0


def test_a_name_with_a_dead_address_is_reached_at_another() -> None:
    with WireServer(hanging, address="127.0.0.1") as store:
        egress = Egress([dev_store("127.0.0.0/8", store.port)], resolve_to("127.0.0.9", "127.0.0.1"))
        with dialled() as record:
            egress.dial("http", STORE, store.port, 1).close()
    assert record == [("127.0.0.9", store.port), ("127.0.0.1", store.port)]


def test_an_address_that_swallows_everything_leaves_time_for_the_next() -> None:
    with socket.create_server(("127.0.0.9", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        port = full.getsockname()[1]
        for filler in (first, second):  # a full backlog drops further attempts to connect without a word
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.9", port))
        egress = Egress([dev_store("127.0.0.0/8", port)], resolve_to("127.0.0.9", "127.0.0.1"))
        with WireServer(hanging, address="127.0.0.1", port=port), dialled() as record:
            egress.dial("http", STORE, port, 0.4).close()
        assert record == [("127.0.0.9", port), ("127.0.0.1", port)]
        assert record.given[0] <= 0.2
        with (
            dialled() as record,
            pytest.raises(TransientError, match=r"store_unreachable: no connection within 0\.2 s"),
        ):
            egress.dial("http", "127.0.0.9", port, 0.2)
        assert max(record.given) <= 0.2
        with (
            dialled() as record,
            obeyed(Deadline.after(0.1)),
            pytest.raises(TransientError, match="store_timeout: still dialling"),
        ):
            egress.dial("http", "127.0.0.9", port, 5)
        assert max(record.given, default=0) <= 0.1


def test_addresses_take_turns_by_family() -> None:
    assert dialling_order(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2", "::1"]) == ["::1", "1.1.1.1", "::2", "2.2.2.2"]
    assert dialling_order(["1.1.1.1", "::1"]) == ["1.1.1.1", "::1"]
    assert dialling_order([]) == []


def test_localhost_is_never_looked_up() -> None:
    rebinding = Rebinding("8.8.8.8")
    with WireServer(hanging) as store:
        egress = Egress([dev_store("127.0.0.0/8", store.port)], rebinding)
        assert egress.addresses("http", "localhost", store.port) == ["127.0.0.1"]
    blocked(Egress([dev_store("10.0.0.0/8", 8800)], rebinding), "localhost", scheme="http", port=8800)
    blocked(Egress(resolve=rebinding), "localhost")
    assert rebinding.asked == 0


def test_the_ipv6_loopback_can_be_a_dev_store() -> None:
    with WireServer(answering(http()), address="::1") as store:
        session = GuardedSession(dev_stores=[dev_store("::1/128", store.port)])
        url = f"http://[::1]:{store.port}/"
        assert session.request("GET", url, headers={}, deadline=Deadline.after(30)).status == 200
        session.close()


def no_such_name(*_: object, **__: object) -> list[tuple[object, ...]]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def too_long_a_label(*_: object, **__: object) -> list[tuple[object, ...]]:
    raise UnicodeError("label too long")


@pytest.mark.parametrize("resolve", [no_such_name, too_long_a_label, resolve_to()])
def test_a_name_without_addresses_is_trouble_that_may_pass(resolve: Resolve) -> None:
    with pytest.raises(TransientError) as caught:
        Egress(resolve=resolve).dial("https", STORE, 443, 1)
    assert str(caught.value) == "store_unreachable: the name does not resolve"


class Slow:
    """A resolver that hangs until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        self.go.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]


def test_a_resolver_that_hangs_costs_no_more_than_the_deadline_and_one_thread_per_name() -> None:
    slow = Slow()
    egress = Egress(resolve=slow)
    for _ in range(3):
        with obeyed(Deadline.after(0.05)), pytest.raises(TransientError, match="store_timeout: still looking up"):
            egress.dial("https", STORE, 443, 1)
    assert slow.asked == [STORE]
    waiting: list[list[str]] = []
    thread = threading.Thread(target=lambda: waiting.append(egress.addresses("https", STORE, 443)))
    thread.start()
    wait_until(lambda: sys._current_frames()[thread.ident or 0].f_code.co_name == "wait")
    slow.go.set()
    thread.join(60)
    assert waiting == [["8.8.8.8"]]
    assert egress.addresses("https", STORE, 443) == ["8.8.8.8"]
    assert slow.asked == [STORE, STORE]  # answers are not kept


def test_no_refusal_looks_like_a_broken_connection_to_the_libraries() -> None:
    assert not issubclass(IntegrationError, OSError)

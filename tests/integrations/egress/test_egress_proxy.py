"""Stores called through a proxy: a real one on loopback, which alone knows where the stores are."""

import base64
import io
import re
import select
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from http.client import parse_headers
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from integrations.connections.causes import CAUSES, Actor
from integrations.egress.addresses import DevStore, is_host_name
from integrations.egress.deadline import Deadline
from integrations.egress.guard import Egress
from integrations.egress.session import Answer, GuardedSession
from integrations.egress.url import EgressProxy
from integrations.errors import IntegrationError, PermanentError, RequestRefused, TransientError
from integrations.oracle_commerce.store_url import normalise_store_url
from integrations.sealing.keyring import SealingKey
from integrations.settings import load_settings
from tasks.wiring import Wiring
from tests.integrations.hostile import HOSTILE_URLS, dialled
from tests.integrations.wire_servers import (
    STORE,
    TOKEN,
    Conversation,
    WireServer,
    answering,
    dripping,
    ending_after,
    hanging,
    http,
    requests_on,
    resolve_to,
    tls_for,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.server

OTHER = "ccadmin-other.oracleoutsourcing.com"
PASSWORD = "p:hunter2-ä"
LOGIN = f"occ:{PASSWORD}"
BASIC = base64.b64encode(LOGIN.encode())
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n"

Open = Callable[..., GuardedSession]


class Tunnels:
    """A proxy's side of things: which port of this machine each store has, what it was asked, what it passed on."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = ports
        self.asked: list[bytes] = []
        self.passed_on = bytearray()

    def __call__(self, connection: socket.socket) -> None:
        asked = next(requests_on(connection))
        self.asked.append(asked)
        host, _, port = asked.split(b" ")[1].decode().partition(":")
        assert port == "443"
        with socket.create_connection(("127.0.0.1", self._ports[host])) as store:
            connection.sendall(ESTABLISHED)
            other = {connection: store, store: connection}
            while True:
                for side in select.select(list(other), [], [], 10)[0]:
                    received = side.recv(65536)
                    if not received:
                        return
                    self.passed_on += received
                    other[side].sendall(received)


@pytest.fixture
def open_session(ca_bundle: str) -> Iterator[Open]:
    """Makes sessions that call through a server, and closes them. No name but the proxy's can be looked up."""
    sessions: list[GuardedSession] = []

    def open_session(proxy: WireServer | EgressProxy, login: str | None = LOGIN, **options: object) -> GuardedSession:
        if isinstance(proxy, WireServer):
            proxy = EgressProxy("127.0.0.1", proxy.port, login)
        session = GuardedSession(**{"proxy": proxy, "ca_bundle": ca_bundle, "resolve": nobody_asks, **options})  # type: ignore[arg-type]
        sessions.append(session)
        return session

    yield open_session
    for session in sessions:
        session.close()


def nobody_asks(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
    raise AssertionError(f"{host} was looked up here")


def ask(session: GuardedSession, host: str = STORE, *, seconds: float = 30, path: str = "/ccadmin/v1/x") -> Answer:
    return session.request(
        "GET",
        f"https://{host}{path}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        deadline=Deadline.after(seconds),
    )


def trouble_through(open_session: Open, conversation: Conversation, *, seconds: float = 30) -> TransientError:
    with WireServer(conversation) as proxy, pytest.raises(TransientError) as caught:
        ask(open_session(proxy), seconds=seconds)
    assert caught.value.__context__ is None
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not [secret for secret in (TOKEN, PASSWORD, "hunter2", BASIC.decode()) if secret in shown]
    return caught.value


def head(request: bytes) -> dict[str, str]:
    return dict(parse_headers(io.BytesIO(request.partition(b"\r\n")[2])))


def test_a_store_is_called_through_the_proxy_by_its_name(open_session: Open, authority: trustme.CA) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http(200, b'{"a": 1}'), seen), tls=tls_for(authority.issue_cert(STORE))) as store:
        tunnels = Tunnels({STORE: store.port})
        with WireServer(tunnels) as proxy:
            session = open_session(proxy)
            with dialled() as record:
                answers = [ask(session) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b'{"a": 1}')] * 3
    assert "X-Proxy" not in answers[0].headers
    assert (proxy.connections, store.connections, len(seen)) == (1, 1, 3)
    assert store.server_names == [STORE]
    assert set(map(str, record)) == {
        str(("127.0.0.1", port)) for port in (proxy.port, store.port)
    }  # the second: by proxy


def test_each_side_is_told_its_own_secret_only(open_session: Open, authority: trustme.CA) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http(), seen), tls=tls_for(authority.issue_cert(STORE))) as store:
        tunnels = Tunnels({STORE: store.port})
        with WireServer(tunnels) as proxy:
            ask(open_session(proxy))
    (asked,) = tunnels.asked
    assert asked.startswith(f"CONNECT {STORE}:443 HTTP/1.".encode())
    assert {name.lower() for name in head(asked)} <= {"host", "proxy-authorization"}
    assert head(asked)["Proxy-Authorization"] == f"Basic {BASIC.decode()}"
    assert seen[0].startswith(b"GET /ccadmin/v1/x HTTP/1.1\r\n")
    assert head(seen[0])["Authorization"] == f"Bearer {TOKEN}"
    assert head(seen[0])["Host"] == STORE
    assert not [name for name in head(seen[0]) if "proxy" in name.lower()]
    assert BASIC not in seen[0]
    assert len(tunnels.passed_on) > 500
    for secret in (TOKEN.encode(), BASIC, b"/ccadmin"):
        assert secret not in tunnels.passed_on
    assert TOKEN.encode() not in asked


def test_a_proxy_without_login_is_sent_none(open_session: Open, authority: trustme.CA) -> None:
    with WireServer(answering(http()), tls=tls_for(authority.issue_cert(STORE))) as store:
        tunnels = Tunnels({STORE: store.port})
        with WireServer(tunnels) as proxy:
            ask(open_session(proxy, login=None))
    assert b"uthorization" not in tunnels.asked[0]


def test_stores_get_tunnels_of_their_own(open_session: Open, authority: trustme.CA) -> None:
    with (
        WireServer(answering(http(200, b"1")), tls=tls_for(authority.issue_cert(STORE))) as one,
        WireServer(answering(http(200, b"2")), tls=tls_for(authority.issue_cert(OTHER))) as two,
        WireServer(Tunnels({STORE: one.port, OTHER: two.port})) as proxy,
    ):
        session = open_session(proxy)
        bodies = [ask(session, host).body for host in (STORE, OTHER, STORE, OTHER)]
    assert bodies == [b"1", b"2", b"1", b"2"]
    assert proxy.connections == 2


def test_a_tunnel_that_was_closed_while_idle_is_made_anew(open_session: Open, authority: trustme.CA) -> None:
    def once(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(http())

    with WireServer(once, tls=tls_for(authority.issue_cert(STORE))) as store:
        tunnels = Tunnels({STORE: store.port})
        with WireServer(tunnels) as proxy:
            session = open_session(proxy)
            for _ in range(3):
                assert ask(session).status == 200
                wait_until(lambda: proxy.talking == 0)
    assert [head(asked)["Proxy-Authorization"] for asked in tunnels.asked] == [f"Basic {BASIC.decode()}"] * 3


# The store's side of a tunnel is checked as without one


def test_a_certificate_for_another_name_is_no_better_through_a_proxy(open_session: Open, authority: trustme.CA) -> None:
    seen: list[bytes] = []
    for names in ([OTHER], ["127.0.0.1"], ["localhost", "proxy.example.com"]):
        certificate = authority.issue_cert(*names)
        with (
            WireServer(answering(http(), seen), tls=tls_for(certificate)) as store,
            WireServer(Tunnels({STORE: store.port})) as proxy,
            pytest.raises(TransientError) as caught,
        ):
            ask(open_session(proxy))
        assert str(caught.value) == "tls_failed: certificate is for another name"
    assert seen == []


def test_a_proxy_that_answers_in_the_stores_place_is_not_believed(open_session: Open) -> None:
    forged = tls_for(trustme.CA().issue_cert(STORE))

    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(ESTABLISHED)
        forged.wrap_socket(connection, server_side=True)

    assert str(trouble_through(open_session, conversation)) == "tls_failed: certificate chain is not trusted"


def test_redirects_and_large_answers_end_as_without_a_proxy(open_session: Open, authority: trustme.CA) -> None:
    def answer(request: bytes) -> bytes:
        if b"GET /moved" in request:
            return http(302, b"", {"Location": f"https://{OTHER}/"})
        return http(200, b"x" * 3000)

    with WireServer(answering(answer), tls=tls_for(authority.issue_cert(STORE))) as store:
        tunnels = Tunnels({STORE: store.port})
        with WireServer(tunnels) as proxy:
            session = open_session(proxy, max_answer=2000)
            with pytest.raises(PermanentError, match=f"redirected: {OTHER}"):
                ask(session, path="/moved")
            with pytest.raises(TransientError, match="answer_too_large"):
                ask(session)
    assert all(asked.startswith(f"CONNECT {STORE}:443 ".encode()) for asked in tunnels.asked)


# What goes wrong with the proxy


def refusing(status: int, reason: str = "No") -> Conversation:
    """A proxy that repeats the login in all it says."""
    echo = f"{reason} {BASIC.decode()} {PASSWORD}".encode()

    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(b"HTTP/1.1 %d %s\r\nX: %s\r\nContent-Length: 0\r\n\r\n" % (status, echo, echo))

    return conversation


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (400, "proxy_failed: HTTP 400"),
        (403, "proxy_failed: HTTP 403"),
        (407, "proxy_failed: HTTP 407"),
        (302, "proxy_failed: HTTP 302"),
        (500, "proxy_failed: HTTP 500"),
        (502, "store_unreachable: HTTP 502 from the proxy"),
        (503, "store_unreachable: HTTP 503 from the proxy"),
        (504, "store_unreachable: HTTP 504 from the proxy"),
    ],
)
def test_a_tunnel_refused_is_told_by_the_status_alone(open_session: Open, status: int, trouble: str) -> None:
    assert str(trouble_through(open_session, refusing(status))) == trouble
    assert str(trouble_through(open_session, refusing(status, "Tunnel connection failed: 200"))) == trouble


def saying(answer: bytes) -> Conversation:
    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(answer)

    return conversation


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (b"", "proxy_failed: connection closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "proxy_failed: the answer is not HTTP"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "proxy_failed: the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "proxy_failed: the answer is not HTTP"),
    ],
)
def test_a_broken_proxy_is_told_in_our_words(open_session: Open, answer: bytes, trouble: str) -> None:
    assert str(trouble_through(open_session, saying(answer))) == trouble


def test_a_tunnel_that_ends_before_the_handshake_tells_of_the_store(open_session: Open) -> None:
    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(ESTABLISHED)
        connection.recv(65536)  # closing with unread data would reset the connection

    trouble = trouble_through(open_session, conversation)
    assert str(trouble) == "store_unreachable: connection closed without an answer"


def test_a_proxy_that_refuses_connections_or_has_no_address_is_the_operators_to_mend(open_session: Open) -> None:
    with WireServer(hanging) as proxy:
        pass
    with pytest.raises(TransientError) as refused:
        ask(open_session(proxy))
    assert str(refused.value) == "proxy_failed: connection refused"
    with pytest.raises(TransientError) as unknown:
        ask(open_session(EgressProxy("proxy", 3128), resolve=resolve_to()))
    assert str(unknown.value) == "proxy_failed: the name does not resolve"
    assert CAUSES["proxy_failed"].actor is Actor.OPERATOR


@pytest.mark.parametrize(
    "conversation",
    [
        hanging,
        dripping(b"", b"H"),
        dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        dripping(b"HTTP/1.1 407 No\r\n\r\n", b"x", after_request=False),
    ],
)
def test_a_proxy_that_drips_or_hangs_costs_no_more_than_the_deadline(
    open_session: Open, conversation: Conversation
) -> None:
    with ending_after(0.0):
        error = trouble_through(open_session, conversation, seconds=0.3)
    assert str(error) in {"store_timeout: the proxy made no tunnel in time", "proxy_failed: HTTP 407"}


def test_a_store_that_hangs_behind_the_proxy_costs_no_more_than_the_deadline(
    open_session: Open, authority: trustme.CA
) -> None:
    slow = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    for server_tls, conversation in ((None, hanging), (tls_for(authority.issue_cert(STORE)), slow)):
        with (
            WireServer(conversation, tls=server_tls) as store,
            WireServer(Tunnels({STORE: store.port})) as proxy,
        ):
            session = open_session(proxy)
            with ending_after(0.3), pytest.raises(TransientError, match="store_timeout"):
                ask(session, seconds=0.3)


# Where calls may go


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[GuardedSession, WireServer]]:
    """A session and its proxy, which nothing hostile may reach."""
    with WireServer(hanging) as proxy:
        session = GuardedSession(proxy=EgressProxy("127.0.0.1", proxy.port), resolve=resolve_to("127.0.0.1"))
        yield session, proxy
        session.close()


def is_plain_name(url: str) -> bool:
    """Whether nothing is wrong with a URL but whose host it names: that is for the list of allowed hosts to say."""
    match = re.fullmatch(r"https://([a-z0-9.-]+)(:443)?(/.*)?", url, re.ASCII)
    return match is not None and is_host_name(match[1])


@pytest.mark.parametrize("url", [url for url in HOSTILE_URLS if is_plain_name(url)])
def test_a_plain_name_that_is_not_allowed_is_refused_by_the_list(url: str) -> None:
    with pytest.raises(RequestRefused, match="is not an admin host"):
        normalise_store_url(url, allowed_hosts=(), dev_stores=())


def test_nearly_all_hostile_urls_need_no_list_to_be_refused() -> None:
    assert sum(map(is_plain_name, HOSTILE_URLS)) < 15


@pytest.mark.parametrize("url", [url for url in HOSTILE_URLS if not is_plain_name(url)])
def test_a_hostile_url_is_refused_before_the_proxy_is_dialled(
    guarded: tuple[GuardedSession, WireServer], url: str
) -> None:
    session, proxy = guarded
    with dialled() as record, pytest.raises(PermanentError, match="egress_blocked"):
        session.request("GET", url, headers={"Authorization": TOKEN}, deadline=Deadline.after(30))
    assert record == []
    assert proxy.connections == 0


def test_the_proxys_own_address_is_no_store(guarded: tuple[GuardedSession, WireServer]) -> None:
    session, proxy = guarded
    for url in (
        f"http://127.0.0.1:{proxy.port}/",
        f"https://127.0.0.1:{proxy.port}/",
        f"https://{STORE}:{proxy.port}/",
    ):
        with dialled() as record, pytest.raises(PermanentError, match="egress_blocked"):
            session.request("GET", url, headers={}, deadline=Deadline.after(30))
        assert record == []


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 443), ("localhost", 443), ("169.254.169.254", 443), (STORE, 80), (STORE, 0), ("", 0)],
)
def test_no_tunnel_is_begun_to_what_is_no_store(host: str, port: int) -> None:
    with dialled() as record, WireServer(hanging) as proxy:
        egress = Egress([DevStore(ip_network("127.0.0.0/8"), None)], proxy=EgressProxy("127.0.0.1", proxy.port))
        with pytest.raises(PermanentError, match="egress_blocked"):
            egress.dial_proxy(host, port, 1)
    with pytest.raises(PermanentError, match="egress_blocked"):
        Egress().dial_proxy(STORE, 443, 1)
    assert record == []


def test_a_proxy_may_have_a_name_and_only_that_is_looked_up(open_session: Open, authority: trustme.CA) -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append((host, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with (
        WireServer(answering(http()), tls=tls_for(authority.issue_cert(STORE))) as store,
        WireServer(Tunnels({STORE: store.port})) as proxy,
    ):
        assert ask(open_session(EgressProxy("proxy", proxy.port), resolve=resolve)).status == 200
    assert asked == [("proxy", proxy.port)]


def test_a_proxy_may_be_at_an_ipv6_address(open_session: Open, authority: trustme.CA) -> None:
    with (
        WireServer(answering(http()), tls=tls_for(authority.issue_cert(STORE))) as store,
        WireServer(Tunnels({STORE: store.port}), address="::1") as proxy,
    ):
        assert ask(open_session(EgressProxy("::1", proxy.port))).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", STORE])
def test_dev_stores_are_called_directly(open_session: Open, host: str) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http(), seen)) as store, WireServer(hanging) as proxy:
        session = open_session(
            proxy, dev_stores=[DevStore(ip_network("127.0.0.0/8"), store.port)], resolve=resolve_to("127.0.0.1")
        )
        answer = session.request("GET", f"http://{host}:{store.port}/", headers={}, deadline=Deadline.after(30))
    assert answer.status == 200
    assert proxy.connections == 0
    assert b"roxy" not in seen[0]


# The environment


def test_the_environment_changes_nothing_about_a_proxy(
    open_session: Open, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text(f"machine {STORE} login a password b\nmachine 127.0.0.1 login a password b\n")
    seen: list[bytes] = []
    with (
        WireServer(answering(http(), seen), tls=tls_for(authority.issue_cert(STORE))) as store,
        WireServer(hanging) as of_environment,
    ):
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for spelt in (name, name.upper()):
                monkeypatch.setenv(spelt, f"http://env:env@127.0.0.1:{of_environment.port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "*")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        tunnels = Tunnels({STORE: store.port})
        with WireServer(tunnels) as proxy:
            with_setting = open_session(proxy)
            with_setting.request("GET", f"https://{STORE}/", headers={}, deadline=Deadline.after(30))
        without_setting = GuardedSession(resolve=resolve_to("127.0.0.1"))
        with pytest.raises(IntegrationError, match="egress_blocked"):
            ask(without_setting)
        without_setting.close()
    assert of_environment.connections == 0
    assert proxy.connections == 1
    assert head(tunnels.asked[0])["Proxy-Authorization"] == f"Basic {BASIC.decode()}"
    assert b"Authorization" not in seen[0]


def test_the_setting_reaches_the_calls() -> None:
    with WireServer(refusing(407)) as proxy:
        needed = {
            "OCC_REDIS_URL": "redis://127.0.0.1:1/0",
            "OCC_SEALING_KEYS": SealingKey.generate().export(),
            "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
        }
        services = Wiring(load_settings({**needed, "OCC_EGRESS_PROXY": f"http://occ:pw@127.0.0.1:{proxy.port}"}))
        with pytest.raises(TransientError, match="proxy_failed: HTTP 407"):
            ask(services.session)
        services.session.close()

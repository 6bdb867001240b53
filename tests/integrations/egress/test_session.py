import gzip
import io
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import parse_headers
from pathlib import Path

import pytest
import trustme

from integrations.egress.deadline import Deadline
from integrations.egress.session import Answer, GuardedSession
from integrations.errors import PermanentError, TransientError
from tests.integrations.wire_servers import (
    LOOPBACK,
    STORE,
    TOKEN,
    WireServer,
    answering,
    dripping,
    get,
    http,
    requests_on,
    resolve_to,
    tls_for,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.server


def test_an_answer_comes_back_whole(session: GuardedSession) -> None:
    before = time.time()
    with WireServer(answering(http(503, b'{"a": 1}', {"Retry-After": "7"}))) as server:
        answer = get(session, server)
    assert answer.status == 503
    assert answer.body == b'{"a": 1}'
    assert answer.headers["retry-after"] == answer.headers["RETRY-AFTER"] == "7"
    assert before <= answer.received_at <= time.time()


def test_a_call_says_who_we_are_and_asks_for_json(session: GuardedSession) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http(), seen)) as server:
        get(session, server)
    assert seen[0].startswith(b"GET /ccadmin/v1/x HTTP/1.1\r\n")
    headers = parse_headers(io.BytesIO(seen[0].partition(b"\r\n")[2]))
    assert headers["User-Agent"] == "occ-connect"
    assert headers["Accept-Encoding"] == "gzip"
    assert headers["Accept"] == "application/json"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Host"] == f"{STORE}:{server.port}"


def test_forms_and_json_are_sent_as_such(session: GuardedSession) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http(), seen)) as server:
        url = f"http://127.0.0.1:{server.port}/"
        session.request("POST", url, headers={}, deadline=Deadline.after(30), form={"grant_type": "a b&c"})
        session.request("PUT", url, headers={}, deadline=Deadline.after(30), json={"urls": ["https://ä"]})
    assert b"Content-Type: application/x-www-form-urlencoded\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\ngrant_type=a+b%26c")
    assert b"Content-Type: application/json\r\n" in seen[1]
    assert seen[1].endswith(b'\r\n\r\n{"urls": ["https://\\u00e4"]}')


def test_a_compressed_answer_is_decompressed(session: GuardedSession) -> None:
    body = gzip.compress(b'{"items": []}')
    with WireServer(answering(http(200, body, {"Content-Encoding": "gzip"}))) as server:
        assert get(session, server).body == b'{"items": []}'


@pytest.mark.parametrize("status", [204, 200])
def test_an_answer_may_have_no_body(session: GuardedSession, status: int) -> None:
    with WireServer(answering(http(status, b""))) as server:
        assert get(session, server).body == b""
        assert get(session, server).body == b""
    assert server.connections == 1


def test_an_answer_may_end_with_the_connection(session: GuardedSession) -> None:
    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}')

    with WireServer(conversation) as server:
        assert get(session, server).body == b'{"a": 1}'


def test_chunked_answers_are_put_together(session: GuardedSession) -> None:
    answer = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5\r\n": 1}\r\n0\r\n\r\n'
    with WireServer(answering(answer)) as server:
        assert get(session, server).body == b'{"a": 1}'
        assert get(session, server).body == b'{"a": 1}'
    assert server.connections == 1


def test_connections_are_used_again(session: GuardedSession) -> None:
    with WireServer(answering(http())) as server:
        for _ in range(5):
            get(session, server)
    assert server.connections == 1


def test_a_connection_the_store_closed_while_idle_is_replaced_unnoticed(session: GuardedSession) -> None:
    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(http())

    with WireServer(conversation) as server:
        for _ in range(3):
            assert get(session, server).status == 200
            wait_until(lambda: server.talking == 0)
    assert server.connections == 3


def test_many_threads_share_a_session_and_get_their_own_answers(session: GuardedSession) -> None:
    def echo(request: bytes) -> bytes:
        return http(200, request.split(b" ")[1])

    with WireServer(answering(echo)) as server, ThreadPoolExecutor(64) as threads:
        paths = [f"/{number}" for number in range(640)]
        answers = list(threads.map(lambda path: get(session, server, path=path, seconds=20).body, paths))
    assert answers == [path.encode() for path in paths]
    assert server.connections <= 64


def test_more_stores_than_connections_are_kept_for_can_be_called(session: GuardedSession) -> None:
    with WireServer(answering(http())) as server, ThreadPoolExecutor(16) as threads:
        urls = [f"http://ccadmin-z{number}.oracleoutsourcing.com:{server.port}/" for number in range(270)]
        random.shuffle(urls)

        def call(url: str) -> int:
            return session.request("GET", url, headers={}, deadline=Deadline.after(20)).status

        assert set(threads.map(call, urls * 2)) == {200}


def test_an_answer_shows_neither_body_nor_headers() -> None:
    assert TOKEN not in repr(Answer(200, {"Set-Cookie": TOKEN}, TOKEN.encode(), 0.0))


# Nothing happens behind a call's back


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_a_finding_and_not_followed(session: GuardedSession, status: int) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http(), seen)) as other:
        location = f"http://127.0.0.1:{other.port}/?token=secret"
        with (
            WireServer(answering(http(status, b"", {"Location": location}))) as server,
            pytest.raises(PermanentError) as caught,
        ):
            get(session, server)
    assert caught.value.code == "redirected"
    assert caught.value.detail == "127.0.0.1"
    assert seen == []
    assert other.connections == 0


@pytest.mark.parametrize(
    ("location", "detail"),
    [
        ("https://login.example.com/path?token=secret", "login.example.com"),
        ("//LOGIN.example.com", "login.example.com"),
        ("/occs-admin/?token=secret", STORE),
        ("https://user:secret@login.example.com/", "HTTP 302"),
        ("javascript:secret", "HTTP 302"),
        ("", "HTTP 302"),
        ("https://ex\u00e4mple.com/", "HTTP 302"),
    ],
)
def test_a_redirect_tells_only_the_host_it_leads_to(session: GuardedSession, location: str, detail: str) -> None:
    with (
        WireServer(answering(http(302, b"", {"Location": location}))) as server,
        pytest.raises(PermanentError) as caught,
    ):
        get(session, server)
    assert str(caught.value) == f"redirected: {detail}"


@pytest.mark.parametrize(
    "location",
    [
        "https://Canary-7F3A.example.com/",
        "//c.a.n.a.r.y.example.com",
        "https://x-nary7f.example.com/",
        "https://canary7f3a/",
    ],
)
def test_a_redirect_to_a_host_made_of_the_credential_does_not_tell_it(session: GuardedSession, location: str) -> None:
    with (
        WireServer(answering(http(302, b"", {"Location": location}))) as server,
        pytest.raises(PermanentError) as caught,
    ):
        get(session, server)
    assert caught.value.detail == "HTTP 302"


def test_the_body_of_a_redirect_is_not_read(session: GuardedSession) -> None:
    start = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 99999999\r\n\r\n"
    with WireServer(dripping(start)) as server, pytest.raises(PermanentError, match="redirected"):
        get(session, server, seconds=5)  # the body does not end: whoever reads it sees the deadline instead


def test_cookies_are_refused(session: GuardedSession) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http(200, b"{}", {"Set-Cookie": "JSESSIONID=1; Path=/"}), seen)) as server:
        get(session, server)
        get(session, server)
    assert b"ookie" not in seen[1]


def test_the_environment_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxied: list[bytes] = []
    seen: list[bytes] = []
    (tmp_path / ".netrc").write_text(f"default login somebody password else\nmachine {STORE} login a password b\n")
    with WireServer(answering(http(), proxied)) as proxy, WireServer(answering(http(), seen)) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing"))
        monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "nothing"))
        session = GuardedSession(dev_stores=LOOPBACK, resolve=resolve_to("127.0.0.1"))
        get(session, server)
        session.request("GET", f"http://{STORE}:{server.port}/", headers={}, deadline=Deadline.after(30))
        session.close()
    assert proxied == []
    assert proxy.connections == 0
    assert f"Authorization: Bearer {TOKEN}".encode() in seen[0]
    assert b"Authorization" not in seen[1]


def test_no_session_keys_are_written_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, ca_bundle: str
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    session = GuardedSession(dev_stores=LOOPBACK, resolve=resolve_to("127.0.0.1"), ca_bundle=ca_bundle)
    with WireServer(answering(http()), tls=tls_for(authority.issue_cert(STORE))) as server:
        get(session, server, scheme="https")
    session.close()
    assert not (tmp_path / "keys").exists()


def test_a_failed_call_is_made_once(session: GuardedSession) -> None:
    seen: list[bytes] = []

    def conversation(connection: socket.socket) -> None:
        seen.append(next(requests_on(connection)))

    with WireServer(conversation) as server, pytest.raises(TransientError) as caught:
        get(session, server)
    assert str(caught.value) == "store_unreachable: connection closed without an answer"
    assert len(seen) == 1

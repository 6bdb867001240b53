"""What goes wrong on the wire is told in our words, and nothing else gets out."""

import errno
import gc
import http.client
import socket
import ssl
import traceback
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import trustme
import urllib3

from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession, _translated
from integrations.errors import IntegrationError, SettingsError, TransientError
from tests.integrations.wire_servers import (
    LOOPBACK,
    STORE,
    TOKEN,
    Conversation,
    WireServer,
    answering,
    dripping,
    failure_of,
    get,
    hanging,
    requests_on,
    resolve_to,
    tls_for,
    trouble_with,
)
from tests.integrations.wire_servers import http as http_answer

pytestmark = pytest.mark.server


# TLS


def test_names_stay_names_in_tls_and_connections_are_used_again(
    tls_session: GuardedSession, authority: trustme.CA
) -> None:
    with WireServer(answering(http_answer()), tls=tls_for(authority.issue_cert(STORE))) as server:
        for _ in range(3):
            assert get(tls_session, server, scheme="https").status == 200
    assert server.connections == 1
    assert server.server_names == [STORE]


def test_a_certificate_for_another_name_is_told_as_such(tls_session: GuardedSession, authority: trustme.CA) -> None:
    seen: list[bytes] = []
    certificate = authority.issue_cert("ccadmin-other.oracleoutsourcing.com")
    with WireServer(answering(http_answer(), seen), tls=tls_for(certificate)) as server:
        error = failure_of(tls_session, server)
    assert str(error) == "tls_failed: certificate is for another name"
    assert seen == []


def test_a_chain_nobody_vouches_for_is_told_as_such(tls_session: GuardedSession) -> None:
    seen: list[bytes] = []
    with WireServer(answering(http_answer(), seen), tls=tls_for(trustme.CA().issue_cert(STORE))) as server:
        error = failure_of(tls_session, server)
    assert str(error) == "tls_failed: certificate chain is not trusted"
    assert seen == []


def test_an_expired_certificate_is_told_as_such(tls_session: GuardedSession, authority: trustme.CA) -> None:
    certificate = authority.issue_cert(STORE, not_after=datetime(2020, 1, 1, tzinfo=UTC))
    with WireServer(answering(http_answer()), tls=tls_for(certificate)) as server:
        assert str(failure_of(tls_session, server)) == "tls_failed: certificate has expired"


def test_the_public_authorities_are_trusted_without_a_bundle(authority: trustme.CA) -> None:
    session = GuardedSession(dev_stores=LOOPBACK, resolve=resolve_to("127.0.0.1"))
    with WireServer(answering(http_answer()), tls=tls_for(authority.issue_cert(STORE))) as server:
        assert str(failure_of(session, server)) == "tls_failed: certificate chain is not trusted"
    session.close()


def test_a_store_without_tls_is_told_as_such(tls_session: GuardedSession) -> None:
    def conversation(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(http_answer(400))

    with WireServer(conversation) as server:
        assert str(failure_of(tls_session, server)) == "tls_failed: the other side speaks no TLS"


def test_old_versions_of_tls_are_not_spoken(tls_session: GuardedSession, authority: trustme.CA) -> None:
    context = tls_for(authority.issue_cert(STORE))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # Python thinks them old, too
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with WireServer(answering(http_answer()), tls=context) as server:
        assert str(failure_of(tls_session, server)) == "tls_failed: no common version of TLS"


def test_a_connection_cut_in_the_handshake_says_nothing_about_certificates(tls_session: GuardedSession) -> None:
    def conversation(connection: socket.socket) -> None:
        connection.recv(100)

    with WireServer(conversation) as server:
        assert failure_of(tls_session, server).code == "store_unreachable"


def test_a_bundle_that_cannot_be_read_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for file in ("ca.pem", "missing.pem"):
        with pytest.raises(SettingsError, match="OCC_CA_BUNDLE"):
            GuardedSession(ca_bundle=str(tmp_path / file))


# The rest


def _sending(answer: bytes) -> Conversation:
    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(answer)

    return conversation


def _resetting(connection: socket.socket) -> None:
    next(requests_on(connection))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


@pytest.mark.parametrize(
    ("conversation", "code"),
    [
        (_resetting, "store_unreachable"),
        (_sending(b""), "store_unreachable"),
        (_sending(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"), "store_unreachable"),
        (_sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"), "store_unreachable"),
        (_sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"), "unreadable_answer"),
        (_sending(b"SSH-2.0-OpenSSH_9.2\r\n"), "unreadable_answer"),
        (_sending(b"HTTP/1.1 two hundred\r\n\r\n"), "unreadable_answer"),
        (_sending(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"), "answer_too_large"),
        (_sending(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n"), "answer_too_large"),
        (_sending(http_answer(200, b"not gzip", {"Content-Encoding": "gzip"})), "unreadable_answer"),
        (_sending(http_answer(200, b"x", {"Content-Encoding": ", ".join(["gzip"] * 9)})), "unreadable_answer"),
    ],
)
def test_broken_answers_are_told_in_our_words(session: GuardedSession, conversation: Conversation, code: str) -> None:
    error = trouble_with(session, conversation)
    assert error.code == code
    assert TOKEN not in _everything_about(error)


def test_a_store_that_refuses_connections_is_unreachable(session: GuardedSession) -> None:
    with WireServer(hanging) as server:
        pass
    with pytest.raises(TransientError) as caught:
        get(session, server)
    assert str(caught.value) == "store_unreachable: connection refused"


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {TOKEN}\r\nX: y"}, {"Authorization": f"{TOKEN} \u20ac"}, {"": TOKEN}]
)
def test_headers_that_cannot_be_sent_do_not_end_in_a_text_that_quotes_them(
    session: GuardedSession, headers: Mapping[str, str]
) -> None:
    with WireServer(answering(http_answer())) as server, pytest.raises(IntegrationError) as caught:
        session.request("GET", f"http://127.0.0.1:{server.port}/", headers=headers, deadline=Deadline.after(30))
    assert TOKEN not in _everything_about(caught.value)


POOL = urllib3.HTTPConnectionPool("store.example")
CONNECTION = urllib3.connection.HTTPConnection("store.example")
EOF = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (requests.ConnectionError(urllib3.exceptions.ProtocolError("x", ConnectionResetError())), "store_unreachable"),
        (requests.ConnectTimeout(), "store_timeout"),
        (requests.ReadTimeout(), "store_timeout"),
        (requests.Timeout(), "store_timeout"),
        (requests.exceptions.SSLError(urllib3.exceptions.SSLError(ssl.SSLCertVerificationError())), "tls_failed"),
        (requests.exceptions.SSLError(), "tls_failed"),
        (requests.exceptions.SSLError(urllib3.exceptions.SSLError(EOF)), "store_unreachable"),
        (requests.exceptions.ChunkedEncodingError(), "store_unreachable"),
        (requests.exceptions.ContentDecodingError(), "store_unreachable"),
        (requests.exceptions.InvalidHeader(), "store_unreachable"),
        (requests.exceptions.InvalidURL(), "store_unreachable"),
        (requests.exceptions.ProxyError(), "store_unreachable"),
        (requests.exceptions.RetryError(), "store_unreachable"),
        (requests.exceptions.TooManyRedirects(), "store_unreachable"),
        (requests.exceptions.StreamConsumedError(), "store_unreachable"),
        (urllib3.exceptions.MaxRetryError(POOL, "/", EOF), "store_unreachable"),
        (urllib3.exceptions.MaxRetryError(POOL, "/", TimeoutError()), "store_timeout"),
        (urllib3.exceptions.NewConnectionError(CONNECTION, "x"), "store_unreachable"),
        (urllib3.exceptions.NameResolutionError("x", CONNECTION, socket.gaierror()), "store_unreachable"),
        (urllib3.exceptions.ReadTimeoutError(POOL, "/", "x"), "store_timeout"),
        (urllib3.exceptions.SSLError(ssl.SSLError()), "tls_failed"),
        (urllib3.exceptions.DecodeError(), "unreadable_answer"),
        (urllib3.exceptions.IncompleteRead(1, 2), "store_unreachable"),
        (urllib3.exceptions.InvalidHeader(), "store_unreachable"),
        (urllib3.exceptions.ClosedPoolError(POOL, "x"), "store_unreachable"),
        (urllib3.exceptions.EmptyPoolError(POOL, "x"), "store_unreachable"),
        (urllib3.exceptions.LocationParseError("x"), "store_unreachable"),
        (urllib3.exceptions.HeaderParsingError([], None), "store_unreachable"),
        (urllib3.exceptions.ResponseError(), "store_unreachable"),
        (http.client.RemoteDisconnected("x"), "store_unreachable"),
        (http.client.BadStatusLine("x"), "unreadable_answer"),
        (http.client.LineTooLong("x"), "unreadable_answer"),
        (http.client.IncompleteRead(b""), "store_unreachable"),
        (http.client.CannotSendRequest(), "unreadable_answer"),
        (ssl.SSLError(1, "x"), "tls_failed"),
        (ssl.SSLZeroReturnError(), "store_unreachable"),
        (socket.gaierror(), "store_unreachable"),
        (TimeoutError(), "store_timeout"),
        (BrokenPipeError(), "store_unreachable"),
        (OSError(28, "No space"), "store_unreachable"),
        (UnicodeEncodeError("latin-1", TOKEN, 0, 1, "x"), "store_unreachable"),
        (ValueError(TOKEN), "store_unreachable"),
        (RuntimeError("can't start new thread"), "out_of_resources"),
        (MemoryError(), "out_of_resources"),
        (requests.ConnectionError(OSError(errno.EMFILE, "Too many open files")), "out_of_resources"),
        (OSError(errno.ENFILE, "Too many open files in system"), "out_of_resources"),
        (urllib3.exceptions.ProtocolError("x", OSError(errno.ENOBUFS, "x")), "out_of_resources"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_resources"),
        (RecursionError(), "store_unreachable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_whatever_the_libraries_raise_becomes_one_of_our_errors(
    session: GuardedSession, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", fail)
    with pytest.raises(TransientError) as caught:
        session.request("GET", "http://127.0.0.1:9/", headers={}, deadline=Deadline.after(30))
    assert caught.value.code == code
    assert TOKEN not in _everything_about(caught.value)


def test_nothing_of_the_original_exception_stays_attached(session: GuardedSession) -> None:
    error = trouble_with(session, _resetting)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_an_exception_that_is_its_own_cause_is_translated_too() -> None:
    circular = OSError()
    circular.__cause__ = ValueError(circular)
    circular.args = (circular,)
    assert _translated(circular, 1).code == "store_unreachable"


def test_failures_leave_no_socket_open(session: GuardedSession) -> None:
    trouble_with(session, _resetting)
    trouble_with(session, dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), seconds=0.1)
    gc.collect()  # a socket left open would warn here, and warnings are errors


def _everything_about(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__) + repr(error.__context__)

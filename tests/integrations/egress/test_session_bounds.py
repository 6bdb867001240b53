"""A call ends in time and reads no more than it should, whatever the store does."""

import gzip
import socket
import tracemalloc
from contextlib import suppress

import pytest
import trustme

from integrations.egress.allowance import Allowance
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import TransientError
from tests.integrations.wire_servers import (
    LOOPBACK,
    STORE,
    Conversation,
    WireServer,
    answering,
    dripping,
    ending_after,
    failure_of,
    get,
    hanging,
    http,
    requests_on,
    resolve_to,
    tls_for,
    trouble_with,
)

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    "conversation",
    [
        pytest.param(hanging, id="never answers"),
        pytest.param(dripping(b"", b"H"), id="status line"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), id="header"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), id="headers"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim answers"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), id="body"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\n\r\n"), id="body without length"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), id="chunks"),
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X: y\r\n"),
            id="trailers",
        ),
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99999\r\n\r\n", gzip.compress(b"")),
            id="gzip of nothing",
        ),
    ],
)
def test_a_store_that_drips_ends_at_the_deadline(session: GuardedSession, conversation: Conversation) -> None:
    with ending_after(0.2):
        error = trouble_with(session, conversation, seconds=0.2)
    assert error.code == "store_timeout"


def test_a_dripping_tls_handshake_ends_at_the_deadline(tls_session: GuardedSession) -> None:
    # The header of a long handshake record, and then its bytes one at a time
    conversation = dripping(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03", b"\x07", after_request=False)
    with WireServer(conversation) as server, ending_after(0.2):
        error = failure_of(tls_session, server, seconds=0.2)
    assert error.code == "store_timeout"


def test_a_slow_tls_handshake_may_take_longer_than_dialling(authority: trustme.CA, ca_bundle: str) -> None:
    context = tls_for(authority.issue_cert(STORE))

    def conversation(connection: socket.socket) -> None:
        server.wait(0.3)
        with context.wrap_socket(connection, server_side=True) as encrypted:
            answering(http())(encrypted)

    session = GuardedSession(
        dev_stores=LOOPBACK, connect_timeout=0.1, ca_bundle=ca_bundle, resolve=resolve_to("127.0.0.1")
    )
    with WireServer(conversation) as server:
        assert get(session, server, scheme="https").status == 200
        session.close()


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_dripping_through_tls_ends_at_the_deadline(
    tls_session: GuardedSession, authority: trustme.CA, start: bytes
) -> None:
    with WireServer(dripping(start), tls=tls_for(authority.issue_cert(STORE))) as server, ending_after(0.25):
        error = failure_of(tls_session, server, seconds=0.25)
    assert error.code == "store_timeout"


def test_a_store_that_does_not_read_ends_at_the_deadline(session: GuardedSession) -> None:
    def conversation(_: socket.socket) -> None:
        server.wait(60)

    with WireServer(conversation) as server, ending_after(0.3), pytest.raises(TransientError) as caught:
        session.request(
            "PUT",
            f"http://127.0.0.1:{server.port}/",
            headers={},
            deadline=Deadline.after(0.3),
            json={"long": "x" * 30_000_000},
        )
    assert caught.value.code == "store_timeout"


def test_the_session_has_a_deadline_of_its_own() -> None:
    session = GuardedSession(dev_stores=LOOPBACK, call_deadline=0.2, resolve=resolve_to("127.0.0.1"))
    with ending_after(0.2):
        assert trouble_with(session, hanging, seconds=60).code == "store_timeout"
    session.close()


def test_without_time_left_nothing_is_dialled(session: GuardedSession) -> None:
    with WireServer(answering(http())) as server, pytest.raises(TransientError, match="store_timeout"):
        get(session, server, seconds=-1)
    assert server.connections == 0


def test_a_call_after_one_that_timed_out_is_not_disturbed_by_it(session: GuardedSession) -> None:
    def conversation(connection: socket.socket) -> None:
        for number, _ in enumerate(requests_on(connection)):
            if number == 1 and server.connections == 1:
                server.wait(60)
            connection.sendall(http(200, str(server.connections).encode()))

    with WireServer(conversation) as server:
        assert get(session, server).body == b"1"
        with pytest.raises(TransientError):
            get(session, server, seconds=0.2)
        assert get(session, server).body == b"2"


# Size


def test_an_answer_may_be_as_large_as_the_cap_and_no_larger() -> None:
    answer = http(200, b"x" * 90_000)
    session = GuardedSession(dev_stores=LOOPBACK, max_answer=len(answer), resolve=resolve_to("127.0.0.1"))
    with WireServer(answering(answer)) as server:
        assert len(get(session, server).body) == 90_000
    assert trouble_with(session, answering(http(200, b"x" * 90_001))).code == "answer_too_large"
    session.close()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIPPED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="interim answers"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n" + b"Link: </a.css>\r\n" * 90 + b"\r\n", id="early hints"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n", b"Link: </a.css>\r\n", id="headers of an interim answer"),
        pytest.param(b"HTTP/1.1 200 ", b"O", id="reason"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-" + b"y" * 60_000 + b": z\r\n", id="long headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", id="short headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"\t", id="a header that goes on"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", b"x", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x", id="body without a length"),
        pytest.param(CHUNKED, b"1\r\nx\r\n", id="chunks of a byte"),
        pytest.param(CHUNKED, b"1;" + b"e" * 4000 + b"\r\nx\r\n", id="chunk extensions"),
        pytest.param(CHUNKED + b"ffffffff\r\n", b"x", id="one chunk"),
        pytest.param(CHUNKED + b"0\r\n", b"X: y\r\n", id="trailers"),
        pytest.param(CHUNKED + b"0\r\nX: ", b"y", id="a trailer"),
        pytest.param(GZIPPED, gzip.compress(b""), id="gzip of nothing"),
        pytest.param(GZIPPED + gzip.compress(b"x")[:10], EMPTY_BLOCK, id="empty blocks in gzip"),
    ],
)
def test_whatever_has_no_end_costs_no_more_than_the_cap(session: GuardedSession, start: bytes, endless: bytes) -> None:
    sent = 0

    def conversation(connection: socket.socket) -> None:
        nonlocal sent
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        next(requests_on(connection))
        connection.sendall(start)
        block = endless * (32_768 // len(endless) + 1)
        while True:
            sent += connection.send(block)

    with WireServer(conversation) as server, pytest.raises(TransientError) as caught:
        get(session, server)
    assert caught.value.code == "answer_too_large"
    assert sent < 2 * 1024 * 1024 + 600_000  # the rest lies in the buffers of both systems, unread
    assert server.connections == 1


def test_an_answer_in_single_bytes_is_not_read_for_ever(session: GuardedSession) -> None:
    """Each byte that comes alone costs as much time as a thousand together."""
    allowance = Allowance(10_000)
    with suppress(TransientError):
        while allowance.next_read(8192):
            allowance.spend(1)
    assert allowance.bytes_received < 50
    with WireServer(answering(http(200, b"{}" * 400))) as server:  # while a small one may come as it likes
        assert len(get(session, server).body) == 800


def test_what_unpacks_to_more_than_the_cap_leaves_memory_alone(session: GuardedSession) -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    for encoding, body in (("gzip", bomb), ("X-GZIP", bomb)):
        tracemalloc.start()
        error = trouble_with(session, answering(http(200, body, {"Content-Encoding": encoding})))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert error.code == "answer_too_large"
        assert peak < 12_000_000

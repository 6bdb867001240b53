"""No call gets the answer to another, whatever a store or something in front of it sends over a connection.

Every call asks for a token of its own, and the answer to it repeats it. With another token it is somebody else's.
"""

import gzip
import itertools
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest
import trustme

from integrations.egress.allowance import Allowance, paid_from
from integrations.egress.deadline import DeadlineSocket
from integrations.egress.session import GuardedSession
from integrations.errors import TransientError
from tests.integrations.wire_servers import (
    STORE,
    Conversation,
    WireServer,
    get,
    http,
    requests_on,
    tls_for,
)

pytestmark = pytest.mark.server

THREADS, CALLS = 8, 4
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_number = itertools.count()


def answer_to(token: str) -> bytes:
    return json.dumps({"token": token}).encode()


def whole(token: str) -> bytes:
    return http(200, answer_to(token))


def chunked(body: bytes, extension: bytes = b"", trailers: bytes = b"", line_end: bytes = b"\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = (b"%x%s%s%s%s" % (len(part), extension, line_end, part, line_end) for part in (body[:5], body[5:]))
    return head + b"".join(chunks) + b"0" + line_end + trailers + line_end


def with_head(head: bytes) -> Callable[[str], bytes]:
    return lambda token: head.replace(b"LENGTH", b"%d" % len(answer_to(token))) + b"\r\n\r\n" + answer_to(token)


def gzipped(token: str, *, before: bytes = b"", after: bytes = b"") -> bytes:
    return http(200, before + gzip.compress(answer_to(token)) + after, {"Content-Encoding": "gzip"})


OTHER = whole("somebody else's")
OK = b"HTTP/1.1 200 OK\r\n"

GOOD: dict[str, Callable[[str], bytes]] = {
    "plain": whole,
    "chunked": lambda token: chunked(answer_to(token)),
    "chunks with extensions": lambda token: chunked(answer_to(token), extension=b';a=b;c="d;e"'),
    "chunks with spaces behind their size": lambda token: chunked(answer_to(token), extension=b"  "),
    "trailers": lambda token: chunked(answer_to(token), trailers=b"X-Took: 5\r\nETag: x\r\n"),
    "bare line ends": lambda token: whole(token).replace(b"\r\n", b"\n"),
    "chunks with bare line ends": lambda token: chunked(answer_to(token), line_end=b"\n"),
    "no reason": with_head(b"HTTP/1.1 200\r\nContent-Length: LENGTH"),
    "an empty reason": with_head(b"HTTP/1.1 200 \r\nContent-Length: LENGTH"),
    "HTTP/1.0": with_head(b"HTTP/1.0 200 OK\r\nContent-Length: LENGTH"),
    "HTTP/1.0 that is kept alive": with_head(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: LENGTH"),
    "connection: close": with_head(OK + b"Connection: close\r\nContent-Length: LENGTH"),
    "the same length twice": with_head(OK + b"Content-Length: LENGTH\r\ncontent-length: LENGTH, LENGTH"),
    "spaces around a header": with_head(OK + b"Content-Length: \t LENGTH \t"),
    "a header in Latin-1": with_head(OK + b"X: caf\xe9, caf\xc3\xa9\r\nContent-Length: LENGTH"),
    "a folded header": with_head(OK + b"X: a\r\n b\r\nContent-Length: LENGTH"),
    "103": lambda token: HINTS + whole(token),
    "100": lambda token: CONTINUE + whole(token),
    "102": lambda token: b"HTTP/1.1 102 Processing\r\n\r\n" + whole(token),
    "an interim answer of no known kind": lambda token: b"HTTP/1.1 199 Whatever\r\n\r\n" + whole(token),
    "three interim answers": lambda token: CONTINUE + HINTS + HINTS + whole(token),
    "eight interim answers": lambda token: CONTINUE * 8 + whole(token),
    "103 ahead of chunks": lambda token: HINTS + chunked(answer_to(token)),
    "103 with a length of its own": lambda token: (
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + whole(token)
    ),
    "gzip": gzipped,
    "gzip and zeros": lambda token: gzipped(token, after=bytes(7)),
    "gzip in two members": lambda token: gzipped(token, before=gzip.compress(b" ")),
}
"""Answers that are read; some of them on a connection that is then closed."""

BAD: dict[str, Callable[[str], bytes]] = {
    "garbage": lambda _: b"\x00\x01\x02 garbage\r\n\r\n",
    "garbage ahead": lambda token: b"garbage\r\n" + whole(token),
    "an empty line ahead": lambda token: b"\r\n" + whole(token),
    "zeros ahead": lambda token: bytes(4) + whole(token),
    "the end of a chunk ahead": lambda token: b"0\r\n\r\n" + whole(token),
    "101": lambda token: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + whole(token),
    "nine interim answers": lambda token: CONTINUE * 9 + whole(token),
    "a line that is no header": with_head(OK + b"what is this\r\nContent-Length: LENGTH"),
    "a folded line before any header": with_head(OK + b" a\r\nContent-Length: LENGTH"),
    "a name with a space behind it": with_head(OK + b"Content-Length : LENGTH"),
    "half an interim answer": lambda _: HINTS[:30],
    "HTTP/2": lambda token: whole(token).replace(b"HTTP/1.1", b"HTTP/2"),
    "HTTP/0.9": answer_to,
    "a status of two digits": lambda token: whole(token).replace(b"200", b"20"),
    "a status of four digits": lambda token: whole(token).replace(b"200", b"2000"),
    "a status with a sign": lambda token: whole(token).replace(b"200", b"+20"),
    "two spaces before the status": lambda token: whole(token).replace(b" 200", b"  200"),
    "two lengths": with_head(OK + b"Content-Length: 3\r\nContent-Length: LENGTH"),
    "two lengths in one": with_head(OK + b"Content-Length: LENGTH, 3"),
    "a length with a sign": with_head(OK + b"Content-Length: +LENGTH"),
    "a negative length": with_head(OK + b"Content-Length: -1"),
    "a length with an underscore": with_head(OK + b"Content-Length: 1_0"),
    "a length in hexadecimal": with_head(OK + b"Content-Length: 0x10"),
    "no length at all": with_head(OK + b"Content-Length: "),
    "gzip as a transfer encoding": with_head(OK + b"Transfer-Encoding: gzip, chunked"),
    "chunked twice": with_head(OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    "identity as a transfer encoding": with_head(OK + b"Transfer-Encoding: identity\r\nContent-Length: LENGTH"),
    "a negative chunk": lambda token: chunked(answer_to(token)).replace(b"\n5\r", b"\n-5\r"),
    "a chunk with a sign": lambda token: chunked(answer_to(token)).replace(b"\n5\r", b"\n+5\r"),
    "a chunk in Python's hexadecimal": lambda token: chunked(answer_to(token)).replace(b"\n5\r", b"\n0x5\r"),
    "a chunk of nine digits": lambda token: chunked(answer_to(token)).replace(b"\n5\r", b"\n000000005\r"),
    "a chunk without a size": lambda token: chunked(answer_to(token)).replace(b"\n5\r", b"\n;a\r"),
    "a chunk that is longer than it says": lambda token: chunked(answer_to(token)).replace(b"\n5\r", b"\n4\r"),
    "a chunk that is shorter than it says": lambda token: chunked(answer_to(token)).replace(b"\n5\r", b"\n6\r"),
    "a chunk that ends in something else": lambda token: chunked(answer_to(token)).replace(b"tok\r\n", b"tokXY"),
    "no last chunk": lambda token: chunked(answer_to(token))[:-5],
    "gzip cut off": lambda token: http(200, gzip.compress(answer_to(token))[:-3], {"Content-Encoding": "gzip"}),
    "gzip in gzip": lambda token: http(
        200, gzip.compress(gzip.compress(answer_to(token))), {"Content-Encoding": "gzip, gzip"}
    ),
    "gzip in nine members": lambda token: gzipped(token, before=gzip.compress(b" ") * 9),
}
"""Answers that cannot be read, with another one behind them: whoever went on reading there would take that."""

BEHIND = {
    "another answer": OTHER,
    "the start of another answer": OTHER[:20],
    "an interim answer": HINTS,
    "a line end": b"\r\n",
    "a zero": b"\x00",
    "the end of a chunk": b"0\r\n\r\n",
    "a refusal": http(401),
}


def answering(make: Callable[[str], bytes], *, bytewise: bool = False, then_close: bool = False) -> Conversation:
    """Answers each call with what is made of its token."""

    def conversation(connection: socket.socket) -> None:
        for request in requests_on(connection):
            answer = make(token_of(request))
            step = 1 if bytewise else len(answer) or 1
            for at in range(0, len(answer), step):
                connection.sendall(answer[at : at + step])
            if then_close:
                return

    return conversation


def token_of(request: bytes) -> str:
    return request.split(b" ")[1].rpartition(b"/")[2].decode()


def call(session: GuardedSession, server: WireServer, scheme: str = "http") -> bool:
    """Whether a call was answered; with another's answer the test fails."""
    token = f"call-{next(_number)}"
    try:
        answer = get(session, server, scheme=scheme, path=f"/{token}", seconds=20)
    except TransientError as error:
        if error.code not in {"unreadable_answer", "answer_too_large", "store_unreachable"}:
            raise
        return False
    try:
        assert json.loads(answer.body) == {"token": token}
    except ValueError:
        return False  # nobody takes that for an answer
    return True


def calls(session: GuardedSession, conversation: Conversation) -> list[bool]:
    """Eight threads make some calls each over the same few connections."""
    with WireServer(conversation) as server, ThreadPoolExecutor(THREADS) as threads:
        work = [threads.submit(lambda: [call(session, server) for _ in range(CALLS)]) for _ in range(THREADS)]
        return [answered for thread in work for answered in thread.result()]


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "in single bytes"])
@pytest.mark.parametrize("case", GOOD)
def test_a_good_answer_is_its_own_calls(session: GuardedSession, case: str, bytewise: bool) -> None:
    assert all(calls(session, answering(GOOD[case], bytewise=bytewise)))


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_nobodys(session: GuardedSession, case: str) -> None:
    assert not any(calls(session, answering(lambda token: BAD[case](token) + OTHER)))


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("case", ["plain", "chunked", "trailers", "HTTP/1.0 that is kept alive", "103", "gzip"])
def test_what_comes_behind_an_answer_is_nobodys(session: GuardedSession, case: str, behind: str) -> None:
    assert all(calls(session, answering(lambda token: GOOD[case](token) + BEHIND[behind])))


@pytest.mark.parametrize("case", ["plain", "chunked", "trailers", "103", "gzip", "a folded header"])
def test_an_answer_cut_off_at_any_byte_is_none(session: GuardedSession, case: str) -> None:
    length = len(GOOD[case]("call-0"))
    cuts = itertools.count()

    def cut(token: str) -> bytes:
        whole_answer = GOOD[case](token)
        return whole_answer[: next(cuts) % (len(whole_answer) - 1)]  # from nothing to all but the last byte

    with WireServer(answering(cut, then_close=True)) as server, ThreadPoolExecutor(THREADS) as threads:
        assert not any(threads.map(lambda _: call(session, server), range(2 * length)))


def test_an_answer_that_runs_into_another_is_none(session: GuardedSession) -> None:
    cuts = itertools.count(1)

    def cut(token: str) -> bytes:
        body = answer_to(token)
        return whole(token)[: -(next(cuts) % len(body) or 1)] + OTHER

    assert not any(calls(session, answering(cut)))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("late", [OTHER, HINTS, b"\n", http(401)], ids=["an answer", "hints", "a byte", "a refusal"])
def test_what_comes_while_a_connection_is_idle_is_nobodys(
    tls_session: GuardedSession, authority: trustme.CA, scheme: str, late: bytes
) -> None:
    """An answer to a call that nobody made, or that somebody gave up."""
    answered, sent = threading.Semaphore(0), threading.Semaphore(0)

    def conversation(connection: socket.socket) -> None:
        for request in requests_on(connection):
            connection.sendall(whole(token_of(request)))
            answered.acquire()
            connection.sendall(late)
            sent.release()

    tls = tls_for(authority.issue_cert(STORE)) if scheme == "https" else None
    with WireServer(conversation, tls=tls) as server:
        for number in range(1, 4):
            assert call(tls_session, server, scheme)
            assert server.connections == number
            answered.release()
            sent.acquire()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_before_the_request_is_none(
    tls_session: GuardedSession, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    begin_request = DeadlineSocket.begin_request

    def begin_late(sock: DeadlineSocket) -> None:
        select.select([sock], [], [], 10)  # the answer is here before we ask
        begin_request(sock)

    monkeypatch.setattr(DeadlineSocket, "begin_request", begin_late)

    def conversation(connection: socket.socket) -> None:
        connection.sendall(OTHER)
        answering(whole)(connection)

    tls = tls_for(authority.issue_cert(STORE)) if scheme == "https" else None
    if tls is not None:
        # The server has the last word in this handshake, so that the answer is all that can come after it.
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with WireServer(conversation, tls=tls) as server:
        assert not call(tls_session, server, scheme)


def test_an_answer_that_was_sent_before_the_request_arrived_is_none() -> None:
    """It comes after we have asked, and yet cannot be meant: nothing of the request had arrived where it came from."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with DeadlineSocket() as ours:
            ours.connect(listener.getsockname())
            theirs, _ = listener.accept()
            with theirs, paid_from(Allowance(10_000)):
                while not ours.has_unacknowledged(10_000):
                    ours.send(bytes(4096))  # until their system takes no more
                ours.begin_request()
                ours.send(b"GET / HTTP/1.1\r\n\r\n")
                theirs.sendall(OTHER)
                with pytest.raises(HTTPException):
                    ours.recv_into(bytearray(10))

"""Connections that have served before: how long they are kept, how many, and what it means when one turns out gone."""

import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from integrations.egress.deadline import Deadline
from integrations.egress.pools import IdleConnections, most_idle
from integrations.egress.session import GuardedSession
from integrations.errors import TransientError
from tests.integrations.wire_servers import (
    LOOPBACK,
    STORE,
    WireServer,
    get,
    hanging,
    http,
    requests_on,
    resolve_to,
    tls_for,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.server


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Forgetful:
    """Answers the first call on each connection, and does something else on the second."""

    def __init__(self, second: Callable[[socket.socket], None]) -> None:
        self.requests: list[bytes] = []
        self._second = second

    def __call__(self, connection: socket.socket) -> None:
        for number, request in enumerate(requests_on(connection)):
            self.requests.append(request)
            if number:
                self._second(connection)
                return
            connection.sendall(http(200, b'{"first": true}'))


def change(session: GuardedSession, server: WireServer, method: str) -> int:
    url = f"http://127.0.0.1:{server.port}/x"
    return session.request(method, url, headers={}, deadline=Deadline.after(20), json={}).status


# Gone


@pytest.mark.parametrize("goes", [reset, lambda connection: connection.close()], ids=["reset", "closed"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_on_a_connection_that_is_gone_is_made_once_more(
    session: GuardedSession, method: str, goes: Callable[[socket.socket], None]
) -> None:
    store = Forgetful(goes)
    with WireServer(store) as server:
        assert [change(session, server, method) for _ in range(4)] == [200] * 4
    assert server.connections == 4
    assert len(store.requests) == 7


def test_the_same_through_tls(tls_session: GuardedSession, authority: trustme.CA) -> None:
    store = Forgetful(lambda connection: connection.shutdown(socket.SHUT_RDWR))
    with WireServer(store, tls=tls_for(authority.issue_cert(STORE))) as server:
        assert [get(tls_session, server, scheme="https").status for _ in range(3)] == [200] * 3
    assert server.connections == 3


def test_all_connections_of_a_store_may_be_gone(session: GuardedSession) -> None:
    """As after an hour behind a firewall that has forgotten them: none of them costs an attempt."""
    together = threading.Barrier(4)

    def conversation(connection: socket.socket) -> None:
        for number, _ in enumerate(requests_on(connection)):
            if number:
                reset(connection)
                return
            if server.connections <= 4:
                together.wait(10)
            connection.sendall(http())

    with WireServer(conversation) as server:
        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(lambda _: get(session, server).status, range(4))) == {200}
        assert [get(session, server).status for _ in range(8)] == [200] * 8


def test_a_fresh_connection_that_is_gone_too_is_the_stores_doing(session: GuardedSession) -> None:
    def conversation(connection: socket.socket) -> None:
        requests = requests_on(connection)
        next(requests)
        if server.connections == 1:
            connection.sendall(http())
            next(requests)
        reset(connection)

    with WireServer(conversation) as server:
        get(session, server)
        with pytest.raises(TransientError) as caught:
            get(session, server)
        assert caught.value.code == "store_unreachable"
        assert server.connections == 2, "once more, and that is it"


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n", http()[:-1]])
def test_a_call_whose_answer_has_begun_is_made_once(session: GuardedSession, begun: bytes) -> None:
    def breaks_off(connection: socket.socket) -> None:
        connection.sendall(begun)

    store = Forgetful(breaks_off)
    with WireServer(store) as server:
        get(session, server)
        with pytest.raises(TransientError):
            get(session, server)
    assert len(store.requests) == 2


@pytest.mark.parametrize("goes", [reset, lambda connection: connection.close()], ids=["reset", "closed"])
def test_a_write_that_broke_off_is_not_made_again(
    session: GuardedSession, goes: Callable[[socket.socket], None]
) -> None:
    """It may have been carried out, and somebody else may have changed the same since."""
    store = Forgetful(goes)
    with WireServer(store) as server:
        change(session, server, "PUT")
        with pytest.raises(TransientError):
            change(session, server, "PUT")
    assert len(store.requests) == 2


def test_a_call_that_times_out_on_a_used_connection_is_made_once(session: GuardedSession) -> None:
    store = Forgetful(hanging)
    with WireServer(store) as server:
        get(session, server)
        with pytest.raises(TransientError) as caught:
            get(session, server, seconds=0.2)
    assert caught.value.code == "store_timeout"
    assert len(store.requests) == 2


# Kept


class Connection:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_idle_connections_are_closed_when_they_are_old_or_too_many() -> None:
    now = [0.0]
    idle = IdleConnections(keep=30, most=3, clock=lambda: now[0])
    first, second, third, fourth, fifth = (Connection() for _ in range(5))
    for connection in (first, second, third, fourth):
        idle.put(connection)
        now[0] += 10
    assert [it.closed for it in (first, second, third, fourth)] == [1, 0, 0, 0]
    idle.take(third)
    now[0] += 5
    idle.put(fifth)
    assert [it.closed for it in (second, third, fourth, fifth)] == [1, 0, 0, 0], "in use, it does not grow old"
    now[0] += 30
    idle.take(fifth)
    assert [it.closed for it in (third, fourth, fifth)] == [0, 1, 1], "one that is taken too late is closed, too"
    assert len(idle) == 0


def test_a_connection_that_was_idle_for_too_long_is_not_used_again() -> None:
    session = GuardedSession(dev_stores=LOOPBACK, keep_alive=0.0, resolve=resolve_to("127.0.0.1"))
    with WireServer(Forgetful(reset)) as server:
        for _ in range(3):
            assert get(session, server).status == 200
    assert server.connections == 3
    session.close()


def test_fewer_connections_are_kept_than_files_can_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, most in [(256, 64), (1024, 256), (1_048_576, 512), (-1, 512), (16, 8)]:
        monkeypatch.setattr("resource.getrlimit", lambda _, files=files: (files, files))
        assert most_idle() == most


def test_stores_that_were_called_leave_no_more_connections_than_may_be_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (40, 40))
    session = GuardedSession(dev_stores=LOOPBACK, resolve=resolve_to("127.0.0.1"))
    with WireServer(Forgetful(reset)) as server:
        for number in range(30):
            url = f"http://ccadmin-z{number}.oracleoutsourcing.com:{server.port}/"
            session.request("GET", url, headers={}, deadline=Deadline.after(20))
        wait_until(lambda: server.talking <= 10)
    session.close()

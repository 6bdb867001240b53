"""Small servers on loopback that answer, drip, hang or break exactly as a test wants, and what it takes to call one."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from types import TracebackType
from typing import Self

import pytest
import trustme

from integrations.egress.addresses import DevStore
from integrations.egress.deadline import Deadline
from integrations.egress.guard import Resolve
from integrations.egress.session import Answer, GuardedSession
from integrations.errors import TransientError

STORE = "ccadmin-z1a2.oracleoutsourcing.com"
TOKEN = "canary-7f3a"
LOOPBACK = (DevStore(ip_network("127.0.0.0/8"), None),)
"""Dev stores that allow every server of this module."""

Conversation = Callable[[socket.socket], None]


class WireServer:
    """Holds one conversation with each connection it gets, and knows how many there were and are."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._conversation = conversation
        self._tls = tls
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=128
        )
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.talking = 0
        self.server_names: list[str | None] = []
        if tls is not None:
            tls.sni_callback = lambda _sock, name, _context: self.server_names.append(name)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # Closing a listening socket does not wake an accept() on Linux; shutting it down does.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Pass time within a conversation; True once the server is being stopped."""
        return self._stopping.wait(seconds)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self.talking += 1
                self._open.add(connection)
            self._start(self._converse, connection)

    def _converse(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                plain, connection = connection, self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(connection)
            self._conversation(connection)
        except (OSError, ValueError, StopIteration):
            pass  # the other side is gone, which is what many tests are about; a TLS socket says so with a ValueError
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()
            with self._lock:
                self.talking -= 1


def requests_on(connection: socket.socket) -> Iterator[bytes]:
    """The requests arriving on a connection, each with its body, until it is closed."""
    received = b""
    while True:
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return
            received += more
        head, _, received = received.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(received) < length:
            received += connection.recv(65536)
        yield head + b"\r\n\r\n" + received[:length]
        received = received[length:]


def http(status: int = 200, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer, with its length."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def answering(answer: bytes | Callable[[bytes], bytes], seen: list[bytes] | None = None) -> Conversation:
    """Answers every request on a connection, and keeps what it was asked in `seen`."""

    def conversation(connection: socket.socket) -> None:
        for request in requests_on(connection):
            if seen is not None:
                seen.append(request)
            connection.sendall(answer(request) if callable(answer) else answer)

    return conversation


def dripping(start: bytes, drop: bytes = b"x", every: float = 0.03, *, after_request: bool = True) -> Conversation:
    """Sends `start` at once and then a byte at a time, for ever."""

    def conversation(connection: socket.socket) -> None:
        if after_request:
            next(requests_on(connection))
        connection.sendall(start)
        pause = threading.Event()
        while True:
            connection.sendall(drop)
            pause.wait(every)

    return conversation


def hanging(connection: socket.socket) -> None:
    """Reads and never answers."""
    while connection.recv(65536):
        pass


@contextlib.contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """What is done meanwhile ends because so much time has passed.

    A busy machine may be late; what else ends a call, ends it after 35 seconds.
    """
    started = time.monotonic()
    yield
    assert 0.75 * seconds < time.monotonic() - started < 30


def resolve_to(*addresses: str) -> Resolve:
    """A resolver that answers every name with these addresses."""

    def resolve(_host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


def tls_for(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """What a server with this certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def get(
    session: GuardedSession,
    server: WireServer,
    *,
    seconds: float = 30,
    scheme: str = "http",
    path: str = "/ccadmin/v1/x",
) -> Answer:
    """Call a server by the name of a store, with a token."""
    return session.request(
        "GET",
        f"{scheme}://{STORE}:{server.port}{path}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        deadline=Deadline.after(seconds),
    )


def trouble_with(session: GuardedSession, conversation: Conversation, *, seconds: float = 30) -> TransientError:
    """What a call ends with when the store talks like this."""
    with WireServer(conversation) as server, pytest.raises(TransientError) as caught:
        get(session, server, seconds=seconds)
    return caught.value


def failure_of(session: GuardedSession, server: WireServer, *, seconds: float = 30) -> TransientError:
    """What a call of this server over https ends with."""
    with pytest.raises(TransientError) as caught:
        get(session, server, scheme="https", seconds=seconds)
    return caught.value

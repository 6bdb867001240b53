"""Listening sockets on the loopback interface, and what can go wrong before a request is read."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine

from occ.simulator.faults import Fault
from occ.simulator.wire import Connection, reset_on_close

BACKLOG = 1024
ACCEPTED_AT_ONCE = 64
PAUSE_WITHOUT_DESCRIPTORS = 0.2
HANDSHAKE_TIMEOUT = 60.0

MakeConnection = Callable[[], Connection]
FaultOfConnection = Callable[[], Fault | None]


def bound_socket(address: str, port: int) -> socket.socket:
    """A listening socket; 127.0.0.0/8 only. Raises OSError."""
    if not address.startswith("127."):
        raise ValueError("the simulator listens on loopback addresses only")
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class Listener:
    """Accepts connections on one address, with or without TLS, and lets some of them go wrong."""

    def __init__(
        self,
        sock: socket.socket,
        make: MakeConnection,
        *,
        tls: ssl.SSLContext | None = None,
        fault: FaultOfConnection = lambda: None,
    ) -> None:
        self.address: tuple[str, int] = sock.getsockname()
        self._sock = sock
        self._make = make
        self._tls = tls
        self._fault = fault
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: set[socket.socket] = set()
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Listen no more; what is half accepted goes too. Established connections are not the listener's."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for task in self._tasks:
            task.cancel()
        for sock in self._held:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._held.clear()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                if problem.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self._loop.remove_reader(self._sock.fileno())
                self._loop.call_later(PAUSE_WITHOUT_DESCRIPTORS, self._listen_again)
                return
            sock.setblocking(False)
            # asyncio sets it only on sockets that name their protocol, and without it every answer may wait 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._welcome(sock)

    def _listen_again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _welcome(self, sock: socket.socket) -> None:
        fault = self._fault()
        if fault is None:
            self._start(self._serve(sock), sock)
        elif fault.kind == "reset":
            reset_on_close(sock)
            sock.close()
        elif fault.kind == "hang":
            self._hold(sock)
        else:
            self._start(self._drip(sock, int(fault.number("chunk") or 1), fault.number("every") or 0.0), sock)

    def _start(self, work: Coroutine[None, None, None], sock: socket.socket) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():  # perhaps before its first step, so it could not clean up itself
                sock.close()

        task.add_done_callback(over)

    async def _serve(self, sock: socket.socket) -> None:
        timeout = HANDSHAKE_TIMEOUT if self._tls else None
        # A client that dislikes the certificate, or that is no TLS client, ends the handshake with one of these.
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._make, sock, ssl=self._tls, ssl_handshake_timeout=timeout)

    def _hold(self, sock: socket.socket) -> None:
        """Say nothing, not even a TLS greeting, until the client leaves."""
        self._held.add(sock)

        def look() -> None:
            with contextlib.suppress(BlockingIOError):
                try:
                    gone = not sock.recv(65_536)
                except ConnectionError:
                    gone = True
                if gone:
                    self._held.discard(sock)
                    self._loop.remove_reader(sock.fileno())
                    sock.close()

        self._loop.add_reader(sock.fileno(), look)

    async def _drip(self, outside: socket.socket, chunk: int, every: float) -> None:
        """Serve it behind a relay that lets our bytes through a few at a time, those of the TLS handshake too."""
        inside, served = socket.socketpair()
        inside.setblocking(False)
        served.setblocking(False)
        self._start(self._serve(served), served)
        with inside, outside, contextlib.suppress(OSError):
            await self._relay(outside, inside, chunk, every)

    async def _relay(self, outside: socket.socket, inside: socket.socket, chunk: int, every: float) -> None:
        async def pour(source: socket.socket, target: socket.socket, size: int, pause: float) -> None:
            while data := await self._loop.sock_recv(source, size):
                await self._loop.sock_sendall(target, data)
                await asyncio.sleep(pause)

        both = (pour(inside, outside, chunk, every), pour(outside, inside, 65_536, 0))
        tasks = [self._loop.create_task(one) for one in both]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

"""Connection pools whose connections are dialled by the guard, and serve again only where that cannot mix up calls.

Pool, SNI and certificate keep to the host name. Networks forget connections over which nothing is sent; what is sent
over such a one is lost, or answered with a reset. So idle connections are kept for a while only, and so many at most.
"""

import resource
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from integrations.egress.attempt import current_attempt
from integrations.egress.guard import Egress, tunnel_trouble
from integrations.egress.wire_answer import WireAnswer

_SHARE_OF_FILES = 4  # the rest is for calls under way, the server, the resolver and whatever else is open
_FEWEST, _MOST = 8, 512


class Closable(Protocol):
    """A connection, kept in a pool by somebody else; one that was closed there dials anew when it is used."""

    def close(self) -> None:
        """Close its socket."""


class IdleConnections:
    """Closes connections that have been idle for `keep` seconds, and the oldest when there are more than `most`."""

    def __init__(self, keep: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep = keep
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._since: OrderedDict[Closable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._since)

    def put(self, connection: Closable) -> None:
        """It is idle from now on."""
        with self._lock:
            self._since.pop(connection, None)
            self._since[connection] = self._clock()
            self._close_surplus()

    def take(self, connection: Closable) -> None:
        """It is in use from now on, and closed if it has been idle for too long."""
        with self._lock:
            self._close_surplus()
            self._since.pop(connection, None)

    def _close_surplus(self) -> None:
        oldest_kept = self._clock() - self._keep
        while self._since:
            connection, since = next(iter(self._since.items()))
            if since > oldest_kept and len(self._since) <= self._most:
                return
            del self._since[connection]
            connection.close()


def most_idle() -> int:
    """How many idle connections a process may keep: a part of the files it may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return min(_MOST, max(_FEWEST, soft // _SHARE_OF_FILES))


class CheckedBetweenCalls(HTTPConnection):
    """Serves another call only if the last answer was whole and nothing has arrived since."""

    response_class = WireAnswer
    sock: Any
    idle: ClassVar[IdleConnections]

    @property
    def is_connected(self) -> bool:
        """Whether it may be used again; asked by the pool when a call takes it."""
        self.idle.take(self)
        return current_attempt().may_use(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request."""
        if self.sock is None:
            self.connect()
        self.sock.begin_request()
        super().request(*args, **kwargs)


class KeepsWhatMayServeAgain(HTTPConnectionPool):
    """Closes what comes back from a call unless the answer said that it may be used again."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None and conn.sock is not None:
            if conn.sock.reusable:
                conn.idle.put(conn)
            else:
                conn.close()
        super()._put_conn(conn)


def guarded_pools(
    egress: Egress, connect_timeout: float, idle_connections: IdleConnections
) -> dict[str, type[HTTPConnectionPool]]:
    """A class of pools for each scheme."""

    class GuardedHTTPConnection(CheckedBetweenCalls):
        idle = idle_connections

        def _new_conn(self) -> socket.socket:
            return egress.dial("http", self._dns_host, self.port, connect_timeout)

    class GuardedHTTPSConnection(CheckedBetweenCalls, HTTPSConnection):
        idle = idle_connections

        def _new_conn(self) -> socket.socket:
            if self.proxy is not None:
                return egress.dial_proxy(self._tunnel_host or "", self._tunnel_port or 0, connect_timeout)
            return egress.dial("https", self._dns_host, self.port, connect_timeout)

        def _tunnel(self) -> None:
            try:
                return super()._tunnel()
            except Exception as caught:  # noqa: BLE001 - its text quotes the proxy's words
                trouble = tunnel_trouble(caught)
            raise trouble

    class GuardedHTTPPool(KeepsWhatMayServeAgain):
        ConnectionCls = GuardedHTTPConnection

    class GuardedHTTPSPool(KeepsWhatMayServeAgain, HTTPSConnectionPool):
        ConnectionCls = GuardedHTTPSConnection

    return {"http": GuardedHTTPPool, "https": GuardedHTTPSPool}

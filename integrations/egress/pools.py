"""Connection pools whose connections are dialled by the guard, and serve again only where that cannot mix up calls.

Pool, SNI and certificate keep to the host name.
"""

import socket
from typing import Any, ClassVar

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from integrations.egress.attempt import current_attempt
from integrations.egress.guard import Egress, tunnel_trouble
from integrations.egress.idle import IdleConnections
from integrations.egress.wire_answer import WireAnswer


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

"""Waiting for queues to have a message, without taking it.

Redis waits for a list only by taking from it, or by moving what is in it. So each queue has a connection that moves its
next message to where it is: the message stays there, and the one who waited knows. Several who wait all learn of it;
the first takes it (`take.lua`), the others find nothing.

Where the server does not move anything (it is full, or a user of an older `users.acl` may not), queues are looked at
every second instead.
"""

from collections.abc import Sequence
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog
from kombu.transport import redis as stock
from redis.exceptions import NoPermissionError, OutOfMemoryError, ResponseError

if TYPE_CHECKING:

    class _StockPoller(stock.MultiChannelPoller):
        """The part of Kombu's that its stubs leave out."""

        def maybe_check_brpop_health(self) -> None: ...

else:
    _StockPoller = stock.MultiChannelPoller

log = structlog.get_logger(__name__)

_WAIT = 5.0  # seconds until a server that has nothing says so
_LOOK_EVERY = 1.0  # seconds, where the server does not wait for us


class Watches:
    """What one channel waits for."""

    def __init__(self, channel: Any) -> None:
        """`channel`: ours (`transport.py`)."""
        self._channel = channel
        self._clients: dict[str, Any] = {}
        self._asked_at: dict[str, float] = {}  # of those that have not answered
        self._next_look = 0.0
        self.something = True
        """Whether there may be a message; until somebody has looked, there may."""

    def __contains__(self, key: object) -> bool:
        return key in self._clients

    def wait(self, keys: Sequence[str]) -> None:
        """See to it that each of these queues is waited for, and no other."""
        if monotonic() < self._next_look:
            return
        for key in self._clients.keys() - keys:
            self._end(key)
        poller = self._channel.connection.cycle
        for key in keys:
            if key not in self._clients:
                self._clients[key] = self._channel._create_client(asynchronous=True)  # noqa: SLF001 - as kombu does
            client = self._clients[key]
            if not poller._client_registered(self._channel, client, key):  # noqa: SLF001 - as kombu does
                self._asked_at.pop(key, None)
                poller._register(self._channel, client, key)  # noqa: SLF001 - as kombu does
            if key not in self._asked_at:
                queue = self._channel.prefixed(key)
                client.connection.send_command("BLMOVE", queue, queue, "RIGHT", "RIGHT", _WAIT)
                self._asked_at[key] = monotonic()

    def answered(self, key: str) -> None:
        """Something came for this queue. Raises Empty, as a message has not; or an error of the connection."""
        client = self._clients[key]
        if self._asked_at.pop(key, None) is None:  # nothing was asked: the server ends an idle connection
            client.connection.disconnect()
            raise Empty
        try:
            self.something |= client.parse_response(client.connection, "BLMOVE") is not None
        except self._channel.connection_errors:
            client.connection.disconnect()
            raise
        except ResponseError as error:
            if not isinstance(error, (OutOfMemoryError, NoPermissionError)) and "unknown command" not in str(error):
                raise
            if not self._next_look:
                log.warning("queues_not_watched", queue=key, error=type(error).__name__)
            self._next_look = monotonic() + _LOOK_EVERY
            self.something = True
        raise Empty

    def drop_silent(self) -> None:
        """End the connections whose answer is overdue: the other end is gone, and nobody will say so."""
        patience = _WAIT + self._channel.health_check_interval
        for key, asked_at in list(self._asked_at.items()):
            if monotonic() - asked_at > patience:
                log.warning("watch_is_silent", queue=key)
                self._end(key)

    def _end(self, key: str) -> None:
        client = self._clients.pop(key)
        self._asked_at.pop(key, None)
        client.connection.disconnect()
        client.connection_pool.release(client.connection)


class Poller(_StockPoller):
    """Kombu's, which also reads the answers to watches; for what they say, a message in hand is no obstacle."""

    _fd_to_chan: dict[int, tuple[Any, str]]
    _channels: set[Any]

    def on_readable(self, fileno: int) -> Any:
        """Read what has come."""
        channel, kind = self._fd_to_chan.get(fileno, (None, ""))
        if channel is not None and kind in channel.watches:
            channel.watches.answered(kind)
        return super().on_readable(fileno)

    def maybe_check_brpop_health(self) -> None:
        """Notice half-open connections."""
        super().maybe_check_brpop_health()
        for channel in self._channels:
            channel.watches.drop_silent()

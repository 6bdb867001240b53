"""Kombu's Redis transport, hardened.

Three overrides of kombu 5.7, each with the upstream report it answers:

* A malformed message goes to the quarantine instead of ending the worker (celery#4308, celery#7975, kombu#2421).
* A channel makes one Redis client, not one per command. No report; building a client costs more than the command.
* A channel whose connection is gone can still acknowledge and return its messages, which are in Redis and not in the
  connection; what it cannot do is a connection error. Kombu raises AttributeError ('NoneType' object has no attribute
  'hostname'), which ends workers that lose their broker while they hold messages (as in kombu#582 and kombu#970).

And these habits:

* Where a message was found is where it goes back to. Kombu restores a message to the exchange it names, and drops it if
  a foreign producer named one that nobody declared; it files it under the tag it brings, and forgets one of two that
  brought the same. So both are set on arrival.
* What was taken and could not be filed, because the server is full or gone, is returned before anything else is taken.
* The lock on looking for orphans is short (see below).
* What a worker has handed on to itself (`handing_on.py`) counts as one of the messages it may have in hand.
* What is taken is filed under the server's time. Kombu takes the worker's: one whose clock is an hour ahead would keep
  what it had in hand for an hour after its death, one that is behind would have it sent twice.

Known hole, Kombu's design and not closed here: between BRPOP and its entry in `unacked` or in the quarantine, a message
exists only in this process, or on its way to it; if that dies, it is gone. That is why the record is the work.
"""

import time
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import redis
import structlog
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import dumps, loads
from redis.exceptions import ConnectionError as BrokerConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError

from integrations.clock import SET_BY, Clock
from integrations.messages.quarantine import quarantine
from tasks.queues import STEPS
from tasks.worker.broker.envelope import message_problem
from tasks.worker.broker.turns import Turns
from tasks.worker.handing_on import handed_on

log = structlog.get_logger(__name__)


if TYPE_CHECKING:

    class _StockChannel(stock.Channel):
        """The private parts of kombu's channel that we rely on."""

        connection: Any  # the Transport; None once the channel is closed
        connection_errors: tuple[type[Exception], ...]
        _in_poll: Any
        _queue_cycle: Any

        from_transport_options: tuple[str, ...]

        def _brpop_start(self, timeout: float | None = None) -> None: ...
        def _connparams(self, asynchronous: bool = False) -> dict[str, Any]: ...  # noqa: FBT001, FBT002
        def _create_client(self, asynchronous: bool = False) -> Any: ...  # noqa: FBT001, FBT002
        def _deliver_fanout_message(self, message: Any, exchange: str) -> bool: ...
        def _flush_brpop_reauth(self) -> None: ...
        def _get_pool(self, asynchronous: bool = False) -> Any: ...  # noqa: FBT001, FBT002

else:
    _StockChannel = stock.Channel


class QoS(stock.QoS):
    """Files messages in `unacked` by the time of the server, as nobody can set it (`integrations/clock.py`)."""

    channel: "Channel"

    def append(self, message: Any, delivery_tag: str) -> None:
        """File a message that was taken. As in kombu but for the time."""
        info = message.delivery_info
        filed = dumps([message._raw, info["exchange"], info["routing_key"]])  # noqa: SLF001 - as kombu does
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: self.channel.clock.now()})
            pipe.hset(self.unacked_key, delivery_tag, filed).execute()
            virtual.QoS.append(self, message, delivery_tag)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Return what was taken too long ago."""
        with self.channel.conn_or_acquire() as client:
            now = self.channel.clock.now()
            # By the clock of a worker of an earlier release that is ahead: taken just now, at the latest.
            ahead = client.zrangebyscore(self.unacked_index_key, now + SET_BY, "+inf", start=0, num=100)
            if ahead:
                client.zadd(self.unacked_index_key, dict.fromkeys(ahead, now), xx=True)
        super().restore_visible(start, num, interval)

    @property
    def visibility_timeout(self) -> float:  # type: ignore[override]
        """Kombu takes it off the worker's time; here that comes out as taken off the server's."""
        return self.channel.visibility_timeout + (time.time() - self.channel.clock.now())


class Channel(_StockChannel):
    """A channel that lives through whatever it finds in a queue."""

    # The lock of a worker or server that was killed while looking for orphans: until it ends, nobody looks for them.
    # Kombu lets it last 300 s; losing it early is harmless.
    unacked_mutex_expire = 10
    from_transport_options = (*_StockChannel.from_transport_options, "protocol")
    protocol: int | None = None
    """Of Redis, 2 or 3; None for redis-py's choice."""
    _unfiled: ClassVar[deque[tuple[bytes, bytes]]] = deque()  # key and message; outlives the channel
    _shared_client: Any = None
    _count_steps_at = 0.0
    QoS = QoS
    # By server: what time it is there, for as long as this process lives.
    _clocks: ClassVar[dict[str, Clock]] = {}
    # By server: one client for what all closed channels still have to acknowledge, and for its clock. Each with its own
    # would leave a connection open after every reconnection.
    _late_clients: ClassVar[dict[str, Any]] = {}

    def set_aside(self, message: bytes, queue: str, reason: str) -> None:
        """Put a message into the quarantine.

        Raises OutOfMemoryError or a connection error if the server cannot take it now. If it never will, because
        somebody took the quarantine's key for something else, the message is dropped, which is logged.
        """
        try:
            # A plain client: the key of the quarantine takes no prefix.
            quarantine(
                redis.Redis(connection_pool=self._create_client().connection_pool),
                queue=queue,
                reason=reason,
                message=message,
                now=time.time(),
            )
        except OutOfMemoryError:
            raise
        except ResponseError:  # its text would quote the message
            log.error("message_not_kept", queue=queue, reason=reason, size=len(message))  # noqa: TRY400
        else:
            log.warning("message_quarantined", queue=queue, reason=reason, size=len(message))

    def _brpop_start(self, timeout: float | None = None) -> None:
        room = self.qos.can_consume_max_estimate()
        if room is not None and room <= handed_on():
            return  # a thread for each message in hand, and for what the worker has handed on to itself
        while self._unfiled:
            self._create_client().rpush(*self._unfiled[0])  # the end that is taken from
            self._unfiled.popleft()
        if time.monotonic() >= self._count_steps_at and isinstance(self._queue_cycle, Turns):
            self._queue_cycle.steps_waiting = self._create_client().llen(STEPS)
            self._count_steps_at = time.monotonic() + 1
        super()._brpop_start(timeout)

    def _brpop_read(self, **options: Any) -> bool:
        # As in kombu but for the middle: loads() and deliver become _file().
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not reply:
                raise Empty
            self._file(*reply)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _file(self, key: bytes, message: bytes) -> None:
        """Deliver a message, which files it in `unacked`, or file it in the quarantine."""
        queue = key.decode().rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        tag = str(uuid4())
        not_now: tuple[type[Exception], ...] = (ResponseError, *self.connection_errors)
        try:
            envelope = self._open(message, queue)
            if envelope is not None:
                envelope["properties"]["delivery_tag"] = tag
                self.connection._deliver(envelope, queue)  # noqa: SLF001 - as kombu does
        except not_now:
            if tag not in (self.qos._delivered or ()):  # noqa: SLF001 - else it was filed, and the receiver raised this
                self._unfiled.append((key, message))
            raise

    def _open(self, message: bytes, queue: str) -> Any:
        try:
            text = message.decode()
            envelope: Any = loads(text)
        except Exception:  # noqa: BLE001 - too deep, no UTF-8, a number of a million digits, a type Kombu cannot rebuild
            problem: str | None = "the message is not JSON"
        else:
            problem = message_problem(envelope, text)
        if problem:
            self.set_aside(message, queue, problem)
            return None
        properties = envelope["properties"]
        properties["delivery_info"] = (properties.get("delivery_info") or {}) | {"exchange": "", "routing_key": queue}
        return envelope

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        # Broadcasts reach every worker and are kept nowhere, so a bad one is only dropped.
        problem = message_problem(message, "")
        if problem:
            log.warning("broadcast_dropped", exchange=exchange, reason=problem)
            return False
        message["properties"].setdefault("delivery_tag", str(uuid4()))
        return super()._deliver_fanout_message(message, exchange)

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in kombu
        if asynchronous:  # holds the connection of the event loop; kombu makes it once
            return super()._create_client(asynchronous=True)
        # Safe for threads and after a fork, because its pool is. It outlives the connection, so that a task which ends
        # after the server was gone for a moment can still be acknowledged.
        if self._shared_client is None:
            self._shared_client = super()._create_client()
        return self._late_client() if self.closed else self._shared_client

    def _late_client(self) -> Any:
        return self._late_clients.setdefault(self._server, self._shared_client)

    @property
    def _server(self) -> str:
        to = self._create_client().connection_pool.connection_kwargs if self._shared_client is None else {}
        to = to or self._shared_client.connection_pool.connection_kwargs
        return ":".join(str(to.get(part)) for part in ("host", "port", "path", "db"))

    @property
    def clock(self) -> Clock:
        """The time of the server with the queues."""
        server = self._server
        if server not in self._clocks:
            pool = self._late_client().connection_pool  # one connection for whatever outlives the channels
            self._clocks[server] = Clock(redis.Redis(connection_pool=pool))  # a plain client: keys take no prefix
        return self._clocks[server]

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - as in kombu
        arguments = super()._connparams(asynchronous=asynchronous)
        return arguments if self.protocol is None else {**arguments, "protocol": self.protocol}

    def _get_pool(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in kombu
        if self.connection is None or self.connection.client is None:
            raise BrokerConnectionError("the broker connection of this channel is closed")
        return super()._get_pool(asynchronous=asynchronous)

    def close(self) -> None:
        """Close the channel and its connections; late acknowledgements of all channels share one client."""
        try:
            super().close()
        finally:
            if self._shared_client is not None:
                self._shared_client.connection_pool.disconnect()


class Transport(stock.Transport):
    """The Redis transport with hardened channels."""

    Channel = Channel


class SentinelChannel(Channel, stock.SentinelChannel):
    """The same for a server that sentinels are asked for."""

    from_transport_options = tuple({*Channel.from_transport_options, *stock.SentinelChannel.from_transport_options})


class SentinelTransport(stock.SentinelTransport):
    """The transport through sentinels with hardened channels."""

    Channel = SentinelChannel

"""Kombu's Redis transport, hardened.

Three overrides of kombu 5.7, each with the upstream report it answers:

* A malformed message goes to the quarantine instead of ending the worker (celery#4308, celery#7975, kombu#2421).
* A channel makes one Redis client, not one per command. No report; building a client costs more than the command.
* A channel whose connection is gone can still acknowledge and return its messages, which are in Redis and not in the
  connection; what it cannot do is a connection error. Kombu raises AttributeError ('NoneType' object has no attribute
  'hostname'), which ends workers that lose their broker while they hold messages (as in kombu#582 and kombu#970).

And these habits:

* A message is taken and filed in one step, under a tag of its own, and goes back to where it was found (`unacked.py`).
  Kombu files it under the tag it brings, and forgets one of two that brought the same.
* While there is nothing to take, queues are watched (`watches.py`).
* The lock on looking for orphans is short (see below).
* What a worker has handed on to itself (`handing_on.py`) counts as one of the messages it may have in hand.
"""

import time
from functools import cached_property
from queue import Empty
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import redis
import structlog
from kombu.transport import redis as stock
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as BrokerConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError

from integrations.clock import Clock
from integrations.lua import lua_beside
from integrations.messages.quarantine import quarantine
from tasks.queues import STEPS
from tasks.worker.broker.envelope import message_problem
from tasks.worker.broker.turns import Turns
from tasks.worker.broker.unacked import QoS, filed_end
from tasks.worker.broker.watches import Poller, Watches
from tasks.worker.handing_on import handed_on

log = structlog.get_logger(__name__)

_MOST_LISTS = 1000

if TYPE_CHECKING:

    class _StockChannel(stock.Channel):
        """The private parts of kombu's channel that we rely on."""

        connection: Any  # the Transport; None once the channel is closed
        connection_errors: tuple[type[Exception], ...]
        _in_poll: Any
        _queue_cycle: Any
        qos: Any

        from_transport_options: tuple[str, ...]

        def _brpop_start(self, timeout: float | None = None) -> None: ...
        def _connparams(self, asynchronous: bool = False) -> dict[str, Any]: ...  # noqa: FBT001, FBT002
        def _create_client(self, asynchronous: bool = False) -> Any: ...  # noqa: FBT001, FBT002
        def _deliver_fanout_message(self, message: Any, exchange: str) -> bool: ...
        def _flush_brpop_reauth(self) -> None: ...
        def _get_pool(self, asynchronous: bool = False) -> Any: ...  # noqa: FBT001, FBT002
        def _poll_error(self, type: str, **options: Any) -> Any: ...  # noqa: A002
        def _q_for_pri(self, queue: str, pri: int) -> str: ...

else:
    _StockChannel = stock.Channel


class Channel(_StockChannel):
    """A channel that lives through whatever it finds in a queue."""

    # The lock of a worker or server that was killed while looking for orphans: until it ends, nobody looks for them.
    # Kombu lets it last 300 s; losing it early is harmless.
    unacked_mutex_expire = 10
    from_transport_options = (*_StockChannel.from_transport_options, "protocol")
    protocol: int | None = None
    """Of Redis, 2 or 3; None for redis-py's choice."""
    taken_as: str = ""
    """The tag under which the latest message was taken and filed."""
    _looked_in: list[str] = []  # for it, in this order  # noqa: RUF012 - replaced, never changed
    _shared_client: Any = None
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

    @cached_property
    def watches(self) -> Watches:
        """The queues where a message is waited for."""
        return Watches(self)

    def prefixed(self, key: str) -> str:
        """The name of a key on the server, for commands in which Kombu leaves names as they are."""
        return self.global_keyprefix + key

    def _brpop_start(self, timeout: float | None = None) -> None:  # noqa: ARG002 - as in kombu
        # Not with BRPOP: what that takes is nowhere until it is filed.
        room = self.qos.can_consume_max_estimate()
        if room is not None and room <= handed_on():
            return  # a thread for each message in hand, and for what the worker has handed on to itself
        queues = self._queue_cycle.consume(len(self.active_queues))
        keys = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        if self.watches.something and keys:
            self._take(keys)
        else:
            self.watches.wait(keys)

    def _take(self, keys: list[str]) -> None:
        """Ask for the next message; `_brpop_read` reads it. Where there is none, the server says so at once."""
        self.taken_as, self._looked_in = str(uuid4()), keys
        names = [self.prefixed(key) for key in (self.unacked_key, self.unacked_index_key, STEPS, *keys)]
        arguments = [self.taken_as, self.clock.now(), *map(filed_end, keys)]
        self._in_poll, self._brpop_sent_at = self.client.connection, time.monotonic()
        self.client.connection.send_command("EVAL", lua_beside(__file__, "take"), len(names), *names, *arguments)

    def _brpop_read(self, **options: Any) -> bool:
        # As in kombu but for the middle.
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "EVAL", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not reply:
                self.watches.something = False
                raise Empty
            number, message, more, steps_waiting = reply
            self.watches.something = bool(more)
            if isinstance(self._queue_cycle, Turns):
                self._queue_cycle.steps_waiting = steps_waiting
            self._deliver_taken(self._looked_in[number].rsplit(self.sep, 1)[0], message)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _deliver_taken(self, queue: str, message: bytes) -> None:
        """Deliver a message that was taken, or put it into the quarantine."""
        self._queue_cycle.rotate(queue)
        envelope = self._open(message, queue)
        if envelope is None:
            self.qos.forget(self.taken_as)
        else:
            envelope["properties"]["delivery_tag"] = self.taken_as
            self.connection._deliver(envelope, queue)  # noqa: SLF001 - as kombu does

    def _poll_error(self, type: str, **options: Any) -> Any:  # noqa: A002 - as in kombu
        return self.watches.answered(type) if type in self.watches else super()._poll_error(type, **options)

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
        pool = super()._get_pool(asynchronous=asynchronous)
        if asynchronous:  # one for each list that is waited for, not ten in all
            pool.max_connections = max(pool.max_connections, _MOST_LISTS)
        return pool

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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As in Kombu, but for the poller."""
        super().__init__(*args, **kwargs)
        self.cycle = Poller()


class SentinelChannel(Channel, stock.SentinelChannel):
    """The same for a server that sentinels are asked for."""

    from_transport_options = tuple({*Channel.from_transport_options, *stock.SentinelChannel.from_transport_options})


class SentinelTransport(stock.SentinelTransport):
    """The transport through sentinels with hardened channels."""

    Channel = SentinelChannel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As in Kombu, but for the poller."""
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

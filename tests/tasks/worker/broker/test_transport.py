"""The hardened transport against a real server, and the stock one beside it: what upstream mends, we can drop."""

import hashlib
import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Empty
from signal import SIGKILL
from typing import Any

import kombu
import pytest
import redis
from kombu import transport as kombu_transport
from kombu.transport import redis as stock

from integrations.messages.quarantine import QUARANTINE, list_quarantine
from occ.local.server import EmbeddedServer
from tasks.worker.broker import install, transport
from tasks.worker.broker.transport import Channel, Transport
from tests.tasks.worker.broker.messages import MORE_POISON, NO_MESSAGES, NO_TASKS, QUEUE, encoded, good, task_message
from tests.waiting import eventually

Connect = Callable[..., Any]  # of kombu.Connection, with the private parts its stubs leave out
pytestmark = pytest.mark.server


@pytest.fixture
def aliases(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Kombu's table of transports, as it was before anybody installed ours; what a test does to it ends with it."""
    stock_transport = "kombu.transport.redis:Transport"
    table = dict(kombu_transport.TRANSPORT_ALIASES, redis=stock_transport, rediss=stock_transport)
    monkeypatch.setattr(kombu_transport, "TRANSPORT_ALIASES", table)
    monkeypatch.setattr(kombu_transport, "_transport_cache", {})
    return table


@pytest.fixture
def connected(aliases: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Opens connections to a server, with the hardened transport or the stock one."""
    connections: list[Any] = []
    channels: list[Any] = []
    make_channel = stock.Channel.__init__

    def remember(channel: Any, *args: Any, **kwargs: Any) -> None:
        channels.append(channel)
        make_channel(channel, *args, **kwargs)

    def connect(url: str, *, hardened: bool = True) -> Any:
        if hardened:
            install()
        connections.append(kombu.Connection(url))
        return connections[-1]

    monkeypatch.setattr(stock.Channel, "__init__", remember)
    yield connect
    for connection in connections:
        with suppress(*connection.connection_errors, AttributeError):
            connection.release()
    for channel in channels:  # what a stock channel, or a late acknowledgement, left open
        channel._disconnect_pools()
        channel._close_clients()
        if getattr(channel, "_shared_client", None):
            channel._shared_client.connection_pool.disconnect()
    for client in Channel._late_clients.values():
        client.connection_pool.disconnect()
    Channel._late_clients.clear()


@pytest.fixture
def broker_url(server: EmbeddedServer, redis_url: str) -> str:
    return server.broker_url


def consume(connection: Any, queue: str = QUEUE) -> list[Any]:
    """Start consuming; the list fills while `deliver` runs."""
    received: list[Any] = []
    channel = connection.default_channel
    channel.basic_consume(queue, no_ack=False, callback=received.append, consumer_tag=queue)
    return received


def deliver(connection: Any, messages: int, within: float = 2.0) -> None:
    """Let the connection handle what is in the queues, at most this many messages; each comes within some seconds."""
    for _ in range(messages):
        with suppress(TimeoutError):
            connection.drain_events(timeout=within)


def payload(message: Any) -> Any:
    return message.decode()


BARE = {**task_message(mark="good"), "properties": {**task_message()["properties"], "delivery_info": None}}
"""Without what Kombu writes its marks of a second delivery into."""


def test_install_covers_all_redis_urls_and_may_be_repeated(aliases: dict[str, str]) -> None:
    for url in ("redis://h/0", "rediss://h/0", "redis+socket:///tmp/no-such-socket"):
        assert kombu.Connection(url).get_transport_cls() is stock.Transport
    install()
    install()
    for url in ("redis://h/0", "rediss://h/0", "redis+socket:///tmp/no-such-socket"):
        assert kombu.Connection(url).get_transport_cls() is Transport
    assert kombu.Connection("memory://").get_transport_cls() is not Transport


def test_a_right_message_arrives_and_leaves_nothing_when_acknowledged(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    redis_client.lpush(QUEUE, good("hello"))
    deliver(connection, 1)
    [message] = received
    assert payload(message)[1] == {"mark": "hello"}
    assert redis_client.hlen("unacked") == 1
    message.ack()
    assert redis_client.hlen("unacked") == redis_client.zcard("unacked_index") == redis_client.llen(QUARANTINE) == 0


def test_what_a_worker_has_handed_on_to_itself_takes_the_place_of_messages(
    connected: Connect, broker_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    connection.default_channel.basic_qos(0, 2, False)
    redis_client.lpush(QUEUE, good("one"), good("two"), good("three"))
    for handed_on, in_hand in ((2, 0), (1, 1), (1, 1), (0, 2), (0, 2)):
        monkeypatch.setattr(transport, "handed_on", lambda number=handed_on: number)
        deliver(connection, 1, within=0.3)
        assert (len(received), redis_client.llen(QUEUE)) == (in_hand, 3 - in_hand)


def test_what_kombu_publishes_arrives(connected: Connect, broker_url: str) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    producer = kombu.Producer(connection.default_channel)
    producer.publish({"grüße": [1, None]}, routing_key=QUEUE, correlation_id="c", reply_to="r", priority=3)
    producer.publish("text", routing_key=QUEUE, serializer="raw", content_type="text/plain", content_encoding="utf-8")
    deliver(connection, 2)
    assert {message.body for message in received} == {b'{"gr\\u00fc\\u00dfe": [1, null]}', b"text"}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_what_is_no_message_goes_to_the_quarantine_and_the_next_one_arrives(
    connected: Connect, broker_url: str, redis_client: redis.Redis, name: str
) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    redis_client.lpush(QUEUE, NO_MESSAGES[name])
    redis_client.lpush(QUEUE, good())
    deliver(connection, 2)
    assert len(received) == 1
    [entry] = list_quarantine(redis_client)
    assert (entry.queue, entry.content()) == (QUEUE, NO_MESSAGES[name])
    assert redis_client.hlen("unacked") == 1


def test_nothing_ends_the_connection(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    messages = [*MORE_POISON.values(), *NO_TASKS.values()]
    for message in messages:
        redis_client.lpush(QUEUE, message)
    deliver(connection, len(messages))
    assert len(received) + redis_client.llen(QUARANTINE) == len(messages)
    for message in received:
        message.reject(requeue=True)  # what was delivered can be given back
    assert redis_client.llen(QUEUE) == len(received)


def test_an_error_of_the_receiver_keeps_its_meaning(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url)

    def receiver(message: Any) -> None:
        raise ZeroDivisionError

    connection.default_channel.basic_consume(QUEUE, no_ack=False, callback=receiver, consumer_tag="c")
    redis_client.lpush(QUEUE, good())
    with pytest.raises(ZeroDivisionError):
        deliver(connection, 1)
    assert redis_client.llen(QUARANTINE) == 0
    assert redis_client.hlen("unacked") == 1


def test_two_messages_with_one_tag_are_two(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    redis_client.lpush(QUEUE, good(1), good(2))
    deliver(connection, 2)
    assert redis_client.hlen("unacked") == 2
    received[0].ack()
    assert redis_client.hlen("unacked") == 1


def test_a_message_goes_back_to_where_it_was_found(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    message = task_message(mark="from afar")
    message["properties"]["delivery_info"] = {"exchange": "undeclared", "routing_key": "elsewhere"}
    redis_client.lpush(QUEUE, encoded(message))
    deliver(connection, 1)
    received[0].requeue()
    assert redis_client.llen(QUEUE) == 1


def test_a_broken_broadcast_is_dropped(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    connection = connected(broker_url)
    channel = connection.default_channel
    received: list[Any] = []
    kombu.Consumer(
        channel,
        [kombu.Queue("mine", kombu.Exchange("all", type="fanout"))],
        on_message=received.append,
        no_ack=True,
    ).consume()
    deliver(connection, 1)  # subscribes
    for message in (b"[]", b"{}", b'{"properties": {"body_encoding": "base64"}, "body": "A"}'):
        redis_client.publish("/0.all", message)
    kombu.Producer(channel, kombu.Exchange("all", type="fanout")).publish({"n": 1})
    deliver(connection, 1)
    assert [payload(message) for message in received] == [{"n": 1}]


@pytest.fixture
def fill(redis_client: redis.Redis) -> Iterator[Callable[[], object]]:
    """Makes the server refuse whatever needs memory."""
    yield lambda: redis_client.config_set("maxmemory", 1)
    redis_client.config_set("maxmemory", 0)


@pytest.mark.parametrize("messages", [[good(1), b"not JSON", good(2)], [b"not JSON", good(1), good(2)]])
def test_a_full_server_loses_nothing(
    connected: Connect, broker_url: str, redis_client: redis.Redis, fill: Callable[[], object], messages: list[bytes]
) -> None:
    redis_client.lpush(QUEUE, *messages)
    fill()
    for _ in range(3):
        connection = connected(broker_url)
        received = consume(connection)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            deliver(connection, 1)
        assert received == []
        assert redis_client.llen(QUEUE) == 3 - redis_client.hlen("unacked")
        assert redis_client.llen(QUEUE) == 3  # nothing is taken that cannot be filed
    redis_client.config_set("maxmemory", 0)
    deliver(connection, 3)
    assert [payload(message)[1]["mark"] for message in received] == [1, 2]
    assert redis_client.llen(QUARANTINE) == 1


def test_a_message_that_was_filed_is_not_returned_as_well(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url)

    def receiver(message: Any) -> None:
        raise redis.ConnectionError

    connection.default_channel.basic_consume(QUEUE, no_ack=False, callback=receiver, consumer_tag="c")
    redis_client.lpush(QUEUE, good())
    with pytest.raises(redis.ConnectionError):
        deliver(connection, 1)
    deliver(connection, 1)
    assert redis_client.hlen("unacked") == 1
    assert redis_client.llen(QUEUE) == 0


@pytest.mark.parametrize("message", [good(), encoded(BARE), b"not JSON", b"\xff\x00"])
def test_what_was_just_taken_when_its_worker_died_comes_back(
    connected: Connect, broker_url: str, redis_client: redis.Redis, message: bytes
) -> None:
    """It was filed by the server: nobody here has read the answer yet."""
    dying = connected(broker_url)
    consume(dying)
    redis_client.lpush(QUEUE, message)
    dying.transport.cycle.on_poll_start()
    assert eventually(lambda: redis_client.hlen("unacked") == redis_client.zcard("unacked_index") == 1)
    assert redis_client.llen(QUEUE) == 0
    dying.default_channel.client.connection.disconnect()
    restore(connected(broker_url))
    assert redis_client.hlen("unacked") == redis_client.zcard("unacked_index") == 0
    living = connected(broker_url)
    received = consume(living)
    deliver(living, 1)
    given = [payload(message)[1] for message in received] + [entry.content() for entry in list_quarantine(redis_client)]
    assert given == ([{"mark": "good"}] if message.startswith(b"{") else [message])
    assert all(message.delivery_info["redelivered"] for message in received)


def restore(connection: Any) -> None:
    """What workers do now and then, and here for all that is filed."""
    channel = connection.default_channel
    channel.visibility_timeout = -1
    channel.qos.restore_visible()


def test_what_two_workers_give_back_is_there_once(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    redis_client.lpush(QUEUE, good())
    deliver(connection, 1)
    [tag] = redis_client.zrange("unacked_index", 0, -1)
    for _ in range(2):
        connection.default_channel.qos.restore_by_tag(tag)
    received[0].requeue()
    assert redis_client.llen(QUEUE) == 1
    assert redis_client.hlen("unacked") == redis_client.zcard("unacked_index") == 0


def test_what_an_earlier_release_filed_is_given_back(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    message = task_message(mark="earlier")
    message["properties"]["delivery_info"] = {"exchange": "", "routing_key": QUEUE}
    redis_client.hset("unacked", "tag", json.dumps([json.loads(encoded(message)), "", QUEUE]))
    redis_client.zadd("unacked_index", {"tag": 0})
    restore(connected(broker_url))
    connection = connected(broker_url)
    received = consume(connection)
    deliver(connection, 1)
    assert [payload(message)[1] for message in received] == [{"mark": "earlier"}]


def test_nothing_is_taken_by_those_who_wait(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    """Every worker that waits learns of a message; one has it."""
    connections = [connected(broker_url) for _ in range(3)]
    received = [consume(connection) for connection in connections]
    for connection in connections:
        connection.transport.cycle.on_poll_start()  # looks
        with suppress(Empty):
            connection.transport.cycle.get(None, timeout=1)  # nothing is there
        connection.transport.cycle.on_poll_start()  # waits
    redis_client.lpush(QUEUE, good())
    time.sleep(0.1)
    assert redis_client.llen(QUEUE) == 1
    for connection in connections:
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.5)
    assert sorted(map(len, received)) == [0, 0, 1]


def test_only_what_is_consumed_is_waited_for(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    connection = connected(broker_url)
    channel = connection.default_channel
    for number in range(40):
        queue = f"reply-{number}"
        received = consume(connection, queue)
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.02)
        assert len(channel.watches._clients) == len(channel.priority_steps)
        redis_client.lpush(queue, good())
        deliver(connection, 1)
        assert len(received) == 1
        channel.basic_cancel(queue)
    assert len(redis_client.client_list()) < 20


@pytest.mark.parametrize("refusal", ["full", "not allowed"])
def test_where_the_server_does_not_wait_queues_are_looked_at_every_second(
    connected: Connect, broker_url: str, redis_client: redis.Redis, fill: Callable[[], object], refusal: str
) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    allowed: Callable[[str], object] = partial(redis_client.execute_command, "ACL", "SETUSER", "default")
    if refusal == "full":
        fill()
    else:
        allowed("-blmove")
    try:
        with suppress(TimeoutError, redis.exceptions.OutOfMemoryError):  # that of Kombu's search for orphans
            connection.drain_events(timeout=1.5)
        redis_client.config_set("maxmemory", 0)
        before = redis_client.info("commandstats")["cmdstat_eval"]["calls"]
        redis_client.lpush(QUEUE, good())
        deliver(connection, 1)
    finally:
        allowed("+blmove")
    assert len(received) == 1
    assert redis_client.info("commandstats")["cmdstat_eval"]["calls"] - before <= 3


def test_a_silent_watch_is_dropped_and_begun_again(
    connected: Connect, broker_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a half-open connection: the answer never comes."""
    connection = connected(broker_url)
    received = consume(connection)
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.2)
    watches = connection.default_channel.watches
    assert watches._asked_at
    monkeypatch.setattr(watches, "_asked_at", dict.fromkeys(watches._asked_at, time.monotonic() - 60))
    connection.transport.cycle.maybe_check_brpop_health()
    assert not watches._asked_at
    redis_client.lpush(QUEUE, good())
    deliver(connection, 1)
    assert len(received) == 1


def test_a_quarantine_that_is_something_else_is_survived(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    redis_client.set(QUARANTINE, "somebody took this key")
    redis_client.lpush(QUEUE, b"not JSON", good())
    deliver(connection, 2)
    assert len(received) == 1


def test_a_channel_makes_one_client(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    connection = connected(broker_url)
    channel = connection.default_channel
    made = []
    plain = channel.Client

    def client(**kwargs: Any) -> Any:
        made.append(plain(**kwargs))
        return made[-1]

    channel.Client = client
    producer = kombu.Producer(channel)

    def publish() -> None:
        for number in range(50):
            producer.publish({"n": number}, routing_key=QUEUE)

    publish()
    threads = [threading.Thread(target=publish) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert redis_client.llen(QUEUE) == 350


def test_the_client_serves_both_sides_of_a_fork(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    producer = kombu.Producer(connected(broker_url).default_channel)
    producer.publish("before", routing_key=QUEUE)
    child = os.fork()
    if not child:
        status = 1
        with suppress(BaseException):
            for _ in range(20):
                producer.publish("child", routing_key=QUEUE)
            status = 0
        os._exit(status)
    for _ in range(20):
        producer.publish("parent", routing_key=QUEUE)
    assert os.waitpid(child, 0)[1] == 0
    assert redis_client.llen(QUEUE) == 41


def test_the_client_survives_a_cut_connection(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    producer = kombu.Producer(connected(broker_url).default_channel)
    for _ in range(5):
        producer.publish("x", routing_key=QUEUE)
        redis_client.client_kill_filter(_type="normal", skipme=True)
    with suppress(redis.ConnectionError):
        producer.publish("x", routing_key=QUEUE)
    producer.publish("x", routing_key=QUEUE)
    assert redis_client.llen(QUEUE) >= 6


def broken_with_a_message_in_hand(connection: Any, server: EmbeddedServer) -> Any:
    """A connection as a worker's: it holds a message, waits for the next one, has a broadcast queue - and no server."""
    received = consume(connection)
    with connection.clone() as other:
        kombu.Producer(other.channel()).publish({"n": 1}, routing_key=QUEUE)
    deliver(connection, 1)
    mailbox = kombu.Queue("mine", kombu.Exchange("all", type="fanout"), auto_delete=True)
    kombu.Consumer(connection.channel(), [mailbox], no_ack=True).consume()
    connection.transport.cycle.on_poll_start()
    channel = connection.default_channel
    assert channel.watches._asked_at if isinstance(channel, Channel) else channel._in_poll
    pid = server.pid
    assert pid is not None
    os.kill(pid, SIGKILL)
    while server.pid is not None:
        pass
    return received[0]


def lose(connection: Any) -> None:
    """What celery's consumer does with a broken connection."""
    connection.collect(socket_timeout=1)
    with suppress(*connection.connection_errors, *connection.channel_errors):
        connection.release()


class Log:
    """Swallows what an acknowledgement says."""

    def critical(self, *args: object, **kwargs: object) -> None: ...


def test_a_lost_server_does_not_end_the_worker_and_a_late_acknowledgement_counts(
    connected: Connect, tmp_path: Path
) -> None:
    with EmbeddedServer(tmp_path / "own") as own:
        connection = connected(own.broker_url)
        message = broken_with_a_message_in_hand(connection, own)
        lose(connection)
        own.start()
        with redis.Redis.from_url(own.url) as client:
            assert client.hlen("unacked") == 1
            message.ack_log_error(Log(), connection.connection_errors)
            assert client.hlen("unacked") == client.llen(QUEUE) == 0


def test_late_acknowledgements_leave_one_connection_open_however_many_channels_were_closed(
    connected: Connect, broker_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Channel, "_clocks", {})
    monkeypatch.setattr(Channel, "_late_clients", {})
    first = connected(broker_url)
    first.default_channel.clock.now()
    first.release()
    before = len(redis_client.client_list())
    for number in range(5):
        connection = connected(broker_url)
        received = consume(connection)
        redis_client.lpush(QUEUE, good(number))
        deliver(connection, 1)
        connection.default_channel.qos._delivered.clear()  # as after a lost server: nothing can be returned
        connection.default_channel.clock._last = None  # as after a second: the server is asked for its time again
        lose(connection)
        assert redis_client.hlen("unacked") == 1
        received[0].ack_log_error(Log(), connection.connection_errors)
        assert redis_client.hlen("unacked") == 0
    # The server notices a moment later that a connection was closed.
    assert eventually(lambda: len(redis_client.client_list()) <= before + 1), [
        (client["id"], client["age"], client["cmd"], client["lib-name"]) for client in redis_client.client_list()
    ]


def test_a_cut_connection_returns_its_messages(connected: Connect, broker_url: str, redis_client: redis.Redis) -> None:
    connection = connected(broker_url)
    received = consume(connection)
    redis_client.lpush(QUEUE, good())
    deliver(connection, 1)
    connection.transport.cycle.on_poll_start()
    redis_client.client_kill_filter(_type="normal", skipme=True)
    lose(connection)
    assert redis_client.llen(QUEUE) == 1
    received[0].ack_log_error(Log(), connection.connection_errors)  # too late, but no harm
    assert redis_client.llen(QUEUE) == 1


def test_what_a_closed_channel_cannot_do_is_a_connection_error(connected: Connect, broker_url: str) -> None:
    connection = connected(broker_url)
    channel = connection.channel()
    lose(connection)
    with pytest.raises(connection.connection_errors):
        channel._size(QUEUE)


# --- Canaries: each fails when kombu does by itself what an override does ---


@contextmanager
def still_raises(kind: type[Exception], once_mended: str) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    pytest.fail(once_mended)


@pytest.mark.parametrize("message", [b"", b"not JSON", b"[]", NO_MESSAGES["bad base64"]])
def test_stock_kombu_still_dies_of_malformed_messages(
    connected: Connect, broker_url: str, redis_client: redis.Redis, message: bytes
) -> None:
    connection = connected(broker_url, hardened=False)
    consume(connection)
    redis_client.lpush(QUEUE, message)
    with (
        still_raises(Exception, "kombu survives a malformed message: Channel._brpop_read may go"),
        suppress(*connection.connection_errors),
    ):
        deliver(connection, 1)


def test_stock_kombu_still_makes_a_client_per_command(connected: Connect, broker_url: str) -> None:
    channel = connected(broker_url, hardened=False).default_channel
    if channel._create_client() is channel._create_client():
        pytest.fail("kombu shares its client: Channel._create_client can go")


def test_stock_kombu_still_files_what_it_has_taken_in_a_second_step(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url, hardened=False)
    consume(connection)
    redis_client.lpush(QUEUE, good())
    connection.transport.cycle.on_poll_start()
    assert eventually(lambda: not redis_client.llen(QUEUE))
    assert not redis_client.exists("unacked"), "kombu files what it takes at once: unacked.py and watches.py may go"


def test_stock_kombu_still_dies_of_a_lost_server(connected: Connect, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "own") as own:
        connection = connected(own.broker_url, hardened=False)
        broken_with_a_message_in_hand(connection, own)
        with still_raises(AttributeError, "kombu closes a lost connection: _get_pool may go"):
            lose(connection)
        own.start()


def test_stock_kombu_still_forgets_one_of_two_messages_with_one_tag(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url, hardened=False)
    consume(connection)
    redis_client.lpush(QUEUE, good(1), good(2))
    deliver(connection, 2)
    if redis_client.hlen("unacked") == 2:
        pytest.fail("kombu gives messages its own tags: Channel._open need not")


@pytest.mark.filterwarnings("ignore::kombu.transport.virtual.base.UndeliverableWarning")
def test_stock_kombu_still_drops_what_it_cannot_route_back(
    connected: Connect, broker_url: str, redis_client: redis.Redis
) -> None:
    connection = connected(broker_url, hardened=False)
    received = consume(connection)
    message = task_message(mark="from afar")
    message["properties"]["delivery_info"] = {"exchange": "undeclared", "routing_key": "elsewhere"}
    redis_client.lpush(QUEUE, encoded(message))
    deliver(connection, 1)
    received[0].requeue()
    if redis_client.llen(QUEUE):
        pytest.fail("kombu returns a message to its queue: Channel._open need not set delivery_info")


def test_stock_kombu_still_keeps_the_lock_of_the_dead_for_minutes() -> None:
    assert Channel.unacked_mutex_expire <= 10
    if stock.Channel.unacked_mutex_expire <= 60:
        pytest.fail("kombu's unacked_mutex_expire is short enough: Channel.unacked_mutex_expire can go")


OVERRIDDEN = {
    "_brpop_read": "c42518699709",
    "_brpop_start": "06723d707ddf",
    "_create_client": "dae92bc4075d",
    "_deliver_fanout_message": "06662335a70a",
    "_get_pool": "d6e689f654ff",
}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_kombu_is_the_one_our_overrides_were_written_for(name: str) -> None:
    """A new kombu may do more in a method that we replace. Compare, adapt, then put the new fingerprint here."""
    source = inspect.getsource(getattr(stock.Channel, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == OVERRIDDEN[name]
    assert name in vars(Channel)

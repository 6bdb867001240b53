"""What our own server is short of is known as that, whichever way it says so."""

import pytest
import redis
from redis import exceptions

from integrations.server.trouble import server_shortage
from tests.waiting import wait_until


@pytest.mark.parametrize(
    ("error", "shortage"),
    [
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "memory of our server"),
        (redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), "memory of our server"),
        (redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), "disk of our server"),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), "replicas of our server"),
        (redis.ConnectionError("max number of clients reached"), "connections to our server"),
        (exceptions.MaxConnectionsError("Too many connections"), "connections to our server"),
        (redis.TimeoutError("Timeout reading from socket"), "an answer of our server"),
        (redis.ConnectionError("Error 24 connecting to 127.0.0.1:6379. Too many open files."), "our server"),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "our server"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "our server"),
        (redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), None),
        (redis.AuthenticationError("invalid username-password pair"), None),
        (ValueError("OOPS"), None),
    ],
)
def test_what_the_server_lacks_is_told_from_what_is_wrong(error: Exception, shortage: str | None) -> None:
    assert server_shortage(error) == shortage


@pytest.mark.server
def test_a_real_server_that_is_full_or_has_too_many_clients(redis_url: str, redis_client: redis.Redis) -> None:
    script = redis_client.register_script("return redis.call('SET', KEYS[1], 1)")
    redis_client.config_set("maxmemory", 1)
    try:
        for write in (lambda: redis_client.set("a", 1), lambda: script(keys=["a"])):
            with pytest.raises(redis.RedisError) as full:
                write()
            assert server_shortage(full.value) == "memory of our server"
    finally:
        redis_client.config_set("maxmemory", 0)
    redis_client.config_set("min-replicas-to-write", 1)
    try:
        for write in (lambda: redis_client.set("a", 1), lambda: script(keys=["a"])):
            with pytest.raises(redis.RedisError) as alone:
                write()
            assert server_shortage(alone.value) == "replicas of our server"
    finally:
        redis_client.config_set("min-replicas-to-write", 0)
    clients = redis_client.info("clients")["connected_clients"]
    redis_client.config_set("maxclients", clients)
    try:
        said = set()

        def one_more_is_told_why() -> bool:
            with pytest.raises(redis.RedisError) as crowded, redis.Redis.from_url(redis_url) as another:
                another.ping()
            said.add(server_shortage(crowded.value))
            return "connections to our server" in said

        wait_until(one_more_is_told_why, what="its word; it may hang up before that is read")
        assert said <= {"connections to our server", "our server"}
    finally:
        redis_client.config_set("maxclients", 10000)

"""Clients of redis-py for a server that a URL names."""

from typing import Any

import redis
import redis.sentinel

from integrations.server.url import ServerUrl


def client_of(server: ServerUrl, **defaults: Any) -> redis.Redis:
    """A client that has not connected yet. The defaults are redis-py's options; what the URL says comes first."""
    options: dict[str, Any] = {**defaults, **dict(server.options), **dict(server.tls)}
    options |= {"db": server.database, "username": server.username or None, "password": server.password or None}
    if server.sentinels:
        of_redis: Any = redis.sentinel  # has no types
        sentinel = of_redis.Sentinel(list(server.sentinels), sentinel_kwargs=server.sentinel_options())
        options["ssl"] = bool(server.tls)
        # A master that was demoted, or is gone, is left for the one that the sentinels name.
        return redis.Redis.from_pool(of_redis.SentinelConnectionPool(server.master, sentinel, **options))
    if server.scheme == "unix":
        options |= {"path": server.path, "connection_class": redis.UnixDomainSocketConnection}
        for only_tcp in ("socket_connect_timeout", "socket_keepalive"):
            options.pop(only_tcp, None)
    else:
        options |= {"host": server.host, "port": server.port}
        if server.tls:
            options["connection_class"] = redis.SSLConnection
    return redis.Redis.from_pool(redis.ConnectionPool(**options))

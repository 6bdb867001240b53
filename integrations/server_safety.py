"""Whether a Redis or Valkey server keeps what it is told: an unsafe one is refused at start, not found out at night."""

from typing import Any

import redis
from redis.exceptions import BusyLoadingError


def dangers_of(client: redis.Redis) -> list[str]:
    """What would make this server forget accepted work, with the remedies; empty if it is safe.

    Raises RedisError; BusyLoadingError while it is still reading its files, as most commands do then.
    """
    persistence = _info(client, "persistence")
    if persistence.get("loading"):
        # INFO is answered all the same, and calls the append-only file off until it is read.
        raise BusyLoadingError("the server is loading its data")
    dangers = []
    policy = _info(client, "memory").get("maxmemory_policy")
    if policy not in {None, "noeviction"}:
        dangers.append(f"maxmemory-policy is {policy}: a full server would drop records; set it to noeviction")
    if not persistence.get("aof_enabled"):
        dangers.append("the append-only file is off: a restart would forget everything; set appendonly to yes")
    return dangers


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    return dict(client.info(section))

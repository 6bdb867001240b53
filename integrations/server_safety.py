"""Whether a Redis or Valkey server keeps what it is told: an unsafe one is refused at start, not found out at night."""

import re
from typing import Any

import redis
from redis.exceptions import BusyLoadingError

OLDEST_SERVER = (7, 2)
"""The first release that confirms what is on disk (WAITAOF). Valkey calls itself Redis 7.2.4 in `redis_version`."""


def dangers_of(client: redis.Redis) -> list[str]:
    """What would make this server forget accepted work, with the remedies; empty if it is safe.

    Raises RedisError; BusyLoadingError while it is still reading its files, as most commands do then.
    """
    persistence = _info(client, "persistence")
    if persistence.get("loading"):
        # INFO is answered all the same, and calls the append-only file off until it is read.
        raise BusyLoadingError("the server is loading its data")
    dangers = _dangers_of_its_age(_info(client, "server"))
    policy = _info(client, "memory").get("maxmemory_policy")
    if policy not in {None, "noeviction"}:
        dangers.append(f"maxmemory-policy is {policy}: a full server would drop records; set it to noeviction")
    if not persistence.get("aof_enabled"):
        dangers.append("the append-only file is off: a restart would forget everything; set appendonly to yes")
    return dangers


def _dangers_of_its_age(server: dict[str, Any]) -> list[str]:
    version = str(server.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or tuple(map(int, numbers.groups())) >= OLDEST_SERVER:
        return []
    needed = ".".join(map(str, OLDEST_SERVER))
    problem = f"it is Redis {version}, and {needed} or newer is needed: an older one cannot confirm what is on disk"
    return [f"{problem}; upgrade it, use Valkey, or name a newer server in OCC_REDIS_URL"]


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    return dict(client.info(section))

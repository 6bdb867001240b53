"""Whether a Redis or Valkey server keeps what it is told: an unsafe one is refused at start, not found out at night."""

from typing import Any

import redis


def dangers_of(client: redis.Redis) -> list[str]:
    """What would make this server forget accepted work, with the remedies; empty if it is safe. Raises RedisError."""
    dangers = []
    policy = _info(client, "memory").get("maxmemory_policy")
    if policy not in {None, "noeviction"}:
        dangers.append(f"maxmemory-policy is {policy}: a full server would drop records; set it to noeviction")
    if not _info(client, "persistence").get("aof_enabled"):
        dangers.append("the append-only file is off: a restart would forget everything; set appendonly to yes")
    return dangers


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    return dict(client.info(section))

"""A first look at a server: can it be used, and may it lose what it accepts?"""

import re
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from integrations.server.client import client_of
from integrations.server.trouble import Trouble, cluster, replica, trouble_behind
from integrations.server.url import ServerUrl

OLDEST_SERVER = (7, 2)
"""The first release that confirms what is on disk (WAITAOF). Valkey calls itself Redis 7.2.4 in `redis_version`."""

_ANSWER_WITHIN = 2.0  # seconds; who waits for TLS, or for none, says nothing at all
_DIAL_WITHIN = 3.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was found."""

    trouble: Trouble | None = None
    dangers: list[str] = field(default_factory=list)
    """Why it may lose what it accepts, with remedies; empty if it is safe, or does not say."""


def look_at(server: ServerUrl, setting: str) -> Look:
    """Dial, log in and ask what it is, once and without patience. Raises nothing of redis-py's."""
    client = client_of(
        server,
        decode_responses=True,
        socket_timeout=_ANSWER_WITHIN,
        socket_connect_timeout=_DIAL_WITHIN,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        with client:
            client.ping()
            return _look(client, server, setting)
    except (redis.RedisError, OSError) as error:
        return Look(trouble_behind(error, server, setting))


def _look(client: redis.Redis, server: ServerUrl, setting: str) -> Look:
    client.exists("occ")  # a key of ours: permitted to whoever works here
    info = client.info()
    if info.get("redis_mode") == "cluster" or info.get("cluster_enabled"):
        return Look(cluster(server))
    if info.get("role") == "slave":
        return Look(replica(server, setting))
    return Look(dangers=dangers_in(info))


# --- Whether it keeps what is written to it: an unsafe one is refused at start ----------------------------------------


def dangers_of(client: redis.Redis) -> list[str]:
    """What would make this server forget accepted work, with the remedies; empty if it is safe.

    Raises RedisError; BusyLoadingError while it is still reading its files, as most commands do then.
    """
    return dangers_in({**_info(client, "persistence"), **_info(client, "server"), **_info(client, "memory")})


def dangers_in(info: dict[str, Any]) -> list[str]:
    """The same, of what the server says of itself. Raises BusyLoadingError."""
    if info.get("loading"):
        # INFO is answered all the same, and calls the append-only file off until it is read.
        raise BusyLoadingError("the server is loading its data")
    dangers = _dangers_of_its_age(info)
    policy = info.get("maxmemory_policy")
    if policy not in {None, "noeviction"}:
        dangers.append(f"maxmemory-policy is {policy}: a full server would drop records; set it to noeviction")
    if not info.get("aof_enabled"):
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

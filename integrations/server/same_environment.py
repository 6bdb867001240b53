"""Two environments, such as staging and production, must not meet on one database: each would take the other's work.

    occ:sealing-keys    set     the sealing keys that workers here were started with: id and fingerprint

They are told apart by their sealing keys. Keys that are rotated overlap for a while, so that nobody is a stranger.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import redis

from integrations.lua import lua_beside
from integrations.sealing.keyring import SealingKey

SEALING_KEYS = "occ:sealing-keys"


def mark_of_key(key: SealingKey) -> str:
    """What is kept of a key pair: nothing of its private half."""
    return f"{key.key_id}:{hashlib.sha256(key.public_key.encode()).hexdigest()[:16]}"


def keys_of_another_environment(client: redis.Redis, keys: Sequence[SealingKey]) -> list[str]:
    """The ids of the sealing keys in use on this database, if none of ours is among them; else ours are noted.

    Raises redis.RedisError.
    """
    script = client.register_script(lua_beside(__file__, "same_environment"))
    others: Any = script(keys=[SEALING_KEYS], args=[mark_of_key(key) for key in keys])
    return sorted(str(mark).partition(":")[0] for mark in others)

"""What became of requests that carried an id, so that whoever sent one can ask, and sending it again does it once.

A memory, not the truth: that is the record. It is bounded and forgets after a week.

    occ:requests       hash    a request as JSON, by a hash of its id; a refused one also by that of where it came in
    occ:requests:at    zset    these hashes by when they were last written

Both keys expire a week after the last write; each write takes out what is older than that, and what is too many.
"""

import hashlib
import json
from dataclasses import replace
from typing import Any

import redis

from integrations.connections.known_request import KnownRequest, known_request_in
from integrations.errors import RequestRefused
from integrations.lua import lua_beside

REQUESTS = "occ:requests"
WRITTEN_AT = "occ:requests:at"
REMEMBERED_FOR = 7 * 86400
"""Seconds."""
MOST = 100_000
"""Requests; one more and the oldest is forgotten."""

_AT_ONCE = 100  # of what is forgotten with one write, so that none takes long


class RequestIds:
    """Remembers requests by their ids. Safe to share between threads."""

    def __init__(self, client: redis.Redis, *, most: int = MOST) -> None:
        self._redis = client
        self._most = most
        self._write = client.register_script(lua_beside(__file__, "remember_request"))

    def claim(self, request: KnownRequest) -> KnownRequest | None:
        """Take a request on under its id; None, or what became of it if it was taken before.

        Raises RequestRefused if another request had this id.
        """
        if not request.request_id:
            return None
        known = self._written("claim", request.request_id, request)
        if known is not None and known.digest != request.digest:
            raise RequestRefused(
                "request_id", "request_id_reused", "another request had this request_id; give each request its own"
            )
        return known

    def settle(self, request: KnownRequest) -> None:
        """What became of a request that was claimed."""
        if request.request_id:
            self._written("settle", request.request_id, request)

    def refuse(self, request: KnownRequest) -> None:
        """Remember a refusal, unless its id stands for a request that was accepted."""
        for name in filter(None, (request.request_id, request.reference)):
            self._written("refuse", name, request)

    def find(self, name: str) -> KnownRequest | None:
        """What became of a request, by its id or by the entry or message it came in; None if that is not known."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hget(REQUESTS, _hash(name))
            pipe.zscore(WRITTEN_AT, _hash(name))
            (seconds, _), text, at = pipe.execute()
        if text is None or at is None or at <= seconds - REMEMBERED_FOR:
            return None
        return replace(known_request_in(text), at=at)

    def _written(self, how: str, name: str, request: KnownRequest) -> KnownRequest | None:
        args: list[str | int] = [how, _hash(name), request.text(), REMEMBERED_FOR, self._most, _AT_ONCE]
        known: Any = self._write(keys=[REQUESTS, WRITTEN_AT], args=args)
        return known_request_in(known) if known else None


def _hash(name: str) -> str:
    """Ids are any text: what stands in the server is short, and no key."""
    return hashlib.sha256(json.dumps(name).encode()).hexdigest()[:32]

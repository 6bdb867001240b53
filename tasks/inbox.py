"""The inbox: a Redis stream for producers in any language, and for those who must not lose a request.

A request leaves the stream only when it was accepted or refused. A worker that dies in between leaves it pending, and
the next tick takes it over.

    XADD occ:inbox * request '{"merchant_id": "m-1", "store_url": "https://...", "application_key": "sealed.v1..."}'
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import redis
import structlog
from redis.exceptions import ResponseError

from integrations.errors import TransientError

log = structlog.get_logger(__name__)

STREAM = "occ:inbox"
_GROUP = "occ"
_CONSUMER = "tick"
_FIELD = "request"


class Inbox:
    """The consuming side of the stream."""

    def __init__(self, client: redis.Redis, *, take_over_after: float) -> None:
        """`take_over_after`: seconds after which a request another worker took and did not finish is ours."""
        self._redis = client
        self._take_over_after = int(take_over_after * 1000)

    def drain(self, handle: Callable[[object], object], limit: int) -> int:
        """Handle up to `limit` requests, oldest first; tells how many there were.

        When the server does not take a request, it stays for a later tick, and so do those after it. One that stumbles
        over an error of ours stays alone.
        """
        handled = 0
        for entry_id, fields in self._take(limit):
            try:
                handle(_request_in(fields))
            except (redis.RedisError, TransientError):
                raise
            except Exception:
                log.exception("request_left_in_inbox", entry=entry_id)
                continue
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.xack(STREAM, _GROUP, entry_id)
                pipe.xdel(STREAM, entry_id)
                pipe.execute()
            handled += 1
        return handled

    def _take(self, limit: int) -> list[tuple[str, dict[str, str]]]:
        try:
            left_behind = self._redis.xautoclaim(STREAM, _GROUP, _CONSUMER, self._take_over_after, count=limit)[1]
            room = limit - len(left_behind)
            fresh = self._redis.xreadgroup(_GROUP, _CONSUMER, {STREAM: ">"}, count=room) if room > 0 else []
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            with contextlib.suppress(ResponseError):  # another tick was faster
                self._redis.xgroup_create(STREAM, _GROUP, id="0", mkstream=True)
            return self._take(limit)
        new = [entry for _, entries in _streams(fresh) for entry in entries]
        return [(entry_id, fields) for entry_id, fields in [*left_behind, *new] if fields]


def _streams(answer: Any) -> Any:
    return answer.items() if isinstance(answer, dict) else answer


def _request_in(fields: dict[str, str]) -> object:
    """What the producer sent; anything that is no JSON object is refused by the same words as elsewhere."""
    try:
        return json.loads(fields[_FIELD])
    except (KeyError, ValueError, RecursionError):
        return None

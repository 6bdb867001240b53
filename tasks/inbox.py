"""The inbox: a Redis stream for producers in any language, and for those who must not lose a request.

A request leaves the stream only when it was accepted or refused. A worker that dies in between leaves it pending, and
the next tick takes it over. One that keeps stumbling over an error of ours goes to the quarantine.

    XADD occ:inbox * request '{"merchant_id": "m-1", "store_url": "https://...", "application_key": "sealed.v1..."}'
    XADD occ:inbox * revalidate '{"merchant_id": "m-1"}'
    XADD occ:inbox * disconnect '{"merchant_id": "m-1"}'
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis
import structlog
from redis.exceptions import ResponseError

from integrations.errors import TransientError
from integrations.quarantine import INBOX, INBOX_FIELD, quarantine

log = structlog.get_logger(__name__)

STREAM = INBOX
_GROUP = "occ"
_CONSUMER = "tick"
# A restart or a release may mend what it stumbled over; beyond that it would cost a place in each tick for ever.
_DELIVERIES = 5


class Inbox:
    """The consuming side of the stream."""

    def __init__(self, client: redis.Redis, *, take_over_after: float) -> None:
        """`take_over_after`: seconds after which a request another worker took and did not finish is ours."""
        self._redis = client
        self._take_over_after = int(take_over_after * 1000)

    def drain(self, handlers: Mapping[str, Callable[[object], object]], limit: int) -> int:
        """Handle up to `limit` requests, oldest first, each by the field it came in; tells how many there were.

        When the server does not take a request, it stays for a later tick, and so do those after it. One that stumbles
        over an error of ours stays alone, and is set aside at its fifth delivery.
        """
        handled = 0
        for entry_id, fields in self._take(limit):
            try:
                kind = next((name for name in handlers if name in fields), INBOX_FIELD)
                handlers[kind](_request_in(fields, kind))
            except (redis.RedisError, TransientError):
                raise
            except Exception as error:
                if self._deliveries(entry_id) < _DELIVERIES:
                    log.exception("request_left_in_inbox", entry=entry_id)
                    continue
                log.exception("request_set_aside", entry=entry_id)
                self._set_aside(fields, error)
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.xack(STREAM, _GROUP, entry_id)
                pipe.xdel(STREAM, entry_id)
                pipe.execute()
            handled += 1
        return handled

    def _deliveries(self, entry_id: str) -> int:
        """How often this one was taken, the present time included."""
        pending: Any = self._redis.xpending_range(STREAM, _GROUP, min=entry_id, max=entry_id, count=1)
        return int(pending[0]["times_delivered"]) if pending else 0

    def _set_aside(self, fields: dict[str, str], error: Exception) -> None:
        # Before it leaves the stream: a worker that dies in between sets it aside twice, and never loses it.
        message = fields.get(INBOX_FIELD) or json.dumps(fields)
        reason = f"{type(error).__name__} at each of {_DELIVERIES} deliveries"
        quarantine(self._redis, queue=STREAM, reason=reason, message=message.encode(), now=time.time())

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


def _request_in(fields: dict[str, str], kind: str) -> object:
    """What the producer sent; anything that is no JSON object is refused by the same words as elsewhere."""
    try:
        return json.loads(fields[kind])
    except (KeyError, ValueError, RecursionError):
        return None

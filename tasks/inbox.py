"""The inbox: a Redis stream for producers in any language, and for those who must not lose a request.

A request leaves the stream only when it was accepted or refused. A worker that dies in between leaves it pending, and
the next tick takes it over. One that keeps stumbling over an error of ours, or ends its worker again and again, goes to
the quarantine.

    XADD occ:inbox * request '{"merchant_id": "m-1", "store_url": "https://...", "application_key": "sealed.v1..."}'
    XADD occ:inbox * revalidate '{"merchant_id": "m-1"}'
    XADD occ:inbox * disconnect '{"merchant_id": "m-1"}'
    XADD occ:inbox * heard '{"merchant_id": "m-1", "slot": "order-submit", "at": 1795446120}'
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
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
_TOGETHER_PER_REQUEST = 10  # of what is handled many at once, so many may come beside each other request

ManyAtOnce = Mapping[str, Callable[[Sequence[object]], object]]
"""By field: handlers that take many entries at once, for what comes often and costs little."""


class Inbox:
    """The consuming side of the stream."""

    def __init__(self, client: redis.Redis, *, take_over_after: float) -> None:
        """`take_over_after`: seconds after which a request another worker took and did not finish is ours."""
        self._redis = client
        self._take_over_after = int(take_over_after * 1000)

    def drain(
        self,
        handlers: Mapping[str, Callable[[object], object]],
        limit: int,
        *,
        together: ManyAtOnce = MappingProxyType({}),
    ) -> int:
        """Handle up to `limit` requests, oldest first, each by the field it came in; tells how many there were.

        Entries with a field of `together` are handled many at once, and there may be ten times as many of them.

        When the server does not take a request, it stays for a later tick, and so do those after it. One that stumbles
        over an error of ours, or ends its worker, stays alone. After five deliveries it is set aside.
        """
        handled, beside = 0, 0
        while handled < limit and beside < limit * _TOGETHER_PER_REQUEST:
            waiting: list[tuple[str, str, dict[str, str]]] = []
            asked = limit - handled
            alone = self._drain(handlers, asked, together, waiting)
            self._handle_together(together, waiting)
            handled, beside = handled + alone, beside + len(waiting)
            if not waiting or alone + len(waiting) < asked:
                break
        return handled + beside

    def _drain(
        self,
        handlers: Mapping[str, Callable[[object], object]],
        limit: int,
        together: ManyAtOnce,
        waiting: list[tuple[str, str, dict[str, str]]],
    ) -> int:
        """Handle what is handled alone; what can wait for the others of its kind is left in `waiting`."""
        handled = 0
        for entry_id, fields, deliveries in self._take(limit):
            kind = next((name for name in together if name in fields), None)
            if kind is not None and deliveries == 1:
                waiting.append((kind, entry_id, fields))
                continue
            if deliveries > _DELIVERIES:
                log.error("request_set_aside", entry=entry_id, reason="worker_lost")
                self._set_aside(fields, f"no worker lived through {_DELIVERIES} deliveries")
            elif not self._handle(handlers, entry_id, fields, deliveries):
                continue
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.xack(STREAM, _GROUP, entry_id)
                pipe.xdel(STREAM, entry_id)
                pipe.execute()
            handled += 1
        return handled

    def _handle_together(self, together: ManyAtOnce, waiting: Sequence[tuple[str, str, dict[str, str]]]) -> None:
        """What goes wrong with many is tried again one by one, once they count as left behind."""
        for kind, handle in together.items():
            entries = [(entry_id, fields) for of, entry_id, fields in waiting if of == kind]
            if not entries:
                continue
            try:
                handle([_request_in(fields, kind) for _, fields in entries])
            except (redis.RedisError, TransientError):
                raise
            except Exception:
                log.exception("requests_left_in_inbox", entries=len(entries))
                continue
            ids = [entry_id for entry_id, _ in entries]
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.xack(STREAM, _GROUP, *ids)
                pipe.xdel(STREAM, *ids)
                pipe.execute()

    def _handle(
        self,
        handlers: Mapping[str, Callable[[object], object]],
        entry_id: str,
        fields: dict[str, str],
        deliveries: int,
    ) -> bool:
        """Whether it may leave the stream."""
        try:
            kind = next((name for name in handlers if name in fields), INBOX_FIELD)
            handlers[kind](_request_in(fields, kind))
        except (redis.RedisError, TransientError):
            self._uncount(entry_id, deliveries)
            raise
        except Exception as error:
            if deliveries < _DELIVERIES:
                log.exception("request_left_in_inbox", entry=entry_id)
                return False
            log.exception("request_set_aside", entry=entry_id)
            self._set_aside(fields, f"{type(error).__name__} at each of {_DELIVERIES} deliveries")
        return True

    def _uncount(self, entry_id: str, deliveries: int) -> None:
        """This delivery was not the request's fault: an outage, however long, sets nothing aside."""
        with contextlib.suppress(redis.RedisError):
            self._redis.xclaim(STREAM, _GROUP, _CONSUMER, 0, [entry_id], retrycount=deliveries - 1, justid=True)

    def _set_aside(self, fields: dict[str, str], reason: str) -> None:
        # Before it leaves the stream: a worker that dies in between sets it aside twice, and never loses it.
        message = fields.get(INBOX_FIELD) or json.dumps(fields)
        quarantine(self._redis, queue=STREAM, reason=reason, message=message.encode(), now=time.time())

    def _take(self, limit: int) -> Iterator[tuple[str, dict[str, str], int]]:
        """Requests, and how often each was delivered, the present time included.

        One that was delivered before may be what ended its worker. It is taken alone, just before it is handled: the
        server counts that before anything is done about it, and its neighbours are neither counted nor kept waiting.
        """
        taken = 0
        for entry_id, deliveries in self._left_behind(limit):
            claimed: Any = self._redis.xclaim(STREAM, _GROUP, _CONSUMER, self._take_over_after, [entry_id])
            for _, fields in claimed:  # empty: another tick was faster
                taken += 1
                if fields:
                    yield entry_id, fields, deliveries + 1
        fresh: Any = {}
        if taken < limit:
            fresh = self._redis.xreadgroup(_GROUP, _CONSUMER, {STREAM: ">"}, count=limit - taken)
        for _, entries in _streams(fresh):
            yield from ((entry_id, fields, 1) for entry_id, fields in entries if fields)

    def _left_behind(self, limit: int) -> list[tuple[str, int]]:
        """Those taken so long ago that whoever took them is gone, and how often they were."""
        try:
            pending: Any = self._redis.xpending_range(
                STREAM, _GROUP, min="-", max="+", count=limit, idle=self._take_over_after
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            with contextlib.suppress(ResponseError):  # another tick was faster
                self._redis.xgroup_create(STREAM, _GROUP, id="0", mkstream=True)
            return []
        return [(str(entry["message_id"]), int(entry["times_delivered"])) for entry in pending]


def _streams(answer: Any) -> Any:
    return answer.items() if isinstance(answer, dict) else answer


def _request_in(fields: dict[str, str], kind: str) -> object:
    """What the producer sent; anything that is no JSON object is refused by the same words as elsewhere."""
    try:
        return json.loads(fields[kind])
    except (KeyError, ValueError, RecursionError):
        return None

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

from integrations.clock import elapsed
from integrations.errors import TransientError
from integrations.messages.quarantine import INBOX, INBOX_FIELD, quarantine

log = structlog.get_logger(__name__)

STREAM = INBOX
_GROUP = "occ"
_CONSUMER = "tick"
# A restart or a release may mend what it stumbled over; beyond that it would cost a place in each tick for ever.
_DELIVERIES = 5
_PER_NEW_WORK = 10  # of what costs little, so many may come beside each request that begins work
_LONGEST = 1.0  # seconds
_FEWEST = 2  # begun in a tick however much work waits: less than any machine ends meanwhile
_FEW = 20  # taken at once, of what begins work: on a slow machine each takes a while

Handlers = Mapping[str, Callable[[object, str], bool]]
"""By field: what takes a request and the id of its entry, and says whether work came of it."""

ManyAtOnce = Mapping[str, Callable[[Sequence[object], Sequence[str]], object]]
"""By field: what takes many of them at once, for what comes often and costs little."""


OnSetAside = Callable[[str, object, str, str], None]
"""Hears of a request that was set aside: its field, the request, the id of its entry, and why."""


class Inbox:
    """The consuming side of the stream."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        take_over_after: float,
        count: Callable[[], float] = elapsed,
        on_set_aside: OnSetAside = lambda *_: None,
    ) -> None:
        """`take_over_after`: seconds after which a request another worker took and did not finish is ours."""
        self._redis = client
        self._on_set_aside = on_set_aside
        self._take_over_after = int(take_over_after * 1000)
        self._count = count
        # How often each was delivered that others hold, and since when that is so by a clock that only counts.
        self._held: dict[str, tuple[int, float]] = {}

    def drain(
        self,
        handlers: Handlers,
        limit: int,
        *,
        room: Callable[[], int] | None = None,
        together: ManyAtOnce = MappingProxyType({}),
    ) -> int:
        """Handle requests, oldest first, each by the field it came in; returns how many there were.

        It ends once work has come of `limit` of them, after ten times as many others, after about a second, or when
        there is no `room` for more work: asked again after every few. Two are begun however little there is. The others
        cost less: no work comes of them (they are refused, or were there before), or they have a field of `together`
        and are handled many at once.

        When the server does not take a request, it stays for a later tick, and so do those after it. One that stumbles
        over an error of ours, or ends its worker, stays alone. After five deliveries it is set aside.
        """
        begun, beside, until = 0, 0, self._count() + _LONGEST
        left = limit if room is None else max(_FEWEST, room())
        at_once = min(_FEW, left, limit)
        while left > 0 and begun < limit and beside < limit * _PER_NEW_WORK:
            waiting: list[tuple[str, str, dict[str, str]]] = []
            handled, with_work = self._drain(handlers, at_once, together, waiting)
            self._handle_together(together, waiting)
            begun, beside = begun + with_work, beside + handled - with_work + len(waiting)
            if handled + len(waiting) < at_once or self._count() >= until:
                break
            if with_work and room is not None:
                left = room()
            at_once = min(_FEW, left, limit - begun) if with_work else min(2 * at_once, limit)
        return begun + beside

    def _drain(
        self,
        handlers: Handlers,
        limit: int,
        together: ManyAtOnce,
        waiting: list[tuple[str, str, dict[str, str]]],
    ) -> tuple[int, int]:
        """Handle what is handled alone: how many, and of how many work came.

        What can wait for the others of its kind is left in `waiting`.
        """
        handled, with_work = 0, 0
        for entry_id, fields, deliveries in self._take(limit):
            kind = next((name for name in together if name in fields), None)
            if kind is not None and deliveries == 1:
                waiting.append((kind, entry_id, fields))
                continue
            answer: bool | None = False
            if deliveries > _DELIVERIES:
                log.error("request_set_aside", entry=entry_id, reason="worker_lost")
                self._set_aside(entry_id, fields, f"no worker lived through {_DELIVERIES} deliveries")
            else:
                answer = self._handle(handlers, entry_id, fields, deliveries)
            if answer is None:
                continue
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.xack(STREAM, _GROUP, entry_id)
                pipe.xdel(STREAM, entry_id)
                pipe.execute()
            handled, with_work = handled + 1, with_work + answer
        return handled, with_work

    def _handle_together(self, together: ManyAtOnce, waiting: Sequence[tuple[str, str, dict[str, str]]]) -> None:
        """What goes wrong with many is tried again one by one, once they count as left behind."""
        for kind, handle in together.items():
            entries = [(entry_id, fields) for of, entry_id, fields in waiting if of == kind]
            if not entries:
                continue
            try:
                handle([_request_in(fields, kind) for _, fields in entries], [entry_id for entry_id, _ in entries])
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
        handlers: Handlers,
        entry_id: str,
        fields: dict[str, str],
        deliveries: int,
    ) -> bool | None:
        """Whether work came of it; None if it stays in the stream."""
        try:
            kind = next((name for name in handlers if name in fields), INBOX_FIELD)
            return handlers[kind](_request_in(fields, kind), entry_id)
        except (redis.RedisError, TransientError):
            self._uncount(entry_id, deliveries)
            raise
        except Exception as error:
            if deliveries < _DELIVERIES:
                log.exception("request_left_in_inbox", entry=entry_id)
                return None
            log.exception("request_set_aside", entry=entry_id)
            self._set_aside(entry_id, fields, f"{type(error).__name__} at each of {_DELIVERIES} deliveries")
        return False

    def _uncount(self, entry_id: str, deliveries: int) -> None:
        """This delivery was not the request's fault: an outage, however long, sets nothing aside."""
        with contextlib.suppress(redis.RedisError):
            self._redis.xclaim(STREAM, _GROUP, _CONSUMER, 0, [entry_id], retrycount=deliveries - 1, justid=True)

    def _set_aside(self, entry_id: str, fields: dict[str, str], reason: str) -> None:
        # Before it leaves the stream: a worker that dies in between sets it aside twice, and never loses it.
        message = fields.get(INBOX_FIELD) or json.dumps(fields)
        quarantine(self._redis, queue=STREAM, reason=reason, message=message.encode(), now=time.time())
        field = next(iter(fields), INBOX_FIELD)
        with contextlib.suppress(redis.RedisError):
            self._on_set_aside(field, _request_in(fields, field), entry_id, reason)

    def _take(self, limit: int) -> Iterator[tuple[str, dict[str, str], int]]:
        """Requests, and how often each was delivered, the present time included.

        One that was delivered before may be what ended its worker. It is taken alone, just before it is handled: the
        server counts that before anything is done about it, and its neighbours are neither counted nor kept waiting.
        """
        taken = 0
        for entry_id, deliveries, idle in self._left_behind(limit):
            claimed: Any = self._redis.xclaim(STREAM, _GROUP, _CONSUMER, idle, [entry_id])
            for _, fields in claimed:  # empty: another tick was faster
                taken += 1
                if fields:
                    yield entry_id, fields, deliveries + 1
        fresh: Any = {}
        if taken < limit:
            fresh = self._redis.xreadgroup(_GROUP, _CONSUMER, {STREAM: ">"}, count=limit - taken)
        for _, entries in _streams(fresh):
            yield from ((entry_id, fields, 1) for entry_id, fields in entries if fields)

    def _left_behind(self, limit: int) -> list[tuple[str, int, int]]:
        """Those taken so long ago that whoever took them is gone, how often they were, and for how long at least.

        The server tells how long ago that was by its clock. Set back, it would say for as long that it was just now; so
        we remember whom we have seen held.
        """
        try:
            pending: Any = self._redis.xpending_range(STREAM, _GROUP, min="-", max="+", count=limit)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            with contextlib.suppress(ResponseError):  # another tick was faster
                self._redis.xgroup_create(STREAM, _GROUP, id="0", mkstream=True)
            return []
        held, left, now = self._held, [], self._count()
        self._held = {}
        for entry in pending:
            entry_id, deliveries = str(entry["message_id"]), int(entry["times_delivered"])
            known, since = held.get(entry_id, (0, now))
            since = since if known == deliveries else now
            if int(entry["time_since_delivered"]) >= self._take_over_after:
                left.append((entry_id, deliveries, self._take_over_after))
            elif (now - since) * 1000 >= self._take_over_after:
                left.append((entry_id, deliveries, 0))
            else:
                self._held[entry_id] = deliveries, since
        return left


def _streams(answer: Any) -> Any:
    return answer.items() if isinstance(answer, dict) else answer


def _request_in(fields: dict[str, str], kind: str) -> object:
    """What the producer sent; anything that is no JSON object is refused by the same words as elsewhere."""
    try:
        return json.loads(fields[kind])
    except (KeyError, ValueError, RecursionError):
        return None

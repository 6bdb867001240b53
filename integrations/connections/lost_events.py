"""Events about statuses that were written, read by somebody perhaps, and lost: then the status is reported once more.

A server copies its writes to its replicas a moment later. The one that takes its place after a failure may lack the
latest of them, and one that starts from an older file lacks what came since. The records there are whole, and go on
from what they say; but other systems may have heard what no record says any more. Whoever has written an event
remembers it for an hour, and looks whether it is still in the stream.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import redis

from integrations.connections.records import EVENTS, HELD, StatusEvent, connection_key
from integrations.lua import lua_beside

UNKNOWN = "unknown"
"""In place of the status that other systems heard of last."""

_KEPT = 10_000
_KEPT_FOR = 3600.0  # seconds
_PAGE = 500


class WrittenEvents:
    """The events about statuses that this process has written lately. Safe to share between threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._mark = client.register_script(lua_beside(__file__, "mark_unheard"))
        self._lock = threading.Lock()
        self._new: list[tuple[float, StatusEvent]] = []
        self._seen: deque[tuple[float, StatusEvent]] = deque(maxlen=_KEPT)

    def note(self, event: StatusEvent) -> None:
        """It was written just now."""
        with self._lock:
            self._new.append((time.monotonic(), event))

    def look(self) -> int:
        """See whether they are still there, and have the statuses of those merchants reported whose events are not.

        Returns of how many merchants. What is lost are the latest writes: while the latest one that was seen is there,
        so are those before it. One thread at a time. Raises redis.RedisError; then the next look sees to all of them.
        """
        with self._lock:
            new, oldest_kept = self._new[-_KEPT:], time.monotonic() - _KEPT_FOR
        while self._seen and self._seen[0][0] < oldest_kept:
            self._seen.popleft()
        latest = list(self._seen)[-1:]
        if not latest and not new:
            return 0
        asked = [*latest, *new]
        if latest and self._missing([latest[0][1]]):
            asked = [*self._seen, *new]
        missing = self._missing([event for _, event in asked])
        versions: dict[str, int] = {}
        for event in missing:
            versions[event.merchant_id] = max(event.version, versions.get(event.merchant_id, 0))
        marked = sum(self._report_anew(merchant_id, version) for merchant_id, version in versions.items())
        with self._lock:
            del self._new[: len(new)]
        self._seen.extend(new)
        if missing:
            kept = [entry for entry in self._seen if entry[1] not in missing]
            self._seen.clear()
            self._seen.extend(kept)
        return marked

    def _report_anew(self, merchant_id: str, version: int) -> int:
        keys = [connection_key(merchant_id), HELD]
        return int(cast("int", self._mark(keys=keys, args=[merchant_id, version, UNKNOWN])))

    def _missing(self, events: list[StatusEvent]) -> set[StatusEvent]:
        """Those that are not in the stream, and too young to have been trimmed from it."""
        missing: set[StatusEvent] = set()
        for start in range(0, len(events), _PAGE):
            page = events[start : start + _PAGE]
            with self._redis.pipeline(transaction=False) as pipe:
                for event in page:
                    pipe.xrange(EVENTS, event.entry_id, event.entry_id)
                pipe.xrange(EVENTS, count=1)
                *found, first = pipe.execute()
            oldest = _place(first[0][0]) if first else (0, 0)
            missing |= {
                event
                for event, entries in zip(page, found, strict=True)
                if not _holds(entries, event) and _place(event.entry_id) >= oldest
            }
        return missing


def _holds(entries: Iterable[Any], event: StatusEvent) -> bool:
    return any(f'"{event.event_id}"' in fields.get("event", "") for _, fields in entries)


def _place(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)

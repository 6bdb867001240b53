"""What this process counts: in memory, and now and then added to what all processes have counted, on the server.

Nobody who counts waits for the server: a thread of our own talks to it, about once a second. A killed process loses
what it counted since. A total never goes down; where an answer of the server was lost, a second may be in it twice.
"""

import atexit
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from integrations.connections.causes import CAUSES as KNOWN_CAUSES
from integrations.connections.record import Connection, Target
from integrations.connections.records import Committed
from integrations.lua import lua_beside
from integrations.observer import CallOutcome, ObservedCall, TokenSource
from integrations.server.client import client_of
from integrations.server.url import ServerUrl, server_url
from tasks.worker import metric
from tasks.worker.metric import CALL_SECONDS_BUCKETS, Metric

log = structlog.get_logger(__name__)

TOTALS = "occ:metrics"
"""Hash: `<metric>|<label>|...` -> total; of the histogram `|<bound>` -> count, and `|us` -> microseconds."""

BEYOND = "+Inf"
MICROSECONDS = "us"

_EVERY = 1.0  # seconds


def field(counted: Metric, *labels: str) -> str:
    """Where a total is kept."""
    return "|".join((counted.name, *labels))


class Counts:
    """Counts what this process does; an `integrations.observer.Observer`. Safe to share between threads."""

    def __init__(self, server: ServerUrl | str, *, every: float = _EVERY, counts: bool = True) -> None:
        """Nothing connects, and no thread runs, before there is something to count."""
        self._server = server_url(server) if isinstance(server, str) else server
        self._every = every
        self._counts = counts
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._client: redis.Redis | None = None
        self._add_script: Any = None
        self._failing = False

    # --- Counting ---------------------------------------------------------------------------------------------------

    def called(self, call: ObservedCall) -> None:
        """One call to a store."""
        endpoint, seconds = call.endpoint, call.seconds
        bound = next((str(bound) for bound in CALL_SECONDS_BUCKETS if seconds <= bound), BEYOND)
        self._add(
            {
                field(metric.CALLS, endpoint, call.outcome): 1,
                field(metric.CALL_SECONDS, endpoint, bound): 1,
                field(metric.CALL_SECONDS, endpoint, MICROSECONDS): max(0, round(seconds * 1e6)),
            }
        )

    def token_taken(self, source: TokenSource) -> None:
        """An access token was needed."""
        self._add({field(metric.TOKENS, source): 1})

    def nothing_done(self, target: Target) -> None:
        """A message about a step had nothing to it: doubled, late, or overtaken."""
        self._add({field(metric.STEPS, target.step, "nothing_to_do"): 1})

    def stood_back(self, target: Target) -> None:
        """A step was left alone for now: its store is slow, and no place was free to wait for it."""
        self._add({field(metric.STEPS, target.step, "stood_back"): 1})

    def steps_done(
        self, claimed: Connection, recorded: Committed, summaries: Mapping[Target, Mapping[str, object]]
    ) -> None:
        """Steps of one claim have outcomes: what `tasks/step.py` says of each."""
        counted: Counter[str] = Counter()
        for target, summary in summaries.items():
            waits = target.slot is not None and "next_attempt_at" in summary
            counted[field(metric.STEPS, target.step, "waits" if waits else str(summary["outcome"]))] += 1
            work = claimed.work_on(target)
            if work is not None and work.attempts > 1:
                counted[field(metric.RETRIES, target.step)] += 1
            cause = summary.get("cause")
            if cause is not None:
                counted[field(metric.CAUSES, str(cause) if cause in KNOWN_CAUSES else "other")] += 1
            if _was_repaired(target, recorded):
                counted[field(metric.REPAIRS)] += 1
        if given_up := _newly_given_up(recorded):
            counted[field(metric.GIVEN_UP)] = given_up
        self._add(counted)

    def store_shared(self) -> None:
        """A connection leads to a store that another merchant is connected to, and did not before."""
        self._add({field(metric.SHARED): 1})

    def delivered(self, outcome: CallOutcome) -> None:
        """One delivery of an event to the receiver ended so."""
        self._add({field(metric.DELIVERIES, outcome): 1})

    def events_missed(self, events: int) -> None:
        """So many events were trimmed from the stream before anybody could deliver them."""
        self._add({field(metric.EVENTS_MISSED): events})

    def heard(self, *, taken: int, unknown: int, refused: int) -> None:
        """So many reports of slots that were heard from were taken; `refused`: requests that held none."""
        counted = {"taken": taken, "unknown": unknown, "refused": refused}
        self._add({field(metric.HEARD, result): number for result, number in counted.items()})

    def ticked(self, *, dispatched: int, taken_from_inbox: int) -> None:
        """A tick ran."""
        self._add(
            {
                field(metric.TICKS): 1,
                field(metric.DISPATCHED): dispatched,
                field(metric.INBOX_TAKEN): taken_from_inbox,
            }
        )

    def _add(self, counted: Mapping[str, int]) -> None:
        if not self._counts:
            return
        with self._lock:
            for name, number in counted.items():
                if number:
                    self._counted[name] += number
            if self._thread is None and not self._over.is_set():
                self._thread = threading.Thread(target=self._write_now_and_then, name="metrics", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    # --- Writing ----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Add what was counted to the totals. What the server does not take is kept for the next time."""
        with self._writing:
            with self._lock:
                counted, self._counted = self._counted, Counter()
            if not counted:
                return
            try:
                self._write(counted)
                self._failing = False
            except redis.RedisError as error:
                with self._lock:
                    self._counted.update(counted)  # a handful of numbers, however long this goes on
                if not self._failing:
                    log.warning("metrics_not_written", error=type(error).__name__)
                self._failing = True

    def close(self) -> None:
        """Write what is left, and end the thread."""
        atexit.unregister(self.close)
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.flush()
        if self._client is not None:
            self._client.close()

    def _write_now_and_then(self) -> None:
        while not self._over.wait(self._every):
            self.flush()

    def _write(self, counted: Mapping[str, int]) -> None:
        if self._client is None:
            # Never twice: the server may have counted what it did not confirm.
            self._client = client_of(
                self._server, socket_timeout=5, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0)
            )
            self._add_script = self._client.register_script(lua_beside(__file__, "add_counts"))
        args = [part for name, number in counted.items() for part in (name, number)]
        try:
            self._add_script(keys=[TOTALS], args=args)
        except redis.exceptions.ReadOnlyError:
            self._client.connection_pool.disconnect()  # a demoted master: the next time another may be at its address
            raise


def _newly_given_up(recorded: Committed) -> int:
    """Deliveries that were found in a store's log now, and not the last time."""
    found = 0
    for name, slot in recorded.after.slots.items():
        was = recorded.before.slots.get(name) if recorded.before else None
        known = was.given_up.count if was is not None and was.given_up is not None else 0
        found += max(0, slot.given_up.count - known) if slot.given_up is not None else 0
    return found


def _was_repaired(target: Target, recorded: Committed) -> bool:
    before, after = (
        connection.slots.get(target.slot or "") if connection else None
        for connection in (recorded.before, recorded.after)
    )
    return before is not None and after is not None and after.repairs[-1:] not in {(), before.repairs[-1:]}

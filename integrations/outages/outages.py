"""Whether an outage is on: every attempt at a store is noted, and what they tell together is judged again and again.

A part of `records.py`, in a file of its own; nothing else knows these keys. Any number of workers and ticks share them,
and the server's clock decides.

    occ:outcomes:<bucket>:<what>    HyperLogLog    merchants asked in a part of the window, and, by kind, those failing
    occ:outage                      hash           number of operator events; kind, since, share, failing, asked while
                                                   one is on; ended_at afterwards; probed_at
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, cast

import redis

from integrations.connections.causes import Evidence, OutageKind
from integrations.connections.record import Connection
from integrations.connections.records import EVENTS, HELD, OUTAGE, Records
from integrations.outages.outage import (
    Outage,
    Rules,
    Tally,
    beginning,
    ended_event,
    evidence,
    goes_on,
    started_event,
)

_BUCKETS = 5
_REVIEW_AT_MOST_EVERY = 0.5  # seconds, in this process
_RACES_BEFORE_GIVING_UP = 10

# ARGV: merchant id, seconds of a bucket, milliseconds to keep it, what the attempt counts as
_NOTE = """
local time = redis.call('TIME')
local bucket = math.floor((time[1] + time[2] / 1000000) / ARGV[2])
for index = 4, #ARGV do
  local key = string.format('occ:outcomes:%.0f:%s', bucket, ARGV[index])
  if redis.call('PFADD', key, ARGV[1]) == 1 then redis.call('PEXPIRE', key, ARGV[3]) end
end
"""

# KEYS: outage, held. ARGV: seconds of a bucket, how many lie behind the current one in the window and in its latest
# part, what to count. Times go as text: a number would lose its fraction.
_COUNT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = math.floor(now / ARGV[1])
local counts = {}
for _, behind in ipairs({ARGV[2], ARGV[3]}) do
  for index = 4, #ARGV do
    local keys = {}
    for number = bucket - behind, bucket do
      keys[#keys + 1] = string.format('occ:outcomes:%.0f:%s', number, ARGV[index])
    end
    counts[#counts + 1] = redis.call('PFCOUNT', unpack(keys))
  end
end
local state = redis.call('HMGET', KEYS[1], 'number', 'kind', 'since', 'share', 'failing', 'asked')
return {string.format('%.6f', now), redis.call('ZCARD', KEYS[2]), state, counts}
"""

# KEYS: outage, events. ARGV: number as it was read, event, bound, fields and values of the outage from now on. Of
# several that have decided at once, one tells.
_CHANGE_OF_STATE = """
if (redis.call('HGET', KEYS[1], 'number') or '0') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[2])
return 1
"""

_ASKED = "asked"


class Outages:
    """Notes outcomes, and declares outages and their ends. Safe to share between threads."""

    def __init__(
        self, records: Records, rules: Rules, *, report: Callable[[dict[str, object]], object] = lambda _: None
    ) -> None:
        """`tell` hears of the operator events that this process has raised."""
        self._report_here = report
        self._redis, self._events_kept, self._rules = records.redis, records.events_kept, rules
        self._note = self._redis.register_script(_NOTE)
        self._count = self._redis.register_script(_COUNT)
        self._change_state = self._redis.register_script(_CHANGE_OF_STATE)
        self._next_review = 0.0

    def note(self, connection: Connection, code: str | None) -> None:
        """Count the outcome of one attempt at a store: None if it answered properly, else the code of the cause.

        `connection` is as it was before the outcome, which is to be recorded after this: where the outcome makes an
        outage of it, the news is held. A server that cannot be reached is ignored; who records the outcome notices.
        """
        counts_for = evidence(connection, code)
        if not self._rules.share or counts_for is Evidence.NOTHING:
            return
        counts_as = [_ASKED, counts_for.value] if isinstance(counts_for, OutageKind) else [_ASKED]
        keep = 2000 * self._rules.window
        with suppress(redis.RedisError):
            self._note(args=[connection.merchant_id, self._bucket, max(1, round(keep)), *counts_as])
            if isinstance(counts_for, OutageKind) and time.monotonic() >= self._next_review:
                self.review()

    def review(self) -> Outage | None:
        """Judge whether an outage begins, goes on or ends, and tell operators once of each; the one that is on."""
        self._next_review = time.monotonic() + _REVIEW_AT_MOST_EVERY
        for _ in range(_RACES_BEFORE_GIVING_UP):
            seen = self._seen()
            if seen.outage is None:
                begun = beginning(self._rules, seen.tallies, seen.now)
                if begun is None or self._begin(seen, begun):
                    return begun
            elif goes_on(self._rules, seen.tallies, seen.outage, seen.now, held=seen.held):
                return seen.outage
            elif self._end(seen, seen.outage):
                return None
        return self._seen().outage

    @property
    def _bucket(self) -> float:
        return self._rules.window / _BUCKETS

    def _seen(self) -> "_Seen":
        args = [self._bucket, _BUCKETS, 1, _ASKED, *OutageKind]
        now, held, state, counts = cast("list[Any]", self._count(keys=[OUTAGE, HELD], args=args))
        number, kind, *figures = state
        outage = None
        if kind is not None:
            since, share, failing, asked = figures
            outage = Outage(kind, float(since), float(share), int(failing), int(asked))
        half = len(counts) // 2
        return _Seen(float(now), held, int(number or 0), outage, (_tally(counts[:half]), _tally(counts[half:])))

    def _begin(self, seen: "_Seen", outage: Outage) -> bool:
        return self._report(seen, started_event(outage, seen.number + 1), asdict(outage))

    def _end(self, seen: "_Seen", outage: Outage) -> bool:
        event = ended_event(outage, seen.number + 1, seen.now, held=seen.held)
        return self._report(seen, event, {"ended_at": seen.now})

    def _report(self, seen: "_Seen", event: dict[str, object], state: dict[str, object]) -> bool:
        fields = {**state, "number": seen.number + 1}
        flat = [part for name, value in fields.items() for part in (name, str(value))]
        args: list[str | int] = [str(seen.number), json.dumps(event), self._events_kept, *flat]
        if not self._change_state(keys=[OUTAGE, EVENTS], args=args):
            return False
        self._report_here(event)
        return True


@dataclass(frozen=True, slots=True)
class _Seen:
    """What there is to judge by. `number`: of the last operator event."""

    now: float
    held: int
    number: int
    outage: Outage | None
    tallies: tuple[Tally, ...]


def _tally(counts: list[int]) -> Tally:
    asked, *failing = counts
    return Tally(asked, dict(zip(OutageKind, failing, strict=True)))

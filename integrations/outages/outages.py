"""Whether an outage is on: every attempt at a store is noted, and all of them together are judged again and again.

A part of `records.py`, in a file of its own; nothing else knows these keys. Any number of workers and ticks share them,
and one clock decides (`integrations/clock.py`).

    occ:outcomes:<bucket>:<what>    HyperLogLog    merchants asked in a part of the window, and, by kind, those failing
    occ:keys:*                                     whose keys were accepted and refused (`refusals.py`)
    occ:outage                      hash           number of operator events; kind, since, share, failing, asked while
                                                   one is on; ended_at afterwards; probed_at
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, cast

import redis

from integrations.cloud_event import event_text
from integrations.connections.causes import Evidence, OutageKind
from integrations.connections.record import Connection
from integrations.connections.records import CONNECTIONS, EVENTS, HELD, OUTAGE, Records
from integrations.connections.schedule import Pace
from integrations.lua import lua_beside
from integrations.outages import key_service
from integrations.outages.key_service import PROBE_EVERY, WITNESSES, Tried, Verdict
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
from integrations.outages.refusals import ACCEPTED, MOST, REFUSED, Refusals

_BUCKETS = 5
_REVIEW_AT_MOST_EVERY = 0.5  # seconds, in this process
_RACES_BEFORE_GIVING_UP = 10

_ASKED = "asked"


class Outages:
    """Notes outcomes, and declares outages and their ends. Safe to share between threads."""

    def __init__(
        self, records: Records, rules: Rules, *, report: Callable[[dict[str, object]], object] = lambda _: None
    ) -> None:
        """`report` hears of the operator events that this process has raised."""
        self._report_here = report
        self._redis, self._events_kept, self._rules = records.redis, records.events_kept, rules
        self._event_source = records.event_source
        self._clock = records.clock
        self._note = self._redis.register_script(lua_beside(__file__, "note_outcome"))
        self._count = self._redis.register_script(lua_beside(__file__, "count_outcomes"))
        self._change_state = self._redis.register_script(lua_beside(__file__, "change_outage"))
        self._refusals = Refusals(records)
        self._next_review = 0.0
        self._answered: tuple[int, set[str]] = 0, set()  # in a part of the window: merchants who need no more noting

    def note(self, connection: Connection, code: str | None, *, key_accepted: bool = False) -> None:
        """Count the outcome of one attempt at a store: None if it answered properly, else the code of the cause.

        `key_accepted`: whether there was a login that worked, whatever came after it.

        `connection` is as it was before the outcome, which is to be recorded after this: where the outcome makes an
        outage of it, the news is held. A server that cannot be reached is ignored; who records the outcome notices.
        """
        counts_for = evidence(connection, code)
        if not self._rules.share or (counts_for is Evidence.NOTHING and not key_accepted):
            return
        counts_as = [] if counts_for is Evidence.NOTHING else [_ASKED]
        counts_as += [counts_for.value] if isinstance(counts_for, OutageKind) else []
        sets = [ACCEPTED, REFUSED] if key_accepted else [REFUSED, ACCEPTED] if counts_for is OutageKind.KEY else []
        keep = 2000 * self._rules.window
        with suppress(redis.RedisError):
            now, merchant_id = self._clock.now(), connection.merchant_id
            if self._answered[0] != int(now // self._bucket):
                self._answered = int(now // self._bucket), set()
            answered = self._answered[1]
            if merchant_id in answered and counts_as == [_ASKED] and not sets:
                return
            bounds = (max(1, round(keep)), MOST, f"{now:.6f}")
            self._note(keys=sets, args=[merchant_id, self._bucket, *bounds, *counts_as])
            if _ASKED in counts_as:
                answered.add(merchant_id)
            if isinstance(counts_for, OutageKind) and time.monotonic() >= self._next_review:
                self.review()

    def verdict_waits(self, connection: Connection, pace: Pace) -> bool:
        """Whether a refusal of this connection's key, which was noted, is to be no verdict yet.

        So it is while most keys are refused, or until somebody else's was tried: then others are looked at.
        """
        if not self._rules.share or connection.disconnection is not None:
            return False
        try:
            return self._verdict_waits(connection, pace)
        except redis.RedisError:
            return True  # nothing is known of others

    def _verdict_waits(self, connection: Connection, pace: Pace) -> bool:
        merchant_id, since = connection.merchant_id, (connection.candidate or connection.credential).doubted_since
        if since is None:
            if self._seen().tried.accepted < WITNESSES:
                self._refusals.ask_witnesses(pace, besides=merchant_id)
            return False
        outage_is_on = self.review() is not None
        if outage_is_on:  # one now and then: else nobody but those who are refused would be tried
            self._refusals.ask_witnesses(pace, besides=merchant_id, count=1, every=PROBE_EVERY)
        others = self._refusals.tried(since, besides=merchant_id)
        decided = key_service.verdict(others, outage_is_on=outage_is_on, witnesses=WITNESSES)
        if decided is Verdict.ASKS:
            asked = self._refusals.ask_witnesses(pace, besides=merchant_id)
            decided = key_service.verdict(others, outage_is_on=outage_is_on, witnesses=asked)
        if decided is Verdict.STANDS:
            self._refusals.forget(merchant_id)
        return decided is not Verdict.STANDS

    def review(self) -> Outage | None:
        """Judge whether an outage begins, goes on or ends, with one event for operators each.

        Returns the one that is on.
        """
        self._next_review = time.monotonic() + _REVIEW_AT_MOST_EVERY
        for _ in range(_RACES_BEFORE_GIVING_UP):
            seen = self._seen()
            if seen.outage is None:
                if 0 < seen.ended_at - seen.now < self._rules.window:
                    return None  # we are behind whoever declared the end, and count what has left the window since
                begun = beginning(self._rules, seen.tallies, seen.now)
                if begun is None and self._rules.share:
                    begun = key_service.beginning(seen.tried, seen.fleet, seen.now)
                if begun is None or self._begin(seen, begun):
                    return begun
            elif self._goes_on(seen, seen.outage):
                return seen.outage
            elif self._end(seen, seen.outage):
                return None
        return self._seen().outage

    def _goes_on(self, seen: "_Seen", outage: Outage) -> bool:
        if not self._rules.share or outage.kind != OutageKind.KEY:
            return goes_on(self._rules, seen.tallies, outage, seen.now, held=seen.held)
        waiting = seen.held + seen.doubted
        return key_service.goes_on(self._rules, seen.tried, seen.tallies, outage, seen.now, waiting=waiting)

    @property
    def _bucket(self) -> float:
        return self._rules.window / _BUCKETS

    def _seen(self) -> "_Seen":
        now = self._clock.now()
        args = [self._bucket, _BUCKETS, 1, f"{now:.6f}", _ASKED, *OutageKind]
        keys = [OUTAGE, HELD, ACCEPTED, REFUSED, CONNECTIONS]
        held, state, counts, tried = cast("list[Any]", self._count(keys=keys, args=args))
        number, ended_at, kind, *figures = state
        outage = None
        if kind is not None:
            since, share, failing, asked = figures
            outage = Outage(kind, float(since), float(share), int(failing), int(asked))
        half = len(counts) // 2
        accepted, refused, doubted, fleet = tried
        tallies = _tally(counts[:half]), _tally(counts[half:])
        return _Seen(
            now, held, int(number or 0), float(ended_at or 0), outage, tallies, Tried(accepted, refused), doubted, fleet
        )

    def _begin(self, seen: "_Seen", outage: Outage) -> bool:
        return self._report(seen, started_event(outage, seen.number + 1), asdict(outage))

    def _end(self, seen: "_Seen", outage: Outage) -> bool:
        event = ended_event(outage, seen.number + 1, seen.now, held=seen.held)
        return self._report(seen, event, {"ended_at": seen.now})

    def _report(self, seen: "_Seen", event: dict[str, object], state: dict[str, object]) -> bool:
        fields = {**state, "number": seen.number + 1}
        flat = [part for name, value in fields.items() for part in (name, str(value))]
        args: list[str | int] = [str(seen.number), event_text(event, self._event_source), self._events_kept, *flat]
        if not self._change_state(keys=[OUTAGE, EVENTS], args=args):
            return False
        self._report_here(event)
        return True


@dataclass(frozen=True, slots=True)
class _Seen:
    """What there is to judge by. `number`: of the last operator event. `ended_at`: when the last outage ended, or 0.

    `tried`: keys within the window. `doubted`: how many were refused the last time. `fleet`: connections there are.
    """

    now: float
    held: int
    number: int
    ended_at: float
    outage: Outage | None
    tallies: tuple[Tally, ...]
    tried: Tried
    doubted: int
    fleet: int


def _tally(counts: list[int]) -> Tally:
    asked, *failing = counts
    return Tally(asked, dict(zip(OutageKind, failing, strict=True)))

"""The pipeline's clock: the server's, but one that nobody can set.

Everything that waits in the records waits for a moment of this clock: due times, leases, tokens, deliveries. The
server's own may be set back or forward, or the server replaced by one with another clock. Then this one goes on as if
nothing had happened: what was to come in ten minutes comes in ten minutes, not in seventy and not all at once.

    occ:clock    string    the server's time and ours when a tick last looked, seconds since the epoch

Whoever reads the time remembers it together with a clock of the machine that only counts: a server's time that has
moved by more than has passed was set. Ticks write down how far ours is from the server's, and let it come back slowly,
so that times people read are right again. Where nobody remembers, because all was stopped meanwhile, time that has
passed and a clock set forward look alike, and both count as time that has passed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import redis

CLOCK = "occ:clock"

SET_BY = 5.0
"""Seconds. A smaller difference is no clock that was set: an answer that took long, or time that is kept in step."""

_READ_EVERY = 10.0  # seconds
_TRUST_FOR = 1.0  # seconds without asking the server
_UNEXPLAINED = 30.0  # seconds between two ticks
# How fast ours comes back to the server's. It may hurry only a little: a lease of 60 s must outlast an attempt of 58 s.
_HURRY, _DAWDLE = 0.02, 0.1
_NO_TIME = 1e12


def elapsed() -> float:
    """Seconds of a clock that nobody sets; where there is one, it goes on while the machine sleeps."""
    boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


@dataclass(frozen=True, slots=True)
class Seen:
    """The server's time and ours at one moment."""

    server: float
    ours: float

    @property
    def ahead(self) -> float:
        """Seconds that ours is ahead of the server's."""
        return self.ours - self.server

    def text(self) -> str:
        """As it is stored."""
        return f"{self.server:.6f} {self.ours:.6f}"


def seen_in(text: object) -> Seen | None:
    """The stored text again; None if there is none, or none that can be read: then ours is the server's."""
    try:
        server, ours = map(float, (text.decode() if isinstance(text, bytes) else str(text)).split(" "))
    except ValueError:
        return None
    return Seen(server, ours) if max(abs(server), abs(ours)) < _NO_TIME else None


def ahead_by(server: float, remembered: Seen | None, passed: float, stored: Seen | None) -> float:
    """By how much ours is ahead of the server's time that was just read. Pure.

    `remembered`: what this process saw `passed` seconds ago, by a clock that only counts. `stored`: what a tick saw.
    """
    kept = _ahead(stored)
    if remembered is not None:
        expected = remembered.ours + passed
        was_set = abs(server - remembered.server - passed) > SET_BY
        compensated = abs(server + kept - expected) <= SET_BY
        # A machine that was paused lost time itself: others have seen the server's go by.
        watched = stored is not None and 0 <= server - stored.server < _UNEXPLAINED
        return expected - server if was_set and not compensated and not watched else kept
    if stored is None:
        return 0.0
    if server < stored.server - SET_BY:
        return stored.ours - server  # set back while nobody watched: at least no time has passed
    if kept > 0 and server - stored.server > _UNEXPLAINED:
        return min(kept, max(0.0, stored.ours - server))  # perhaps the clock is right again
    return kept


def _ahead(stored: Seen | None) -> float:
    return stored.ahead if stored else 0.0


def steadied(ahead: float, passed: float) -> float:
    """The difference after `passed` seconds of coming back to the server's clock. Pure."""
    if ahead < 0:
        return min(0.0, ahead + _HURRY * passed)
    return max(0.0, ahead - _DAWDLE * passed)


class Clock:
    """The time, for one process. Safe to share between threads."""

    def __init__(self, client: redis.Redis, *, count: Callable[[], float] = elapsed) -> None:
        """`count`: seconds of a clock that only counts."""
        self._redis, self._count = client, count
        self._lock = Lock()
        self._last: tuple[float, Seen] | None = None
        self._read_at = float("-inf")
        # What was stored when this process put a clock right that was set, until somebody stores something else.
        self._instead_of: float | None = None

    def now(self) -> float:
        """Our time; asks the server unless it was asked within the last second. Raises redis.RedisError."""
        known = self.known()
        return self._read().ours if known is None else known

    def known(self) -> float | None:
        """Our time, if the server was asked within the last second."""
        with self._lock:
            if self._last is not None and 0.0 <= (passed := self._count() - self._last[0]) < _TRUST_FOR:
                return self._last[1].ours + passed
        return None

    def ours(self, server: float) -> float:
        """Our time, by a time of the server that was just read. Raises redis.RedisError.

        However that has waited for its reader meanwhile, ours does not fall behind what is known of it.
        """
        with self._lock:
            counted = self._count()
            if self._last is not None and counted - self._read_at < _READ_EVERY:
                at, seen = self._last
                expected = seen.server + counted - at
                if abs(server - expected) <= SET_BY:
                    latest = max(server, expected)
                    self._last = counted, Seen(latest, latest + seen.ahead)
                    return latest + seen.ahead
        return self._read().ours

    def keep(self) -> Seen:
        """Write down where the clocks stand, for whoever remembers nothing; ticks do. Raises redis.RedisError."""
        stored, seen = self._read_both()
        if stored is not None:
            passed = min(max(0.0, seen.ours - stored.ours), _UNEXPLAINED)
            seen = Seen(seen.server, max(seen.server + steadied(seen.ahead, passed), min(stored.ours, seen.ours)))
        self._redis.set(CLOCK, seen.text())
        self._instead_of = None
        return seen

    def _read(self) -> Seen:
        return self._read_both()[1]

    def _read_both(self) -> tuple[Seen | None, Seen]:
        sent = self._count()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(CLOCK)
            answer: Any = pipe.execute()
        (seconds, microseconds), text = answer
        server, stored = seconds + microseconds / 1e6, seen_in(text)
        with self._lock:
            received = self._count()
            counted, ahead = received, ahead_by(server, None, 0.0, stored)
            if self._last is not None:
                at, remembered = self._last
                # The server looked at its clock at some moment between the two.
                counted = min(max(at + server - remembered.server, sent), received)
                is_news = self._instead_of is None or abs(_ahead(stored) - self._instead_of) > SET_BY
                ahead = ahead_by(server, remembered, counted - at, stored if is_news else remembered)
            self._instead_of = _ahead(stored) if abs(ahead - _ahead(stored)) > SET_BY else None
            seen = Seen(server, server + ahead)
            self._last, self._read_at = (counted, seen), received
        return stored, seen


def ours_at(server: float, text: object) -> float:
    """Our time for whoever reads once and remembers nothing: the server's time, and what is stored as `CLOCK`. Pure."""
    return server + ahead_by(server, None, 0.0, seen_in(text))

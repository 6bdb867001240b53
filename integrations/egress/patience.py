"""Patience: stores that keep us waiting may take a part of a worker's threads, and never all of them.

An attempt may wait for its store for a moment. To wait longer it needs a place, and a worker has places for a quarter
of its threads. If none is free, the attempt is cut short and makes way: it is tried again later, once a place is free.
So however many stores hang, three quarters of the threads come back every few seconds.

A place is a byte of a file without a name, locked by whoever holds it. The processes of a prefork worker inherit the
file and so share its places. The system unlocks what a process held when that process ends, however it ends.
"""

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache

from integrations.errors import TransientError

MADE_WAY = "made_way"
"""The cause of an attempt that was cut short for the sake of others."""

SHORTEST = 1.0
"""Seconds any store may keep us waiting."""

_SHARE_OF_THREADS = 4
_SHARE_OF_DEADLINE = 4
_TIMES_TYPICAL = 4
_BRIEFEST = 0.01  # seconds
_NUDGE = 1.1


def places_for(threads: int) -> int:
    """How many of a worker's threads may wait long. Pure."""
    return max(1, threads // _SHARE_OF_THREADS)


def longest_moment(call_deadline: float) -> float:
    """How long an attempt may wait without a place at most, in seconds. Pure."""
    return max(SHORTEST, call_deadline / _SHARE_OF_DEADLINE)


def moment_for(typical: float, call_deadline: float) -> float:
    """How long an attempt may wait without a place, in seconds. Pure.

    `typical`: how long answers take. Where all stores have become slow, none of them is in the way of the others.
    """
    return min(longest_moment(call_deadline), max(SHORTEST, _TIMES_TYPICAL * typical))


def learned(typical: float, seconds: float) -> float:
    """The median of how long answers take, after one more; a few slow stores do not move it. Pure."""
    return max(_BRIEFEST, typical * _NUDGE if seconds > typical else typical / _NUDGE)


@cache
def shared_file() -> int:
    """The file of this process and of those that are forked from it afterwards."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("occ-places")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Places:
    """So many places. Safe to share between threads, and between the processes that share the file."""

    def __init__(self, count: int, file: int | None = None) -> None:
        self._file = shared_file() if file is None else file
        self._lock = threading.Lock()
        self._free = list(range(count))  # as far as this process knows

    def take(self) -> int | None:
        """A free place, None if there is none."""
        with self._lock:
            for place in self._free:
                try:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                except OSError:  # another process holds it
                    continue
                self._free.remove(place)
                return place
        return None

    def give_back(self, place: int) -> None:
        """Let others have it."""
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
            self._free.append(place)


class Bulkhead:
    """What the attempts of one worker share: its places, and how long stores take to answer."""

    def __init__(self, threads: int, call_deadline: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = Places(places_for(threads))
        self._call_deadline = call_deadline
        self._clock = clock
        self._typical = _BRIEFEST
        self._lock = threading.Lock()

    @contextmanager
    def attempt(self) -> Iterator["Patience"]:
        """While this lasts, the calls of this thread are made with patience. Gives back its place at the end."""
        patience = Patience(self._places, self._moment, self._learn, self._clock, longest_moment(self._call_deadline))
        token = _current.set(patience)
        try:
            yield patience
        finally:
            _current.reset(token)
            patience.end()

    def _moment(self) -> float:
        return moment_for(self._typical, self._call_deadline)

    def _learn(self, seconds: float) -> None:
        with self._lock:
            self._typical = learned(self._typical, seconds)


@dataclass(slots=True)
class Patience:
    """Of one attempt. Its time begins anew with each answer."""

    _places: Places
    _moment: Callable[[], float]
    _learn: Callable[[float], None]
    _clock: Callable[[], float]
    _longest: float = SHORTEST
    _since: float = field(init=False)
    _began: float = field(init=False)
    _place: int | None = None

    def __post_init__(self) -> None:
        self._since = self._began = self._clock()

    @property
    def is_short(self) -> bool:
        """Whether the store has answered briskly so far: no place was needed, nor as much time as one answer may take
        without one.
        """
        return self._place is None and self._clock() - self._began < self._longest

    def take_place(self) -> bool:
        """Whether the attempt has a place, taking one if need be; then it may wait as long as its deadline says."""
        if self._place is None:
            self._place = self._places.take()
        return self._place is not None

    def time_left(self) -> float | None:
        """Seconds to wait before asking again; None if the attempt has a place.

        Raises TransientError `made_way` if the time is over and no place is free.
        """
        if self._place is not None:
            return None
        left = self._since + self._moment() - self._clock()
        if left > 0:
            return left
        if self.take_place():
            return None
        raise TransientError(MADE_WAY, f"no answer within {self._clock() - self._since:.1f} s, and others are waiting")

    def answered(self) -> None:
        """The store has answered a call."""
        now = self._clock()
        self._learn(now - self._since)
        self._since = now

    def end(self) -> None:
        """The attempt is over."""
        if self._place is not None:
            self._places.give_back(self._place)
            self._place = None


_current: ContextVar[Patience | None] = ContextVar("patience", default=None)


def current() -> Patience | None:
    """The patience of the attempt this thread makes, None if it has all the time its deadline leaves."""
    return _current.get()

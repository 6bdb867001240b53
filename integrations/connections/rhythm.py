"""The rhythm of a slot: when it was heard from, how long it was quiet in between, and from when on it counts as silent.

Whoever receives a store's deliveries reports when a slot was heard from. All that is kept of it is one short text per
slot, however many deliveries there were. Pure; times are whole seconds since the epoch.

**The rule.** A slot is silent when nothing was heard from it for more than three times its longest pause of the last
six to twelve weeks, and for six hours at least. `./run bench silence` tries it on simulated stores. It is evidence that
the way from the store to the receiver is broken somewhere, never a verdict: perhaps nobody bought anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

FACTOR = 3
SHORTEST = 6 * 3600
"""Seconds. Until then the store itself is still trying: by default five times, an hour apart."""

WINDOW = 42 * 86400
"""Seconds. Pauses are remembered for one to two windows: a slot that grew busy is judged by what it is now."""

LEAST = 30
"""Deliveries in a window: with fewer, its longest pause says too little."""

_FIELDS = 7


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What was heard of one slot.

    `since`: when the window began, and `count_before` how many deliveries came before it. `longest`: the longest pause
    of the window, `longest_before` that of the one before, 0 if there was none. `run`: the run of the connection for
    which it is recorded that the slot is heard from; 0: ask the record.
    """

    last: int
    count: int = 1
    since: int = 0
    count_before: int = 0
    longest: int = 0
    longest_before: int = 0
    run: int = 0

    @property
    def longest_pause(self) -> int:
        """Seconds."""
        return max(self.longest, self.longest_before)

    @property
    def is_learned(self) -> bool:
        """Whether enough was heard to distinguish a silence from a pause: three weeks and 30 deliveries."""
        if self.longest_before:
            return True
        return 2 * (self.last - self.since) >= WINDOW and self.count - self.count_before >= LEAST

    @property
    def silent_at(self) -> float | None:
        """From when on the slot counts as silent unless it is heard from; None while its rhythm is not known."""
        return float(self.last + max(SHORTEST, FACTOR * self.longest_pause)) if self.is_learned else None

    def is_silent(self, now: float) -> bool:
        """Whether it counts as silent."""
        return self.silent_at is not None and now > self.silent_at

    def text(self) -> str:
        """As it is stored: seven numbers."""
        age, counted = self.last - self.since, self.count - self.count_before
        numbers = (self.last, self.count, age, counted, self.longest, self.longest_before, self.run)
        return " ".join(map(str, numbers))


def rhythm_in(text: str | None) -> Rhythm | None:
    """The stored text again; None if there is none, or none that can be read: then it is learned anew."""
    try:
        numbers = [int(part) for part in (text or "").split(" ")]
    except ValueError:
        return None
    if len(numbers) != _FIELDS or min(numbers) < 0:
        return None
    last, count, age, counted, longest, longest_before, run = numbers
    return Rhythm(last, count, last - age, count - counted, longest, longest_before, run)


def hear(rhythm: Rhythm | None, times: Iterable[float], now: float) -> Rhythm | None:
    """The rhythm after reports that the slot was heard from at these times.

    A report that came late, twice or out of order says nothing new: only what is later than the last counts. None can
    be about the future, whatever the sender's clock says: it counts as now.
    """
    for at in sorted(min(int(at), int(now)) for at in times):
        if rhythm is None:
            rhythm = Rhythm(last=at, since=at)
        elif at > rhythm.last:
            rhythm = _heard_after(rhythm, at - rhythm.last)
    return rhythm


def _heard_after(rhythm: Rhythm, pause: int) -> Rhythm:
    # A slot that was found silent and came back has not told that this is usual: its pause counts as twice the longest
    # known. Where it was its rhythm that changed, a few such pauses teach the new one.
    noted = min(pause, 2 * max(rhythm.longest_pause, 1)) if rhythm.is_silent(rhythm.last + pause) else pause
    heard = replace(rhythm, last=rhythm.last + pause, count=rhythm.count + 1, longest=max(rhythm.longest, noted))
    if heard.last - heard.since < WINDOW or heard.count - heard.count_before < LEAST:
        return heard
    return replace(heard, since=heard.last, count_before=heard.count, longest_before=heard.longest, longest=0)

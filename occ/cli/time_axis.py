"""An axis on which work is to scale and long pauses are cut: attempts take tenths of seconds, waits days. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

_LONGEST_PAUSE = 130.0
"""Pixels that a pause takes at most; what would take more is cut."""

_ROOM_FOR_AN_ATTEMPT = 9.0
_HALVINGS = 60
_FINEST = 20_000.0  # pixels a second: half a dozen attempts of a millisecond need no more


class TimeAxis:
    """Where a moment is, in pixels from the left.

    `busy`: from when to when something was done; `moments`: others that are to be seen. `width` is kept to as long as
    there is room for that many attempts.
    """

    def __init__(self, busy: Sequence[tuple[float, float]], moments: Sequence[float], width: float) -> None:
        times = sorted({*moments, *(time for interval in busy for time in interval)})
        self._times = times
        spans = list(pairwise(times))
        is_busy = _covered(spans, busy)
        wanted = max(width, _ROOM_FOR_AN_ATTEMPT * len(spans) / 2)
        scale = _scale(spans, is_busy, wanted)
        self._at = [0.0]
        for (start, end), at_work in zip(spans, is_busy, strict=True):
            self._at.append(self._at[-1] + _width(end - start, scale, busy=at_work))
        self.cuts = [
            (self._at[number], self._at[number + 1], end - start)
            for number, (start, end) in enumerate(spans)
            if not is_busy[number] and (end - start) * scale > _LONGEST_PAUSE
        ]
        """Pauses that were cut: from and to in pixels, and how many seconds they took."""
        self.width = max(width, self._at[-1])

    def x(self, at: float) -> float:
        """Pixels from the left; a moment outside of what is known is at its edge."""
        if not self._times:
            return 0.0
        number = bisect_right(self._times, at) - 1
        if number < 0:
            return 0.0
        if number >= len(self._times) - 1:
            return self._at[-1]
        start, end = self._times[number], self._times[number + 1]
        return self._at[number] + (self._at[number + 1] - self._at[number]) * (at - start) / (end - start)

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """Moments worth a label, with their pixels: the first, and where work goes on after a cut."""
        after_cuts = {right for _, right, _ in self.cuts}
        return [
            (time, x)
            for number, (time, x) in enumerate(zip(self._times, self._at, strict=False))
            if number == 0 or x in after_cuts
        ]


def _covered(spans: Sequence[tuple[float, float]], busy: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each span lies in a busy interval. Both ends of all intervals are ends of spans."""
    covered: list[bool] = []
    intervals = sorted(busy)
    number, until = 0, float("-inf")
    for start, _ in spans:
        while number < len(intervals) and intervals[number][0] <= start:
            until = max(until, intervals[number][1])
            number += 1
        covered.append(start < until)
    return covered


def _width(seconds: float, scale: float, *, busy: bool) -> float:
    return seconds * scale if busy else min(seconds * scale, _LONGEST_PAUSE)


def _scale(spans: Sequence[tuple[float, float]], is_busy: Sequence[bool], wanted: float) -> float:
    """Pixels a second that make it as wide as wanted, or the finest."""

    def total(scale: float) -> float:
        return sum(_width(end - start, scale, busy=busy) for (start, end), busy in zip(spans, is_busy, strict=True))

    low, high = 0.0, _FINEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) < wanted else (low, middle)
    return low

"""A cap on how many things are begun per second. Pure but for its clock."""

import time
from collections.abc import Callable


class Rate:
    """Spaces beginnings evenly. Time that was lost is not made up for: no second ever sees more than its share."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self.sleep = sleep
        self._next = clock()

    def left(self) -> float:
        """Seconds until something may be begun; 0 when it may."""
        return max(0.0, self._next - self._clock())

    def begin(self) -> None:
        """Something is begun now."""
        self._next = max(self._next, self._clock()) + self._interval

"""The one retry policy: when a transient failure is tried again. Pure; the waiting is done by the due set.

Exponential backoff with full jitter, so that stores which failed together are not asked together. What a store asks
for in `Retry-After` is the least we wait.
"""

import random
from dataclasses import dataclass

LONGEST_RETRY_AFTER = 24 * 3600.0
"""Seconds. A store that asks for more is asked again after a day: nothing says that it meant weeks."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The first wait and the longest, in seconds."""

    first: float
    longest: float

    def delay(self, attempt: int, retry_after: float | None = None, *, rng: random.Random | None = None) -> float:
        """How long to wait after the given attempt (the first is 1) failed."""
        backoff = min(self.longest, self.first * 2 ** min(attempt - 1, 60))
        jitter = (rng or random).uniform(0.0, backoff)
        return min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER) + jitter

"""The two clocks a store lives by, so that a test can hand in its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` for tokens, faults and waits; `wall` (epoch seconds) for key expiry and dates."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class StoppedClock:
    """Stands still until a test moves it: `SimulatedStore("m-1", clocks=clock.clocks)`."""

    def __init__(self, epoch: float = 1_800_000_000.0) -> None:
        self.elapsed = 0.0
        self.clocks = Clocks(lambda: self.elapsed, lambda: epoch + self.elapsed)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.elapsed += seconds

"""Requests to stop: Ctrl+C, a service manager, a closed terminal."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHECK_EVERY = 0.1


class StopSignal:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.given: signal.Signals | None = None

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until asked to stop; returns whether it was."""
        until = time.monotonic() + seconds
        while self.given is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _CHECK_EVERY))
        return self.given is not None


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Take signals as a wish to end in order. The second one interrupts at once, like any Ctrl+C."""
    stop = StopSignal()
    before = {number: signal.signal(number, _noting(stop)) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _noting(stop: StopSignal) -> Callable[[int, FrameType | None], None]:
    def note(number: int, _: FrameType | None) -> None:
        if stop.given is not None:
            raise KeyboardInterrupt
        stop.given = signal.Signals(number)

    return note

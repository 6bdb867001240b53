"""One try of a call: whether it went over a connection that had served before, and what that allows."""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from integrations.egress.deadline import DeadlineSocket, time_left

_REST = 0.005
"""Seconds a connection rests after an answer: what comes right behind one is seen before the next call is made."""


@dataclass(slots=True)
class Attempt:
    """`only_fresh`: it uses no connection that has served before."""

    only_fresh: bool = False
    used: DeadlineSocket | None = None
    """The connection it goes over, if that has served before."""

    def may_use(self, sock: DeadlineSocket | None) -> bool:
        """Whether a connection out of the pool may serve; then it is this attempt's."""
        if sock is None or self.only_fresh or not sock.reusable:
            return False
        resting = sock.answered_at + _REST - time.monotonic()
        if resting > 0:
            _await_input(sock, resting)
        if sock.unasked() is not None:
            return False
        self.used = sock
        return True

    def may_be_repeated(self, *, safe: bool) -> bool:
        """Whether a failure may be that of an idle connection: it had served before, and no answer has begun.

        `safe`: doing it twice does no harm. A write that was sent may have been carried out, and somebody else's may
        have followed it: it is left to the next attempt, which reads first.
        """
        if self.used is None or self.used.answering:
            return False
        try:
            time_left()
        except TimeoutError:
            return False
        return safe


def _await_input(sock: DeadlineSocket, seconds: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.poll(max(1, round(seconds * 1000)))


_current: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


@contextmanager
def making(attempt: Attempt) -> Iterator[None]:
    """While this lasts, this thread makes `attempt`."""
    token = _current.set(attempt)
    try:
        yield
    finally:
        _current.reset(token)


def current_attempt() -> Attempt:
    """The attempt this thread makes; outside of one, such that no connection serves twice."""
    return _current.get() or Attempt(only_fresh=True)

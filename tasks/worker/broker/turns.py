"""Which queue a worker takes its next message from, when several have some. Pure."""

from collections.abc import Iterable

from tasks.queues import REQUESTS

MANY_STEPS = 400
OTHERS_FIRST = 8
"""While so many steps wait, so many other messages are taken before a request; a run consists of six. So runs that are
under way are finished before new ones begin, and no flood of requests makes a flood of steps. While fewer wait,
requests have half: threads that wait for stores may not keep them waiting."""


class Turns:
    """By turns, the queue of requests less often while many steps wait. A strategy for Kombu."""

    def __init__(self) -> None:
        self._queues: list[str] = []
        self._others = 0
        self.steps_waiting = 0

    def update(self, queues: Iterable[str]) -> None:
        """The queues that are read from now on."""
        self._queues = list(queues)

    def consume(self, count: int) -> list[str]:
        """The queues in the order in which they are looked at; the first that has a message gives it."""
        requests = [queue for queue in self._queues if queue == REQUESTS]
        others = [queue for queue in self._queues if queue != REQUESTS]
        others_first = OTHERS_FIRST if self.steps_waiting >= MANY_STEPS else 1
        return ([*requests, *others] if self._others >= others_first else [*others, *requests])[:count]

    def rotate(self, last_used: str) -> None:
        """A message of this queue was taken."""
        self._others = 0 if last_used == REQUESTS else self._others + 1
        if last_used in self._queues:
            self._queues.remove(last_used)
            self._queues.append(last_used)

"""The due set of `records.py` in memory, for simulated clocks: what its scripts do on the server, done here.

`tests/bench/test_due_set.py` holds the two together on a real server.
"""

import heapq
from collections.abc import Iterable, Mapping


class DueSet:
    """Members by due time. All times are seconds, and told by the caller."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []  # also holds what has been moved since

    def __len__(self) -> int:
        return len(self._due)

    def commit(self, changes: Mapping[str, str]) -> None:
        """What a commit does with the due times of a record; "" takes a member out."""
        for member, due in changes.items():
            if due:
                self._set(member, float(due))
            else:
                self._due.pop(member, None)

    def take_due(self, now: float, limit: int, put_off: float) -> tuple[float, list[str]]:
        """The time they are put off to, and the members that are due, oldest first."""
        until = round(now + put_off, 6)
        taken: list[str] = []
        while len(taken) < limit and (first := self.first()) is not None and first <= now:
            taken.append(heapq.heappop(self._order)[1])
            del self._due[taken[-1]]
        for member in taken:
            self._set(member, until)
        return until, taken

    def put_off(self, until: float, members: Iterable[str], now: float, put_off: float) -> None:
        """Leave them alone for longer, except those that were moved since."""
        for member in members:
            if self._due.get(member) == until:
                self._set(member, round(now + put_off, 6))

    def settle(self, member: str) -> None:
        """Take out a member behind which there is no work."""
        self._due.pop(member, None)

    def first(self) -> float | None:
        """When the next member is due."""
        while self._order and self._due.get(self._order[0][1]) != self._order[0][0]:
            heapq.heappop(self._order)
        return self._order[0][0] if self._order else None

    def scores(self) -> dict[str, float]:
        """Every member's due time."""
        return dict(self._due)

    def _set(self, member: str, due: float) -> None:
        if self._due.get(member) != due:
            self._due[member] = due
            heapq.heappush(self._order, (due, member))

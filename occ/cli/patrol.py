"""Finds the connections that are under way or in trouble, again and again, without reading all of them each time.

Those it knows of are read at every look. Others come in by the events that tell of every change of status, and by a
walk through all records, some pages at each look: that finds what was so before, and what no event tells.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from integrations.connections.events import TROUBLED
from integrations.connections.record import Connection
from integrations.connections.records import EVENTS, Records, Snapshot

MOST = 500
"""How many are followed at most; those under way come first."""

_PAGE = 500
_EVENTS_A_LOOK = 2000
_WALK_FOR = 0.3  # seconds of each look: the first round through very many records takes a while, and shows as it goes
_STAYS = 5.0  # seconds that one remains in sight after all is well


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look saw. `walked` of `total` records have been read in the first round; `is_cut` if there are more."""

    connections: Sequence[Connection]
    now: float
    walked: int
    total: int
    is_cut: bool

    @property
    def under_way(self) -> int:
        """How many somebody waits for."""
        return sum(map(is_under_way, self.connections))

    @property
    def in_trouble(self) -> int:
        """How many need somebody, or time."""
        return sum(connection.status in TROUBLED and not is_under_way(connection) for connection in self.connections)


def is_under_way(connection: Connection) -> bool:
    """Whether somebody waits for how it ends: a run, a new key, a departure."""
    leaving = connection.departure is not None and not connection.disconnected
    return leaving or (connection.is_under_way and connection.departure is None)


class Patrol:
    """Looks at the records; holds no more than it shows."""

    def __init__(
        self, records: Records, *, most: int = MOST, page: int = _PAGE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._records = records
        self._most = most
        self._page = page
        self._clock = clock
        self._seen: dict[str, Connection] = {}
        self._well_since: dict[str, float] = {}
        self._walked_to = ""
        self._walked = 0
        self._is_first_round = True
        self._is_cut = False
        newest = records.redis.xrevrange(EVENTS, count=1)
        self._heard_to = str(newest[0][0]) if newest else "0-0"

    def look(self) -> Sight:
        """Read what is known, what was told of, and a little further. Raises what redis-py raises."""
        now = 0.0
        for snapshots in (*self._read([*self._seen, *self._told_of()]), *self._walk()):
            for snapshot in snapshots:
                now = snapshot.now()
                if snapshot.connection is not None:
                    self._take(snapshot.connection)
        self._forget_what_is_well()
        if len(self._seen) > self._most:
            self._is_cut = True
            for merchant_id in sorted(self._seen, key=self._urgency)[self._most :]:
                del self._seen[merchant_id]
        total = self._records.count()
        walked = min(self._walked, total) if self._is_first_round else total
        return Sight(tuple(self._seen.values()), now, walked, total, self._is_cut)

    def _take(self, connection: Connection) -> None:
        merchant_id = connection.merchant_id
        if is_under_way(connection) or connection.status in TROUBLED:
            self._seen[merchant_id] = connection
            self._well_since.pop(merchant_id, None)
        elif merchant_id in self._seen:
            self._seen[merchant_id] = connection
            self._well_since.setdefault(merchant_id, self._clock())

    def _forget_what_is_well(self) -> None:
        for merchant_id, since in list(self._well_since.items()):
            if self._clock() - since >= _STAYS:
                del self._well_since[merchant_id]
                self._seen.pop(merchant_id, None)

    def _urgency(self, merchant_id: str) -> tuple[bool, str]:
        return not is_under_way(self._seen[merchant_id]), merchant_id

    def _told_of(self) -> list[str]:
        told: dict[str, None] = {}
        for position, event in self._records.events(after=self._heard_to, count=_EVENTS_A_LOOK):
            self._heard_to = position
            told[str(event.get("data", {}).get("merchant_id", ""))] = None
        return [merchant_id for merchant_id in told if merchant_id and merchant_id not in self._seen]

    def _walk(self) -> Iterator[list[Snapshot]]:
        until = self._clock() + _WALK_FOR
        while True:
            ids = self._records.merchant_ids(after=self._walked_to, count=self._page)
            self._walked_to = ids[-1] if len(ids) == self._page else ""
            if self._is_first_round:
                self._walked += len(ids)
            yield from self._read([merchant_id for merchant_id in ids if merchant_id not in self._seen])
            self._is_first_round = self._is_first_round and bool(self._walked_to)
            if not self._is_first_round or self._clock() >= until:
                return

    def _read(self, ids: Sequence[str]) -> Iterator[list[Snapshot]]:
        for start in range(0, len(ids), self._page):
            yield self._records.load_many(ids[start : start + self._page])

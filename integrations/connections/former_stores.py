"""Former stores are forgotten: a merchant who moves again and again would leave ever more records behind.

A store that a merchant has left is a record of its own (`<merchant>@<run>`). Once nothing is left to be done there it
is kept for a while, so that an operator can see how it ended, and for longer if our callback URL had to stay there. Of
each merchant the last few are kept.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

from integrations.connections.record import DAY, Connection, SlotStatus, merchant_of, token_key
from integrations.connections.records import CONNECTIONS, Records, Snapshot, connection_key, timeline_key
from integrations.connections.status import LEFT
from integrations.connections.status_index import status_key
from integrations.lua import lua_beside

KEPT = 30 * DAY
KEPT_LEFT_BEHIND = 365 * DAY
MOST = 3
"""Of one merchant, without those where our callback URL had to stay."""

_PAGE = 200
_LOOK_EVERY = 60.0


class FormerStores:
    """Forgets them, a page at a time. Safe to share between threads and processes."""

    def __init__(self, records: Records) -> None:
        self._records, self._redis = records, records.redis
        self._forget = self._redis.register_script(lua_beside(__file__, "forget_former"))
        self._after = ""
        self._next_look = 0.0

    def forget_some(self) -> int:
        """Look at one more page if it is time to; returns how many were forgotten."""
        if time.monotonic() < self._next_look:
            return 0
        start = f"({self._after}" if self._after else "-"
        key = status_key(LEFT)
        ids = cast("list[str]", self._redis.zrange(key, start, "+", bylex=True, offset=0, num=_PAGE))
        self._after = ids[-1] if len(ids) == _PAGE else ""
        if not self._after:
            self._next_look = time.monotonic() + _LOOK_EVERY
        snapshots = self._records.load_many(ids) if ids else []
        known = {snapshot.connection.merchant_id: snapshot for snapshot in snapshots if snapshot.connection is not None}
        connections = [snapshot.connection for snapshot in known.values() if snapshot.connection is not None]
        now = snapshots[0].now() if snapshots else 0.0
        going = to_forget(connections, now)
        return sum(self._forgotten(record_id, known[record_id]) for record_id in going)

    def _forgotten(self, record_id: str, snapshot: Snapshot) -> int:
        keys = [connection_key(record_id), timeline_key(record_id), token_key(record_id), CONNECTIONS, status_key(LEFT)]
        return int(self._forget(keys=keys, args=[str(snapshot.version), record_id]))


def to_forget(connections: Sequence[Connection], now: float) -> list[str]:
    """Of these records of former stores, the ids of those to be forgotten. Pure."""
    going = [one.merchant_id for one in connections if is_over(one, now)]
    of_merchant: defaultdict[str, list[Connection]] = defaultdict(list)
    for one in connections:
        if _is_left(one) and one.merchant_id not in going:
            of_merchant[merchant_of(one.merchant_id)].append(one)
    for left in of_merchant.values():
        left.sort(key=lambda one: one.run)
        going += [one.merchant_id for one in left[:-MOST] if not _stays(one)]
    return going


def is_over(connection: Connection, now: float) -> bool:
    """Whether a former store is to be forgotten. Pure."""
    kept = KEPT_LEFT_BEHIND if _stays(connection) else KEPT
    return _is_left(connection) and now - connection.updated_at > kept


def _is_left(connection: Connection) -> bool:
    is_former = merchant_of(connection.merchant_id) != connection.merchant_id
    return is_former and connection.disconnected and not connection.due()


def _stays(connection: Connection) -> bool:
    return any(slot.verdict is SlotStatus.LEFT_BEHIND for slot in connection.slots.values())

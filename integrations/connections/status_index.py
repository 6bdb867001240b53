"""Which connections have which status, and how many, without reading each of them.

    occ:status:<status>    zset    the connections with this status (see `status.counted_as`)
    occ:listing            hash    `up_to`: up to which merchant id they are being listed anew; `corrected`: how many
                                   were not where they belong; `finished_at`: when all had been listed

A commit that changes a status moves the connection from one set to the other in the same atomic write (`commit.lua`).
What no commit has moved is found by listing all of them anew now and then, a page at each tick: the records of an older
release, and what somebody deleted by hand. Listing a connection twice changes nothing.

Workers of release 0.1.0 move nothing. They count in `occ:statuses`, so while that key exists, one of them is still
at work. Then nobody relies on the sets, and ticks list everything anew until the key stays away.
"""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

from integrations.connections.record import ConnectionStatus
from integrations.connections.records import CONNECTIONS, Records, Snapshot, connection_key
from integrations.connections.status import LEFT, counted_as
from integrations.lua import lua_beside

UNREADABLE = "unreadable"
"""Where a record of another release is listed."""

STATUSES = (*ConnectionStatus, LEFT, UNREADABLE)
LISTING = "occ:listing"
EVERY = 6 * 3600.0
"""Seconds between two listings."""

_OF_0_1_0 = ("occ:statuses", "occ:recount")
_PAGE = 200
_TRIES = 10  # for those of a page that somebody changes meanwhile
_CHECK_EVERY = 60.0


class StatusIndex:
    """The connections by status. Safe to share between threads and processes."""

    def __init__(self, records: Records, *, every: float = EVERY) -> None:
        self._records, self._redis, self._every = records, records.redis, every
        self._list = self._redis.register_script(lua_beside(__file__, "list_by_status"))
        self._next_look = 0.0

    def is_complete(self) -> bool:
        """Whether every connection is listed where it belongs."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hexists(LISTING, "finished_at")
            pipe.exists(*_OF_0_1_0)
            finished, older_release = pipe.execute()
        return bool(finished) and not older_release

    def snapshots(self, statuses: Collection[str] = (), *, page: int = 500) -> Iterator[Snapshot]:
        """The connections with one of these statuses and all former stores, in order of merchant id, page by page.

        More than those if none is given or the sets are not complete, and one of them may have changed since it was
        listed: look at the record.
        """
        if not statuses or not self.is_complete():
            yield from self._records.all(page=page)
            return
        after = ""
        while ids := self._ids({*statuses, LEFT}, after=after, count=page):
            yield from (snapshot for snapshot in self._records.load_many(ids) if snapshot.connection)
            after = ids[-1]

    def count(self, statuses: Collection[str] = ()) -> int:
        """How many `snapshots` has to offer."""
        if not statuses or not self.is_complete():
            return self._records.count()
        return sum(self._redis.zcard(status_key(status)) for status in {*statuses, LEFT})

    def _ids(self, statuses: Collection[str], *, after: str, count: int) -> list[str]:
        start = f"({after}" if after else "-"
        with self._redis.pipeline(transaction=True) as pipe:  # nobody is moved from one to the other in between
            for status in statuses:
                pipe.zrange(status_key(status), start, "+", bylex=True, offset=0, num=count)
            return sorted({merchant_id for ids in pipe.execute() for merchant_id in ids})[:count]

    # --- What ticks do ----------------------------------------------------------------------------------------------

    def go_on(self) -> int | None:
        """List one more page if it is time to; returns how many were put right when that was the last.

        Asks the server only now and then while nothing is to be done.
        """
        if time.monotonic() < self._next_look:
            return None
        up_to = self._up_to()
        if up_to is None:
            self._next_look = time.monotonic() + _CHECK_EVERY
            return None
        ids = self._records.merchant_ids(after=up_to, count=_PAGE)
        corrected = self._list_page(ids, up_to)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hincrby(LISTING, "corrected", corrected)
            if ids:
                pipe.hset(LISTING, "up_to", ids[-1])
            else:
                pipe.hdel(LISTING, "up_to")
            (seconds, microseconds), total, _ = pipe.execute()
        if ids:
            return None
        self._redis.hset(LISTING, "finished_at", seconds + microseconds / 1e6)
        return int(total)

    def _up_to(self) -> str | None:
        """Up to which merchant id the listing that is under way has come, or begins; None if it is not yet time to."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(LISTING, "up_to", "finished_at")
            pipe.exists(*_OF_0_1_0)
            (seconds, microseconds), (up_to, finished_at), older_release = pipe.execute()
        if up_to is not None:
            return str(up_to)
        now = seconds + microseconds / 1e6  # a clock that was set back makes the last listing one of the future
        if finished_at is not None and not older_release and abs(now - float(finished_at)) < self._every:
            return None
        with self._redis.pipeline(transaction=True) as pipe:
            if older_release:
                pipe.delete(*_OF_0_1_0)
                pipe.hdel(LISTING, "finished_at")
            pipe.hset(LISTING, mapping={"up_to": "", "corrected": 0})
            pipe.execute()
        return ""

    def _list_page(self, ids: Sequence[str], up_to: str) -> int:
        """List these connections, all there are from `up_to` to the last of them; returns how many were put right."""
        last, corrected = f"[{ids[-1]}" if ids else "+", 0
        for _ in range(_TRIES):
            records = [
                (merchant_id, str(snapshot.version), _listed_as(snapshot))
                for merchant_id, snapshot in zip(ids, self._records.load_many(ids), strict=True)
            ]
            document = {
                "records": records,
                "statuses": STATUSES,
                "after": f"({up_to}" if up_to else "-",
                "last": last,
            }
            keys = [CONNECTIONS, *map(connection_key, ids)]
            put_right, ids = cast("tuple[int, list[Any]]", self._list(keys=keys, args=[json.dumps(document)]))
            corrected += put_right
            if not ids:
                break
        return corrected


def status_key(status: str) -> str:
    """Where the connections with this status are listed."""
    return f"occ:status:{status}"


def _listed_as(snapshot: Snapshot) -> str:
    return counted_as(snapshot.connection) if snapshot.connection else UNREADABLE

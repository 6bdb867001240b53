"""How many connections have each status, without looking at each of them.

Every commit that changes a status moves one from count to count, in the same atomic write. What no commit counted (the
records of an older release, or what somebody deleted by hand) is found by counting anew now and then, a page at each
tick. That is exact while everything changes: records up to where the recount has come are counted there by their
commits, records beyond will be when it gets there.

    occ:statuses    hash    count by status (see `status.counted_as`); `recounted_to`: up to which merchant id, while
                            they are counted anew
    occ:recount     hash    the counts up to there; `finished_at`: when they were last complete
"""

import time
from typing import Any, cast

from integrations.connections.records import CONNECTIONS, RECOUNT, STATUSES, Records, Snapshot, connection_key
from integrations.connections.status import counted_as

EVERY = 6 * 3600.0
"""Seconds between two recounts."""

UNREADABLE = "unreadable"
"""What a record of another release counts as."""

_PAGE = 200
_SMALLER = 8  # times, when somebody changed one of the page meanwhile
_CHECK_EVERY = 60.0

# KEYS: recount, statuses. ARGV: seconds between two.
_BEGIN = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local up_to = redis.call('HGET', KEYS[2], 'recounted_to')
if up_to then return {1, up_to} end
local finished_at = redis.call('HGET', KEYS[1], 'finished_at')
if finished_at and now - finished_at < tonumber(ARGV[1]) then return {0, ''} end
redis.call('DEL', KEYS[1])
if finished_at then redis.call('HSET', KEYS[1], 'finished_at', finished_at) end
redis.call('HSET', KEYS[2], 'recounted_to', '')
return {1, ''}
"""

# KEYS: recount, statuses, connections, the records of one page. ARGV: where the recount was, the last of the page; then
# version and count of each record. Says how many counts were put right when that was the end, -1 when it goes on, -2
# when somebody changed something of the page: it has to be read again.
_PAGE_OR_END = """
if redis.call('HGET', KEYS[2], 'recounted_to') ~= ARGV[1] then return -1 end
local last = #KEYS > 3 and '[' .. ARGV[2] or '+'
if redis.call('ZLEXCOUNT', KEYS[3], '(' .. ARGV[1], last) ~= #KEYS - 3 then return -2 end
for index = 4, #KEYS do
  if (redis.call('HGET', KEYS[index], 'version') or '0') ~= ARGV[2 * index - 5] then return -2 end
end
for index = 4, #KEYS do redis.call('HINCRBY', KEYS[1], ARGV[2 * index - 4], 1) end
if #KEYS > 3 then
  redis.call('HSET', KEYS[2], 'recounted_to', ARGV[2])
  return -1
end
redis.call('HDEL', KEYS[2], 'recounted_to')
redis.call('HDEL', KEYS[1], 'finished_at')
local counts, wrong = {}, 0
for _, key in ipairs({KEYS[2], KEYS[1]}) do
  local fields = redis.call('HGETALL', key)
  for index = 1, #fields, 2 do
    local sign = key == KEYS[1] and 1 or -1
    counts[fields[index]] = (counts[fields[index]] or 0) + sign * fields[index + 1]
  end
end
for what, difference in pairs(counts) do
  if difference ~= 0 then
    redis.call('HINCRBY', KEYS[2], what, string.format('%.0f', difference))
    wrong = wrong + 1
  end
end
local time = redis.call('TIME')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'finished_at', string.format('%.6f', time[1] + time[2] / 1000000))
return wrong
"""

_GOES_ON, _CHANGED_MEANWHILE = -1, -2


class StatusCounts:
    """Counts the connections by status anew, a piece at a time. Safe to share between threads and processes."""

    def __init__(self, records: Records, *, every: float = EVERY) -> None:
        self._records = records
        self._redis = records.redis
        self._begin = self._redis.register_script(_BEGIN)
        self._page_or_end = self._redis.register_script(_PAGE_OR_END)
        self._every = every
        self._next_look = 0.0

    def go_on(self) -> int | None:
        """Count one more page if it is time to; tells how many counts were wrong when that was the last.

        Asks the server only now and then while nothing is to be done.
        """
        if time.monotonic() < self._next_look:
            return None
        under_way, up_to = cast("tuple[int, str]", self._begin(keys=[RECOUNT, STATUSES], args=[self._every]))
        if not under_way:
            self._next_look = time.monotonic() + _CHECK_EVERY
            return None
        size = _PAGE
        while (result := self._count_page(up_to, size)) == _CHANGED_MEANWHILE and size > 1:
            size = max(1, size // _SMALLER)
        return None if result < 0 else result

    def _count_page(self, up_to: str, size: int) -> int:
        ids = self._records.merchant_ids(after=up_to, count=size)
        snapshots = self._records.load_many(ids)
        args = [up_to, ids[-1] if ids else ""]
        for snapshot in snapshots:
            args += [str(snapshot.version), _counted_as(snapshot)]
        keys = [RECOUNT, STATUSES, CONNECTIONS, *map(connection_key, ids)]
        result: Any = self._page_or_end(keys=keys, args=args)
        return int(result)


def _counted_as(snapshot: Snapshot) -> str:
    return counted_as(snapshot.connection) if snapshot.connection else UNREADABLE

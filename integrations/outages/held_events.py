"""The news of merchants that an outage held: told or dropped, merchant by merchant, once it is known which.

A part of `records.py`, in a file of its own. A commit holds the news; here it is let go. Whatever is held stays so
until one atomic script has told or dropped it, so that any tick can go on where another died.

    occ:held    zset    merchants whose news is held, by when to look; 0: now, even while the outage is on
"""

import json
from dataclasses import dataclass, replace
from typing import Any, cast

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.events import status_event_since
from integrations.connections.lifecycle.requests import revalidate_now
from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.records import EVENTS, HELD, OUTAGE, Records, Snapshot, connection_key
from integrations.connections.schedule import Pace
from integrations.errors import TransientError
from integrations.outages.outage import Next, next_for_held

_PAGE = 250
_AGAIN_WHILE_ON = 60.0  # seconds
_AGAIN_AFTERWARDS = 10.0
_PROBE_EVERY = 15.0

# KEYS: held, outage. ARGV: how many at most, how long to put them off while an outage is on and afterwards, seconds
# between probes. A number would lose its fraction on the way: times go as text.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kind, ended_at, probed_at = unpack(redis.call('HMGET', KEYS[2], 'kind', 'ended_at', 'probed_at'))
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local again = string.format('%.6f', now + (kind and ARGV[2] or ARGV[3]))
for _, member in ipairs(members) do redis.call('ZADD', KEYS[1], again, member) end
local probe = 0
if kind and #members > 0 and now - (probed_at or 0) >= tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[2], 'probed_at', string.format('%.6f', now))
  probe = 1
end
return {string.format('%.6f', now), kind and 1 or 0, ended_at or '0', probe, members}
"""

# KEYS: connection, held, events. ARGV: version and status heard as they were read, merchant id, event or "", bound.
# Whoever changed the record meanwhile, or told of it, leaves nothing to do here.
_LET_GO = """
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[1], 'heard') or '') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'heard')
redis.call('ZREM', KEYS[2], ARGV[3])
if ARGV[4] ~= '' then redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'event', ARGV[4]) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Released:
    """Of how many merchants the news was told or dropped, and how many are looked at again first."""

    reported: int = 0
    dropped: int = 0
    revalidated: int = 0


class HeldEvents:
    """Lets held news go. Safe to share between threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._redis = records.redis
        self._take = self._redis.register_script(_TAKE)
        self._let_go = self._redis.register_script(_LET_GO)

    def release(self, pace: Pace, *, count: int = _PAGE) -> Released:
        """See to the next `count` merchants whose news is held. Good news is told at once, trouble after the outage.

        After it each of them is looked at again before its trouble is told. While it is on, one is now and then: where
        everybody is held, nobody else would notice that it is over.
        """
        args = [count, _AGAIN_WHILE_ON, _AGAIN_AFTERWARDS, _PROBE_EVERY]
        _, on, ended_at, probe, members = cast("list[Any]", self._take(keys=[HELD, OUTAGE], args=args))
        if not members:
            return Released()
        revalidations_left = count if not on else probe
        going: list[tuple[str, Snapshot, str | None, Next]] = []
        revalidated = 0
        for merchant_id, snapshot, heard in zip(members, *self._read(members), strict=True):
            if snapshot.unreadable:
                continue  # kept: a newer release may read it
            following = next_for_held(
                snapshot.connection,
                heard,
                snapshot.now(),
                outage_is_on=bool(on),
                ended_at=float(ended_at),
                patience=pace.revalidate_every / 4,
            )
            if following in {Next.REPORT, Next.DROP}:
                going.append((merchant_id, snapshot, heard, following))
            elif following is Next.REVALIDATE and revalidated < revalidations_left:
                revalidated += self._revalidate(merchant_id, snapshot, pace)
        reported, dropped = self._settle(going)
        return Released(reported, dropped, revalidated)

    def _read(self, members: list[str]) -> tuple[list[Snapshot], list[str | None]]:
        """The records, and what was heard of them. If one changes in between, its version tells."""
        snapshots = self._records.load_many(members)
        with self._redis.pipeline(transaction=False) as pipe:
            for merchant_id in members:
                pipe.hget(connection_key(merchant_id), "heard")
            return snapshots, pipe.execute()

    def _revalidate(self, merchant_id: str, snapshot: Snapshot, pace: Pace) -> bool:
        def decide(connection: Connection | None, now: float) -> Change | Stop:
            change = revalidate_now(connection, Moment(now, pace))
            if isinstance(change, Stop) or change.connection.work is None:
                return change
            due_now = replace(change.connection.work, due_at=change.connection.work.not_before)  # no message is sent
            return replace(change, connection=replace(change.connection, work=due_now))

        try:
            return not isinstance(self._records.change(merchant_id, decide, known=snapshot), Stop)
        except TransientError:
            return False  # it is looked at again anyway, when its time has come

    def _settle(self, going: list[tuple[str, Snapshot, str | None, Next]]) -> tuple[int, int]:
        if not going:
            return 0, 0
        with self._redis.pipeline(transaction=False) as pipe:
            for merchant_id, snapshot, heard, following in going:
                event = _event(snapshot, heard) if following is Next.REPORT else None
                reported = json.dumps(event) if event else ""
                args: list[str | int] = [
                    str(snapshot.version),
                    heard or "",
                    merchant_id,
                    reported,
                    self._records.events_kept,
                ]
                self._let_go(keys=[connection_key(merchant_id), HELD, EVENTS], args=args, client=pipe)
            done = pipe.execute()
        reported_of = sum(gone for gone, (*_, following) in zip(done, going, strict=True) if following is Next.REPORT)
        return reported_of, sum(done) - reported_of


def _event(snapshot: Snapshot, heard: str | None) -> dict[str, object] | None:
    """From what other systems know to what is. No event has this version yet: all since then were held."""
    if snapshot.connection is None:
        return None
    was = ConnectionStatus(heard) if heard else None
    return status_event_since(was, snapshot.connection, version=snapshot.version, now=snapshot.now())

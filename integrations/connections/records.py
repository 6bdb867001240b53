"""The records of all connections in Redis; the only module that knows their keys.

A change is decided in Python from the record as it was read, and written only if nobody changed it meanwhile: the
record, its timeline, the event about a new status and the due times are one atomic write. Whoever lost the race decides
again from the newer record.

    occ:connection:<merchant>   hash    version, record (JSON), sealed_key, sealed_candidate (a new key that has yet
                                        to prove itself), change (id of the last), asked_again, heard (the
                                        status other systems know, while what came after it is held)
    occ:timeline:<merchant>     stream  what happened, bounded
    occ:connections             zset    every merchant id, for paging; a store a merchant has left: <merchant>@<run>
    occ:numbers                 hash    how many numbers were given to new connections (see `schedule.spread_phase`)
    occ:due                     zset    <merchant> or <merchant>|<slot> by due time
    occ:events                  stream  CloudEvents for other systems, bounded
    occ:outage                  hash    the outage that is on, or when the last one ended (`outages.py`)
    occ:held                    zset    merchants whose news of trouble is held, by when to look (`held_events.py`)
    occ:receiver, occ:undelivered, occ:deliveries:*, occ:delivering*    events on their way out (`deliveries.py`)
    occ:refused                 stream  requests that were not accepted, bounded
    occ:statuses                hash    how many connections have each status (`status_counts.py`)
    occ:recount                 hash    the same while they are counted anew
    occ:heard:*, occ:listening, occ:silent*    what was heard of slots (`integrations/silence`)
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import redis
from pydantic import TypeAdapter, ValidationError
from redis.client import Pipeline
from redis.exceptions import ResponseError

from integrations.connections.change import Change, Stop
from integrations.connections.events import TROUBLED, other_events, status_event
from integrations.connections.record import Connection, token_key
from integrations.connections.status import counted_as
from integrations.connections.timeline import is_news, timeline_entry
from integrations.errors import RequestRefused, TransientError

_RECORD = TypeAdapter(Connection)

DUE = "occ:due"
CONNECTIONS = "occ:connections"
_NUMBERS = "occ:numbers"
EVENTS = "occ:events"
OUTAGE = "occ:outage"
HELD = "occ:held"
REFUSED = "occ:refused"
STATUSES = "occ:statuses"
RECOUNT = "occ:recount"

_REFUSED_KEPT = 10_000
_RACES_BEFORE_GIVING_UP = 100
_DISK_WITHIN_MS = 5000

# KEYS: connection, timeline, due, events, connections, connection of the former store, outage, held, statuses, recount
# ARGV: version read, record, what happens to the keys, timeline entries, events, due times (all JSON), merchant id,
# bounds x 2, id of this change (the client sends a script again when the answer was lost, and it may have worked),
# id and record of the former store or "", the news of the status (JSON) or "", what it was counted as, and is, and
# the former store is ("": not at all).
# The last of the KEYS is the access token: with the application key goes what it bought.
# While an outage is on, the news of trouble is held, and so is what follows it for this merchant: the record keeps what
# other systems last heard. Back there, there is nothing left to tell; else `held_events.py` tells it.
# Who counts anew has come as far as `recounted_to`: what changes up to there is counted there too.
_COMMIT = """
if redis.call('HGET', KEYS[1], 'change') == ARGV[10] then return 1 end
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'record', ARGV[2], 'change', ARGV[10])
if ARGV[12] ~= '' then
  redis.call('HSET', KEYS[6], 'version', 1, 'record', ARGV[12])
  local sealed = redis.call('HGET', KEYS[1], 'sealed_key')
  if sealed then redis.call('HSET', KEYS[6], 'sealed_key', sealed) end
  redis.call('ZADD', KEYS[5], 0, ARGV[11])
end
local keys = cjson.decode(ARGV[3])
if keys.promote then
  local candidate = redis.call('HGET', KEYS[1], 'sealed_candidate')
  if candidate then redis.call('HSET', KEYS[1], 'sealed_key', candidate) end
  redis.call('HDEL', KEYS[1], 'sealed_candidate')
end
if keys.current then redis.call('HSET', KEYS[1], 'sealed_key', keys.current) end
if keys.candidate then redis.call('HSET', KEYS[1], 'sealed_candidate', keys.candidate) end
if keys.forget_current then
  redis.call('HDEL', KEYS[1], 'sealed_key')
  redis.call('DEL', KEYS[#KEYS])
end
if keys.forget_candidate then redis.call('HDEL', KEYS[1], 'sealed_candidate') end
for _, entry in ipairs(cjson.decode(ARGV[4])) do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], '*', 'entry', entry)
end
if ARGV[13] ~= '' then
  local news, heard = cjson.decode(ARGV[13]), redis.call('HGET', KEYS[1], 'heard')
  if heard == news.status then
    redis.call('HDEL', KEYS[1], 'heard')
    redis.call('ZREM', KEYS[8], ARGV[7])
  elseif heard or (news.trouble and redis.call('HGET', KEYS[7], 'kind')) then
    if not heard then redis.call('HSET', KEYS[1], 'heard', news.was) end
    redis.call('ZADD', KEYS[8], news.trouble and redis.call('TIME')[1] or 0, ARGV[7])
  else
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[9], '*', 'event', news.event)
  end
end
for _, event in ipairs(cjson.decode(ARGV[5])) do
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[9], '*', 'event', event)
end
for member, due_at in pairs(cjson.decode(ARGV[6])) do
  if due_at == '' then redis.call('ZREM', KEYS[3], member) else redis.call('ZADD', KEYS[3], due_at, member) end
end
if ARGV[1] == '0' then redis.call('ZADD', KEYS[5], 0, ARGV[7]) end
local function count(was, is, id)
  if was == is then return end
  local had, has, up_to = unpack(redis.call('HMGET', KEYS[9], was, is, 'recounted_to'))
  local again = up_to and redis.call('ZLEXCOUNT', KEYS[5], '[' .. id, '[' .. up_to) > 0
  local counts = {is, (has or 0) + 1}
  if was ~= '' then counts[3], counts[4] = was, (had or 0) - 1 end
  redis.call('HSET', KEYS[9], unpack(counts))
  if again then redis.call('HINCRBY', KEYS[10], is, 1) end
  if again and was ~= '' then redis.call('HINCRBY', KEYS[10], was, -1) end
end
count(ARGV[14], ARGV[15], ARGV[7])
count('', ARGV[16], ARGV[11])
return 1
"""

# KEYS: due. ARGV: how many at most, how long to put them off. Two ticks never get the same member.
_TAKE_DUE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local put_off = string.format('%.6f', now + ARGV[2])
for _, member in ipairs(members) do redis.call('ZADD', KEYS[1], put_off, member) end
return {put_off, members}
"""

# KEYS: due. ARGV: the time the members were put off to, how long to put them off now, members. Those that a worker has
# moved since are its business.
_PUT_OFF = """
local time = redis.call('TIME')
local later = string.format('%.6f', time[1] + time[2] / 1000000 + ARGV[2])
for index = 3, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[index])
  if score and tonumber(score) == tonumber(ARGV[1]) then redis.call('ZADD', KEYS[1], later, ARGV[index]) end
end
"""


# KEYS: connection, due. ARGV: version read, member. If the record changed meanwhile, the change saw to its due times.
_SETTLE = """
if (redis.call('HGET', KEYS[1], 'version') or '0') == ARGV[1] then return redis.call('ZREM', KEYS[2], ARGV[2]) end
return 0
"""


# KEYS: connections. The run stands in the record as "run":1; no merchant id or host, which come before it, has quotes.
_RUNS = """
local runs = {}
for index, key in ipairs(KEYS) do
  local record = redis.call('HGET', key, 'record')
  runs[index] = record and tonumber(string.match(record, '"run":(%d+)')) or 0
end
return runs
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection as it was read, with the server's time then. `unreadable`: it is there, but of another release."""

    connection: Connection | None
    version: int
    sealed_key: str | None = field(repr=False)
    sealed_candidate: str | None = field(repr=False)
    _server_time: float
    _read_at: float
    unreadable: bool = False

    def after(self, change: Change) -> "Snapshot":
        """As it is once this change is written."""
        keys = change.keys
        current = self.sealed_candidate if keys.promote else self.sealed_key
        candidate = None if keys.promote or keys.forget_candidate else self.sealed_candidate
        return replace(
            self,
            connection=change.connection,
            version=self.version + 1,
            sealed_key=None if keys.forget_current else keys.current or current,
            sealed_candidate=keys.candidate or candidate,
        )

    def now(self) -> float:
        """The server's time: as told when this was read, plus what has passed here since."""
        return self._server_time + (time.monotonic() - self._read_at)


@dataclass(frozen=True, slots=True)
class Committed:
    """A change that was written: the record before and after it, ready to be changed again."""

    before: Connection | None
    after: Connection
    snapshot: Snapshot
    former: Connection | None = None  # the store that is left with this change


@dataclass(frozen=True, slots=True)
class Taken:
    """Due work as (merchant id, slot or None), and the time it was put off to meanwhile."""

    until: str
    work: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Overdue:
    """How much work is overdue, and the age of the oldest in seconds."""

    count: int
    oldest_age: float


class Records:
    """Loads and changes connections. Safe to share between threads."""

    def __init__(self, client: redis.Redis, *, timeline_length: int = 200, events_kept: int = 1_000_000) -> None:
        self.redis = client
        self._timeline_length = timeline_length
        self.events_kept = events_kept
        self._commit = client.register_script(_COMMIT)
        self._take_due = client.register_script(_TAKE_DUE)
        self._put_off = client.register_script(_PUT_OFF)
        self._settle = client.register_script(_SETTLE)
        self._runs = client.register_script(_RUNS)

    # --- One connection ---------------------------------------------------------------------------------------------

    def load(self, merchant_id: str) -> Snapshot:
        """The connection of a merchant; its `connection` is None if there is none.

        Raises TransientError if there is one that this release cannot read.
        """
        snapshot = self.load_many([merchant_id])[0]
        if snapshot.unreadable:
            raise TransientError("record_unreadable")
        return snapshot

    def load_many(self, merchant_ids: Sequence[str]) -> list[Snapshot]:
        """The connections of several merchants in one round trip, in the same order; see `Snapshot.unreadable`."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for merchant_id in merchant_ids:
                pipe.hmget(connection_key(merchant_id), ["version", "record", "sealed_key", "sealed_candidate"])
            (seconds, microseconds), *rows = pipe.execute()
        server_time, read_at = seconds + microseconds / 1e6, time.monotonic()
        return [_snapshot(row, server_time, read_at) for row in rows]

    def change(
        self,
        merchant_id: str,
        decide: Callable[[Connection | None, float], Change | Stop],
        *,
        known: Snapshot | None = None,
        durably: bool = False,
    ) -> Committed | Stop:
        """Apply what `decide` makes of the connection and the server's time, atomically; decide again after a race.

        `known` saves reading a record that was just read or written. With `durably` the write is on disk when this
        returns, where the server can confirm it.
        """
        snapshot = known or self.load(merchant_id)
        for _ in range(_RACES_BEFORE_GIVING_UP):
            decided = decide(snapshot.connection, snapshot.now())
            if isinstance(decided, Stop):
                if durably:
                    self._confirm(merchant_id)
                return decided
            if self._write(merchant_id, snapshot, decided, durably=durably):
                return Committed(snapshot.connection, decided.connection, snapshot.after(decided), decided.former)
            snapshot = self.load(merchant_id)
        raise TransientError("internal_error", "too many changes at once")

    def _write(self, merchant_id: str, snapshot: Snapshot, change: Change, *, durably: bool) -> bool:
        before, after, now = snapshot.connection, change.connection, snapshot.now()
        version = snapshot.version + 1
        events = other_events(before, after, version=version, now=now)
        former = change.former
        former_key = connection_key(former.merchant_id if former else merchant_id)
        keys = [connection_key(merchant_id), _timeline_key(merchant_id), DUE, EVENTS, CONNECTIONS, former_key]
        keys += [OUTAGE, HELD, STATUSES, RECOUNT, token_key(merchant_id)]
        args: list[str | bytes | int] = [
            str(snapshot.version),
            _RECORD.dump_json(after, exclude_defaults=True),
            json.dumps({name: value for name, value in asdict(change.keys).items() if value}),
            json.dumps([json.dumps(entry) for entry in _entries(change, before, now)]),
            json.dumps([json.dumps(event) for event in events]),
            json.dumps(_due_changes(before, after) | (_due_changes(None, former) if former else {})),
            merchant_id,
            self._timeline_length,
            self.events_kept,
            uuid.uuid4().hex,
            former.merchant_id if former else "",
            _RECORD.dump_json(former, exclude_defaults=True) if former else "",
            _news(before, after, version=version, now=now),
            *(counted_as(connection) if connection else "" for connection in (before, after, former)),
        ]
        if not durably:
            return bool(self._commit(keys=keys, args=args))
        return self._write_durably(keys, args)

    def _write_durably(self, keys: list[str], args: list[str | bytes | int]) -> bool:
        with self.redis.pipeline(transaction=False) as pipe:
            self._commit(keys=keys, args=args, client=pipe)
            return bool(on_disk(pipe))

    def _confirm(self, merchant_id: str) -> None:
        """What another worker wrote may still be on its way to the disk: a write of our own behind it tells."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hincrby(connection_key(merchant_id), "asked_again", 1)
            on_disk(pipe)

    # --- All connections --------------------------------------------------------------------------------------------

    def count(self) -> int:
        """How many connections there are."""
        return self.redis.zcard(CONNECTIONS)

    def next_number(self) -> int:
        """A number for a new connection, from 0 on; nobody else gets it, however many sign up at once."""
        return int(self.redis.hincrby(_NUMBERS, "connections", 1)) - 1

    def merchant_ids(self, *, after: str = "", count: int = 1000) -> list[str]:
        """One page of merchant ids in order, from the one that follows `after`."""
        start = f"({after}" if after else "-"
        return cast("list[str]", self.redis.zrange(CONNECTIONS, start, "+", bylex=True, offset=0, num=count))

    def all(self, *, page: int = 500) -> Iterator[Snapshot]:
        """Every connection, in order of merchant id, page by page."""
        after = ""
        while ids := self.merchant_ids(after=after, count=page):
            yield from (snapshot for snapshot in self.load_many(ids) if snapshot.connection)
            after = ids[-1]

    def runs(self, merchant_ids: Sequence[str]) -> list[int | None]:
        """The run each merchant's connection is at, None where there is no connection; no record is read for it."""
        if not merchant_ids:
            return []
        found = cast("list[int]", self._runs(keys=[connection_key(merchant_id) for merchant_id in merchant_ids]))
        return [run or None for run in found]

    # --- Due work ---------------------------------------------------------------------------------------------------

    def take_due(self, limit: int, put_off: float) -> Taken:
        """Work that is due now; each is put off by `put_off` seconds, so that nobody else takes it meanwhile."""
        until, members = cast("tuple[str, list[str]]", self._take_due(keys=[DUE], args=[limit, put_off]))
        return Taken(until, tuple(_parse_member(member) for member in members))

    def put_off(self, taken: Taken, put_off: float) -> None:
        """Messages have been sent for this work: leave it alone for longer, as far as nobody has moved it since."""
        if taken.work:
            members = [_member(merchant_id, slot) for merchant_id, slot in taken.work]
            self._put_off(keys=[DUE], args=[taken.until, put_off, *members])

    def settle_due(self, snapshot: Snapshot, merchant_id: str, slot: str | None) -> None:
        """Take out a due time behind which this record has no work (left by hand, or by an older release)."""
        if snapshot.connection is not None and slot in snapshot.connection.due():
            return
        self._settle(keys=[connection_key(merchant_id), DUE], args=[str(snapshot.version), _member(merchant_id, slot)])

    def overdue(self) -> Overdue:
        """The work whose time has passed: there is always a little, between two ticks."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(DUE, 0, 0, withscores=True)
            (seconds, microseconds), oldest = pipe.execute()
        now = seconds + microseconds / 1e6
        if not oldest or oldest[0][1] > now:
            return Overdue(0, 0.0)
        return Overdue(int(self.redis.zcount(DUE, "-inf", now)), now - oldest[0][1])

    # --- History ----------------------------------------------------------------------------------------------------

    def timeline(self, merchant_id: str, *, count: int = 200) -> list[dict[str, Any]]:
        """What happened to a connection, oldest first."""
        entries = cast("list[Any]", self.redis.xrevrange(_timeline_key(merchant_id), count=count))
        return [json.loads(fields["entry"]) for _, fields in reversed(entries)]

    def events(self, *, after: str = "", count: int = 1000) -> list[tuple[str, dict[str, Any]]]:
        """Events for other systems as (stream id, CloudEvent), oldest first, from the one that follows `after`."""
        entries = cast("list[Any]", self.redis.xrange(EVENTS, min=f"({after}" if after else "-", count=count))
        return [(entry_id, json.loads(fields["event"])) for entry_id, fields in entries]

    def note_refusal(self, refusal: RequestRefused, *, merchant_id: str | None, door: str) -> None:
        """Keep what was wrong with a request where an operator sees it; nothing of the request's values but the id."""
        entry = {
            "at": time.time(),
            "door": door,
            "merchant_id": merchant_id,
            "field": refusal.field,
            "code": refusal.code,
            "remedy": refusal.remedy,
        }
        self.redis.xadd(REFUSED, {"refusal": json.dumps(entry)}, maxlen=_REFUSED_KEPT, approximate=True)

    def refusals(self, *, count: int = 100) -> list[dict[str, Any]]:
        """The latest refused requests, newest first."""
        entries = cast("list[Any]", self.redis.xrevrange(REFUSED, count=count))
        return [json.loads(fields["refusal"]) for _, fields in entries]


def on_disk(pipe: Pipeline) -> object:
    """Run a pipeline with one write, and wait until it is on disk; tells what the write answered.

    Raises TransientError when the server could not confirm it in time. WAITAOF speaks of the writes of its own
    connection, so both go through one pipeline.
    """
    pipe.waitaof(1, 0, _DISK_WITHIN_MS)
    written, confirmed = pipe.execute(raise_on_error=False)
    if isinstance(written, Exception):
        raise written
    if isinstance(confirmed, ResponseError):
        return written  # a server before 7.2, or without AOF: as durable as it is configured to be
    if isinstance(confirmed, Exception):
        raise confirmed
    if written and not confirmed[0]:
        raise TransientError("internal_error", "the server could not confirm the write to disk in time")
    return written


def _snapshot(row: Sequence[str | None], server_time: float, read_at: float) -> Snapshot:
    version, record, sealed_key, sealed_candidate = row
    connection, unreadable = None, False
    try:
        connection = _RECORD.validate_json(record) if record is not None else None
    except ValidationError:
        unreadable = True
    return Snapshot(connection, int(version or 0), sealed_key, sealed_candidate, server_time, read_at, unreadable)


def connection_key(merchant_id: str) -> str:
    """Where everything of one connection is kept; `sealed_keys.py` shares it."""
    return f"occ:connection:{merchant_id}"


def _timeline_key(merchant_id: str) -> str:
    return f"occ:timeline:{merchant_id}"


def _member(merchant_id: str, slot: str | None) -> str:
    return merchant_id if slot is None else f"{merchant_id}|{slot}"


def _parse_member(member: str) -> tuple[str, str | None]:
    merchant_id, _, slot = member.partition("|")
    return merchant_id, slot or None


def _entries(change: Change, before: Connection | None, now: float) -> list[dict[str, object]]:
    after = change.connection
    return [timeline_entry(note, after, now) for note in change.notes if is_news(note, before, after)]


def _news(before: Connection | None, after: Connection, *, version: int, now: float) -> str:
    """What the commit needs to know of a new status: it decides whether other systems hear of it now."""
    event = status_event(before, after, version=version, now=now)
    if event is None:
        return ""
    trouble = before is not None and after.status in TROUBLED
    was = before.status if before else ""
    return json.dumps({"event": json.dumps(event), "status": after.status, "was": was, "trouble": trouble})


def _due_changes(before: Connection | None, after: Connection) -> dict[str, str]:
    """Only what changed: the tick may have put other members off, and that must stand. "" means: take it out."""
    was, is_now = before.due() if before else {}, after.due()
    changes = {slot: f"{due:.6f}" for slot, due in is_now.items() if was.get(slot) != due}
    changes |= {slot: "" for slot in was if slot not in is_now}
    return {_member(after.merchant_id, slot): due for slot, due in changes.items()}

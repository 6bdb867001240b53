"""The records of all connections in Redis; the only module that knows their keys.

A change is decided in Python from the record as it was read, and written only if nobody changed it meanwhile: the
record, its timeline, the event about a new status and the due times are one atomic write. Whoever lost the race decides
again from the newer record.

    occ:connection:<merchant>   hash    version, record (JSON), sealed_key, sealed_candidate (a new key that has yet
                                        to prove itself), change (id of the last), asked_again, heard (the
                                        status other systems know, while what came after it is held)
    occ:timeline:<merchant>     stream  what happened, bounded
    occ:connections             zset    every merchant id, for paging; a store a merchant has left: <merchant>@<run>
    occ:numbers                 hash    how many numbers were given to new connections (see `schedule.spread_phase`) and
                                        to events about refused requests; how many of these in the last minute
    occ:due                     zset    <merchant> or <merchant>|<slot> by due time
    occ:events                  stream  CloudEvents for other systems, bounded
    occ:stores:<host>           zset    merchants who are, or were, connected to a store (`shared_stores.py`)
    occ:outage                  hash    the outage that is on, or when the last one ended (`outages.py`)
    occ:held                    zset    merchants whose news of trouble is held, by when to look (`held_events.py`)
    occ:receiver, occ:undelivered, occ:deliveries:*, occ:delivering*    events on their way out (`deliveries.py`)
    occ:refused                 stream  requests that were not accepted, bounded
    occ:status:<status>         zset    the connections with this status (`status_index.py`)
    occ:listing                 hash    how far they are listed anew
    occ:requests, occ:requests:at    what became of requests that carried an id (`request_ids.py`)
    occ:heard:*, occ:listening, occ:silent*    what was heard of slots (`integrations/silence`)
"""

import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, cast

import redis
from pydantic import ValidationError
from redis.client import Pipeline
from redis.exceptions import NoScriptError, ResponseError

from integrations.clock import Clock
from integrations.cloud_event import SOURCE, event_text
from integrations.connections.change import Change, Stop
from integrations.connections.commit import commit_of, due_member
from integrations.connections.events import refused_event
from integrations.connections.known_request import KnownRequest
from integrations.connections.record import Connection, token_key
from integrations.connections.request_ids import RequestIds
from integrations.connections.stored_record import record_in
from integrations.errors import TransientError
from integrations.lua import lua_beside
from integrations.messages.scheduled import server_time

DUE = "occ:due"
CONNECTIONS = "occ:connections"
_NUMBERS = "occ:numbers"
EVENTS = "occ:events"
OUTAGE = "occ:outage"
HELD = "occ:held"
REFUSED = "occ:refused"

_FIELDS = ("version", "record", "sealed_key", "sealed_candidate")
_REFUSED_KEPT = 10_000
_REFUSED_EVENTS_A_MINUTE = 600
_LATEST_KEPT = 256
_RECENT = 1.0  # seconds
_RACES_BEFORE_GIVING_UP = 100
_DISK_WITHIN_MS = 5000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection as it was read, with the time then. `unreadable`: it is there, but of another release."""

    connection: Connection | None
    version: int
    sealed_key: str | None = field(repr=False)
    sealed_candidate: str | None = field(repr=False)
    _now: float
    _read_at: float
    unreadable: bool = False

    def after(self, change: Change, version: int) -> "Snapshot":
        """As it is once this change is written."""
        keys = change.keys
        current = self.sealed_candidate if keys.promote else self.sealed_key
        candidate = None if keys.promote or keys.forget_candidate else self.sealed_candidate
        return replace(
            self,
            connection=change.connection,
            version=version,
            sealed_key=None if keys.forget_current else keys.current or current,
            sealed_candidate=keys.candidate or candidate,
        )

    def now(self) -> float:
        """The time: as it was when this was read, plus what has passed here since."""
        return self._now + self.age

    @property
    def age(self) -> float:
        """Seconds since this was read."""
        return time.monotonic() - self._read_at


@dataclass(frozen=True, slots=True)
class Committed:
    """A change that was written: the record before and after it, ready to be changed again."""

    before: Connection | None
    after: Connection
    snapshot: Snapshot
    former: Connection | None = None  # the store that is left with this change


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """An event about a status that was written. `version`: of its record. `entry_id`: where it stands in the stream."""

    merchant_id: str
    version: int
    event_id: str
    entry_id: str


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


class _Latest:
    """The records that this process has written last: the slots of a run follow each other within moments."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._written: OrderedDict[str, Snapshot] = OrderedDict()

    def keep(self, merchant_id: str, written: Snapshot) -> None:
        """It was just written."""
        with self._lock:
            self._written[merchant_id] = written
            self._written.move_to_end(merchant_id)
            if len(self._written) > _LATEST_KEPT:
                self._written.popitem(last=False)

    def recent(self, merchant_id: str) -> Snapshot | None:
        """What was read and written here within the last second."""
        with self._lock:
            written = self._written.get(merchant_id)
        return written if written is not None and written.age < _RECENT else None

    def newer(self, merchant_id: str, known: Snapshot) -> Snapshot | None:
        """What was written here, if that is newer than what is known."""
        with self._lock:
            written = self._written.get(merchant_id)
        return written if written is not None and written.version > known.version else None


class Records:
    """Loads and changes connections. Safe to share between threads. Its times are those of `clock`."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        timeline_length: int = 200,
        events_kept: int = 1_000_000,
        event_source: str = SOURCE,
        on_status_event: Callable[[StatusEvent], object] = lambda _: None,
    ) -> None:
        """`on_status_event` hears of each event about a status that was written here."""
        self.redis = client
        self.clock = Clock(client)
        self._latest = _Latest()
        self._on_status_event = on_status_event
        self._timeline_length = timeline_length
        self.events_kept = events_kept
        self.event_source = event_source
        self.request_ids = RequestIds(client)
        self._commit, self._take_due, self._put_off, self._settle, self._runs, self._refuse = (
            client.register_script(lua_beside(__file__, name))
            for name in ("commit", "take_due", "put_off", "settle", "runs", "refuse")
        )

    # --- One connection ---------------------------------------------------------------------------------------------

    def load(self, merchant_id: str) -> Snapshot:
        """The connection of a merchant; its `connection` is None if there is none.

        Raises TransientError if there is a connection that this release cannot read.
        """
        key = connection_key(merchant_id)
        if (now := self.clock.known()) is not None:
            return _readable(cast("list[str | None]", self.redis.hmget(key, _FIELDS)), now)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(key, _FIELDS)
            (seconds, microseconds), row = pipe.execute()
        return _readable(row, self.clock.ours(seconds + microseconds / 1e6))

    def load_many(self, merchant_ids: Sequence[str]) -> list[Snapshot]:
        """The connections of several merchants in one round trip, in the same order; see `Snapshot.unreadable`."""
        if not merchant_ids:
            return []
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for merchant_id in merchant_ids:
                pipe.hmget(connection_key(merchant_id), _FIELDS)
            (seconds, microseconds), *rows = pipe.execute()
        now, read_at = self.clock.ours(seconds + microseconds / 1e6), time.monotonic()
        return [_snapshot(row, now, read_at) for row in rows]

    def change(
        self,
        merchant_id: str,
        decide: Callable[[Connection | None, float], Change | Stop],
        *,
        known: Snapshot | None = None,
        durably: bool = False,
    ) -> Committed | Stop:
        """Apply what `decide` makes of the connection and the time, atomically; decide again after a race.

        `known` saves reading a record that was just read or written; if this process has written it since, that counts.
        What it wrote within the last second is not read either. Where that leaves nothing to change, the record
        is read after all. With `durably` the write is on disk when this returns, where the server can confirm it.
        """
        recalled = self._latest.newer(merchant_id, known) if known else self._latest.recent(merchant_id)
        snapshot = recalled or known or self.load(merchant_id)
        for _ in range(_RACES_BEFORE_GIVING_UP):
            decided = decide(snapshot.connection, snapshot.now())
            if isinstance(decided, Stop):
                if snapshot is recalled:  # somebody else may have changed it since, or a failover may have lost it
                    snapshot = self.load(merchant_id)
                    continue
                if durably:
                    self._confirm(merchant_id)
                return decided
            written = self._write(merchant_id, snapshot, decided, durably=durably)
            if isinstance(written, int):
                after = snapshot.after(decided, written)
                self._latest.keep(merchant_id, after)
                return Committed(snapshot.connection, decided.connection, after, decided.former)
            snapshot = _readable(written, self.clock.now())
        raise TransientError("internal_error", "too many changes at once")

    def _write(self, merchant_id: str, snapshot: Snapshot, change: Change, *, durably: bool) -> int | list[str | None]:
        """The version written; if somebody else was faster, what they wrote."""
        change_id, now = uuid.uuid4().hex, snapshot.now()
        commit = commit_of(
            merchant_id, snapshot.connection, change, version_read=snapshot.version, now=now, change_id=change_id
        )
        former_key = connection_key(change.former.merchant_id if change.former else merchant_id)
        keys = [connection_key(merchant_id), timeline_key(merchant_id), DUE, EVENTS, CONNECTIONS, former_key]
        keys += [OUTAGE, HELD, token_key(merchant_id)]
        document = commit.document(
            change_id,
            timeline_length=self._timeline_length,
            events_kept=self.events_kept,
            event_source=self.event_source,
        )
        written = self._commit_durably(keys, document) if durably else self._commit(keys=keys, args=[document])
        if isinstance(written, list):
            return written
        if isinstance(written, str) and commit.news is not None:  # where the event stands
            self._on_status_event(StatusEvent(merchant_id, commit.version, str(commit.news.event["id"]), written))
        return commit.version

    def _commit_durably(self, keys: list[str], document: str) -> object:
        # By itself, a pipeline asks whether the server knows the script each time.
        try:
            with self.redis.pipeline(transaction=False) as pipe:
                pipe.evalsha(self._commit.sha, len(keys), *keys, document)
                return on_disk(pipe)
        except NoScriptError:
            self.redis.script_load(self._commit.script)
            return self._commit_durably(keys, document)

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
        until, members = cast("tuple[str, list[str]]", self._take_due(keys=[DUE], args=[limit, put_off, self._now()]))
        return Taken(until, tuple(_parse_member(member) for member in members))

    def put_off(self, taken: Taken, put_off: float) -> None:
        """Messages have been sent for this work: leave it alone for longer, as far as nobody has moved it since."""
        if taken.work:
            members = [due_member(merchant_id, slot) for merchant_id, slot in taken.work]
            self._put_off(keys=[DUE], args=[taken.until, put_off, self._now(), *members])

    def settle_due(self, snapshot: Snapshot, merchant_id: str, slot: str | None) -> None:
        """Take out a due time behind which this record has no work (left by hand, or by an older release)."""
        if snapshot.connection is not None and slot in snapshot.connection.due():
            return
        self._settle(
            keys=[connection_key(merchant_id), DUE], args=[str(snapshot.version), due_member(merchant_id, slot)]
        )

    def overdue(self) -> Overdue:
        """The work whose time has passed: there is always a little, between two ticks."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(DUE, 0, 0, withscores=True)
            (seconds, microseconds), oldest = pipe.execute()
        now = self.clock.ours(seconds + microseconds / 1e6)
        if not oldest or oldest[0][1] > now:
            return Overdue(0, 0.0)
        return Overdue(int(self.redis.zcount(DUE, "-inf", now)), now - oldest[0][1])

    def _now(self) -> str:
        """The time as scripts take it."""
        return f"{self.clock.now():.6f}"

    # --- History ----------------------------------------------------------------------------------------------------

    def timeline(self, merchant_id: str, *, count: int = 200) -> list[dict[str, Any]]:
        """What happened to a connection, oldest first."""
        entries = cast("list[Any]", self.redis.xrevrange(timeline_key(merchant_id), count=count))
        return [json.loads(fields["entry"]) for _, fields in reversed(entries)]

    def events(self, *, after: str = "", count: int = 1000) -> list[tuple[str, dict[str, Any]]]:
        """Events for other systems as (stream id, CloudEvent), oldest first, from the one that follows `after`."""
        entries = cast("list[Any]", self.redis.xrange(EVENTS, min=f"({after}" if after else "-", count=count))
        return [(entry_id, json.loads(fields["event"])) for entry_id, fields in entries]

    def note_refusal(self, refused: KnownRequest, *, reported: bool = False) -> None:
        """Keep what was wrong with a request; nothing of the request's values but its ids.

        `reported`: also as an event, for whoever sent it is not answered otherwise.
        """
        refused = replace(refused, at=server_time(self.redis))
        entry = {
            "at": refused.at,
            "door": refused.door,
            "merchant_id": refused.merchant_id,
            "field": refused.field,
            "code": refused.code,
            "remedy": refused.remedy,
            "request": refused.request,
            "request_id": refused.request_id or None,
            "reference": refused.reference or None,
        }
        sequence = uuid.uuid4().hex
        event = event_text(refused_event(refused, sequence), self.event_source) if reported else ""
        args: list[str | int] = [json.dumps(entry), _REFUSED_KEPT, event, sequence, self.events_kept]
        self._refuse(keys=[REFUSED, EVENTS, _NUMBERS], args=[*args, _REFUSED_EVENTS_A_MINUTE])
        self.request_ids.refuse(refused)

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
    if not confirmed[0]:
        raise TransientError("internal_error", "the server could not confirm the write to disk in time")
    return written


def _snapshot(row: Sequence[str | None], now: float, read_at: float) -> Snapshot:
    version, record, sealed_key, sealed_candidate = row
    connection, unreadable = None, False
    try:
        connection = record_in(record) if record is not None else None
    except ValidationError:
        unreadable = True
    return Snapshot(connection, int(version or 0), sealed_key, sealed_candidate, now, read_at, unreadable)


def _readable(row: Sequence[str | None], now: float) -> Snapshot:
    snapshot = _snapshot(row, now, time.monotonic())
    if snapshot.unreadable:
        raise TransientError("record_unreadable")
    return snapshot


def connection_key(merchant_id: str) -> str:
    """Where everything of one connection is kept; `sealed_keys.py` shares it."""
    return f"occ:connection:{merchant_id}"


def timeline_key(merchant_id: str) -> str:
    """Where the timeline of a connection is kept."""
    return f"occ:timeline:{merchant_id}"


def _parse_member(member: str) -> tuple[str, str | None]:
    merchant_id, _, slot = member.partition("|")
    return merchant_id, slot or None

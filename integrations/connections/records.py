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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import redis
from pydantic import ValidationError
from redis.client import Pipeline
from redis.exceptions import ResponseError

from integrations.connections.change import Change, Stop
from integrations.connections.commit import commit_of, due_member, record_in
from integrations.connections.record import Connection, token_key
from integrations.errors import RequestRefused, TransientError

DUE = "occ:due"
CONNECTIONS = "occ:connections"
_NUMBERS = "occ:numbers"
EVENTS = "occ:events"
OUTAGE = "occ:outage"
HELD = "occ:held"
REFUSED = "occ:refused"
STATUSES = "occ:statuses"
RECOUNT = "occ:recount"

_FIELDS = ("version", "record", "sealed_key", "sealed_candidate")
_REFUSED_KEPT = 10_000
_RACES_BEFORE_GIVING_UP = 100
_DISK_WITHIN_MS = 5000

_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection as it was read, with the server's time then. `unreadable`: it is there, but of another release.

    `access_token`: the encrypted token that was stored then, if it was asked for.
    """

    connection: Connection | None
    version: int
    sealed_key: str | None = field(repr=False)
    sealed_candidate: str | None = field(repr=False)
    _server_time: float
    _read_at: float
    unreadable: bool = False
    access_token: str | None = field(default=None, repr=False)

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
        self._commit, self._take_due, self._put_off, self._settle, self._runs = (
            client.register_script((_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8"))
            for name in ("commit", "take_due", "put_off", "settle", "runs")
        )

    # --- One connection ---------------------------------------------------------------------------------------------

    def load(self, merchant_id: str, *, with_token: bool = False) -> Snapshot:
        """The connection of a merchant; its `connection` is None if there is none.

        `with_token`: also the access token, in the same round trip, for who is going to call the store. Raises
        TransientError if there is a connection that this release cannot read.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(connection_key(merchant_id), _FIELDS)
            if with_token:
                pipe.get(token_key(merchant_id))
            (seconds, microseconds), row, *token = pipe.execute()
        snapshot = _snapshot(row, seconds + microseconds / 1e6, time.monotonic())
        if snapshot.unreadable:
            raise TransientError("record_unreadable")
        return replace(snapshot, access_token=token[0]) if with_token else snapshot

    def load_many(self, merchant_ids: Sequence[str]) -> list[Snapshot]:
        """The connections of several merchants in one round trip, in the same order; see `Snapshot.unreadable`."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for merchant_id in merchant_ids:
                pipe.hmget(connection_key(merchant_id), _FIELDS)
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
        commit = commit_of(merchant_id, snapshot.connection, change, version_read=snapshot.version, now=snapshot.now())
        former_key = connection_key(change.former.merchant_id if change.former else merchant_id)
        keys = [connection_key(merchant_id), _timeline_key(merchant_id), DUE, EVENTS, CONNECTIONS, former_key]
        keys += [OUTAGE, HELD, STATUSES, RECOUNT, token_key(merchant_id)]
        document = commit.document(
            uuid.uuid4().hex, timeline_length=self._timeline_length, events_kept=self.events_kept
        )
        if not durably:
            return bool(self._commit(keys=keys, args=[document]))
        with self.redis.pipeline(transaction=False) as pipe:
            self._commit(keys=keys, args=[document], client=pipe)
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
            members = [due_member(merchant_id, slot) for merchant_id, slot in taken.work]
            self._put_off(keys=[DUE], args=[taken.until, put_off, *members])

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
        connection = record_in(record) if record is not None else None
    except ValidationError:
        unreadable = True
    return Snapshot(connection, int(version or 0), sealed_key, sealed_candidate, server_time, read_at, unreadable)


def connection_key(merchant_id: str) -> str:
    """Where everything of one connection is kept; `sealed_keys.py` shares it."""
    return f"occ:connection:{merchant_id}"


def _timeline_key(merchant_id: str) -> str:
    return f"occ:timeline:{merchant_id}"


def _parse_member(member: str) -> tuple[str, str | None]:
    merchant_id, _, slot = member.partition("|")
    return merchant_id, slot or None

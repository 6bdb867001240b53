"""Looks, when its time has come, whether a slot has fallen silent, and records what is found.

    occ:silent           zset  merchants with a silent slot, by when that was found
    occ:silence-of-many  hash  while many are silent at once: since when

Ticks do this, any number of them; what is recorded twice changes nothing the second time. No store is called.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from integrations.cloud_event import event_text
from integrations.connections.change import Change, Stop
from integrations.connections.lifecycle import hearing
from integrations.connections.record import Connection, Silence
from integrations.connections.records import EVENTS, OUTAGE, Records
from integrations.connections.rhythm import Rhythm
from integrations.lua import lua_beside
from integrations.silence.heard import LISTENING, SILENT, HeardSlots, heard_key
from integrations.silence.many import DAY, Rule, Tally, ended_event, is_on, started_event

MANY = "occ:silence-of-many"
_AGAIN = 3600.0
"""Seconds until a slot that is silent is looked at again."""
_UNREADABLE_AGAIN = 3600.0


@dataclass(frozen=True, slots=True)
class Judged:
    """How many slots were found silent, and how many merchants were looked at."""

    silent: int = 0
    merchants: int = 0


@dataclass(slots=True)
class _Merchant:
    """One merchant whose time has come."""

    connection: Connection
    rhythms: Mapping[str, Rhythm]
    fell_silent: dict[str, Rhythm] = field(default_factory=dict)


class Silences:
    """Judges merchants by the rhythms of their slots. Safe to share between threads."""

    def __init__(
        self,
        records: Records,
        heard: HeardSlots,
        rule: Rule,
        *,
        report: Callable[[dict[str, object]], object] = lambda _: None,
    ) -> None:
        """`report` hears of the operator events that this process has raised."""
        self._records, self._redis, self._heard, self._rule = records, records.redis, heard, rule
        self._report_here = report
        self._report = records.redis.register_script(lua_beside(__file__, "report_silence"))

    def judge(self, limit: int) -> Judged:
        """Look at up to `limit` merchants whose time has come, those first that are waiting longest."""
        now = self._now()
        due = cast("list[str]", self._redis.zrangebyscore(LISTENING, "-inf", now, start=0, num=limit))
        if not due and not self._redis.exists(MANY):
            return Judged()
        merchants = self._load(due, now)
        for merchant in merchants:
            merchant.fell_silent = {
                slot: rhythm
                for slot, rhythm in merchant.rhythms.items()
                if rhythm.is_silent(now) and _is_watched(merchant.connection, slot)
            }
        many = self._review([one.connection.merchant_id for one in merchants if one.fell_silent], now)
        found = sum(self._record(merchant, now, many=many) for merchant in merchants)
        return Judged(found, len(due))

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return float(seconds) + float(microseconds) / 1e6

    def _load(self, merchant_ids: list[str], now: float) -> list[_Merchant]:
        """Those who are connected; of the others nothing is kept."""
        merchants = []
        snapshots = self._records.load_many(merchant_ids) if merchant_ids else []
        for merchant_id, snapshot, rhythms in zip(
            merchant_ids, snapshots, self._heard.rhythms(merchant_ids), strict=True
        ):
            connection = snapshot.connection
            if snapshot.unreadable:
                self._redis.zadd(LISTENING, {merchant_id: now + _UNREADABLE_AGAIN})
            elif connection is None or connection.disconnection is not None or not rhythms:
                self._forget(merchant_id)
            else:
                merchants.append(_Merchant(connection, rhythms))
        return merchants

    def _forget(self, merchant_id: str) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(heard_key(merchant_id))
            pipe.zrem(LISTENING, merchant_id)
            pipe.zrem(SILENT, merchant_id)
            pipe.execute()

    def _record(self, merchant: _Merchant, now: float, *, many: bool) -> int:
        """Record what was found of a merchant, and when to check again; returns how many slots have fallen silent."""
        merchant_id, slots, found = merchant.connection.merchant_id, merchant.connection.slots, 0
        for slot, rhythm in merchant.rhythms.items():
            known = slots[slot].silence if slot in slots else None
            if slot not in merchant.fell_silent:
                if known is not None and rhythm.last > known.since:  # told between two of our steps
                    self._heard.came_back(merchant_id, slot, rhythm.last)
            elif known is None or (known.among_many and not many):
                among_many = many and known is None
                found += self._fell_silent(merchant_id, slot, rhythm, among_many=among_many)
        if merchant.fell_silent:
            self._redis.zadd(SILENT, {merchant_id: now}, nx=True)
        self._redis.zadd(LISTENING, {merchant_id: _next_judgement(merchant.rhythms.values(), now)})
        return found

    def _fell_silent(self, merchant_id: str, slot: str, rhythm: Rhythm, *, among_many: bool) -> bool:
        # First of all the next report is made to ask the record: it may come before this is written, or after.
        if not self._heard.ask_the_record(merchant_id, slot, rhythm):
            return False
        silence = Silence(rhythm.last, rhythm.longest_pause, among_many)
        return not isinstance(self._records.change(merchant_id, partial(_decide, slot, silence)), Stop)

    def _review(self, fell_silent: Iterable[str], now: float) -> bool:
        """Whether many are silent at once, these among them; operators get an event when it begins and when it ends."""
        number, since = self._redis.hget(OUTAGE, "number"), self._redis.hget(MANY, "since")
        begun = float(str(since)) if since is not None else None
        recent = now - DAY if begun is None else begun - DAY
        known = {str(merchant) for merchant in cast("list[Any]", self._redis.zrangebyscore(SILENT, recent, "+inf"))}
        tally = Tally(len(known | {*fell_silent}), self._heard.merchants_heard(now))
        on = is_on(tally, self._rule, was_on=begun is not None)
        if on == (begun is not None):
            return on
        sequence = int(str(number or 0)) + 1
        if begun is None:
            event, state = started_event(tally, sequence, now), f"{now:.6f}"
        else:
            event, state = ended_event(tally, sequence, now, since=begun), ""
        args: list[str | int] = [
            str(number or 0),
            event_text(event, self._records.event_source),
            self._records.events_kept,
            state,
        ]
        if self._report(keys=[OUTAGE, EVENTS, MANY], args=args):
            self._report_here(event)
        return on


def _decide(slot: str, silence: Silence, connection: Connection | None, _now: float) -> Change | Stop:
    return hearing.fell_silent(connection, slot, silence)


def _is_watched(connection: Connection, slot: str) -> bool:
    return slot in connection.slots and connection.slots[slot].wanted


def _next_judgement(rhythms: Iterable[Rhythm], now: float) -> float:
    moments = [moment for rhythm in rhythms if (moment := rhythm.silent_at) is not None]
    return min((moment if moment > now else now + _AGAIN for moment in moments), default=now + DAY)

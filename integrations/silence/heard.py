"""What was heard of slots, in Redis: one small write per report, and no record rewritten.

    occ:heard:<merchant>     hash         slot -> its rhythm (`connections/rhythm.py`), about 60 bytes each
    occ:listening            zset         merchants by when to see whether a slot of theirs fell silent
    occ:heard-within:<hour>  HyperLogLog  merchants heard from in an hour, for some hours

The record changes only when a slot is heard from for the first time in a run, or comes back after a silence;
`Rhythm.run` remembers for which run that is done. No report ever leads to a call to a store, or to work.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import redis

from integrations.connections.change import Change, Stop
from integrations.connections.lifecycle import hearing
from integrations.connections.record import Connection
from integrations.connections.records import Committed, Records
from integrations.connections.rhythm import Rhythm, hear, rhythm_in
from integrations.lua import lua_beside

LISTENING = "occ:listening"
SILENT = "occ:silent"
"""zset: merchants with a silent slot, by when that was found."""
HOURS = 6
_HOUR = 3600
_AT_ONCE = 200  # merchants per script: the server does nothing else meanwhile
_RACES_BEFORE_GIVING_UP = 20
_NOTHING_PROVEN = {"of_a_former_run", "late"}


@dataclass(frozen=True, slots=True)
class Report:
    """Somebody received a delivery of a merchant's slot at this time, seconds since the epoch; None: just now."""

    merchant_id: str
    slot: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of reports: how many were `taken`, how many named a merchant or a slot that we do not know."""

    taken: int = 0
    unknown: int = 0

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(self.taken + other.taken, self.unknown + other.unknown)


@dataclass(frozen=True, slots=True)
class _Heard:
    """One slot with its reports."""

    merchant_id: str
    slot: str
    times: tuple[float | None, ...]


class HeardSlots:
    """Takes reports, and knows the rhythms. Safe to share between threads."""

    def __init__(self, records: Records, slots: Iterable[str]) -> None:
        """`slots`: the names that the settings know; reports about others are of no use."""
        self._records, self._redis, self._slots = records, records.redis, frozenset(slots)
        self._write = records.redis.register_script(lua_beside(__file__, "write_rhythms"))

    def take(self, reports: Sequence[Report]) -> Taken:
        """Note what was heard. Raises redis.RedisError or TransientError; taking it all again does no harm."""
        grouped: dict[tuple[str, str], list[float | None]] = {}
        for report in reports:
            if report.slot in self._slots:
                grouped.setdefault((report.merchant_id, report.slot), []).append(report.at)
        heard = [_Heard(merchant_id, slot, tuple(times)) for (merchant_id, slot), times in grouped.items()]
        taken = Taken(unknown=len(reports) - sum(len(one.times) for one in heard))
        for start in range(0, len(heard), _AT_ONCE):
            taken += self._take(heard[start : start + _AT_ONCE])
        return taken

    def rhythms(self, merchant_ids: Sequence[str]) -> list[dict[str, Rhythm]]:
        """What was heard of each merchant's slots, in the same order."""
        return rhythms_of(self._redis, merchant_ids)

    def merchants_heard(self, now: float) -> int:
        """About how many merchants were heard from within the last hours."""
        hour = int(now // _HOUR)
        return int(self._redis.pfcount(*(_hour_key(number) for number in range(hour - HOURS + 1, hour + 1))))

    def ask_the_record(self, merchant_id: str, slot: str, rhythm: Rhythm) -> bool:
        """The next report of this slot is to be looked at closely; False if one has just come."""
        entry = [(_Heard(merchant_id, slot, ()), rhythm.text(), replace(rhythm, run=0))]
        return not self._written(entry, rhythm.last)

    def _take(self, heard: Sequence[_Heard]) -> Taken:
        taken = Taken()
        left = list(heard)
        for _ in range(_RACES_BEFORE_GIVING_UP):
            done, left = self._try(left)
            taken += done
            if not left:
                break
        return taken  # what lost that many races was overtaken by as many newer reports

    def _try(self, heard: Sequence[_Heard]) -> tuple[Taken, list[_Heard]]:
        """Note each; returns what came of it, and those that somebody else changed meanwhile."""
        runs = self._records.runs([one.merchant_id for one in heard])
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for one in heard:
                pipe.hget(heard_key(one.merchant_id), one.slot)
            (seconds, microseconds), *texts = pipe.execute()
        now = seconds + microseconds / 1e6
        entries: list[tuple[_Heard, str, Rhythm]] = []
        unknown = 0
        for one, run, text in zip(heard, runs, texts, strict=True):
            rhythm = self._heard(one, run, text, now) if run is not None else None
            if rhythm is None:
                unknown += len(one.times)
            else:
                entries.append((one, text or "", rhythm))
        lost = {index: entries[index][0] for index in self._written(entries, now)}
        taken = sum(len(one.times) for index, (one, _, _) in enumerate(entries) if index not in lost)
        return Taken(taken, unknown), list(lost.values())

    def _heard(self, one: _Heard, run: int, text: str | None, now: float) -> Rhythm | None:
        """The rhythm with the reports in it, once the record knows what they mean; None if it has no such slot."""
        before = rhythm_in(text)
        rhythm = hear(before, (now if at is None else at for at in one.times), now)
        if rhythm is None or (before is not None and before.run == run):
            return rhythm
        # Not the rhythm's last: a silence that has just been recorded ends only with what was reported after it.
        at = min(now, max(now if at is None else at for at in one.times))
        changed = self._change(one.merchant_id, one.slot, at)
        if isinstance(changed, Stop):
            if changed.reason == "unknown_slot":
                return None
            return rhythm if changed.reason in _NOTHING_PROVEN else replace(rhythm, run=run)
        self._no_longer_silent(changed.after)
        return replace(rhythm, run=run)

    def came_back(self, merchant_id: str, slot: str, at: float) -> None:
        """Record that a slot which was found silent was heard from."""
        changed = self._change(merchant_id, slot, at)
        if isinstance(changed, Committed):
            self._no_longer_silent(changed.after)

    def _change(self, merchant_id: str, slot: str, at: float) -> Committed | Stop:
        return self._records.change(merchant_id, partial(_decide, slot, at))

    def _no_longer_silent(self, connection: Connection) -> None:
        if not any(slot.silence for slot in connection.slots.values()):
            self._redis.zrem(SILENT, connection.merchant_id)

    def _written(self, entries: Sequence[tuple[_Heard, str, Rhythm]], now: float) -> list[int]:
        """Write the rhythms where they are still as they were read; returns the indexes of those that were not."""
        if not entries:
            return []
        merchants = dict.fromkeys(one.merchant_id for one, _, _ in entries)
        hashes = {merchant_id: number for number, merchant_id in enumerate(merchants, 1)}
        args: list[str | int | float] = [(HOURS + 1) * _HOUR * 1000]
        for one, text, rhythm in entries:
            before = rhythm_in(text)
            is_news = before is None or rhythm.last > before.last
            moment = rhythm.silent_at if is_news else None
            args += [hashes[one.merchant_id], one.merchant_id, one.slot, text, rhythm.text()]
            args += ["" if moment is None else moment, int(is_news)]
        keys = [LISTENING, _hour_key(int(now // _HOUR)), *map(heard_key, hashes)]
        return [int(index) for index in cast("list[Any]", self._write(keys=keys, args=args))]


def _decide(slot: str, at: float, connection: Connection | None, _now: float) -> Change | Stop:
    return hearing.heard(connection, slot, at)


def rhythms_of(client: redis.Redis, merchant_ids: Sequence[str]) -> list[dict[str, Rhythm]]:
    """What was heard of each merchant's slots, in the same order; nothing of slots that were never reported."""
    if not merchant_ids:
        return []
    with client.pipeline(transaction=False) as pipe:
        for merchant_id in merchant_ids:
            pipe.hgetall(heard_key(merchant_id))
        rows = pipe.execute()
    return [{slot: rhythm for slot, text in row.items() if (rhythm := rhythm_in(text)) is not None} for row in rows]


def heard_key(merchant_id: str) -> str:
    """Where the rhythms of a merchant's slots are kept."""
    return f"occ:heard:{merchant_id}"


def _hour_key(hour: int) -> str:
    return f"occ:heard-within:{hour}"

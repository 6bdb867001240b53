"""A slot that had a rhythm and falls silent is found; it is evidence, so nothing is done about it."""

import json
from dataclasses import replace
from typing import Any

import pytest
import redis

from integrations.connections.change import Change
from integrations.connections.findings import findings_of
from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.records import Records
from integrations.connections.rhythm import Rhythm
from integrations.silence.heard import LISTENING, SILENT, HeardSlots, Report, heard_key
from integrations.silence.many import Rule
from integrations.silence.silences import MANY, Silences
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.fakes import SLOTS

pytestmark = pytest.mark.server

SLOT, OTHER = SLOTS[0], SLOTS[1]
HOUR = 3600
DAY = 86400
RULE = Rule(share=0.3, merchants=5)


@pytest.fixture
def heard(records: Records) -> HeardSlots:
    return HeardSlots(records, SLOTS)


@pytest.fixture
def silences(records: Records, heard: HeardSlots) -> Silences:
    return Silences(records, heard, RULE)


def now(records: Records) -> int:
    return int(records.redis.time()[0])


def connected(records: Records, merchant_id: str = "m-1") -> Connection:
    """In order for long, and heard from."""
    slots = {name: replace(slot, heard_at=1.0) for name, slot in healthy().slots.items()}
    connection = healthy(merchant_id=merchant_id, started_at=0.0, slots=slots)
    records.change(merchant_id, lambda _, _now: Change(connection))
    return connection


def was_heard(records: Records, merchant_id: str = "m-1", slot: str = SLOT, *, ago: int, longest: int = HOUR) -> None:
    """For weeks, with such a longest pause, and for the last time so long ago."""
    last = now(records) - ago
    rhythm = Rhythm(last, 500, last - 30 * DAY, longest=longest)
    records.redis.hset(heard_key(merchant_id), slot, rhythm.text())
    records.redis.zadd(LISTENING, {merchant_id: rhythm.silent_at or 0}, lt=True)


def stored(records: Records, merchant_id: str = "m-1") -> Connection:
    connection = records.load(merchant_id).connection
    assert connection is not None
    return connection


def told(records: Records) -> list[tuple[str, Any]]:
    return [(event["type"], event["data"]) for _, event in records.events()]


def kinds(records: Records) -> list[str]:
    return [kind for kind, _ in told(records) if kind.startswith(("occ.slot", "occ.operator"))]


def codes(records: Records, merchant_id: str = "m-1") -> list[tuple[str, str | None]]:
    return [(finding.code, finding.slot) for finding in findings_of(stored(records, merchant_id))]


def test_a_slot_that_falls_silent_is_found_and_told_once(records: Records, silences: Silences) -> None:
    connected(records)
    was_heard(records, ago=DAY)
    was_heard(records, slot=OTHER, ago=2 * HOUR)
    assert silences.judge(10).silent == 1
    assert codes(records) == [("slot_silent", SLOT)]
    for _ in range(3):
        records.redis.zadd(LISTENING, {"m-1": 0})
        assert silences.judge(10).silent == 0
    assert kinds(records) == ["occ.slot.silent"]
    data = next(data for kind, data in told(records) if kind == "occ.slot.silent")
    assert (data["slot"], data["longest_pause"]) == (SLOT, HOUR)
    assert records.redis.zcard(SILENT) == 1


def test_it_is_evidence_and_no_verdict(records: Records, silences: Silences) -> None:
    before = connected(records)
    due = records.redis.zrange("occ:due", 0, -1, withscores=True)
    was_heard(records, ago=30 * DAY)
    silences.judge(10)
    after = stored(records)
    assert after.status is before.status is ConnectionStatus.ACTIVE
    assert after.slots[SLOT].verdict is before.slots[SLOT].verdict
    assert records.redis.zrange("occ:due", 0, -1, withscores=True) == due, "no work, so no call and no write"


def test_it_ends_with_the_next_delivery(records: Records, heard: HeardSlots, silences: Silences) -> None:
    connected(records)
    was_heard(records, ago=DAY)
    silences.judge(10)
    heard.take([Report("m-1", SLOT, now(records) - 2 * DAY)])
    assert codes(records) == [("slot_silent", SLOT)], "a report of before the silence does not end it"
    heard.take([Report("m-1", SLOT)])
    assert codes(records) == []
    assert records.redis.zcard(SILENT) == 0
    assert kinds(records) == ["occ.slot.silent", "occ.slot.heard"]
    assert told(records)[-1][1]["silent_since"] is not None
    assert [line["what"] for line in records.timeline("m-1")] == ["slot_silent", "slot_heard"]


def test_a_delivery_that_is_reported_while_the_silence_is_recorded_ends_it(
    records: Records, heard: HeardSlots, silences: Silences, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected(records)
    was_heard(records, ago=DAY)
    ask = heard.ask_the_record

    def reported_meanwhile(merchant_id: str, slot: str, rhythm: Rhythm) -> bool:
        asked = ask(merchant_id, slot, rhythm)
        heard.take([Report(merchant_id, slot)])
        return asked

    monkeypatch.setattr(heard, "ask_the_record", reported_meanwhile)
    silences.judge(10)
    monkeypatch.undo()
    records.redis.zadd(LISTENING, {"m-1": 0})
    silences.judge(10)
    assert codes(records) == []


def test_before_its_time_nothing_is_found_and_later_it_is_looked_at_again(records: Records, silences: Silences) -> None:
    connected(records)
    was_heard(records, ago=5 * HOUR)
    assert silences.judge(10).merchants == 0
    records.redis.zadd(LISTENING, {"m-1": 0})
    assert silences.judge(10).silent == 0
    again = records.redis.zscore(LISTENING, "m-1")
    assert again is not None
    assert 0 < again - now(records) <= HOUR


@pytest.mark.parametrize("gone", ["unknown", "disconnected"])
def test_who_is_no_longer_connected_is_forgotten(
    records: Records, silences: Silences, client: redis.Redis, gone: str
) -> None:
    if gone == "disconnected":
        connected(records)
        record = json.loads(client.hget("occ:connection:m-1", "record") or "")
        client.hset("occ:connection:m-1", "record", json.dumps({**record, "disconnection": {"since": 0, "until": 0}}))
    was_heard(records, ago=DAY)
    assert silences.judge(10).silent == 0
    assert not client.exists(heard_key("m-1"), LISTENING, SILENT)


def test_many_at_once_are_one_operator_event(records: Records, heard: HeardSlots, silences: Silences) -> None:
    merchants = [f"m-{number}" for number in range(12)]
    for merchant_id in merchants:
        connected(records, merchant_id)
        was_heard(records, merchant_id, ago=DAY)
    assert silences.judge(100).silent == 12
    assert kinds(records) == ["occ.operator.silence_started"]
    started = told(records)[-1][1]
    assert (started["silent"], started["heard"], started["share"]) == (12, 0, 1.0)
    assert all(codes(records, merchant_id) == [("slot_silent", SLOT)] for merchant_id in merchants)

    for merchant_id in merchants[1:]:
        heard.take([Report(merchant_id, SLOT)])
    silences.judge(100)
    assert kinds(records) == ["occ.operator.silence_started", "occ.operator.silence_ended"]
    assert not records.redis.exists(MANY)

    for merchant_id in merchants:
        records.redis.zadd(LISTENING, {merchant_id: 0})
    silences.judge(100)
    assert kinds(records)[2:] == ["occ.slot.silent"], "who is still silent then is told of"
    assert told(records)[-1][1]["merchant_id"] == "m-0"


def test_as_many_among_ten_times_as_many_that_are_heard_are_told_one_by_one(
    records: Records, heard: HeardSlots, silences: Silences
) -> None:
    for number in range(60):
        connected(records, f"m-{number}")
        heard.take([Report(f"m-{number}", OTHER)])
    for number in range(6):
        was_heard(records, f"m-{number}", ago=DAY)
    silences.judge(100)
    assert kinds(records) == ["occ.slot.silent"] * 6

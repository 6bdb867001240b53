"""The suite sees what it is there to see."""

import dataclasses
import json
from pathlib import Path

import pytest
import redis

from integrations.connections.record import Connection, Credential, Disconnection, Step
from integrations.connections.records import Records, Snapshot
from tests.faults.report import Report, is_a_loss, table
from tests.faults.rig import Rig, _in_order, says_twice
from tests.faults.server import _cut_back
from tests.faults.trial import Trial

ONBOARDING = Connection("m-1", "https://x", 1, 0.0, 0.0, Credential("f"), Step.VALIDATE_KEY, None)
DISCONNECTED = dataclasses.replace(ONBOARDING, disconnection=Disconnection(0.0, 0.0))


def events(*statuses: tuple[str | None, str]) -> list[dict[str, object]]:
    """One for each (status before, status)."""
    return [
        {"sequence": f"{number:012d}", "data": {"previous_status": before, "status": status}}
        for number, (before, status) in enumerate(statuses)
    ]


def test_events_that_tell_every_change_are_in_order() -> None:
    told = events((None, "onboarding"), ("onboarding", "active"), ("active", "disconnected"))
    assert _in_order(told, DISCONNECTED)
    assert _in_order(events((None, "onboarding")), ONBOARDING)


@pytest.mark.parametrize(
    "told",
    [
        [],
        events((None, "onboarding")),
        events((None, "onboarding"), ("active", "disconnected")),
        events((None, "onboarding"), (None, "onboarding"), ("onboarding", "disconnected")),
        list(reversed(events(("onboarding", "disconnected"), (None, "onboarding")))),
    ],
    ids=["none", "the last missing", "one missing", "one twice", "in the wrong order"],
)
def test_events_that_do_not_are_seen(told: list[dict[str, object]]) -> None:
    assert not _in_order(told, DISCONNECTED)


def test_a_status_that_is_told_anew_is_in_order_only_where_events_were_lost() -> None:
    told = events((None, "onboarding"), (None, "onboarding"), ("onboarding", "disconnected"))
    assert _in_order(told, DISCONNECTED, corrected=True)
    assert not _in_order(events((None, "onboarding"), ("active", "disconnected")), DISCONNECTED, corrected=True)
    assert not _in_order(told[:2], DISCONNECTED, corrected=True)


def history(*outcomes: str) -> list[dict[str, object]]:
    """A timeline of these, each with a slot behind a slash if it is one's."""
    split = [outcome.partition("/") for outcome in outcomes]
    return [{"run": 1, "what": what, "slot": slot or None} for what, _, slot in split]


PASS = ("validate_key_done", "check_shipping_methods_done", "slot_registered/a", "slot_registered/b")


def test_an_outcome_that_stands_twice_is_seen_and_one_of_the_next_look_is_none() -> None:
    assert not says_twice(history("run_started", *PASS, "look_asked", *PASS, "disconnect_asked", "slot_removed/a"))
    assert not says_twice(history("run_started", *PASS, "key_doubted", *PASS))
    assert says_twice(history("run_started", *PASS, "slot_registered/a"))
    assert says_twice(history("run_started", "validate_key_done", "validate_key_done"))
    assert says_twice(history("run_started", *PASS, *PASS[:2], *PASS[1:]))
    assert says_twice(history("run_started", "run_started"))


def test_a_look_that_tells_only_what_took_longer_is_told_from_an_outcome_that_stands_twice() -> None:
    run = [{**line, "started_at": n, "at": n + 0.5} for n, line in enumerate(history("run_started", *PASS))]
    again = {"run": 1, "what": "slot_registered", "slot": "a", "at": 9.0}
    assert not says_twice([*run, {**again, "started_at": 8.0}])
    assert not says_twice([*run, {**again, "started_at": 8.0}, {**again, "slot": "b", "started_at": 8.5}])
    assert says_twice([*run, {**again, "started_at": run[-1]["started_at"]}]), "taken before the run was over"
    assert says_twice([*run, {**again, "started_at": 8.0}, {**again, "started_at": 8.5}]), "twice in the look"


def test_a_broken_bound_is_told() -> None:
    report = Report("worker_kills", "threads", 1)
    report.hold("lost", 0, 0)
    assert report.broken == []
    report.hold("lost", 1, 0)
    report.hold("seconds_to_heal", None, 5)
    assert report.broken == ["lost 1 > 0", "seconds_to_heal None > 5"]
    assert "lost 1 > 0" in table([{"scenario": "worker_kills", "broken": report.broken}])


def test_a_power_loss_forgets_all_but_what_was_confirmed(tmp_path: Path) -> None:
    def began(merchant: str, what: str = "run_started") -> bytes:
        entry = json.dumps({"at": 1.5, "run": 1, "what": what}, separators=(",", ":"))
        add = f"XADD\r\n$16\r\nocc:timeline:{merchant}\r\n$1\r\n*\r\n$5\r\nentry\r\n${len(entry)}\r\n{entry}\r\n"
        return f"*1\r\n$5\r\nMULTI\r\n{add}*1\r\n$4\r\nEXEC\r\n".encode()

    file = tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof"
    file.parent.mkdir()
    asked = began("m-1", "disconnect_asked")
    file.write_bytes(began("m-1") + asked + began("m-2") + began("m-3"))
    assert _cut_back(tmp_path, {("m-1", "connect 1"), ("m-2", "connect 1")}) == len(began("m-3"))
    assert file.read_bytes() == began("m-1") + asked + began("m-2")
    assert _cut_back(tmp_path, {("m-1", "connect 1"), ("m-1", "disconnect")}) == len(began("m-2"))
    assert file.read_bytes() == began("m-1") + asked
    with pytest.raises(AssertionError):  # then it looks for something else than what is written today
        _cut_back(tmp_path, {("m-4", "connect 1")})


@pytest.mark.parametrize(
    ("figures", "loss"),
    [({}, False), ({"broken": ["seconds_to_heal 20 > 16"]}, False), ({"lost": 1}, True), ({"worker_exits": 1}, True)],
)
def test_a_build_fails_for_what_is_lost_and_not_for_what_took_long(figures: dict[str, object], loss: bool) -> None:
    row: dict[str, object] = {"accepted": 5, "wrong": 0, "lost": 0, "broken": []}
    assert is_a_loss(row | figures) is loss
    assert is_a_loss({"scenario": "soak", "broken": ["ended with -9"]})


def test_a_run_whose_end_the_server_has_forgotten_is_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(Trial("power_loss", "threads", 1, long=False, folder=tmp_path))
    rig.expected, rig.loses_writes, rig.records = {"m-1": "active"}, True, Records(redis.Redis())
    there = Snapshot(DISCONNECTED, 1, None, None, 0.0, 0.0)
    monkeypatch.setattr(rig.records, "load_many", lambda names: [there for _ in names])
    assert rig.unfinished() == []
    forgotten = dataclasses.replace(there, connection=ONBOARDING)
    monkeypatch.setattr(rig.records, "load_many", lambda names: [forgotten for _ in names])
    assert rig.unfinished() == ["m-1"]

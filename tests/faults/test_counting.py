"""The suite sees what it is there to see."""

import dataclasses
from pathlib import Path

import pytest

from integrations.oracle_commerce.connection import Connection, Credential, Departure, Step
from tests.faults.report import Report, table
from tests.faults.rig import _in_order
from tests.faults.server import _cut_back

ONBOARDING = Connection("m-1", "https://x", 1, 0.0, 0.0, Credential("f"), Step.VALIDATE_KEY, None)
DISCONNECTED = dataclasses.replace(ONBOARDING, departure=Departure(0.0, 0.0))


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


def test_a_broken_bound_is_told() -> None:
    report = Report("worker_kills", "threads", 1)
    report.hold("lost", 0, 0)
    assert report.broken == []
    report.hold("lost", 1, 0)
    report.hold("seconds_to_heal", None, 5)
    assert report.broken == ["lost 1 > 0", "seconds_to_heal None > 5"]
    assert "lost 1 > 0" in table([{"scenario": "worker_kills", "broken": report.broken}])


def test_a_power_loss_forgets_all_but_what_was_confirmed(tmp_path: Path) -> None:
    def began(merchant: str) -> bytes:
        add = f"*4\r\n$4\r\nZADD\r\n$15\r\nocc:connections\r\n$1\r\n0\r\n${len(merchant)}\r\n{merchant}\r\n"
        return f"*1\r\n$5\r\nMULTI\r\n{add}*1\r\n$4\r\nEXEC\r\n".encode()

    file = tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof"
    file.parent.mkdir()
    file.write_bytes(began("m-1") + began("m-2") + began("m-3"))
    assert _cut_back(tmp_path, {"m-1", "m-2"}) == len(began("m-3"))
    assert file.read_bytes() == began("m-1") + began("m-2")

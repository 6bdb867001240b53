"""The status object keeps the contract that other programs read."""

import json
from datetime import UTC, datetime

import pytest

from integrations.connections.record import Cause, Connection, Credential, Slot, Step, Work
from integrations.connections.status import iso, status_object
from tests.integrations.connections.test_record import ENDED, FAILED, healthy
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS


def shown(connection: Connection) -> dict[str, object]:
    return json.loads(json.dumps(status_object(connection)))  # type: ignore[no-any-return]


def test_an_active_connection_is_shown_as_the_contract_says() -> None:
    slot = {"status": "registered", "attempts": 0, "cause": None, "next_attempt_at": None}
    assert shown(healthy()) == {
        "merchant_id": "m-1",
        "store_url": "https://ccadmin-z1.oracleoutsourcing.com",
        "run": 1,
        "status": "active",
        "credential": {"verdict": "valid", "fingerprint": "0" * 16, "expires_at": None},
        "shipping_methods": {"verdict": "configured", "enabled": 2},
        "slots": dict.fromkeys(SLOTS, slot),
        "findings": [],
        "due_at": "2023-11-14T22:14:20.000Z",
        "updated_at": "2023-11-14T22:13:20.000Z",
    }


def test_a_finding_is_explained_and_names_who_must_act() -> None:
    findings = shown(healthy(trouble=ENDED))["findings"]
    assert isinstance(findings, list)
    (finding,) = findings
    assert finding["code"] == "permission_denied"
    assert finding["actor"] == "merchant"
    assert "role" in finding["explanation"]
    assert finding["detail"] == "HTTP 403"
    assert finding["slot"] is None
    assert finding["next_attempt_at"] == "2023-11-14T22:14:20.000Z"


def test_a_waiting_slot_says_why_and_when() -> None:
    waiting = Slot(work=Work(NOON + 9, NOON + 9, 3), cause=Cause("store_busy", "HTTP 429"))
    connection = healthy(step=Step.REGISTER_SLOT, work=None, slots={"order-submit": waiting, "order-update": FAILED})
    slots = shown(connection)["slots"]
    assert slots == {
        "order-submit": {
            "status": "retrying",
            "attempts": 3,
            "cause": "store_busy",
            "next_attempt_at": "2023-11-14T22:13:29.000Z",
        },
        "order-update": {
            "status": "failed",
            "attempts": 0,
            "cause": "slot_refused",
            "next_attempt_at": None,
        },
    }
    assert shown(connection)["due_at"] == "2023-11-14T22:13:29.000Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (NOON + 0.0625, "2023-11-14T22:13:20.062Z"),
        (1e300, "9999-12-31T23:59:59.999Z"),
        (float("inf"), "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_iso_8601_in_utc(seconds: float | None, text: str | None) -> None:
    assert iso(seconds) == text
    if text is not None:
        assert datetime.fromisoformat(text).tzinfo == UTC


def test_a_key_that_ends_beyond_the_calendar_does_not_hide_the_connection() -> None:
    connection = healthy(credential=Credential("f", expires_at=1e18))
    assert shown(connection)["credential"]["expires_at"] == "9999-12-31T23:59:59.999Z"  # type: ignore[index]

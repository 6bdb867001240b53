"""Other systems get one well-formed CloudEvent for every change of a status, and for what else is news."""

import json
import re
from dataclasses import replace
from datetime import datetime

import pytest

from integrations.connections.drift import Drift
from integrations.connections.events import other_events, status_event
from integrations.connections.record import (
    Candidate,
    Connection,
    ConnectionStatus,
    Credential,
    KeyVerdict,
    Slot,
)
from tests.integrations.connections.test_record import ENDED, FAILED, UNREACHED, healthy
from tests.integrations.oracle_commerce.fakes import NOON, disconnected_one

OF_STATUS: dict[ConnectionStatus, Connection] = {
    connection.status: connection
    for connection in (
        healthy(slots={}, shipping_methods=type(healthy().shipping_methods)()),
        healthy(),
        healthy(trouble=ENDED),
        healthy(credential=Credential("f", verdict=KeyVerdict.REJECTED)),
        healthy(trouble=UNREACHED),
        disconnected_one(healthy()),
    )
}


def event(before: Connection | None, after: Connection) -> dict[str, object]:
    made = status_event(before, after, version=7, now=NOON + 0.25)
    assert made is not None
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


@pytest.mark.parametrize("status", ConnectionStatus)
def test_an_event_has_the_attributes_cloudevents_requires(status: ConnectionStatus) -> None:
    made = event(None, OF_STATUS[status])
    assert made["specversion"] == "1.0"
    for name in ("id", "source", "type"):
        assert isinstance(made[name], str)
        assert made[name]
    assert made["subject"] == "m-1"
    assert made["type"] == f"occ.connection.{status}"
    assert made["datacontenttype"] == "application/json"
    assert datetime.fromisoformat(str(made["time"])).timestamp() == NOON + 0.25
    for name in made:
        assert re.fullmatch(r"[a-z0-9]{1,20}", name), "CloudEvents names attributes in lower case"


@pytest.mark.parametrize("status", ConnectionStatus)
def test_a_status_that_stays_is_no_event(status: ConnectionStatus) -> None:
    connection = OF_STATUS[status]
    assert status_event(connection, connection, version=2, now=NOON) is None


@pytest.mark.parametrize("before", [None, *ConnectionStatus])
@pytest.mark.parametrize("after", ConnectionStatus)
def test_every_change_of_status_is_an_event_that_tells_both(
    before: ConnectionStatus | None, after: ConnectionStatus
) -> None:
    if before is after:
        return
    made = event(OF_STATUS[before] if before else None, OF_STATUS[after])
    data = made["data"]
    assert isinstance(data, dict)
    assert (data["status"], data["previous_status"]) == (after, before)
    troubled = before in {"degraded", "unreachable", "needs_reauthorisation"}
    assert (made["type"] == "occ.connection.recovered") == (after == "active" and troubled)


def test_the_same_version_is_the_same_event_and_a_later_one_sorts_after_it() -> None:
    active, unreachable = OF_STATUS[ConnectionStatus.ACTIVE], OF_STATUS[ConnectionStatus.UNREACHABLE]
    events = [status_event(active, unreachable, version=version, now=NOON) for version in (9, 9, 10, 1000)]
    ids = [made["id"] for made in events if made]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    sequences = [str(made["sequence"]) for made in events if made]
    assert sequences == sorted(sequences)


def test_findings_say_what_and_whose_turn_it_is_and_show_no_evidence() -> None:
    made = event(None, healthy(slots={**healthy().slots, "order-update": FAILED}))
    data = made["data"]
    assert isinstance(data, dict)
    assert data["findings"] == [{"code": "slot_refused", "slot": "order-update", "actor": "operator"}]


# --- While the status stays ------------------------------------------------------------------------------------------


def told(before: Connection | None, after: Connection) -> list[dict[str, object]]:
    return other_events(before, after, version=7, now=NOON)


def drifted(*drift: Drift, **changes: object) -> Slot:
    slot = replace(healthy().slots["order-submit"], drift=drift, in_order_at=NOON)
    return replace(slot, **changes)  # type: ignore[arg-type]


def with_slot(slot: Slot) -> Connection:
    return healthy(slots={**healthy().slots, "order-submit": slot})


def test_a_new_connection_has_no_news_beside_its_status() -> None:
    assert told(None, with_slot(drifted(Drift.URL_MISSING))) == []


def test_events_of_one_change_are_told_apart_by_their_ids() -> None:
    before = healthy(candidate=Candidate("new"))
    credential = Credential("new", NOON + 86400, KeyVerdict.VALID, expiry_reported=1)
    slots = {name: drifted(Drift.URL_MISSING) for name in before.slots}
    after = replace(before, candidate=None, credential=credential, slots=slots, trouble=UNREACHED)
    events = [event(before, after), *told(before, after)]
    assert len(events) == 1 + 2 + 4
    assert len({made["id"] for made in events}) == len(events)
    assert {made["sequence"] for made in events} == {"000000000007"}


@pytest.mark.parametrize("verdict", KeyVerdict)
def test_a_new_key_is_told_of_when_it_took_over_and_not_when_it_is_asked_for_elsewhere(verdict: KeyVerdict) -> None:
    before = healthy(candidate=Candidate("new"))
    after = replace(before, candidate=None, credential=Credential("new", verdict=verdict))
    types = [made["type"] for made in told(before, after)]
    assert types == (["occ.connection.reauthorised"] if verdict is KeyVerdict.VALID else [])


def test_a_new_key_that_replaces_another_that_was_being_proven_is_no_news() -> None:
    before = healthy(candidate=Candidate("new"))
    assert told(before, replace(before, candidate=Candidate("newer"))) == []
    assert told(before, replace(before, candidate=None)) == [], "nor is one that went with a disconnection"


def test_drift_is_told_when_something_new_drifted_or_was_mended() -> None:
    whole, missing = drifted(), drifted(Drift.URL_MISSING)
    lost = drifted(Drift.URL_MISSING, Drift.SETTINGS_LOST)
    mended = replace(missing, in_order_at=NOON + 1, repairs=(NOON + 1,))
    aged = replace(drifted(Drift.SETTINGS_LOST), in_order_at=NOON + 2)
    for before, after, expected in [
        (whole, whole, []),
        (whole, missing, [False]),
        (missing, missing, []),
        (missing, lost, [False]),
        (lost, missing, []),
        (missing, whole, []),
        (missing, mended, [True]),
        (mended, replace(mended, in_order_at=NOON + 9), []),
        (mended, replace(mended, in_order_at=NOON + 9, repairs=(NOON + 1, NOON + 9)), [True]),
        (replace(aged, repairs=(NOON,)), replace(aged, in_order_at=NOON + 9), []),
    ]:
        data = [made["data"] for made in told(with_slot(before), with_slot(after))]
        assert [made["repaired"] for made in data] == expected, (before, after)  # type: ignore[index]


def test_the_former_store_of_a_merchant_who_moved_is_nobodys_status() -> None:
    former = replace(healthy(), merchant_id="m-1@1")
    assert status_event(former, disconnected_one(former), version=2, now=NOON) is None

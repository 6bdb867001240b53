"""Other systems get one well-formed CloudEvent for every change of a status, and none for anything else."""

import json
import re
from datetime import datetime

import pytest

from integrations.oracle_commerce.connection import Connection, ConnectionStatus, Credential, KeyVerdict
from integrations.oracle_commerce.events import status_event
from tests.integrations.oracle_commerce.fakes import NOON, departed
from tests.integrations.oracle_commerce.test_connection import ENDED, FAILED, UNREACHED, healthy

OF_STATUS: dict[ConnectionStatus, Connection] = {
    connection.status: connection
    for connection in (
        healthy(slots={}, shipping_methods=type(healthy().shipping_methods)()),
        healthy(),
        healthy(trouble=ENDED),
        healthy(credential=Credential("f", verdict=KeyVerdict.REJECTED)),
        healthy(trouble=UNREACHED),
        departed(healthy()),
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

"""Requests that carry an id: named in record, timeline and events; done once; refused if the id was another's."""

import json
from typing import Any

import pytest
import redis

from integrations.connections import records as records_module
from integrations.connections.records import Records
from integrations.connections.request_ids import RequestIds
from integrations.connections.status import status_object
from integrations.errors import RequestRefused
from integrations.oracle_commerce.accept import Acceptance, Door
from occ.simulator.application_keys import make_application_key
from tests.integrations.oracle_commerce.test_acceptance import OURS, acceptance_of, request, sealed

pytestmark = pytest.mark.server

ELSEWHERE = "https://ccadmin-z9.oracleoutsourcing.com"


@pytest.fixture
def acceptance(client: redis.Redis) -> Acceptance:
    return acceptance_of(client, OURS)


@pytest.fixture
def ids(client: redis.Redis) -> RequestIds:
    return RequestIds(client)


def events(records: Records) -> list[dict[str, Any]]:
    return [event for _, event in records.events()]


def code_of(ask: Any, *arguments: object, **options: object) -> str:
    with pytest.raises(RequestRefused) as refused:
        ask(*arguments, **options)
    return refused.value.code


def test_its_id_is_in_the_record_the_timeline_the_status_and_the_events(
    acceptance: Acceptance, records: Records
) -> None:
    acceptance.accept(request(request_id="signup 4711"), Door.INBOX)
    connection = records.load("m-1").connection
    assert connection is not None
    assert status_object(connection)["request_id"] == "signup 4711"
    assert [entry["request_id"] for entry in records.timeline("m-1")] == ["signup 4711"]
    assert [event["data"]["request_id"] for event in events(records)] == ["signup 4711"]
    acceptance.disconnect({"merchant_id": "m-1", "request_id": "leave"}, Door.CELERY)
    assert records.timeline("m-1")[-1]["request_id"] == "leave"
    assert "request_id" not in status_object(acceptance.accept(request(), Door.INBOX).connection), "it had none"


def test_the_same_request_again_is_not_done_again_even_when_much_has_happened_since(
    acceptance: Acceptance, records: Records, ids: RequestIds
) -> None:
    acceptance.accept(request(request_id="r-1"), Door.INBOX)
    acceptance.disconnect({"merchant_id": "m-1", "forget": "now", "request_id": "r-2"}, Door.INBOX)
    version = records.load("m-1").version
    late = acceptance.accept(request(request_id="r-1", application_key=sealed()), Door.CELERY)
    assert (late.started, late.repeated) == (False, True)
    again = acceptance.disconnect({"merchant_id": "m-1", "forget": "now", "request_id": "r-2"}, Door.CELERY)
    assert again.outcome == "repeated"
    assert records.load("m-1").version == version
    known = ids.find("r-1")
    assert known is not None
    assert (known.outcome, known.merchant_id, known.run, known.door) == ("accepted", "m-1", 1, "inbox")


@pytest.mark.parametrize(
    "other",
    [
        {"store_url": ELSEWHERE},
        {"application_key": sealed(make_application_key())},
        {"merchant_id": "m-2", "application_key": sealed(merchant_id="m-2")},
    ],
    ids=["store", "key", "merchant"],
)
def test_another_request_with_the_same_id_is_refused_and_does_nothing(
    acceptance: Acceptance, records: Records, ids: RequestIds, other: dict[str, object]
) -> None:
    acceptance.accept(request(request_id="r-1"), Door.INBOX)
    before = records.load("m-1").connection
    assert code_of(acceptance.accept, request(request_id="r-1") | other, Door.INBOX) == "request_id_reused"
    asked = {"merchant_id": "m-1", "request_id": "r-1"}
    assert code_of(acceptance.revalidate, asked, Door.INBOX) == "request_id_reused"
    assert code_of(acceptance.disconnect, asked, Door.CELERY) == "request_id_reused"
    assert records.load("m-1").connection == before
    assert records.load("m-2").connection is None
    known = ids.find("r-1")
    assert known is not None
    assert known.outcome == "accepted"
    assert [refusal["code"] for refusal in records.refusals()] == ["request_id_reused"] * 3


def test_a_refused_request_may_be_corrected_under_its_id(
    acceptance: Acceptance, records: Records, ids: RequestIds
) -> None:
    wrong = request(request_id="r-1", store_url="https://www.shop.example")
    assert code_of(acceptance.accept, wrong, Door.INBOX, reference="17-0") == "host_not_allowed"
    for name in ("r-1", "17-0"):
        known = ids.find(name)
        assert known is not None
        assert (known.outcome, known.field, known.code) == ("refused", "store_url", "host_not_allowed")
    assert acceptance.accept(request(request_id="r-1"), Door.INBOX).started
    assert len(records.refusals()) == 1


def test_a_request_about_somebody_unknown_is_known_as_refused(acceptance: Acceptance, ids: RequestIds) -> None:
    asked = {"merchant_id": "m-1", "request_id": "r-1"}
    assert code_of(acceptance.revalidate, asked, Door.CELERY) == "unknown_connection"
    known = ids.find("r-1")
    assert known is not None
    assert (known.outcome, known.code) == ("refused", "unknown_connection")
    acceptance.accept(request(), Door.CELERY)
    assert acceptance.revalidate(asked, Door.CELERY).outcome == "under_way"


@pytest.mark.parametrize(
    ("request_id", "code"),
    [
        (7, "not_text"),
        (None, "not_text"),
        ("\ud800", "not_text"),
        ("", "missing"),
        ("r" * 129, "too_large"),
        (make_application_key()[:100], "looks_like_a_key"),
    ],
    ids=["a number", "null", "half a character", "empty", "too long", "a key in the clear"],
)
def test_an_id_that_cannot_be_taken_is_refused_and_not_repeated(
    acceptance: Acceptance, records: Records, request_id: object, code: str
) -> None:
    assert code_of(acceptance.accept, request(request_id=request_id), Door.INBOX) == code
    (refusal,) = records.refusals()
    (event,) = events(records)
    assert (refusal["field"], refusal["request_id"], event["data"]["request_id"]) == ("request_id", None, None)
    if isinstance(request_id, str) and len(request_id) > 1:
        assert request_id not in json.dumps([refusal, event])


# --- Who hears of a refusal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("door", "reference"), [(Door.INBOX, "17-0"), (Door.CELERY, "6f1b0c1e")])
def test_a_refusal_is_an_event_with_all_that_its_sender_needs(
    acceptance: Acceptance, records: Records, door: Door, reference: str
) -> None:
    wrong = request(request_id="r-1", store_url="https://www.shop.example")
    code_of(acceptance.accept, wrong, door, reference=reference)
    (event,) = events(records)
    assert (event["type"], event["subject"], event["sequence"]) == ("occ.request.refused", "request", "000000000001")
    data = event["data"]
    remedy = data.pop("remedy")
    assert "admin console" in remedy
    assert "shop.example" not in json.dumps(event), "nothing of what was wrong is repeated"
    assert data == {
        "request": "connect",
        "door": str(door),
        "merchant_id": "m-1",
        "request_id": "r-1",
        "stream_id": "17-0" if door is Door.INBOX else None,
        "message_id": None if door is Door.INBOX else "6f1b0c1e",
        "field": "store_url",
        "code": "host_not_allowed",
    }


def test_the_same_entry_refused_twice_is_one_event_to_who_remembers_ids(
    acceptance: Acceptance, records: Records
) -> None:
    for reference in ("17-0", "17-0", "17-1", "", ""):
        code_of(acceptance.accept, "nonsense", Door.INBOX, reference=reference)
    told = [event["id"] for event in events(records)]
    assert told[0] == told[1]
    assert len(set(told)) == 4
    assert [event["sequence"] for event in events(records)] == [f"{number:012d}" for number in range(1, 6)]


def test_whoever_reads_the_answer_needs_no_event(acceptance: Acceptance, records: Records) -> None:
    code_of(acceptance.accept, "nonsense", Door.COMMAND_LINE)
    assert events(records) == []
    assert len(records.refusals()) == 1


def test_no_number_of_refusals_pushes_the_news_of_merchants_out(
    acceptance: Acceptance, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "_REFUSED_EVENTS_A_MINUTE", 5)
    for _ in range(30):
        code_of(acceptance.accept, "nonsense", Door.INBOX)
    assert 5 <= len(events(records)) <= 10, "a minute may have ended meanwhile"
    assert len(records.refusals()) == 30

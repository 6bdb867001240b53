"""How the end of a task is told to those who watch. What a worker really sends is in tests/end_to_end/test_chain.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.connections.causes import CAUSES
from integrations.connections.record import SlotStatus
from tasks.worker.task_ends import FAILED, RETRIED, SUCCEEDED, end_of, summary_in

REFUSED = {"outcome": "refused", "field": "store_url", "code": "storefront_host", "remedy": "use the admin host"}


@pytest.mark.parametrize(
    ("summary", "event"),
    [
        ({"outcome": "registered"}, SUCCEEDED),
        ({"outcome": "done", "connection": "degraded"}, SUCCEEDED),
        ({"outcome": "nothing_to_do", "reason": "superseded"}, SUCCEEDED),
        ({"outcome": "stood_back"}, SUCCEEDED),
        ({"outcome": "accepted", "merchant_id": "m-1", "run": 1}, SUCCEEDED),
        ({"requests": 0, "due": 0}, SUCCEEDED),
        ({"outcome": "failed", "cause": "slot_refused"}, FAILED),
        ({"outcome": "ended", "cause": "shipping_methods_missing"}, FAILED),
        ({"outcome": "contested", "cause": "slot_contested"}, FAILED),
        ({"outcome": "left_behind", "cause": "store_error"}, FAILED),
        ({"outcome": "not_offered", "cause": "slot_not_offered"}, FAILED),
        ({"outcome": "not_offered", "cause": "slot_not_offered", "required": False}, SUCCEEDED),
        (REFUSED, FAILED),
        ({"outcome": "retrying", "cause": "store_error", "next_attempt_at": "2026-11-23T15:02:09Z"}, RETRIED),
        ({"outcome": "waits", "reason": "HTTP 503", "events": 2}, RETRIED),
        (None, SUCCEEDED),
        ({"outcome": ["failed"]}, SUCCEEDED),
    ],
)
def test_what_failed_is_told_as_failed_and_what_is_tried_again_as_retried(
    summary: dict[str, object] | None, event: str
) -> None:
    told, reason = end_of(summary)
    assert told == event
    assert bool(reason) == (event != SUCCEEDED)


def test_the_reason_is_a_plain_sentence() -> None:
    _, reason = end_of({"outcome": "failed", "cause": "slot_refused"})
    assert reason == {"exception": f"failed: slot_refused: {CAUSES['slot_refused'].sentence}"}
    assert end_of(REFUSED)[1] == {"exception": "refused: storefront_host: use the admin host"}


def test_every_status_of_a_slot_is_told_somehow() -> None:
    good = {SlotStatus.REGISTERED, SlotStatus.REMOVED, SlotStatus.PENDING}
    assert {status for status in SlotStatus if end_of({"outcome": status})[0] == SUCCEEDED} == good


@given(st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(), st.integers() | st.text())))
def test_whatever_a_task_returned_has_an_end(value: object) -> None:
    summary = summary_in(repr(value))
    assert summary == (value if isinstance(value, dict) else None)
    assert end_of(summary)[0] in {SUCCEEDED, FAILED, RETRIED}

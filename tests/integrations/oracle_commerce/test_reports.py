"""What a receiver reports is taken as it is meant, or refused as a whole with the field that is wrong."""

import math

import pytest

from integrations.errors import RequestRefused
from integrations.oracle_commerce.reports import MOST_AT_ONCE, parse_reports
from integrations.silence.heard import Report

GOOD = {"merchant_id": "m-1", "slot": "order-submit"}


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        (1_795_446_120, 1_795_446_120.0),
        (1_795_446_120.5, 1_795_446_120.5),
        (0, 0.0),
        ("2026-11-23T15:02:00Z", 1_795_446_120.0),
        ("2026-11-23T16:02:00+01:00", 1_795_446_120.0),
        ("2026-11-23T15:02:00", 1_795_446_120.0),
        (None, None),
    ],
)
def test_times_are_seconds_or_iso_8601(at: object, seconds: float | None) -> None:
    assert parse_reports({**GOOD, "at": at}) == [Report("m-1", "order-submit", seconds)]


def test_the_time_may_be_left_out_and_there_may_be_many() -> None:
    assert parse_reports(GOOD) == [Report("m-1", "order-submit")]
    assert parse_reports([GOOD] * MOST_AT_ONCE) == [Report("m-1", "order-submit")] * MOST_AT_ONCE
    assert parse_reports([]) == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (None, "not_an_object"),
        ("m-1", "not_an_object"),
        ([GOOD, 1], "not_an_object"),
        ([[GOOD]], "not_an_object"),
        ([GOOD] * (MOST_AT_ONCE + 1), "too_many"),
        ({**GOOD, "store_url": "x"}, "unknown_field"),
        ({"slot": "order-submit"}, "bad_merchant_id"),
        ({**GOOD, "merchant_id": "m 1"}, "bad_merchant_id"),
        ({**GOOD, "merchant_id": 1}, "bad_merchant_id"),
        ({"merchant_id": "m-1"}, "bad_slot"),
        ({**GOOD, "slot": ""}, "bad_slot"),
        ({**GOOD, "slot": "x" * 129}, "bad_slot"),
        ({**GOOD, "slot": ["order-submit"]}, "bad_slot"),
        ({**GOOD, "at": "yesterday"}, "no_time"),
        ({**GOOD, "at": True}, "no_time"),
        ({**GOOD, "at": -1}, "no_time"),
        ({**GOOD, "at": math.nan}, "no_time"),
        ({**GOOD, "at": math.inf}, "no_time"),
        ({**GOOD, "at": 10**400}, "no_time"),
        ({**GOOD, "at": "0001-01-01T00:00:00+14:00"}, "no_time"),
        ({**GOOD, "at": {}}, "no_time"),
    ],
)
def test_what_is_no_report_is_refused(given: object, code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_reports(given)
    assert refused.value.code == code
    assert "x" * 20 not in refused.value.remedy

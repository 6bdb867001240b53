"""What a receiver of deliveries reports: which merchant's slot was heard from, and when. Pure.

    {"merchant_id": "m-1", "slot": "order-submit", "at": 1795446120}     or a list of them, 1,000 at most

`at` is seconds since the epoch or ISO 8601; without it, the delivery came just now. A `request_id` comes back with the
refusal of a report, if it is one by itself.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from integrations.errors import RequestRefused
from integrations.oracle_commerce.request import checked_request_id, is_merchant_id
from integrations.silence.heard import Report

MOST_AT_ONCE = 1000
MAX_SLOT_LENGTH = 128
_FIELDS = {"merchant_id", "slot", "at", "request_id"}
_END_OF_THE_CALENDAR = 253402300799.0


def parse_reports(given: object) -> list[Report]:
    """All of them, or RequestRefused, naming what is wrong with the first that is not as it should be."""
    reports = given if isinstance(given, list) else [given]
    if len(reports) > MOST_AT_ONCE:
        raise RequestRefused("heard", "too_many", f"send at most {MOST_AT_ONCE} reports at once")
    return [_report(report) for report in reports]


def _report(given: object) -> Report:
    if not isinstance(given, Mapping):
        raise RequestRefused(
            "heard", "not_an_object", "send a JSON object with merchant_id, slot and at, or a list of them"
        )
    unknown = [name for name in given if name not in _FIELDS]
    if unknown:
        raise RequestRefused(
            "heard", "unknown_field", f"send only merchant_id, slot and at; {len(unknown)} other field(s) came along"
        )
    checked_request_id(given)
    merchant_id, slot = given.get("merchant_id"), given.get("slot")
    if not isinstance(merchant_id, str) or not is_merchant_id(merchant_id):
        raise RequestRefused("merchant_id", "bad_merchant_id", "send the merchant id as it stands in the callback URL")
    if not isinstance(slot, str) or not 0 < len(slot) <= MAX_SLOT_LENGTH:
        raise RequestRefused("slot", "bad_slot", "send the slot as it stands in the callback URL")
    return Report(merchant_id, slot, _time(given.get("at")))


def _time(at: object) -> float | None:
    if at is None:
        return None
    seconds = _seconds(at)
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds <= _END_OF_THE_CALENDAR:
        raise RequestRefused("at", "no_time", "send at as seconds since the epoch or as ISO 8601, or leave it out")
    return seconds


def _seconds(at: object) -> float | None:
    if isinstance(at, int | float) and not isinstance(at, bool):
        return float(at) if abs(at) <= _END_OF_THE_CALENDAR else None
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else None
        return None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None

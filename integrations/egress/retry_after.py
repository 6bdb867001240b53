"""`Retry-After`: how long a server asks us to wait. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)


def retry_after(headers: Mapping[str, str], received_at: float) -> float | None:
    """The wait a store asked for in seconds, from either form of Retry-After; None if there is none to understand.

    A date is taken against the answer's own Date, so that a difference between the clocks never shortens the wait;
    without one, against `received_at` (epoch seconds).
    """
    text = headers.get("Retry-After", "").strip()
    if SECONDS.fullmatch(text):
        return float(text)
    until = _moment(text)
    if until is None:
        return None
    now = _moment(headers.get("Date", ""))
    wait = until - (received_at if now is None else now)
    return wait if wait >= 0 else None


def _moment(text: str) -> float | None:
    """Epoch seconds of a date in any of the forms of HTTP."""
    try:
        parsed = parsedate_to_datetime(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

"""An HTTP answer as plain data, for those who judge it without having made the call; how it ended. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store answered, whole and decompressed."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Looked up without regard to case."""
    body: bytes = field(repr=False)
    received_at: float
    """Epoch seconds; only dates a Retry-After."""


class CallOutcome(StrEnum):
    """How a call ended: the class of the HTTP status, or what kept it from getting one."""

    OK = "2xx"
    UNAUTHORIZED = "401"
    TOO_MANY = "429"
    REFUSED = "4xx"
    STORE_ERROR = "5xx"
    REDIRECTED = "3xx"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    PROXY = "proxy"
    UNREADABLE = "unreadable"  # too large, cut up, or no HTTP
    BLOCKED = "blocked"  # not a host or address we call
    ERROR = "error"  # of ours

    @classmethod
    def of_status(cls, status: int) -> "CallOutcome":
        """The class of an HTTP status."""
        return _STATUSES.get(status) or _CLASSES.get(status // 100, cls.UNREADABLE)


_STATUSES = {401: CallOutcome.UNAUTHORIZED, 429: CallOutcome.TOO_MANY}
_CLASSES = {
    2: CallOutcome.OK,
    3: CallOutcome.REDIRECTED,
    4: CallOutcome.REFUSED,
    5: CallOutcome.STORE_ERROR,
}


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

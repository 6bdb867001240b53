"""How a call to a store ends, in the few words that metrics count by. Pure."""

from enum import StrEnum


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

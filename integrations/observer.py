"""What is known of each call to a store, for metrics and traces: which one, how it ended, how long it took. Pure.

Never a merchant, a path, a query, a header, a body or a credential. Metrics leave out the host too.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from integrations.errors import IntegrationError


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

    @classmethod
    def of_error(cls, code: str) -> "CallOutcome":
        """What the code of an error says of a call that got no status."""
        return _CODES.get(code, cls.ERROR)


class TokenSource(StrEnum):
    """Where an access token came from."""

    CACHE = "cache"
    LOGIN = "login"
    OTHER_WORKER = "other_worker"  # waited for the login of another one


_STATUSES = {401: CallOutcome.UNAUTHORIZED, 429: CallOutcome.TOO_MANY}
_CLASSES = {
    2: CallOutcome.OK,
    3: CallOutcome.REDIRECTED,
    4: CallOutcome.REFUSED,
    5: CallOutcome.STORE_ERROR,
}
_CODES = {
    "redirected": CallOutcome.REDIRECTED,
    "store_timeout": CallOutcome.TIMEOUT,
    "store_unreachable": CallOutcome.UNREACHABLE,
    "tls_failed": CallOutcome.TLS,
    "proxy_failed": CallOutcome.PROXY,
    "unreadable_answer": CallOutcome.UNREADABLE,
    "answer_too_large": CallOutcome.UNREADABLE,
    "egress_blocked": CallOutcome.BLOCKED,
}


@dataclass(slots=True)
class ObservedCall:
    """One call. `status`: of the answer; `error`: the code of what kept it from getting one."""

    endpoint: str
    method: str
    host: str  # with the port, if it is not the usual one
    seconds: float = 0.0
    status: int | None = None
    error: str | None = "internal_error"

    def answered(self, status: int) -> None:
        """There is an answer, with this HTTP status."""
        self.status, self.error = status, None

    @property
    def outcome(self) -> CallOutcome:
        """How the call ended."""
        if self.status is not None:
            return CallOutcome.of_status(self.status)
        return CallOutcome.of_error(self.error or "")


class Observer(Protocol):
    """Hears of every call, in the thread that made it. Must neither wait nor raise: the call is being made."""

    def called(self, call: ObservedCall) -> None:
        """A call has ended."""

    def token_taken(self, source: TokenSource) -> None:
        """An access token was needed."""


class Nobody:
    """Observes nothing."""

    def called(self, call: ObservedCall) -> None:
        """Ignore the call."""

    def token_taken(self, source: TokenSource) -> None:
        """Ignore the token."""


NOBODY = Nobody()


@contextmanager
def observed(observer: Observer, endpoint: str, method: str, host: str) -> Iterator[ObservedCall]:
    """Let the observer hear of the call made inside. Note its status; an IntegrationError speaks for itself."""
    call, began = ObservedCall(endpoint, method, host), time.monotonic()
    try:
        yield call
    except IntegrationError as error:
        call.error = error.code
        raise
    finally:
        call.seconds = time.monotonic() - began
        observer.called(call)

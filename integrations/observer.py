"""Whoever wants to know what calls come to: how often which one is made, how it ends, how long it takes. Pure.

Names only from small fixed sets are told to those who count: never a merchant, a host, a URL or a credential. Those who
look at single calls hear of the host too, but never of a path, a query, a header or a body.
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


class Observer(Protocol):
    """Hears of every call. Must neither wait nor raise: the call is being made."""

    def called(self, endpoint: str, outcome: CallOutcome, seconds: float) -> None:
        """One call to an endpoint, named in our words."""

    def token_taken(self, source: TokenSource) -> None:
        """Somebody got an access token."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `status`: of the answer; `error`: the code of what kept it from getting one."""

    endpoint: str
    method: str
    host: str  # with the port, if it is not the usual one
    seconds: float
    status: int | None = None
    error: str | None = None


class Witness(Protocol):
    """Hears of every single call, in the thread that made it. Must neither wait nor raise, like an Observer."""

    def saw(self, call: Call) -> None:
        """One call."""


class Nobody:
    """Wants to know nothing."""

    def saw(self, call: Call) -> None:
        """Forget it."""

    def called(self, endpoint: str, outcome: CallOutcome, seconds: float) -> None:
        """Forget it."""

    def token_taken(self, source: TokenSource) -> None:
        """Forget it."""


NOBODY = Nobody()


class Observation:
    """What is known of a call while it is made."""

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


@contextmanager
def observed(
    observer: Observer, endpoint: str, method: str, host: str, *, witness: Witness = NOBODY
) -> Iterator[Observation]:
    """Tell both of the call made inside: its status is to be noted, an IntegrationError speaks for itself."""
    observation, began = Observation(), time.monotonic()
    try:
        yield observation
    except IntegrationError as error:
        observation.error = error.code
        raise
    finally:
        seconds = time.monotonic() - began
        observer.called(endpoint, observation.outcome, seconds)
        witness.saw(Call(endpoint, method, host, seconds, observation.status, observation.error))

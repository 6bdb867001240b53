"""What is known of each call to a store, for metrics and traces: which one, how it ended, how long it took. Pure.

Never a merchant, a path, a query, a header, a body or a credential. Metrics leave out the host too.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from integrations.connections.causes import explain
from integrations.egress.answer import CallOutcome as CallOutcome  # noqa: PLC0414 - who observes calls finds it here
from integrations.errors import IntegrationError


class TokenSource(StrEnum):
    """Where an access token came from."""

    CACHE = "cache"
    LOGIN = "login"
    OTHER_WORKER = "other_worker"  # waited for the login of another one


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
        return explain(self.error or "").call


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

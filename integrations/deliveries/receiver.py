"""The receiver of events: one signed POST, and what its answer says of the event and of the receiver.

A receiver is trusted less than it looks: it is called through the guarded session, its answer is judged by status and
`Retry-After` alone, and nothing of its body goes anywhere.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from integrations.connections.causes import explain
from integrations.egress.addresses import DevStore
from integrations.egress.answer import retry_after
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.egress.url import DEFAULT_PORTS
from integrations.errors import IntegrationError
from integrations.observer import CallOutcome
from integrations.sealing.signing import SigningSecret, signature
from integrations.settings import Settings


class Verdict(Enum):
    """What an answer means for what is to be delivered next."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # this event; others may be welcome
    AWAY = "away"  # nothing is welcome now


@dataclass(frozen=True, slots=True)
class Answered:
    """How a delivery ended. `retry_after`: the wait in seconds that the receiver asked for."""

    verdict: Verdict
    outcome: CallOutcome
    reason: str = ""
    retry_after: float | None = None


Deliver = Callable[[str, str, int, Deadline], Answered]
"""Called and answering like `Receiver.deliver`."""

# Standard Webhooks, "Delivery success and failure", speaks of 410, 429, 502 and 504. The others are about our
# authority, the address, the method or the pace: the next event would be answered alike.
_NOT_ABOUT_THE_EVENT = frozenset({401, 403, 404, 405, 407, 408, 410, 415, 421, 425, 426, 429})


def verdict_of(status: int) -> Verdict:
    """What a status means; a 4xx that could be about the event is taken to be."""
    if 200 <= status < 300:  # noqa: PLR2004 - as everybody knows them
        return Verdict.DELIVERED
    if 400 <= status < 500 and status not in _NOT_ABOUT_THE_EVENT:  # noqa: PLR2004
        return Verdict.REFUSED
    return Verdict.AWAY


class Receiver:
    """Delivers events to one URL; one per process, for any number of threads."""

    def __init__(self, session: GuardedSession, url: str, secrets: Sequence[SigningSecret]) -> None:
        self._session = session
        self._url = url
        self._secrets = tuple(secrets)

    def deliver(self, event_id: str, event: str, at: int, deadline: Deadline) -> Answered:
        """POST one event, once, signed as of `at` (epoch seconds). What goes wrong is returned, not raised."""
        body = event.encode()
        headers = {
            "Content-Type": "application/cloudevents+json",
            "webhook-id": event_id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._secrets, event_id, at, body),
        }
        try:
            answer = self._session.request("POST", self._url, headers=headers, content=body, deadline=deadline)
        except IntegrationError as error:
            outcome = explain(error.code).call
            return Answered(Verdict.AWAY, outcome, f"{outcome}: {error.detail}" if error.detail else str(outcome))
        return Answered(
            verdict_of(answer.status),
            CallOutcome.of_status(answer.status),
            f"HTTP {answer.status}",
            retry_after(answer.headers, time.time()),
        )


def receiver_of(settings: Settings) -> Receiver | None:
    """The receiver these settings name; None if they name none.

    In networks of its own it is called directly, at its port; else like a store: public, and through the proxy if there
    is one.
    """
    if not settings.receiver_url:
        return None
    url = urlsplit(settings.receiver_url)
    port = url.port or DEFAULT_PORTS[url.scheme]
    inner = tuple(DevStore(network, port) for network in settings.receiver_networks)
    session = GuardedSession(
        dev_stores=(*settings.dev_stores, *inner),
        connect_timeout=settings.connect_timeout,
        call_deadline=settings.call_deadline,
        keep_alive=settings.keep_alive,
        ca_bundle=settings.ca_bundle,
        proxy=None if inner else settings.egress_proxy,
    )
    return Receiver(session, settings.receiver_url, settings.receiver_secrets)

"""Deliveries a store has given up on (Oracle: op-ccadmin-v1-webhookfailedmessages, manage-failed-webhook-calls)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

FILTER = re.compile(r'\s*(\w+)\s+eq\s+"([^"]*)"\s*')
MESSAGE_TYPES = {
    "submitOrder": "atg.commerce.fulfillment.SubmitOrder",
    "publishEvent": "atg.cloud.deployment.PublishingEvent",
}


@dataclass(slots=True)
class FailedMessage:
    """One message and the URLs that have not received it."""

    id: str
    webhook: str
    server_type: str
    urls: list[str]
    saved_at: float  # epoch seconds
    resend: bool = False

    def shown(self) -> dict[str, object]:
        """As the body of an answer."""
        saved = datetime.fromtimestamp(self.saved_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return {
            "id": self.id,
            "remainingTargetUrls": self.urls,
            "messageType": MESSAGE_TYPES.get(self.webhook, f"atg.service.webhook.{self.webhook}"),
            "lastErrorMessage": f"Response code 502 received for webhook {self.webhook}",
            "savedTime": saved,
            "resend": self.resend,
            "serverType": self.server_type,
        }


@dataclass(slots=True)
class FailedMessages:
    """The failed-message log of one store. A resend marks a message; the store sends to the remaining URLs only."""

    messages: dict[str, FailedMessage] = field(default_factory=dict)
    resent: int = 0
    _next: int = 200_001

    def add(self, webhook: str, server_type: str, urls: list[str], saved_at: float) -> FailedMessage:
        """The store has given up on these URLs for one message."""
        message = FailedMessage(str(self._next), webhook, server_type, urls, saved_at)
        self._next += 1
        self.messages[message.id] = message
        return message

    def matching(self, query: str | None) -> list[FailedMessage]:
        """All, or those a filter such as `messageType eq "..."` names. Raises ValueError."""
        if not query:
            return list(self.messages.values())
        match = FILTER.fullmatch(query)
        if match is None:
            raise ValueError("The filter cannot be read.")
        name, wanted = match.groups()
        return [message for message in self.messages.values() if str(message.shown().get(name)) == wanted]

    def page(self, query: Mapping[str, str]) -> dict[str, object]:
        """One page of the list: `q`, `limit`, `offset`. Raises ValueError."""
        items = [message.shown() for message in self.matching(query.get("q"))]
        limit, offset = int(query.get("limit", "250")), int(query.get("offset", "0"))
        shown = items[offset : offset + limit]
        return {"items": shown, "limit": limit, "offset": offset, "totalResults": len(items), "total": len(items)}

    def resend(self, messages: list[FailedMessage], body: object) -> None:
        """Queue them for one more delivery. Raises ValueError if the body does not say so."""
        if not isinstance(body, Mapping) or not isinstance(body.get("resend"), bool):
            raise ValueError("Only resend can be updated, and it is a boolean.")  # noqa: TRY004
        for message in messages:
            self.resent += body["resend"] and not message.resend
            message.resend = body["resend"]

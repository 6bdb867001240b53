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
RAW = "??sr " * 100  # the bytes of the message, with all of the order in them


@dataclass(slots=True)
class FailedMessage:
    """One message and the URLs that have not received it."""

    id: str
    webhook: str
    server_type: str
    urls: list[str]
    saved_at: float  # epoch seconds
    resend: bool = False
    sending: bool = False  # it is on its way once more
    error: str = ""

    def shown(self) -> dict[str, object]:
        """As the body of an answer."""
        saved = datetime.fromtimestamp(self.saved_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return {
            "id": self.id,
            "remainingTargetUrls": self.urls,
            "messageType": MESSAGE_TYPES.get(self.webhook, f"atg.service.webhook.{self.webhook}"),
            "lastErrorMessage": self.error or f"Response code 502 received for webhook {self.webhook}",
            "savedTime": saved,
            "resend": self.resend,
            "serverType": self.server_type,
            "forwardMessage": {"id": self.id, "siteId": "siteUS", "type": self.webhook},
            "asRaw": RAW,
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
        """One page of the list: `q`, `limit`, `offset`, `fields`. Raises ValueError."""
        messages = self.matching(query.get("q"))
        limit, offset = int(query.get("limit", "250")), int(query.get("offset", "0"))
        if limit < 0 or offset < 0:
            raise ValueError("The limit and the offset cannot be negative.")
        items = [message.shown() for message in messages[offset : offset + limit]]
        total = len(messages)
        page = {"limit": limit, "offset": offset, "totalResults": total, "total": total, "items": items}
        fields = query.get("fields")
        return page if fields is None else _narrowed(page, items, set(fields.split(",")))

    def resend(self, messages: list[FailedMessage], body: object) -> None:
        """Queue them for one more delivery. Raises ValueError if the body does not say so."""
        if not isinstance(body, Mapping) or not isinstance(body.get("resend"), bool):
            raise ValueError("Only resend can be updated, and it is a boolean.")  # noqa: TRY004
        for message in messages:
            self.resent += body["resend"] and not message.resend
            message.resend = body["resend"]


def _narrowed(page: Mapping[str, object], items: list[dict[str, object]], fields: set[str]) -> dict[str, object]:
    """What `fields` leaves of a list (Oracle: rest-api-query-parameters): only what it names, of the totals too."""
    names = {name.removeprefix("items.") for name in fields if name.startswith("items.")}
    shown = {name: value for name, value in page.items() if name in fields}
    if names or "items" in fields:
        kept = [{name: value for name, value in item.items() if name in names} for item in items]
        shown["items"] = items if "items" in fields else kept
    return shown

"""What a store sends to the URLs in its slots: order and shipment events, signed, and tried again until it gives up.

No sockets and no waiting here: `courier.py` asks what is due, sends it, and tells how it went.

From Oracle's pages ("Manage failed webhook calls", "Secure webhooks"): POST with a JSON body, any 2xx is a success,
else some more attempts at a distance, then the log; a target URL that keeps failing is disabled while the others go on.
Nothing was found of the following, so it is invented: the content of shipment events, how many failures disable a
target, and how it is enabled again (here `enable_targets`). How a slot shows it is not known; here it does not.

Loopback only: a callback URL elsewhere (https://hooks.example.com/...) gets nothing, and misses nothing.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from occ.simulator.failed_messages import FailedMessage, FailedMessages
from occ.simulator.settings import StoreSettings
from occ.simulator.webhooks import Slot, UnknownSlotError, Webhooks

SIGNATURE = "X-Oracle-CC-WebHook-Signature"
SIGNATURE_SHA512 = "X-Oracle-CC-WebHook-Signature-SHA512"
LIFE_OF_AN_ORDER: Sequence[Sequence[str]] = (
    ("order-submit", "production-submitOrder", "production-submitOrderForNonPCITargets"),
    ("order-update",),
    ("shipment-create",),
    ("shipment-update",),
)
"""The slots that hear of an order, stage by stage."""

_ATTEMPTS, _DELAY = 5, 3600.0


@dataclass(slots=True)
class Delivery:
    """One message on its way to the URLs that have not received it. `log_entry`: it is sent again out of the log."""

    webhook: str
    server_type: str
    body: bytes
    headers: Mapping[str, str]
    urls: list[str]
    due: float
    attempts_left: int
    delay: float
    log_entry: FailedMessage | None = None


@dataclass(slots=True)
class Deliveries:
    """The deliveries of one store."""

    webhooks: Webhooks
    log: FailedMessages
    waiting: list[Delivery] = field(default_factory=list)
    disabled: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    _orders: int = 0
    _bodies: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)  # by id of the log's entry
    _given_up_in_a_row: Counter[str] = field(default_factory=Counter)

    def place_order(self, settings: StoreSettings, now: float, wall: float) -> str:
        """A shopper orders something; returns the order's id. Its slots hear of it, stage by stage."""
        self._orders += 1
        self.counts["orders"] += 1
        order = f"o{100_000 + self._orders}"
        for number, stage in enumerate(LIFE_OF_AN_ORDER):
            for slot_id in stage:
                try:
                    slot = self.webhooks.find(slot_id)
                except UnknownSlotError:
                    continue
                body = json.dumps(_event(stage[0], order, number, wall)).encode()
                self._send(slot, body, settings, now + number * settings.order_step)
        return order

    def _send(self, slot: Slot, body: bytes, settings: StoreSettings, due: float) -> None:
        urls = [url for url in slot.urls if is_loopback(url) and url not in self.disabled]
        if not urls:
            return
        delay = float(str(slot.fields.get("resendDelaySeconds") or _DELAY))
        self.waiting.append(
            Delivery(
                webhook=slot.name,
                server_type=slot.server_type,
                body=body,
                headers=self._headers(slot, body, settings.signs_with),
                urls=urls,
                due=due,
                attempts_left=int(str(slot.fields.get("maxNumberOfResendAttempts", _ATTEMPTS))) + 1,
                delay=delay if settings.resend_delay is None else settings.resend_delay,
            )
        )

    def _headers(self, slot: Slot, body: bytes, signs_with: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        extra, login = slot.fields.get("headers"), slot.fields.get("basicAuthentication")
        if isinstance(extra, Mapping):
            headers |= {str(name): str(value) for name, value in extra.items()}
        if isinstance(login, Mapping):
            for user, password in login.items():
                pair = base64.b64encode(f"{user}:{password}".encode()).decode()
                headers["Authorization"] = f"Basic {pair}"
        secret = base64.b64decode(self.webhooks.secret_of(slot))
        if signs_with in {"sha1", "both"}:
            headers[SIGNATURE] = _signed(secret, body, "sha1")
        if signs_with == "sha512":
            headers[SIGNATURE] = _signed(secret, body, "sha512")
        if signs_with == "both":
            headers[SIGNATURE_SHA512] = _signed(secret, body, "sha512")
        return headers

    # -- on the way

    @property
    def next_due(self) -> float | None:
        """When there is something to send."""
        return min((delivery.due for delivery in self.waiting), default=None)

    def take_due(self, now: float) -> list[Delivery]:
        """What is to be sent now; `ended` has to be told of each."""
        due = [delivery for delivery in self.waiting if delivery.due <= now]
        self.waiting = [delivery for delivery in self.waiting if delivery.due > now]
        return due

    def send_again(self, settings: StoreSettings, now: float) -> None:
        """Messages of the log that somebody has asked for once more."""
        for entry in self.log.messages.values():
            urls = [url for url in entry.urls if is_loopback(url)]
            if not entry.resend or entry.sending or not urls:
                continue
            entry.sending = True
            body, headers = self._bodies.get(entry.id) or (b"{}", {"Content-Type": "application/json"})
            delay = _DELAY if settings.resend_delay is None else settings.resend_delay
            self.waiting.append(Delivery(entry.webhook, entry.server_type, body, headers, urls, now, 1, delay, entry))

    def ended(
        self, delivery: Delivery, failed: Mapping[str, str], settings: StoreSettings, now: float, wall: float
    ) -> None:
        """One attempt is over; `failed`: URL -> what went wrong."""
        self.counts["delivered"] += sum(url not in failed for url in delivery.urls)
        self.counts["delivery_failures"] += len(failed)
        for url in delivery.urls:
            if url not in failed:
                self._given_up_in_a_row.pop(url, None)
        delivery.urls = [url for url in delivery.urls if url in failed]
        delivery.attempts_left -= 1
        entry = delivery.log_entry
        if not delivery.urls:
            if entry is not None:
                self._has_arrived(entry)
            return
        if delivery.attempts_left > 0:
            delivery.due = now + delivery.delay
            self.waiting.append(delivery)
            return
        if entry is None:
            entry = self.log.add(delivery.webhook, delivery.server_type, delivery.urls, wall)
            self._bodies[entry.id] = (delivery.body, dict(delivery.headers))
        entry.urls = [*delivery.urls, *(url for url in entry.urls if not is_loopback(url))]
        entry.resend, entry.sending, entry.saved_at = False, False, wall
        entry.error = next(iter(failed.values()))
        self._gave_up(delivery.urls, settings)

    def _has_arrived(self, entry: FailedMessage) -> None:
        entry.urls = [url for url in entry.urls if not is_loopback(url)]
        entry.resend = entry.sending = False
        if not entry.urls:
            self.log.messages.pop(entry.id, None)

    def _gave_up(self, urls: Sequence[str], settings: StoreSettings) -> None:
        self.counts["given_up"] += len(urls)
        for url in urls:
            self._given_up_in_a_row[url] += 1
            limit = settings.disables_target_after
            if limit is not None and self._given_up_in_a_row[url] >= limit:
                self.disabled.add(url)

    def enable_targets(self) -> None:
        """All targets are sent to again."""
        self.disabled.clear()
        self._given_up_in_a_row.clear()


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, without asking any resolver."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _signed(secret: bytes, body: bytes, algorithm: str) -> str:
    return base64.b64encode(hmac.digest(secret, body, getattr(hashlib, algorithm))).decode()


def _event(slot: str, order: str, stage: int, wall: float) -> dict[str, object]:
    modified = int(wall * 1000) + stage
    content: dict[str, object] = {"id": order, "siteId": "siteUS", "lastModifiedTime": modified}
    if slot.startswith("shipment"):
        return {"shipment": {**content, "id": f"s{order}", "orderId": order}}
    return {"order": {**content, "state": "SUBMITTED" if slot == "order-submit" else "PROCESSING"}}

"""One store that behaves like OCC: a request in, a reply out. No sockets, no waiting; clocks are handed in."""

import random
import threading
from collections.abc import Callable, Mapping
from typing import cast

from occ.simulator import settings as store_settings
from occ.simulator.application_keys import make_application_key
from occ.simulator.calls import Call, CallLog, InFlight
from occ.simulator.clocks import Clocks
from occ.simulator.deliveries import Delivery
from occ.simulator.endpoints import Endpoints, Json
from occ.simulator.faults import CONNECTION, Fault, FaultSwitches
from occ.simulator.faulty_answers import http_date, spoil
from occ.simulator.message import Reply, Request
from occ.simulator.rivals import Losses, Rival
from occ.simulator.setting_error import SettingError
from occ.simulator.settings import StoreSettings
from occ.simulator.shipping import shipping_methods_from
from occ.simulator.webhooks import Slot, Webhooks

RELEASE = "24.2.1"
ACTIONS = ("faults", "application_key", "accept_keys", "revoke_keys", "kill_tokens", "reachable", "enable_targets")

DELIVERY_COUNTS = ("orders", "delivered", "delivery_failures", "given_up")


class SimulatedStore:
    """A store at `url` with one accepted application key.

    Thread-safe: every public method may be called from anywhere. Further keyword arguments are those of `change`.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str = "https://ccadmin-test-zsim.oracleoutsourcing.com",
        clocks: Clocks | None = None,
        everywhere: InFlight | None = None,
        dice: random.Random | None = None,
        **changes: object,
    ) -> None:
        self.name = name
        self.https_url: str | None = None
        self.reachable = True
        self.application_key = ""
        self.calls = CallLog(everywhere=everywhere or InFlight())
        self.base_latency: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)
        self.on_reachable: Callable[[bool], None] = lambda _: None
        self.on_deliveries: Callable[[], None] = lambda: None
        self.clocks = clocks or Clocks()
        self._dice = dice or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._faults = FaultSwitches()
        self._endpoints = Endpoints(url, StoreSettings(), self.clocks, self.calls)
        self._lock = threading.RLock()
        self.change(**{"application_key": make_application_key(issued_at=self.clocks.wall()), **changes})

    # -- set-up, also while it runs

    @property
    def url(self) -> str:
        """Its address: scheme, host and, where needed, port."""
        return self._endpoints.url

    @property
    def settings(self) -> StoreSettings:
        """How it behaves when nothing is wrong."""
        return self._endpoints.settings

    def change(self, **changes: object) -> None:
        """Change settings, faults, keys. Raises SettingError naming what does not fit; nothing has changed then.

        Takes the fields of StoreSettings, and: `faults` (scripts by target, see faults.py; None heals),
        `application_key` (a new accepted one), `accept_keys` (more of them), `revoke_keys` (a list, or True for all),
        `kill_tokens` (True: refuse every access token issued so far), `reachable` (False: refuse connections),
        `enable_targets` (True: send to targets again that were disabled).
        """
        with self._lock:
            plain = {name: value for name, value in changes.items() if name not in ACTIONS}
            settings = store_settings.changed(self.settings, plain)
            shipping = shipping_methods_from(settings.shipping_methods)
            keys = {name: _texts(changes.get(name)) for name in ("accept_keys", "revoke_keys")}
            if "faults" in changes:
                self._faults.set(changes["faults"], self.clocks.monotonic())
            self._endpoints.settings = settings
            self._endpoints.shipping = shipping
            self._change_slots(plain)
            self._change_keys(changes, **keys)
            if changes.get("enable_targets"):
                self._endpoints.deliveries.enable_targets()
        if "reachable" in changes:  # outside the lock: the simulator's thread may be waiting for it
            self.reachable = bool(changes["reachable"])
            self.on_reachable(self.reachable)

    def _change_slots(self, changes: Mapping[str, object]) -> None:
        settings, endpoints = self.settings, self._endpoints
        if "offers" in changes:
            endpoints.webhooks = endpoints.deliveries.webhooks = Webhooks(settings.offers)
        endpoints.webhooks.allows_http = settings.allows_http
        endpoints.webhooks.spelling = settings.spelling
        for slot_id, content in settings.slots.items() if "slots" in changes else ():
            if content is None:
                endpoints.webhooks.remove(slot_id)
            else:
                endpoints.webhooks.fill(slot_id, cast("Json", content), own_prefix=settings.own_urls_start_with)
        endpoints.disturbances.drop_after = settings.drops_url_after
        endpoints.disturbances.drop_times = settings.drops_times
        if "rivals" in changes:
            endpoints.disturbances.rivals = list(settings.rivals)

    def _change_keys(self, changes: Mapping[str, object], accept_keys: set[str], revoke_keys: set[str]) -> None:
        accepted = self._endpoints.accepted_keys
        if changes.get("revoke_keys") is True:
            accepted.clear()
        accepted -= revoke_keys
        accepted |= accept_keys
        if key := changes.get("application_key"):
            self.application_key = str(key)
            accepted.add(self.application_key)
        if changes.get("kill_tokens"):
            self._endpoints.tokens.kill_all()

    def fail(self, target: str, *script: object) -> None:
        """Give one target a script: `store.fail("write_slot:order-submit", 503, {"fault": "hang", "seconds": 9})`."""
        self.change(faults={target: list(script)})

    def heal(self) -> None:
        """Take all faults away."""
        self.change(faults=None)

    def kill_tokens(self) -> None:
        """Refuse every access token issued so far."""
        self.change(kill_tokens=True)

    def rival_writes(self, slot_id: str, url: str, *, how: str = "merge") -> None:
        """Somebody else writes into a slot now. Raises UnknownSlotError, SettingError."""
        rival = Rival.parse({"url": url, "how": how})
        with self._lock:
            rival.write(self._slot(slot_id))

    def reset_secret(self, slot_id: str) -> None:
        """Somebody else resets the secret of a slot and its twin now. Raises UnknownSlotError."""
        with self._lock:
            self._endpoints.webhooks.reset_secret(slot_id)

    def give_up_delivery(self, slot_id: str, urls: list[str] | None = None) -> str:
        """A delivery to these URLs (all of the slot's unless told) goes to the failed-message log; returns its id."""
        with self._lock:
            slot = self._slot(slot_id)
            log = self._endpoints.failed_messages
            return log.add(slot.name, slot.server_type, urls or slot.urls, self.clocks.wall()).id

    # -- deliveries to the callback URLs

    def place_order(self) -> str:
        """A shopper orders something: the store's slots hear of it. Returns the order's id."""
        with self._lock:
            order = self._endpoints.deliveries.place_order(
                self.settings, self.clocks.monotonic(), self.clocks.wall() + self.settings.clock_ahead
            )
        self.on_deliveries()
        return order

    def deliveries_due(self) -> tuple[list[Delivery], float | None]:
        """What is to be sent now, and in how many seconds there is more; each is followed by `delivery_ended`."""
        with self._lock:
            now, deliveries = self.clocks.monotonic(), self._endpoints.deliveries
            deliveries.send_again(self.settings, now)
            due, following = deliveries.take_due(now), deliveries.next_due
            return due, None if following is None else max(0.0, following - now)

    def delivery_ended(self, delivery: Delivery, failed: Mapping[str, str]) -> None:
        """One attempt is over; `failed`: URL -> what went wrong."""
        with self._lock:
            self._endpoints.deliveries.ended(
                delivery,
                failed,
                self.settings,
                self.clocks.monotonic(),
                self.clocks.wall() + self.settings.clock_ahead,
            )
        self.on_deliveries()

    @property
    def disabled_targets(self) -> set[str]:
        """URLs that the store no longer sends to; its slots still list them."""
        with self._lock:
            return set(self._endpoints.deliveries.disabled)

    def secret(self, slot_id: str) -> str:
        """What the deliveries of a slot are signed with, base64. Raises UnknownSlotError."""
        with self._lock:
            return self._endpoints.webhooks.secret_of(self._slot(slot_id))

    # -- what it looks like from outside

    def urls(self, slot_id: str) -> list[str]:
        """What the slot sends to at this moment. Raises UnknownSlotError."""
        with self._lock:
            return self._slot(slot_id).urls

    def slot_fields(self, slot_id: str) -> Json:
        """The stored content of a slot. Raises UnknownSlotError."""
        with self._lock:
            return dict(self._slot(slot_id).fields)

    def _slot(self, slot_id: str) -> Slot:
        self._endpoints.disturbances.catch_up(self.clocks.monotonic())
        return self._endpoints.webhooks.find(slot_id)

    @property
    def losses(self) -> Losses:
        """What our writes took away from others."""
        return self._endpoints.losses

    def summary(self) -> Json:
        """All counts as JSON."""
        with self._lock:
            endpoints = self._endpoints
            return {
                **self.calls.summary(),
                "tokens_issued": endpoints.tokens.issued,
                "tokens_living": endpoints.tokens.living(self.clocks.monotonic()),
                "foreign_urls_lost": [{"slot": slot, "url": url} for slot, url in endpoints.losses.urls],
                "foreign_settings_lost": [{"slot": slot, "field": name} for slot, name in endpoints.losses.settings],
                "secret_resets": endpoints.secret_resets,
                "messages_resent": endpoints.failed_messages.resent,
                **{name: endpoints.deliveries.counts[name] for name in DELIVERY_COUNTS},
            }

    def described(self) -> Json:
        """Everything about it as JSON: address, key, slots, faults to come, counts."""
        with self._lock:
            self._endpoints.disturbances.catch_up(self.clocks.monotonic())
            return {
                **self.address(),
                "slots": {slot.id: dict(slot.fields) for slot in self._endpoints.webhooks},
                "faults": self._faults.remaining(),
                "disabled_targets": sorted(self._endpoints.deliveries.disabled),
                "counts": self.summary(),
            }

    def address(self) -> Json:
        """What a connect request needs, as JSON."""
        return {
            "name": self.name,
            "store_url": self.url,
            "https_url": self.https_url,
            "application_key": self.application_key,
            "reachable": self.reachable,
        }

    def calls_described(self) -> list[Json]:
        """The call log as JSON."""
        with self._lock:
            return [call.described() for call in self.calls.entries]

    def reset_counts(self) -> None:
        """Count from zero."""
        with self._lock:
            self.calls.reset()
            self._endpoints.losses = Losses()
            self._endpoints.secret_resets = 0
            self._endpoints.failed_messages.resent = 0
            self._endpoints.deliveries.counts.clear()

    # -- calls

    def connection_fault(self) -> Fault | None:
        """Called for each connection that comes in."""
        with self._lock:
            self.calls.connections += 1
            return self._faults.next_for(CONNECTION, None, self.clocks.monotonic())

    def answer(self, request: Request) -> Reply:
        """The call takes effect now; whoever sends the reply waits for `reply.delay` and then says `finish`."""
        with self._lock:
            now, wall = self.clocks.monotonic(), self.clocks.wall() + self.settings.clock_ahead
            endpoints = self._endpoints
            endpoints.disturbances.catch_up(now)
            endpoint = endpoints.route(request)
            slot = request.item if endpoint.endswith("_slot") or endpoint == "reset_secret" else None
            call = self.calls.arrive(endpoint, request.method, slot, now, self.clocks.wall())
            call.token = endpoints.tokens.serial_of(request.bearer())
            if endpoint in ("write_slot", "write_slots"):
                call.body = request.json()
            fault = self._faults.next_for(endpoint, slot, now)
            wait = None
            if fault is None:
                reply = endpoints.answer(endpoint, request)
            elif fault.kind == "write_ignored":
                reply = endpoints.ignore_write(endpoint, request, as_asked=fault.text("answers") == "as_asked")
            else:
                reply, wait = spoil(fault, lambda: endpoints.answer(endpoint, request), wall)
            reply.delay += self._latency()
            reply.call = call
            reply.headers["Date"] = http_date(int(wall))
            reply.headers["OracleCommerceCloud-Version"] = RELEASE
            self.calls.decide(call, reply.status, fault.kind if fault else None)
            if wait is not None:
                self.calls.ask_to_wait(call, now + reply.delay + wait)
        if endpoint == "resend":
            self.on_deliveries()
        return reply

    def finish(self, call: Call, outcome: str) -> None:
        """The answer is out, or nobody will ever get it."""
        with self._lock:
            self.calls.finish(call, self.clocks.monotonic(), outcome)

    def _latency(self) -> float:
        base, jitter = self.base_latency()
        settings = self.settings
        base = base if settings.latency is None else settings.latency
        jitter = jitter if settings.jitter is None else settings.jitter
        return base + self._dice.uniform(0, jitter) if jitter else base


def _texts(value: object) -> set[str]:
    if value is None or value is True:
        return set()
    if not isinstance(value, (list, tuple, set)) or not all(isinstance(text, str) for text in value):
        raise SettingError("keys come as a list of texts")
    return set(value)

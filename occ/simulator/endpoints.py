"""What each endpoint of a healthy store does: paths, fields and error model of occ-api.md, which names Oracle's pages.

Error codes other than 60012 are invented, because Oracle publishes none.
"""

from collections.abc import Callable
from typing import cast
from urllib.parse import parse_qsl

from occ.simulator.application_keys import expiry_of_key
from occ.simulator.calls import CallLog
from occ.simulator.clocks import Clocks
from occ.simulator.deliveries import Deliveries
from occ.simulator.failed_messages import FailedMessages
from occ.simulator.message import Reply, Request, Shape, error_reply, json_reply
from occ.simulator.rivals import Disturbances, Losses
from occ.simulator.settings import StoreSettings
from occ.simulator.shipping import enabled, shipping_methods_from
from occ.simulator.tokens import TokenBook
from occ.simulator.webhooks import BadWriteError, Shaping, Slot, UnknownSlotError, Webhooks

PREFIX = "/ccadmin/v1"
FIXED_ROUTES = {
    ("POST", f"{PREFIX}/login"): "login",
    ("POST", f"{PREFIX}/verify"): "verify",
    ("POST", f"{PREFIX}/refresh"): "refresh",
    ("POST", f"{PREFIX}/logout"): "logout",
    ("GET", f"{PREFIX}/registry"): "registry",
    ("GET", f"{PREFIX}/metadata-catalog/webhook"): "metadata",
    ("GET", f"{PREFIX}/webhooks"): "list_slots",
    ("PUT", f"{PREFIX}/webhooks"): "write_slots",
    ("GET", f"{PREFIX}/webhookFailedMessages"): "failed_messages",
    ("PUT", f"{PREFIX}/webhookFailedMessages"): "resend",
}
ITEM_ROUTES = {
    ("GET", f"{PREFIX}/webhooks"): "read_slot",
    ("PUT", f"{PREFIX}/webhooks"): "write_slot",
    ("POST", f"{PREFIX}/webhooks"): "reset_secret",
    ("GET", f"{PREFIX}/webhookFailedMessages"): "failed_messages",
    ("PUT", f"{PREFIX}/webhookFailedMessages"): "resend",
}
KNOWN_PATHS = {path for _, path in (*FIXED_ROUTES, *ITEM_ROUTES)}
OPEN_ENDPOINTS = ("login", "registry", "metadata", "other")
Json = dict[str, object]


class Endpoints:
    """The state of one store and the answers it gives while nothing is wrong."""

    def __init__(self, url: str, settings: StoreSettings, clocks: Clocks, calls: CallLog) -> None:
        self.url = url
        self.settings = settings
        self.accepted_keys: set[str] = set()
        self.tokens = TokenBook()
        self.shipping = shipping_methods_from(settings.shipping_methods)
        self.webhooks = Webhooks(settings.offers)
        self._not_yet_shown: dict[str, list[tuple[float, list[str]]]] = {}  # when it shows, and what was there before
        self.disturbances = Disturbances()
        self.losses = Losses()
        self.failed_messages = FailedMessages()
        self.deliveries = Deliveries(self.webhooks, self.failed_messages)
        self.secret_resets = 0
        self._clocks = clocks
        self._calls = calls
        self._answers: dict[str, Callable[[Request], Reply]] = {
            "login": self._login,
            "verify": lambda _: json_reply(200, {"success": True}),
            "refresh": lambda _: self._grant("refresh"),
            "logout": self._logout,
            "registry": lambda _: self._registry(),
            "metadata": lambda _: json_reply(200, {"swagger": "2.0", "info": {"title": "Webhooks"}, "paths": {}}),
            "shipping_methods": self._shipping_methods,
            "read_slot": self._read_slot,
            "write_slot": self._write_slot,
            "list_slots": self._list_slots,
            "write_slots": self._write_slots,
            "reset_secret": self._reset_secret,
            "failed_messages": self._failed_messages,
            "resend": self._resend,
            "other": self._other,
        }

    def route(self, request: Request) -> str:
        """The endpoint's name; sets `request.item` to the id at the end of the path where there is one."""
        path = request.path.rstrip("/")
        if path == self.settings.shipping_path:
            return "shipping_methods" if request.method == "GET" else "other"
        endpoint = FIXED_ROUTES.get((request.method, path))
        if endpoint is not None:
            return endpoint
        parent, _, item = path.rpartition("/")
        endpoint = ITEM_ROUTES.get((request.method, parent))
        if endpoint is None:
            return "other"
        request.item = item
        return endpoint

    def answer(self, endpoint: str, request: Request) -> Reply:
        """Do what was asked, if the access token allows it."""
        if endpoint not in OPEN_ENDPOINTS and self.tokens.use(request.bearer(), self._clocks.monotonic()) is None:
            return self._refused(self.settings.token_refusal, "The access token is missing, expired or invalid.")
        try:
            return self._answers[endpoint](request)
        except UnknownSlotError:
            return error_reply(self.settings.unknown_slot_status, "The webhook was not found.", "34011")
        except BadWriteError as problem:
            return error_reply(400, str(problem), problem.error_code)

    def ignore_write(self, endpoint: str, request: Request, *, as_asked: bool) -> Reply:
        """Answer a write of one slot well and do not carry it out; other calls are nothing to ignore."""
        if endpoint != "write_slot":
            return self.answer(endpoint, request)
        if self.tokens.use(request.bearer(), self._clocks.monotonic()) is None:
            return self._refused(self.settings.token_refusal, "The access token is missing, expired or invalid.")
        try:
            trial, _ = self.webhooks.write(request.item, request.json(), style=self.settings.body_style, store=False)
            return json_reply(200, self._show(trial if as_asked else self.webhooks.find(request.item), request))
        except UnknownSlotError:
            return error_reply(self.settings.unknown_slot_status, "The webhook was not found.", "34011")
        except BadWriteError as problem:
            return error_reply(400, str(problem), problem.error_code)

    def _refused(self, shape: str, message: str) -> Reply:
        return error_reply(401, message, "10401", shape=cast("Shape", shape))

    def _links(self, path: str) -> list[Json]:
        return [{"rel": "self", "href": f"{self.url}{path}"}]

    def _other(self, request: Request) -> Reply:
        path = request.path.rstrip("/")
        if {path, path.rpartition("/")[0]} & {*KNOWN_PATHS, self.settings.shipping_path}:
            return error_reply(405, "The method is not allowed here.", "10405")
        return error_reply(404, "The requested resource was not found.", "10404")

    # -- login

    def _login(self, request: Request) -> Reply:
        parameters = {**request.query, **dict(parse_qsl(request.body.decode("utf-8", "replace")))}
        if parameters.get("grant_type") != "client_credentials":
            return error_reply(400, "grant_type must be client_credentials.", "10400")
        key = request.bearer()
        expiry = expiry_of_key(key)
        expired = self.settings.enforce_key_expiry and expiry is not None and expiry <= self._clocks.wall()
        if key not in self.accepted_keys or expired:
            return self._refused(self.settings.login_rejection, "The application key is not valid.")
        return self._grant("login")

    def _grant(self, action: str) -> Reply:
        settings = self.settings
        lifetime = settings.token_lifetime if settings.token_dies_after is None else settings.token_dies_after
        token = self.tokens.issue(self._clocks.monotonic(), lifetime, settings.token_uses, self._clocks.wall())
        body: Json = {"access_token": token.text, "token_type": "bearer"}
        if settings.expires_in != "missing":
            announced = settings.token_lifetime
            seconds = int(announced) if announced == int(announced) else announced
            body["expires_in"] = str(seconds) if settings.expires_in == "string" else seconds
        return json_reply(200, {**body, "links": self._links(f"{PREFIX}/{action}")})

    def _logout(self, request: Request) -> Reply:
        self.tokens.kill(request.bearer())
        return json_reply(200, {"result": True})

    def _registry(self) -> Reply:
        endpoints = [
            {"id": endpoint, "method": method, "url": path, "authRequired": endpoint not in OPEN_ENDPOINTS}
            for (method, path), endpoint in FIXED_ROUTES.items()
        ]
        return json_reply(200, {"items": endpoints, "links": self._links(f"{PREFIX}/registry")})

    # -- shipping methods

    def _shipping_methods(self, request: Request) -> Reply:
        only_enabled = request.query.get("enabledOnly", "true").lower() != "false" and self.settings.filters_enabled
        items = [item for item in self.shipping if enabled(item) or not only_enabled]
        if self.settings.shipping_wrapper == "array":
            return json_reply(200, items)
        return json_reply(200, {"items": items, "links": self._links(self.settings.shipping_path)})

    # -- slots

    def _show(self, slot: Slot, request: Request) -> Json:
        settings = self.settings
        return self.webhooks.shown(
            slot,
            shaping=Shaping(
                settings.quoted_numbers, settings.body_style, settings.masked_credentials, settings.shows_ids
            ),
            base_url=self.url,
            with_secret=settings.shows_secrets or request.query.get("includeSecretKeys", "").lower() == "true",
            urls=self._former_urls(slot),
        )

    def _former_urls(self, slot: Slot) -> list[str] | None:
        """Those of some time ago, while what was written since does not show yet."""
        now = self._clocks.monotonic()
        return next((urls for until, urls in self._not_yet_shown.get(slot.id, []) if now < until), None)

    def _read_slot(self, request: Request) -> Reply:
        return json_reply(200, self._show(self.webhooks.find(request.item), request))

    def _list_slots(self, request: Request) -> Reply:
        server = request.query.get("serverType")
        items = [self._show(slot, request) for slot in self.webhooks if server in (None, slot.server_type)]
        if self.settings.slot_list_wrapper == "array":
            return json_reply(200, items)
        return json_reply(200, {"items": items, "links": self._links(f"{PREFIX}/webhooks"), "autoWrap": True})

    def _write_slot(self, request: Request) -> Reply:
        return json_reply(200, self._write(request.item, request.json(), request))

    def _write(self, slot_id: str, body: object, request: Request) -> Json:
        """One write of ours, with whoever gets in before and after it."""
        style = self.settings.body_style
        self.webhooks.write(slot_id, body, style=style, store=False)  # a refused write meets no rival
        self.disturbances.before_write(self.webhooks.find(slot_id))
        if self.settings.shows_writes_after:
            self._hold_back(self.webhooks.find(slot_id))
        slot, change = self.webhooks.write(slot_id, body, style=style)
        self.losses.note(slot, change)
        if not change:
            self._calls.repeated_writes += 1
        now = self._clocks.monotonic()
        self.disturbances.after_write(slot, change, now, seen_in_answer=True)
        shown = self._show(slot, request)
        self.disturbances.after_write(slot, change, now, seen_in_answer=False)
        return shown

    def _hold_back(self, slot: Slot) -> None:
        """Go on showing what the slot has now, for a while."""
        now = self._clocks.monotonic()
        kept = [entry for entry in self._not_yet_shown.get(slot.id, []) if now < entry[0]]
        self._not_yet_shown[slot.id] = [*kept, (now + self.settings.shows_writes_after, slot.urls)]

    def _write_slots(self, request: Request) -> Reply:
        body = request.json()
        entries = body.get("webHooks") if isinstance(body, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "id" in entry for entry in entries):
            raise BadWriteError("webHooks must be an array of webhooks with their ids.", "34001")
        for entry in entries:  # all or nothing
            self.webhooks.write(str(entry["id"]), entry, style=self.settings.body_style, store=False)
        return json_reply(200, [self._write(str(entry["id"]), entry, request) for entry in entries])

    def _reset_secret(self, request: Request) -> Reply:
        body = request.json()
        if not isinstance(body, dict) or body.get("op") != "resetSecretKey":
            raise BadWriteError("The operation is not known.", "34003")
        secret = self.webhooks.reset_secret(request.item)
        self.secret_resets += 1
        return json_reply(200, {"id": request.item, "secretKey": secret})

    # -- failed messages

    def _failed_messages(self, request: Request) -> Reply:
        if request.item:
            message = self.failed_messages.messages.get(request.item)
            if message is None:
                return error_reply(404, "The message was not found.", "34026")
            return json_reply(200, message.shown())
        try:
            return json_reply(200, self.failed_messages.page(request.query))
        except ValueError as problem:
            return error_reply(400, str(problem), "34023")

    def _resend(self, request: Request) -> Reply:
        try:
            messages = self.failed_messages.matching(request.query.get("q"))
            if request.item:
                messages = [message for message in messages if message.id == request.item]
                if not messages:
                    return error_reply(404, "The message was not found.", "34026")
            self.failed_messages.resend(messages, request.json())
        except ValueError as problem:
            return error_reply(400, str(problem), "34024")
        shown = [message.shown() for message in messages]
        return json_reply(200, shown[0] if request.item else {"items": shown})

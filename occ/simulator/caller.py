"""A plain caller of a store's behaviour for the simulator's own tests: it asks, and shows what came back."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from occ.simulator.message import Reply, Request
from occ.simulator.store import SimulatedStore

OUR_URL = "https://hooks.example.com/occ/m_123/order"
THEIR_URL = "https://erp.example.net/in"


class Caller:
    """Calls one store, logging in when it needs a token."""

    def __init__(self, store: SimulatedStore) -> None:
        self.store = store
        self.token = ""

    def ask(self, method: str, path: str, body: object = None, *, bearer: str | None = None) -> Reply:
        """One call; the path may carry a query."""
        parts = urlsplit(path)
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.token if bearer is None else bearer}"}
        reply = self.store.answer(Request(method, parts.path, dict(parse_qsl(parts.query)), headers, data))
        if reply.call is not None:
            self.store.finish(reply.call, "answered")
        return reply

    def exchange(self, application_key: str | None = None) -> Reply:
        """Login as documented; keeps the token if there is one."""
        key = self.store.application_key if application_key is None else application_key
        reply = self.ask("POST", "/ccadmin/v1/login", b"grant_type=client_credentials", bearer=key)
        if reply.status == 200:
            self.token = shown(reply)["access_token"]
        return reply

    def login(self) -> "Caller":
        """Log in and go on."""
        assert self.exchange().status == 200
        return self

    def read(self, slot: str = "order-submit") -> dict[str, Any]:
        """A slot as the store shows it."""
        slot_shown: dict[str, Any] = shown(self.ask("GET", f"/ccadmin/v1/webhooks/{slot}"))
        return slot_shown

    def write(self, body: object, slot: str = "order-submit") -> Reply:
        """Update a slot."""
        return self.ask("PUT", f"/ccadmin/v1/webhooks/{slot}", body)

    def register(self, url: str = OUR_URL, slot: str = "order-submit") -> dict[str, Any]:
        """Read, merge, write, as a careful integrator does."""
        urls = self.read(slot)["urls"] or []
        answer: dict[str, Any] = shown(self.write({"urls": [*urls, url]}, slot))
        return answer


def shown(reply: Reply) -> Any:
    """The JSON of a reply."""
    return json.loads(reply.body)

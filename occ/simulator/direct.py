"""Our client of a simulated store without sockets: fast, single-threaded if wanted, with handed-in clocks."""

import json as json_format
import zlib
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

from requests.structures import CaseInsensitiveDict

from integrations.egress.allowance import MOST_CHUNKS, MOST_HEAD_BYTES, MOST_HEAD_LINES, MOST_INTERIM_ANSWERS
from integrations.egress.deadline import Deadline
from integrations.egress.session import Answer, GuardedSession
from integrations.errors import PermanentError, TransientError
from integrations.oracle_commerce.client import CommerceCloud
from occ.simulator.message import Reply, Request
from occ.simulator.store import SimulatedStore

LONGEST_BODY = 2 * 1024 * 1024
REDIRECTS = range(300, 400)


class DirectSession(GuardedSession):
    """Answers as the wire and GuardedSession would, errors included. Only for addresses of its own store.

    A reply's delay is passed to `wait` (by default nobody waits), and is a timeout if the deadline is nearer.
    """

    def __init__(self, store: SimulatedStore, wait: Callable[[float], object] = lambda _: None) -> None:
        self._store = store
        self._wait = wait

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        deadline: Deadline,
        form: Mapping[str, str] | None = None,
        json: object | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """One call. Raises what GuardedSession.request raises."""
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != self._store.url:
            raise PermanentError("egress_blocked", "not this store")
        self._meet(deadline)
        body = content or b"" if form is None else urlencode(form).encode()
        if json is not None:
            body = json_format.dumps(json).encode()
        lower = {name.lower(): value for name, value in headers.items()}
        reply = self._store.answer(Request(method, parts.path, dict(parse_qsl(parts.query)), lower, body))
        try:
            self._pass(reply.delay + _dripping(reply), deadline)
            return self._received(reply, parts.netloc)
        finally:
            if reply.call is not None:
                self._store.finish(reply.call, "answered" if reply.manner == "whole" else "cut")

    def close(self) -> None:
        """There is nothing to close."""

    def _meet(self, deadline: Deadline) -> None:
        """The connection itself."""
        if not self._store.reachable:
            raise TransientError("store_unreachable", "connection refused")
        fault = self._store.connection_fault()
        if fault is not None and fault.kind == "reset":
            raise TransientError("store_unreachable", "connection reset")
        if fault is not None:
            raise TransientError("store_timeout", f"no whole answer within {deadline.remaining():.3g} s")

    def _pass(self, seconds: float, deadline: Deadline) -> None:
        left = deadline.remaining()
        if seconds >= left:
            self._wait(max(0.0, left))
            raise TransientError("store_timeout", f"no whole answer within {left:.3g} s")
        if seconds:
            self._wait(seconds)

    def _received(self, reply: Reply, host: str) -> Answer:
        trouble = _TROUBLE.get(reply.manner)
        if reply.manner == "endless":
            raise TransientError("answer_too_large", _ENDLESS.get(reply.of, _HEAD_TOO_LARGE))
        if trouble is not None:
            raise TransientError(*trouble)
        if any(len(value) > MOST_HEAD_BYTES for value in reply.headers.values()):
            raise TransientError("answer_too_large", _HEAD_TOO_LARGE)
        if reply.status in REDIRECTS:
            raise PermanentError("redirected", urlsplit(reply.headers.get("Location", "")).hostname or host)
        body = reply.body
        if reply.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompressobj(31).decompress(body, LONGEST_BODY + 1)
            if len(body) > LONGEST_BODY:
                raise TransientError("answer_too_large", f"more than {LONGEST_BODY} bytes when unpacked")
        if len(body) > LONGEST_BODY:
            raise TransientError("answer_too_large", _WIRE_TOO_LARGE)
        return Answer(reply.status, CaseInsensitiveDict(reply.headers), body, self._store.clocks.wall())


class DirectCommerceCloud(CommerceCloud):
    """The real client, talking to the store's behaviour instead of its address."""

    def __init__(
        self,
        store: SimulatedStore,
        *,
        shipping_methods_path: str = "/ccadmin/v1/shippingMethods",
        wait: Callable[[float], object] = lambda _: None,
    ) -> None:
        super().__init__(DirectSession(store, wait), store.url, shipping_methods_path=shipping_methods_path)


def _dripping(reply: Reply) -> float:
    if reply.manner == "never":
        return float("inf")
    slow = len(reply.body) if reply.manner == "drip_body" else len(reply.body) + 200
    return reply.every * slow / reply.chunk if reply.manner.startswith("drip") else 0.0


_WIRE_TOO_LARGE = f"more than {LONGEST_BODY} bytes on the wire, or in too many pieces"
_HEAD_TOO_LARGE = f"more than {MOST_HEAD_BYTES} bytes or {MOST_HEAD_LINES} lines of headers"
_ENDLESS = {
    "interim": f"more than {MOST_INTERIM_ANSWERS} interim answers",
    "chunks": f"more than {MOST_CHUNKS} chunks",
    "gzip": _WIRE_TOO_LARGE,
    "body": _WIRE_TOO_LARGE,
}
_TROUBLE = {
    "reset": ("store_unreachable", "connection reset"),
    "truncated": ("store_unreachable", "the answer was cut off"),
    "raw": ("unreadable_answer", "the answer is not HTTP"),
    "huge": ("answer_too_large", _WIRE_TOO_LARGE),
}

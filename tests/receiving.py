"""A receiver of events over HTTP, which believes nothing: other code than that which signed looks at the signatures."""

import base64
import hashlib
import hmac
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

SECRET = "whsec_" + base64.b64encode(b"shared with the receiver, 32 by.").decode()
TOLERANCE = 300  # seconds


@dataclass(frozen=True)
class Delivery:
    """One request that came in."""

    event: dict[str, Any]
    headers: dict[str, str]
    body: bytes
    at: float


def is_signed(headers: dict[str, str], body: bytes, secret: str, now: float) -> bool:
    """As the specification tells receivers to look at it."""
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    key = base64.b64decode(secret.partition("_")[2])
    wanted = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    signatures = [part.partition(",") for part in headers["webhook-signature"].split(" ")]
    fresh = abs(now - int(headers["webhook-timestamp"])) <= TOLERANCE
    return fresh and any(version == "v1" and hmac.compare_digest(text, wanted) for version, _, text in signatures)


class ReceiverServer:
    """Answers as it is told; keeps what was signed and taken, in the order it came."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        answer: Callable[[dict[str, Any]], int | tuple[int, dict[str, str]]] = lambda _: 204,
    ) -> None:
        self.answer = answer
        self.taken: list[Delivery] = []
        self.turned_down: list[Delivery] = []
        self.unsigned = 0
        self._clock = clock
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/events"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Nobody listens any more."""
        self._server.server_close()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers["Content-Length"])
        body = request.rfile.read(length)
        if len(body) < length:
            return  # who sent it was killed in the middle of it
        headers = {name.lower(): value for name, value in request.headers.items()}
        now = self._clock()
        if not is_signed(headers, body, SECRET, now):
            self.unsigned += 1
            _answer(request, 401, {})
            return
        delivery = Delivery(json.loads(body), headers, body, now)
        answer = self.answer(delivery.event)
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        with self._lock:
            (self.taken if 200 <= status < 300 else self.turned_down).append(delivery)
        _answer(request, status, more)

    def processed(self) -> dict[str, list[str]]:
        """By merchant, the ids of the events that a receiver which remembers ids has worked on, in that order."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        with self._lock:
            for delivery in self.taken:
                found[delivery.event["subject"]].setdefault(delivery.event["id"])
        return {merchant: list(ids) for merchant, ids in found.items()}


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    if status != 204:
        request.send_header("Content-Length", "0")
    request.end_headers()

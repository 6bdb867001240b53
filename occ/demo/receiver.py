"""What receives the simulated stores' deliveries in the demo, on this machine, and reports which slots it heard from.

It believes whatever comes and keeps nothing; `examples/` has receivers that verify and deduplicate.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import redis

from tasks.inbox import STREAM


class Receiver:
    """What takes the stores' deliveries, on this machine: reports each slot it heard from, fails for `failing`."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.client: redis.Redis | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)
        self._thread.start()

    @property
    def callback_url(self) -> str:
        """What OCC_CALLBACK_URL is to be."""
        return f"http://127.0.0.1:{self._server.server_port}/occ/{{merchant_id}}/{{slot}}"

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, merchant_id: str, slot: str) -> int:
        """One delivery; returns the HTTP status of the answer."""
        if merchant_id in self.failing or self.client is None:
            return 500
        report = {"merchant_id": merchant_id, "slot": slot, "at": time.time()}
        self.client.xadd(STREAM, {"heard": json.dumps(report)})
        return 204

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                merchant_id, slot = map(unquote, self.path.rsplit("/", 2)[1:])
                self.send_response(receiver.take(merchant_id, slot))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Nothing: the demo tells what matters."""

        return Handler

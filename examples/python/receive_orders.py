"""Receives what stores send to the callback URLs: believes what is signed, takes it once, reports who was heard from.

REDIS_URL=redis://... SECRETS=secrets.json python receive_orders.py PORT LEDGER     # behind something that does TLS

`secrets.json` has the secret of each slot, as the store shows it: {"m-1": {"order-submit": "base64"}}. What is made of
a message, and that it was, is one transaction. Here all that is made of it is a row; put what you do in its place. Only
when that is saved is the answer 204: whatever else we answer, the store sends it again.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import redis

SECRETS: dict[str, dict[str, str]] = json.loads(Path(os.environ["SECRETS"]).read_text(encoding="utf-8"))
LARGEST = 16 * 1024 * 1024  # bytes
ALGORITHMS = {
    20: "sha1",
    64: "sha512",
}  # by the length of a signature: which one the plain header has depends on the release

heard: dict[tuple[str, str], float] = {}
lock = threading.Lock()


def is_signed(secret: str, signature: str, body: bytes) -> bool:
    """Whether somebody who has the slot's secret has signed exactly this body."""
    try:
        given = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    algorithm = ALGORITHMS.get(len(given))
    return algorithm is not None and hmac.compare_digest(given, hmac.digest(base64.b64decode(secret), body, algorithm))


def take(ledger: str, merchant_id: str, slot: str, body: bytes) -> None:
    """Deal with a message, once: sent again, it has the same bytes."""
    digest = hashlib.sha256(f"{merchant_id}/{slot}/".encode() + body).hexdigest()
    with closing(sqlite3.connect(ledger, timeout=30)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS messages (id TEXT UNIQUE, merchant_id TEXT, slot TEXT, body TEXT)")
        row = [digest, merchant_id, slot, body.decode()]
        database.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?)", row)


def report() -> None:
    """Once a second, which slots were heard from: one small entry. If it is lost, the next one says the same."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5, socket_connect_timeout=5)
    while True:
        time.sleep(1)
        with lock:
            reports = [
                {"merchant_id": merchant_id, "slot": slot, "at": at} for (merchant_id, slot), at in heard.items()
            ]
            heard.clear()
        for start in range(0, len(reports), 1000):
            with contextlib.suppress(redis.RedisError):
                client.xadd("occ:inbox", {"heard": json.dumps(reports[start : start + 1000])})


class Handler(BaseHTTPRequestHandler):
    """One message. An error of ours ends the connection without an answer, and the message comes again."""

    def do_POST(self) -> None:
        merchant_id, slot = map(unquote, ("//" + self.path.partition("?")[0]).rsplit("/", 2)[1:])
        length = int(self.headers["Content-Length"] or 0)
        if length > LARGEST:
            self.answer(413)
            return
        body = self.rfile.read(length)  # as it came: JSON that was read and written again has another signature
        plain = self.headers.get("X-Oracle-CC-WebHook-Signature", "")
        signature = self.headers.get("X-Oracle-CC-WebHook-Signature-SHA512", plain)
        secret = SECRETS.get(merchant_id, {}).get(slot)
        if secret is None or not is_signed(secret, signature, body):
            self.answer(401)
            return
        take(sys.argv[2], merchant_id, slot, body)
        with lock:
            heard[merchant_id, slot] = time.time()
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()


if __name__ == "__main__":
    threading.Thread(target=report, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

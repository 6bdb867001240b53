"""Receives events over HTTP: believes what is signed and fresh, and deals with each event once.

RECEIVER_SECRETS=whsec_... python receive_events.py PORT LEDGER     # behind something that does TLS

What is made of an event, and that it was, is one transaction. Here all that is made of it is a row; put what you do in
its place. Only when that is saved is the answer 204: whatever else we answer, the event comes again.
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRETS = [base64.b64decode(text.removeprefix("whsec_")) for text in os.environ["RECEIVER_SECRETS"].split()]
TOLERANCE = 300  # seconds between their clock and ours
LARGEST = 1024 * 1024  # bytes


def is_signed(event_id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Whether somebody who has one of our secrets has just signed exactly this body."""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = b".".join([event_id.encode(), timestamp.encode(), body])
    wanted = ["v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in SECRETS]
    return any(
        hmac.compare_digest(given.encode(), right.encode()) for given in signatures.split(" ") for right in wanted
    )


def take(ledger: str, event: dict[str, Any]) -> None:
    """Deal with an event, once."""
    with closing(sqlite3.connect(ledger, timeout=30)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS changes (id TEXT UNIQUE, merchant_id TEXT, type TEXT)")
        row = [event["id"], event["subject"], event["type"]]
        database.execute("INSERT OR IGNORE INTO changes VALUES (?, ?, ?)", row)


class Handler(BaseHTTPRequestHandler):
    """One delivery. An error of ours ends the connection without an answer, and the event comes again."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        if length > LARGEST:
            self.answer(413)
            return
        body = self.rfile.read(length)  # as it came: JSON that was read and written again has another signature
        sent = (self.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
        event_id, timestamp, signatures = sent
        if not is_signed(event_id, timestamp, signatures, body):
            self.answer(401)
            return
        take(sys.argv[2], json.loads(body))
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

"""The example receivers of what stores send, each in a process of its own."""

import http.client
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.pipeline import REPOSITORY
from tests.ports import free_port
from tests.waiting import wait_until

PYTHON = [sys.executable, str(REPOSITORY / "examples" / "python" / "receive_orders.py")]


class OrderReceiver:
    """One receiver in a process of its own, always at the same port."""

    def __init__(self, command: list[str], folder: Path, ledger: Path, redis_url: str = "") -> None:
        self.port = free_port()
        self.command, self.folder, self.ledger = [*command, str(self.port), str(ledger)], folder, ledger
        self.secrets: dict[str, dict[str, str]] = {}
        self.redis_url = redis_url
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        secrets = self.ledger.with_name("secrets.json")
        secrets.write_text(json.dumps(self.secrets), encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "REDIS_URL": self.redis_url, "SECRETS": str(secrets)}
        with self.ledger.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(self.command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        wait_until(self._listens, what="the receiver to listen")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def url(self, merchant_id: str, slot: str = "order-submit") -> str:
        return f"http://127.0.0.1:{self.port}/occ/{merchant_id}/{slot}"

    def post(
        self, body: bytes, headers: Mapping[str, str], merchant_id: str = "m-9", slot: str = "order-submit"
    ) -> int:
        """As anybody may."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection.request("POST", f"/occ/{merchant_id}/{slot}", body, dict(headers))
            return connection.getresponse().status

    def taken(self) -> list[tuple[str, str, Any]]:
        """Merchant, slot and content of what it made of messages."""
        if not self.ledger.exists():
            return []
        if self.ledger.read_bytes()[:6] == b"SQLite":
            with closing(sqlite3.connect(self.ledger)) as database:
                rows = database.execute("SELECT merchant_id, slot, body FROM messages ORDER BY rowid").fetchall()
            return [(merchant_id, slot, json.loads(body)) for merchant_id, slot, body in rows]
        lines = [line.split("\t") for line in self.ledger.read_text(encoding="utf-8").splitlines()]
        return [(merchant_id, slot, json.loads(json.loads(body))) for _, merchant_id, slot, body in lines]

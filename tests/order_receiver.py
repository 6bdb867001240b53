"""The example receivers of what stores send, each in a process of its own."""

import http.client
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.example_receiver import ExampleReceiver
from tests.ledgers import entries_in
from tests.pipeline import REPOSITORY

PYTHON = [sys.executable, str(REPOSITORY / "examples" / "python" / "receive_orders.py")]


class OrderReceiver(ExampleReceiver):
    """One receiver of orders."""

    def __init__(self, command: list[str], folder: Path, ledger: Path, redis_url: str = "") -> None:
        super().__init__(command, folder, ledger)
        self.secrets: dict[str, dict[str, str]] = {}
        self.redis_url = redis_url

    def environment(self) -> dict[str, str]:
        secrets = self.ledger.with_name("secrets.json")
        secrets.write_text(json.dumps(self.secrets), encoding="utf-8")
        return {"REDIS_URL": self.redis_url, "SECRETS": str(secrets)}

    def url(self, merchant_id: str, slot: str = "order-submit") -> str:
        return f"http://127.0.0.1:{self.port}/occ/{merchant_id}/{slot}"

    def post(
        self, body: bytes, headers: Mapping[str, str], merchant_id: str = "m-9", slot: str = "order-submit"
    ) -> int:
        """As anybody may."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        with closing(connection):
            connection.request("POST", f"/occ/{merchant_id}/{slot}", body, dict(headers))
            return connection.getresponse().status

    def taken(self) -> list[tuple[str, str, Any]]:
        """Merchant, slot and content of what it made of messages."""
        rows, lines = entries_in(self.ledger, "messages", "merchant_id", "slot", "body")
        found = [(merchant_id, slot, json.loads(body)) for merchant_id, slot, body in rows]
        return found + [(merchant_id, slot, json.loads(json.loads(body))) for _, merchant_id, slot, body in lines]

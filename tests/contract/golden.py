"""The messages a producer without Celery puts on the queue `occ`: the schema of their envelope, and an example of each.

Celery's protocol 2 in Kombu's envelope (https://docs.celeryq.dev/en/stable/internals/protocol.html). The examples in
docs/contract are sent to a real worker as they are, byte for byte.
"""

import base64
import json
from pathlib import Path
from typing import Any

from integrations.sealing.keyring import SealingKey
from occ.simulator.application_keys import make_application_key
from tasks.queues import REQUESTS
from tests.contract.shapes import _TRACEPARENT, DIALECT, Schema

FOLDER = Path(__file__).parents[2] / "docs" / "contract" / "v1"
MESSAGES = FOLDER / "messages"

MERCHANT = "m-1"
HOST = "ccadmin-z1a2.oracleoutsourcing.com"
SEALING_KEY = SealingKey("example", bytes(range(32)))
"""Known to everybody, so good for nothing but these messages."""

APPLICATION_KEY = make_application_key("example", issued_at=1_700_000_000, lifetime=None, signature=bytes(31))
"""What is sealed in the example."""

TASKS = {name: f"occ.{name}" for name in ("connect", "revalidate", "disconnect", "heard")}


def stored(name: str) -> bytes:
    """An example as it lies in the queue."""
    return (MESSAGES / f"{name}.json").read_bytes()


def opened(message: bytes | str) -> dict[str, Any]:
    """A message with its body decoded."""
    envelope: dict[str, Any] = json.loads(message)
    return {**envelope, "body": json.loads(base64.b64decode(envelope["body"]))}


def closed_again(envelope: dict[str, Any]) -> bytes:
    """The opposite of `opened`."""
    body = base64.b64encode(json.dumps(envelope["body"]).encode()).decode()
    return json.dumps({**envelope, "body": body}).encode()


def _message(name: str, task: str) -> Schema:
    nothing: Schema = {"type": ["object", "null"]}
    return {
        "title": f"{task}, as it lies in the list `{REQUESTS}`",
        "type": "object",
        "properties": {
            "body": {
                "type": "string",
                "contentEncoding": "base64",
                "contentMediaType": "application/json",
                "contentSchema": {
                    "type": "array",
                    "prefixItems": [
                        {"type": "array", "maxItems": 0, "description": "no positional arguments"},
                        {"$ref": f"{name}.schema.json"},
                        nothing,
                    ],
                    "minItems": 3,
                    "maxItems": 3,
                },
            },
            "content-type": {"const": "application/json"},
            "content-encoding": {"const": "utf-8"},
            "headers": {
                "type": "object",
                "properties": {
                    "task": {"const": task},
                    "id": {"type": "string", "minLength": 1, "maxLength": 255, "description": "a new UUID each time"},
                    "argsrepr": {"type": "string", "description": "for display; leave out what is nobody's business"},
                    "kwargsrepr": {"type": "string"},
                    "traceparent": _TRACEPARENT,
                },
                "required": ["task", "id"],
            },
            "properties": {
                "type": "object",
                "properties": {
                    "body_encoding": {"const": "base64"},
                    "delivery_tag": {"type": "string", "minLength": 1, "description": "a new UUID each time"},
                    "delivery_info": {
                        "type": "object",
                        "properties": {"routing_key": {"const": REQUESTS}, "exchange": {"type": "string"}},
                        "required": ["routing_key", "exchange"],
                    },
                },
                "required": ["body_encoding", "delivery_tag", "delivery_info"],
            },
        },
        "required": ["body", "content-type", "content-encoding", "headers", "properties"],
    }


CELERY_MESSAGE: Schema = {
    "$schema": DIALECT,
    "title": "A message of Celery's protocol 2, for producers without Celery",
    "oneOf": [{"$ref": f"#/$defs/{name}"} for name in TASKS],
    "$defs": {name: _message(name, task) for name, task in TASKS.items()},
}

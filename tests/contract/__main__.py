"""Writes the schemas and the AsyncAPI document anew: `.venv/bin/python -m tests.contract`."""

import json
import sys
from typing import Any

from tests.contract.asyncapi import ASYNCAPI
from tests.contract.golden import CELERY_MESSAGE, FOLDER
from tests.contract.shapes import CONNECT, DISCONNECT, EVENT, HEARD, REVALIDATE, STATUS

DOCUMENTS: dict[str, dict[str, Any]] = {
    "asyncapi.json": ASYNCAPI,
    "celery-message.schema.json": CELERY_MESSAGE,
    "connect.schema.json": CONNECT,
    "disconnect.schema.json": DISCONNECT,
    "event.schema.json": EVENT,
    "heard.schema.json": HEARD,
    "revalidate.schema.json": REVALIDATE,
    "status.schema.json": STATUS,
}


def written(document: dict[str, Any]) -> str:
    """A document as it stands in its file."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    for name, document in DOCUMENTS.items():
        (FOLDER / name).write_text(written(document), encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name}\n")

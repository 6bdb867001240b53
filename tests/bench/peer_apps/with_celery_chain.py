"""The same tasks as one chain, with the slots as its last link."""

from typing import Any

from celery import chain, group

from tests.bench.peer_apps import calls
from tests.bench.peer_apps.with_celery import log_in, register, shipping_methods


def send(url: str, key: str) -> Any:
    """All of it."""
    slots = group(register.s(url, slot) for slot in calls.SLOTS)
    return chain(log_in.s(url, key), shipping_methods.s(url), slots).apply_async()

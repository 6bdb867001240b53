"""Celery, set up so that a killed worker's tasks come again: acknowledged late, given out again after a while."""

import os

from celery import Celery

from tests.bench.peer_apps import calls

_SOCKET = os.environ["OCC_PEER_SERVER"].partition("?")[0].replace("unix://", "redis+socket://", 1)

app = Celery("peer", broker=_SOCKET)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": int(os.environ.get("OCC_PEER_REDELIVERY", "3600"))},
    task_annotations={"*": {"autoretry_for": (OSError,), "max_retries": 5, "default_retry_delay": 1}},
)


@app.task
def connect(url: str, key: str) -> None:
    """The first two calls, then a message per slot."""
    token = calls.log_in(url, key)
    calls.shipping_methods(url, token)
    for slot in calls.SLOTS:
        register.delay(token, url, slot)


@app.task
def log_in(url: str, key: str) -> str:
    """The first link of the chain."""
    return calls.log_in(url, key)


@app.task
def shipping_methods(token: str, url: str) -> str:
    """The second."""
    calls.shipping_methods(url, token)
    return token


@app.task
def register(token: str, url: str, slot: str) -> None:
    """The last, four side by side."""
    calls.register(url, token, slot)


send = connect.delay

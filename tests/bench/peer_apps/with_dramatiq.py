"""dramatiq: a message per store, and one per slot."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.bench.peer_apps import calls

_REDELIVERY = int(os.environ.get("OCC_PEER_REDELIVERY", "60")) * 1000
dramatiq.set_broker(RedisBroker(url=os.environ["OCC_PEER_SERVER"], heartbeat_timeout=_REDELIVERY))


@dramatiq.actor(min_backoff=1000)
def connect(url: str, key: str) -> None:
    """The first two calls, then a message per slot."""
    token = calls.log_in(url, key)
    calls.shipping_methods(url, token)
    for slot in calls.SLOTS:
        register.send(url, token, slot)


@dramatiq.actor(min_backoff=1000)
def register(url: str, token: str, slot: str) -> None:
    """One slot."""
    calls.register(url, token, slot)


send = connect.send

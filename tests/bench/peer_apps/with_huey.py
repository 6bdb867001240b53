"""huey: a message per store, and one per slot."""

import os

from huey import RedisHuey

from tests.bench.peer_apps import calls

huey = RedisHuey("peer", url=os.environ["OCC_PEER_SERVER"], results=False)


@huey.task(retries=5, retry_delay=1)
def connect(url: str, key: str) -> None:
    """The first two calls, then a message per slot."""
    token = calls.log_in(url, key)
    calls.shipping_methods(url, token)
    for slot in calls.SLOTS:
        register(url, token, slot)


@huey.task(retries=5, retry_delay=1)
def register(url: str, token: str, slot: str) -> None:
    """One slot."""
    calls.register(url, token, slot)


send = connect

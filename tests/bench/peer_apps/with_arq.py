"""arq: a job per store, and one per slot, 200 at once in each process."""

import asyncio
import json
import os
import sys
import time
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from tests.bench.peer_apps import by_asyncio
from tests.bench.peer_apps.calls import SLOTS

SERVER = RedisSettings.from_dsn(os.environ["OCC_PEER_SERVER"])


async def _begin(context: dict[str, Any]) -> None:
    context["http"] = by_asyncio.session()


async def _end(context: dict[str, Any]) -> None:
    await context["http"].close()


async def connect(context: dict[str, Any], url: str, key: str) -> None:
    """The first two calls, then a job per slot."""
    token = await by_asyncio.begin(context["http"], url, key)
    for slot in SLOTS:
        await context["redis"].enqueue_job("register", url, token, slot)


async def register(context: dict[str, Any], url: str, token: str, slot: str) -> None:
    """One slot."""
    await by_asyncio.register(context["http"], url, token, slot)


class Worker:
    """What `arq` is started with."""

    functions = (connect, register)
    redis_settings = SERVER
    on_startup, on_shutdown = _begin, _end
    max_jobs = 200
    job_timeout = int(os.environ.get("OCC_PEER_REDELIVERY", "300"))  # a killed worker's jobs come again 10 s later
    poll_delay = 0.05
    keep_result = 0


async def _produce() -> None:
    stores = json.load(sys.stdin)
    pool = await create_pool(SERVER)
    started, sent = time.monotonic(), []
    for store in stores:
        await asyncio.sleep(max(0.0, started + store["wait"] - time.monotonic()))
        sent.append(time.time())
        await pool.enqueue_job("connect", store["url"], store["key"])
    print(json.dumps(sent))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_produce())

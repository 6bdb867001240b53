"""The same calls with aiohttp: for arq, and as a floor of its own, with no queue at all.

As a program it reads and prints what `tests.bench.floor` does.
"""

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp

from tests.bench.peer_apps.calls import SLOTS


def session() -> aiohttp.ClientSession:
    """As many connections as there are calls."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True)


async def begin(http: aiohttp.ClientSession, url: str, key: str) -> str:
    """Login and shipping methods; the access token."""
    form = {"grant_type": "client_credentials"}
    async with http.post(f"{url}/ccadmin/v1/login", data=form, headers={"Authorization": f"Bearer {key}"}) as answer:
        token = str((await answer.json(content_type=None))["access_token"])
    headers = {"Authorization": f"Bearer {token}"}
    async with http.get(f"{url}/ccadmin/v1/shippingMethods", headers=headers) as answer:
        await answer.json(content_type=None)
    return token


async def register(http: aiohttp.ClientSession, url: str, token: str, slot: str) -> None:
    """Read one slot and add a URL to it."""
    address, headers = f"{url}/ccadmin/v1/webhooks/{slot}", {"Authorization": f"Bearer {token}"}
    async with http.get(address, headers=headers) as answer:
        held = (await answer.json(content_type=None))["urls"] or []
    ours = f"https://hooks.example.com/{slot}"
    body = {"urls": [*(other for other in held if other != ours), ours]}
    async with http.put(address, json=body, headers=headers) as answer:
        await answer.read()


async def _connect(http: aiohttp.ClientSession, at_once: asyncio.Semaphore, store: dict[str, Any], at: float) -> None:
    await asyncio.sleep(max(0.0, at + store["wait"] - time.monotonic()))
    async with at_once:
        token = await begin(http, store["url"], store["key"])
        await asyncio.gather(*(register(http, store["url"], token, slot) for slot in SLOTS))


async def _main() -> None:
    work = json.load(sys.stdin)
    started, cpu = time.monotonic(), time.process_time()
    at_once = asyncio.Semaphore(work["threads"])
    async with session() as http:
        await asyncio.gather(*(_connect(http, at_once, store, started) for store in work["stores"]))
    print(json.dumps({"wall": time.monotonic() - started, "cpu": time.process_time() - cpu}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_main())

"""The floor: the same ten calls as a healthy connect, from a thread pool with requests, with no queue and no record.

Reads a JSON object from standard input: `stores` (url, key, wait: seconds after the start), `threads`; writes one with
`wall` and `cpu` seconds.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")


def connect(session: requests.Session, slots: ThreadPoolExecutor, store: dict[str, Any], started: float) -> None:
    """Login, shipping methods, and the four slots side by side."""
    time.sleep(max(0.0, started + store["wait"] - time.monotonic()))
    admin = f"{store['url']}/ccadmin/v1"
    login = session.post(
        f"{admin}/login",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"Bearer {store['key']}"},
        timeout=30,
    )
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    session.get(f"{admin}/shippingMethods", headers=headers, timeout=30).json()

    def register(slot: str) -> None:
        url = f"{admin}/webhooks/{slot}"
        urls = session.get(url, headers=headers, timeout=30).json()["urls"] or []
        body = {"urls": [*urls, f"https://hooks.example.com/{slot}"]}
        session.put(url, json=body, headers=headers, timeout=30).json()

    list(slots.map(register, SLOTS))


def main() -> None:
    """Measure and print."""
    work = json.load(sys.stdin)
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=256, pool_maxsize=16))
    started, cpu = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(work["threads"]) as stores, ThreadPoolExecutor(4 * work["threads"]) as slots:
        list(stores.map(lambda store: connect(session, slots, store, started), work["stores"]))
    print(json.dumps({"wall": time.monotonic() - started, "cpu": time.process_time() - cpu}))  # noqa: T201
    session.close()


if __name__ == "__main__":
    main()

"""Carries the deliveries of all stores to their callback URLs, in threads of its own."""

import contextlib
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from occ.simulator.deliveries import Delivery
from occ.simulator.store import SimulatedStore

_THREADS = 8
_TIMEOUT = 10.0  # seconds; how long Oracle waits was not found
_CHECK_EVERY = 0.5
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Courier:
    """Runs from `start` to `stop`."""

    def __init__(self, stores: Callable[[], Iterable[SimulatedStore]]) -> None:
        self.orders_per_minute = 0.0
        self._stores = stores
        self._active: set[SimulatedStore] = set()
        self._changed = threading.Condition()
        self._over = False
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._dice = random.Random()  # noqa: S311 - which store gets an order

    def start(self) -> None:
        """Begin to carry."""
        self._over = False
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="occ-courier")
        self._thread = threading.Thread(target=self._run, name="occ-courier", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; what is on its way is dropped. Harmless when it is not running."""
        if self._thread is None or self._pool is None:
            return
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._thread = self._pool = None

    def has_something(self, store: SimulatedStore) -> None:
        """A store has something to send."""
        with self._changed:
            self._active.add(store)
            self._changed.notify()

    def set_orders(self, per_minute: float) -> None:
        """So many orders a minute, at one store or another."""
        with self._changed:
            self.orders_per_minute = per_minute
            self._changed.notify()

    def _run(self) -> None:
        next_order: float | None = None
        while True:
            with self._changed:
                if self._over:
                    return
                rate, active = self.orders_per_minute, list(self._active)
                self._active.clear()
            now = time.monotonic()
            if rate <= 0:
                next_order = None
            elif next_order is None or now >= next_order:
                if next_order is not None:
                    self._place_order()
                next_order = now + self._dice.expovariate(rate / 60)
            waits = {store: wait for store in active if (wait := self._carry(store)) is not None}
            with self._changed:
                nothing_new = not self._active and self.orders_per_minute == rate
                self._active |= waits.keys()
                if nothing_new and not self._over:
                    orders = [next_order - now] if next_order is not None else []
                    self._changed.wait(max(0.001, min([_CHECK_EVERY, *waits.values(), *orders])))

    def _place_order(self) -> None:
        stores = [store for store in self._stores() if store.reachable]
        if stores:
            self._dice.choice(stores).place_order()

    def _carry(self, store: SimulatedStore) -> float | None:
        """Send what is due; tells in how many seconds there is more, None if nothing waits."""
        due, wait = store.deliveries_due()
        for delivery in due:
            if self._pool is not None:
                self._pool.submit(self._send, store, delivery)
        return wait

    def _send(self, store: SimulatedStore, delivery: Delivery) -> None:
        problems = {url: post(url, delivery) for url in delivery.urls}
        store.delivery_ended(delivery, {url: problem for url, problem in problems.items() if problem is not None})


def post(url: str, delivery: Delivery) -> str | None:
    """Send it once; what went wrong, in words as a store might use, or None."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
    connection = (
        http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    )
    path = parts.path or "/"
    try:
        connection.request(
            "POST", f"{path}?{parts.query}" if parts.query else path, delivery.body, dict(delivery.headers)
        )
        status = connection.getresponse().status
    except TimeoutError:
        return "Read timed out"
    except ConnectionRefusedError:
        return "Connection refused"
    except ssl.SSLError:
        return "SSL handshake failed"
    except (OSError, http.client.HTTPException) as problem:
        return f"I/O error: {type(problem).__name__}"
    finally:
        with contextlib.suppress(OSError, socket.error):
            connection.close()
    return None if 200 <= status < 300 else f"Response code {status} received for webhook {delivery.webhook}"

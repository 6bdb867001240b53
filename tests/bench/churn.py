"""A day in which merchants move, leave and come back all the time: nothing grows but what is bounded.

The real decisions, scripts and server; stores without sockets, and a clock that is moved by hand.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import structlog

from integrations.clock import Clock, elapsed
from integrations.connections.record import Connection, Target
from integrations.egress.session import Answer, GuardedSession
from integrations.oracle_commerce.accept import Asked, Door
from integrations.sealing.keyring import SealingKey, seal
from integrations.settings import Settings
from occ.local.server import EmbeddedServer
from occ.simulator.direct import DirectSession
from occ.simulator.store import SimulatedStore
from tasks.step import run_step
from tasks.wiring import Wiring

HOUR = 3600.0


@dataclass(frozen=True)
class Sizes:
    """What there is at the end of an hour."""

    keys: int
    memory: int  # bytes
    files: int
    threads: int


def measure_churn(*, merchants: int, hours: int) -> dict[str, object]:
    """What there is after half of the time, and the most there is at its end."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        churn = Churn(server.url, merchants)
        sizes = [churn.hour(number) for number in range(hours)]
    half, end = _most(sizes[hours * 3 // 8 : hours * 5 // 8]), _most(sizes[-hours // 4 :])
    figures: dict[str, object] = {"merchants": merchants, "hours": hours}
    for name in ("keys", "memory", "files", "threads"):
        before, after = getattr(half, name), getattr(end, name)
        figures[name] = f"{before} half-way, {after} at the end, ratio {after / max(1, before):.2f}"
    figures["grown"] = ", ".join(grown(sizes)) or "nothing"
    return figures


def grown(sizes: Sequence[Sizes]) -> list[str]:
    """What is more in the last quarter than it was around half-time, beyond noise."""
    half, end = _most(sizes[len(sizes) * 3 // 8 : len(sizes) * 5 // 8]), _most(sizes[-len(sizes) // 4 :])
    kept = {
        "keys": end.keys <= half.keys,
        "memory": end.memory <= 1.25 * half.memory,
        "files": end.files <= half.files + 2,
        "threads": end.threads <= half.threads + 1,
    }
    return [name for name, is_kept in kept.items() if not is_kept]


def _most(sizes: Sequence[Sizes]) -> Sizes:
    return Sizes(*(max(of_all) for of_all in zip(*map(astuple, sizes), strict=True)))


class Churn:
    """Each hour each merchant moves, leaves, or comes back."""

    def __init__(self, redis_url: str, merchants: int) -> None:
        self._key = SealingKey.generate()
        self.names = [f"m-{number}" for number in range(merchants)]
        self._stores = {
            url: SimulatedStore(name, url=url)
            for name in self.names
            for url in (f"https://ccadmin-{name}-z{place}a2.oracleoutsourcing.com" for place in (1, 2))
        }
        self.services = Wiring(
            Settings(
                redis_url=redis_url,
                sealing_keys=(self._key,),
                callback_url="https://hooks.example.com/occ/{merchant_id}/{slot}",
                timeline_length=20,
                max_events=1000,
                outage_share=0,
            )
        )
        self._later = 0.0
        self.services.records.clock = Clock(self.services.redis, count=lambda: elapsed() + self._later)
        self.services.session = _Stores(self._stores)
        self._place = dict.fromkeys(self.names, 1)
        self._messages: list[tuple[str, int, Target]] = []

    def hour(self, number: int) -> Sizes:
        """One hour of it; what there is at its end."""
        for index, name in enumerate(self.names):
            if number and (number + index) % 3 == 1:
                self._asked(self.services.acceptance.disconnect({"merchant_id": name}, Door.INBOX))
            else:
                if number and (number + index) % 3 == 0:
                    self._place[name] = 3 - self._place[name]
                self._connect(name, place=self._place[name])
            self._work()
        self._later += HOUR
        self.services.records.clock.keep()
        while work := self.services.records.take_due(500, put_off=10.0).work:
            for merchant_id, slot in work:
                connection = self.services.records.load(merchant_id).connection
                if connection is not None and slot in connection.due():
                    self._messages.append((merchant_id, connection.run, Target(connection.step, slot)))
            self._work()
        self.services.former_stores._next_look = 0.0
        while self.services.former_stores.forget_some():
            pass
        return self._sizes()

    def _connect(self, name: str, *, place: int) -> None:
        url = f"https://ccadmin-{name}-z{place}a2.oracleoutsourcing.com"
        sealed = seal(self._key.public_key, self._key.key_id, name, self._stores[url].application_key)
        request = {"merchant_id": name, "store_url": url, "application_key": sealed}
        accepted = self.services.acceptance.accept(request, Door.INBOX)
        if accepted.former is not None:
            self._send(accepted.former, [target for target, _ in accepted.former.unfinished()])
        self._send(accepted.connection, accepted.connection.ready(self.services.records.clock.now()))

    def _asked(self, asked: Asked) -> None:
        if asked.committed is not None:
            self._send(asked.committed.after, asked.committed.after.ready(asked.committed.snapshot.now()))

    def _send(self, connection: Connection, targets: Iterable[Target]) -> None:
        self._messages += [(connection.merchant_id, connection.run, target) for target in sorted(targets, key=str)]

    def _work(self) -> None:
        while self._messages:
            merchant_id, run, target = self._messages.pop(0)
            run_step(self.services, self._send, merchant_id, run, target)

    def _sizes(self) -> Sizes:
        client: redis.Redis = self.services.redis
        memory: Any = client.info("memory")
        return Sizes(
            keys=client.dbsize(),
            memory=int(memory["used_memory_dataset"]),
            files=len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,  # noqa: PTH112, PTH208
            threads=threading.active_count(),
        )


class _Stores(GuardedSession):
    """The way out to whichever store has the address."""

    def __init__(self, stores: Mapping[str, SimulatedStore]) -> None:
        self._stores = stores

    def request(self, method: str, url: str, **call: Any) -> Answer:
        parts = urlsplit(url)
        return DirectSession(self._stores[f"{parts.scheme}://{parts.netloc}"]).request(method, url, **call)

    def close(self) -> None:
        """There is nothing to close."""

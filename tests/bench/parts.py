"""Where the CPU of a connect and of a re-validation goes, part by part: the parts add up, the rest is named too.

One thread does all the work, without Celery, at stores in a process of their own, and counts its own CPU time. What
Celery, its messages and its events take comes on top: the CPU of a worker in `./run bench connect`, less this.
"""

import functools
import io
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import redis
import requests

from integrations.connections.record import Connection, Target
from integrations.connections.records import Committed
from integrations.oracle_commerce.accept import Door
from integrations.sealing.keyring import SealingKey, seal
from integrations.settings import load_settings
from occ.local.server import EmbeddedServer
from occ.simulator.process import SimulatorProcess
from tasks.claimed_step import ClaimedAhead
from tasks.step import run_step
from tasks.wiring import Wiring
from tasks.worker import logs
from tests.bench.floor import SLOTS
from tests.bench.resting import write_connections

REST = "decisions, and all the rest"
PARTS = {
    "Redis: commands and scripts": ("redis.Redis.execute_command", "redis.client.Pipeline.execute"),
    "HTTP: the guarded calls": ("integrations.egress.session.GuardedSession.request",),
    "keys and tokens: opening and sealing": (
        *("integrations.sealing.keyring.Keyring.open", "integrations.sealing.keyring.Keyring.encrypt_token"),
        "integrations.sealing.keyring.Keyring.decrypt_token",
    ),
    "records: reading": ("integrations.connections.records.record_in",),
    "records: what a commit writes": (
        "integrations.connections.records.commit_of",
        "integrations.connections.commit.Commit.document",
    ),
    "log lines": ("structlog._base.BoundLoggerBase._proxy_to_logger",),
}


class Parts:
    """CPU seconds of this thread by part: of a part within another one, the inner has it."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._at, self._inside = time.thread_time(), [REST]

    def of(self, work: Callable[[], None]) -> dict[str, float]:
        """What some work has spent, in seconds, by part."""
        self._switch()
        self._spent.clear()
        work()
        self._switch()
        return {part: self._spent[part] for part in (*PARTS, REST)}

    def _switch(self) -> None:
        """What has passed belongs to the part we are in."""
        now = time.thread_time()
        self._spent[self._inside[-1]] += now - self._at
        self._at = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as a part."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._inside.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._inside.pop()

        return call

    def watch(self, cleanup: ExitStack) -> None:
        """Count from now on."""
        for part, places in PARTS.items():
            for place in places:
                original, _ = patch(place).get_original()
                cleanup.enter_context(patch(place, self.timed(part, original)))


def measure_parts(*, merchants: int, beside: int = 0) -> dict[str, object]:
    """CPU milliseconds of each part, by name: means of the cheaper quarter, which the machine has disturbed least.

    `beside`: so many connections are at rest in the records; their memory is told, without a history. The server's
    commands, those in scripts and the scripts themselves, and its CPU are means of all.
    """
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        server = cleanup.enter_context(EmbeddedServer(folder))
        counted = cleanup.enter_context(redis.Redis.from_url(server.url, decode_responses=True))
        empty = counted.info("memory")["used_memory"]
        write_connections(counted, beside)
        figures: dict[str, object] = {}
        if beside:
            figures["bytes_per_connection_at_rest"] = round((counted.info("memory")["used_memory"] - empty) / beside)
        stores = cleanup.enter_context(SimulatorProcess(["--latency", "0"]))
        logs.configure("INFO", "json", io.StringIO())
        key = SealingKey.generate()
        environ = {
            "OCC_REDIS_URL": server.url,
            "OCC_SEALING_KEYS": key.export(),
            "OCC_CALLBACK_URL": "https://hooks.example.com/occ/{merchant_id}/{slot}",
            "OCC_DEV_STORES": stores.dev_stores,
        }
        services, parts = Wiring(load_settings(environ)), Parts()
        parts.watch(cleanup)
        spent: dict[str, list[dict[str, float]]] = {"bare": [], "connect": [], "revalidate": []}
        server_spent: Counter[str] = Counter()

        def count(what: str, sign: int) -> None:
            cpu = counted.info("cpu")
            server_spent[f"{what}_server_us"] += sign * round(1e6 * (cpu["used_cpu_user"] + cpu["used_cpu_sys"]))
            server_spent[f"{what}_commands"] += sign * counted.info("stats")["total_commands_processed"]

        for store in list(stores.client.add_all({"name": f"m-{number}"} for number in range(merchants))):
            sealed = seal(key.public_key, key.key_id, store["name"], store["application_key"])
            request = {"merchant_id": store["name"], "store_url": store["store_url"], "application_key": sealed}
            count("connect", -1)
            spent["connect"].append(parts.of(lambda request=request: _connect(services, request)))  # type: ignore[misc]
            count("connect", 1)
            count("revalidate", -1)
            spent["revalidate"].append(parts.of(lambda store=store: _revalidate(services, store["name"])))  # type: ignore[misc]
            count("revalidate", 1)
            spent["bare"].append(parts.of(lambda store=store: _bare(store)))  # type: ignore[misc]
        services.redis.close()
    figures |= {what: round(spent_there / merchants, 1) for what, spent_there in server_spent.items()}
    for what, each in spent.items():
        cheaper = sorted(each, key=lambda one: sum(one.values()))[: max(1, len(each) // 4)]
        means = {part: 1000 * sum(one[part] for one in cheaper) / len(cheaper) for part in cheaper[0]}
        if what != "bare":
            figures |= {f"{what}_{part}": round(mean, 2) for part, mean in means.items()}
        figures[f"{what}_total_ms"] = round(sum(means.values()), 2)
    return figures


def _connect(services: Wiring, request: dict[str, str]) -> None:
    accepted = services.acceptance.accept(request, Door.CELERY)
    _to_the_end(services, accepted.connection, accepted.connection.ready(accepted.connection.updated_at))


def _revalidate(services: Wiring, merchant_id: str) -> None:
    committed = services.acceptance.revalidate({"merchant_id": merchant_id}, Door.CELERY).committed
    if not isinstance(committed, Committed):
        raise TypeError("there was nothing to look at")
    _to_the_end(services, committed.after, committed.after.ready(committed.snapshot.now()))


def _to_the_end(services: Wiring, connection: Connection, targets: Iterable[Target]) -> None:
    worker = _Worker()
    worker.start(connection, targets)
    while worker.hints:
        run, target, ahead = worker.hints.pop(0)
        run_step(services, worker.start, connection.merchant_id, run, target, threads=worker, ahead=ahead)


class _Worker:
    """One with free threads, but what they are given is done one after the other."""

    def __init__(self) -> None:
        self.hints: list[tuple[int, Target, ClaimedAhead | None]] = []

    def start(self, connection: Connection, targets: Iterable[Target]) -> None:
        """What nothing is claimed for."""
        self.hints += [(connection.run, target, None) for target in targets]

    def room(self) -> int:
        """There is always a thread."""
        return 8

    def take(self, connection: Connection, target: Target, *, claimed: object, give_back: object) -> bool:  # noqa: ARG002
        """What is claimed for one."""
        self.hints.append((connection.run, target, claimed if isinstance(claimed, ClaimedAhead) else None))
        return True


def _bare(store: dict[str, Any]) -> None:
    """The same ten calls as a connect with `requests`."""
    admin = f"{store['store_url']}/ccadmin/v1"
    bearer = {"Authorization": f"Bearer {store['application_key']}"}
    with requests.Session() as session:
        session.trust_env = False
        form = {"grant_type": "client_credentials"}
        login = session.post(f"{admin}/login", data=form, headers=bearer, timeout=30).json()
        headers = {"Authorization": f"Bearer {login['access_token']}"}
        session.get(f"{admin}/shippingMethods", headers=headers, timeout=30).json()
        for slot in SLOTS:
            urls = session.get(f"{admin}/webhooks/{slot}", headers=headers, timeout=30).json()["urls"] or []
            session.put(f"{admin}/webhooks/{slot}", json={"urls": urls}, headers=headers, timeout=30).json()

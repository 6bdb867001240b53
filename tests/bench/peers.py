"""The same ten calls at the same simulated stores, brought there by other libraries and by us, in one run.

The peers' packages are no part of ours: they are installed into a virtual environment of their own that is removed
afterwards, or come from a Python that is named. The libraries are set up as their documentation says for tasks that
must not be lost, and to give a killed worker's tasks out again soon; everything else is as they come.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from occ.simulator.calls import Call
from occ.simulator.store import SimulatedStore
from tests.bench.connect import CALLS_IN_A_ROW
from tests.bench.process_time import cpu_of, machine_time
from tests.pipeline import REPOSITORY, Pipeline

OURS = "occ-connect"
SLOTS = 4
_APPS = "tests.bench.peer_apps"
_REDELIVERY = 8  # seconds after which a killed worker's tasks come again, where a library can do that
_QUIET = 40.0  # seconds without any call after which nothing more is expected

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    merchants: int = 200
    rate: float = 8.0
    seconds: float = 10.0
    latency: float = 0.05
    workers: int = 2
    kills: int = 10


@dataclass(frozen=True, slots=True)
class Peer:
    """A library: how its worker is started and its producer, and which Redis command puts a message into its queue."""

    worker: Sequence[str]
    producer: Sequence[str]
    message: str


_CELERY = ("-m", "celery", "-A", f"{_APPS}.with_celery", "worker", "-P", "threads", "-c", "32", "--loglevel", "ERROR")
_PRODUCE = ("-m", f"{_APPS}.produce")
PEERS: Mapping[str, Peer] = {
    "celery chain": Peer(_CELERY, (*_PRODUCE, "with_celery_chain"), "lpush"),
    "celery fan-out, events": Peer((*_CELERY, "-E"), (*_PRODUCE, "with_celery"), "lpush"),
    "dramatiq": Peer(
        ("-m", "dramatiq", f"{_APPS}.with_dramatiq", "--processes", "1", "--threads", "32"),
        (*_PRODUCE, "with_dramatiq"),
        "rpush",
    ),
    "huey": Peer(
        ("-m", "huey.bin.huey_consumer", f"{_APPS}.with_huey.huey", "-w", "32", "-k", "thread"),
        (*_PRODUCE, "with_huey"),
        "lpush",
    ),
    "arq": Peer(("-m", "arq", f"{_APPS}.with_arq.Worker"), ("-m", f"{_APPS}.with_arq"), "zadd"),
}


def requirements() -> list[str]:
    """What the peers need, from the dependency group."""
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return list(groups["peers"])


def has_peers(python: str) -> bool:
    """Whether a Python has the packages."""
    imports = "import aiohttp, arq, celery, dramatiq, huey, redis, requests"
    return subprocess.run([python, "-c", imports], capture_output=True, check=False).returncode == 0


@contextmanager
def python_with_peers(python: str | None) -> Iterator[str]:
    """The one that is named, or that of a virtual environment made for this."""
    if python is not None:
        yield python
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        made = str(Path(folder) / "bin" / "python")
        subprocess.run([made, "-m", "pip", "install", "--quiet", *requirements()], check=True)
        yield made


def measure_peers(plan: Plan, *, python: str, only: Sequence[str] = ()) -> Json:
    """The figures by name of who did the calls."""
    before, figures = machine_time(), {}
    settings = {"OCC_CONCURRENCY": "32", "OCC_SECOND_LOOK": "1h"}
    with tempfile.TemporaryDirectory() as folder, Pipeline(Path(folder), settings=settings, latency=plan.latency) as it:
        bench = _Bench(it, plan, python)
        figures["bare threads"] = bench.bare([sys.executable, "-m", "tests.bench.floor"])
        figures["bare asyncio"] = bench.bare([python, "-m", f"{_APPS}.by_asyncio"])
        for name in only or [*PEERS, OURS]:
            figures[name] = bench.queue(name, Ours(it) if name == OURS else Theirs(it, PEERS[name], python))
    after = machine_time()
    floor = figures["bare threads"]["cpu_ms"]
    for row in figures.values():
        row["cpu_to_floor"] = round(row["cpu_ms"] / floor, 2)
    if before and after:
        figures["machine"] = {"busy": round((after.busy - before.busy) / (after.total - before.total), 2)}
    return figures


class Theirs:
    """Workers of a library."""

    def __init__(self, pipeline: Pipeline, peer: Peer, python: str) -> None:
        self.message = peer.message
        self._pipeline, self._peer, self._python = pipeline, peer, python
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """One more worker."""
        self._workers.append(
            subprocess.Popen(
                [self._python, *self._peer.worker],
                env=self._environment,
                cwd=REPOSITORY,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def kill(self) -> None:
        """One of them, with its children."""
        worker = self._workers.pop(random.randrange(len(self._workers)))  # noqa: S311 - any will do
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def stop(self) -> None:
        """All of them."""
        while self._workers:
            self.kill()

    def sessions(self) -> list[int]:
        """The process groups of the workers."""
        return [worker.pid for worker in self._workers]

    def send(self, stores: Sequence[SimulatedStore], waits: Sequence[float]) -> list[float]:
        """Have all stores connected; returns when each was sent."""
        work = [
            {"url": store.url, "key": store.application_key, "wait": wait}
            for store, wait in zip(stores, waits, strict=True)
        ]
        done = subprocess.run(
            [self._python, *self._peer.producer],
            input=json.dumps(work),
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=REPOSITORY,
            check=True,
        )
        sent: list[float] = json.loads(done.stdout)
        return sent

    @property
    def _environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("OCC_")}
        return {**plain, "OCC_PEER_SERVER": self._pipeline.server.url, "OCC_PEER_REDELIVERY": str(_REDELIVERY)}


class Ours:
    """The whole pipeline: workers with their guards and records, and beat."""

    message = "lpush"

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._beat = ""

    def start(self) -> None:
        """One more worker, and beat with the first."""
        self._beat = self._beat or self._pipeline.start_beat()
        self._pipeline.start_worker()

    def kill(self) -> None:
        """One of the workers, with its children."""
        self._pipeline.kill(random.choice(self._pipeline.running_workers()), signal.SIGKILL)  # noqa: S311 - any will do

    def stop(self) -> None:
        """All of them."""
        for name in list(self._pipeline.processes):
            self._pipeline.kill(name, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """The process groups of the workers; beat's too."""
        return [process.pid for process in self._pipeline.processes.values()]

    def send(self, stores: Sequence[SimulatedStore], waits: Sequence[float]) -> list[float]:
        """Have all stores connected; returns when each was sent."""
        requests = [self._pipeline.request(store) for store in stores]
        started, sent = time.monotonic(), []
        for request, wait in zip(requests, waits, strict=True):
            time.sleep(max(0.0, started + wait - time.monotonic()))
            sent.append(time.time())
            self._pipeline.send(request)
        return sent


class _Bench:
    """One server and one platform of stores for all."""

    def __init__(self, pipeline: Pipeline, plan: Plan, python: str) -> None:
        self._pipeline, self._plan, self._python = pipeline, plan, python
        self._made = 0

    def bare(self, command: Sequence[str]) -> Json:
        """No queue and nothing remembered."""
        stores = self._stores(self._plan.merchants)
        all_at_once = self._run_bare(command, stores, [0.0] * len(stores))
        stores = self._stores(len(self._waits))
        self._run_bare(command, stores, self._waits)
        times = [_last_write(store) - store.calls.entries[0].arrived_wall for store in stores]
        return {
            "cpu_ms": round(all_at_once["cpu"] / self._plan.merchants * 1000, 2),
            "per_second": round(self._plan.merchants / all_at_once["wall"], 1),
            "p50_to_round_trips": self._to_round_trips(times),
            "messages": 0,
            "commands": 0,
        }

    def queue(self, name: str, workers: Theirs | Ours) -> Json:
        """The same through a queue, and with workers being killed."""
        self._pipeline.redis.flushall()
        try:
            for _ in range(self._plan.workers):
                workers.start()
            self._connect(workers, self._stores(40), [0.0] * 40)
            return {**self._at_once(workers), **self._paced(workers), **self._under_kills(workers)}
        except TimeoutError as error:
            raise TimeoutError(f"{name}: {error}") from None
        finally:
            workers.stop()

    def _at_once(self, workers: Theirs | Ours) -> Json:
        stores = self._stores(self._plan.merchants)
        groups, before, counted = workers.sessions(), self._cpu(workers), self._counted(workers.message)
        began = time.time()
        self._connect(workers, stores, [0.0] * len(stores))
        took = max(map(_last_write, stores)) - began
        time.sleep(1)  # the last acknowledgements
        commands, messages = (after - then for after, then in zip(self._counted(workers.message), counted, strict=True))
        assert groups == workers.sessions()
        return {
            "cpu_ms": round((self._cpu(workers) - before) / len(stores) * 1000, 2),
            "per_second": round(len(stores) / took, 1),
            "messages": round(messages / len(stores), 1),
            "commands": round(commands / len(stores), 1),
        }

    def _paced(self, workers: Theirs | Ours) -> Json:
        stores = self._stores(len(self._waits))
        sent = self._connect(workers, stores, self._waits)
        times = [_last_write(store) - at for store, at in zip(stores, sent, strict=True)]
        return {"p50_to_round_trips": self._to_round_trips(times)}

    def _under_kills(self, workers: Theirs | Ours) -> Json:
        """Stores that some slot of was never written, though nothing more happens: with a kill about every second."""
        kills = self._plan.kills
        if not kills:
            return {}
        stores = self._stores(15 * kills)
        waits = [number / 15 for number in range(len(stores))]
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(workers.send, stores, waits)
            for _ in range(kills):
                time.sleep(1)
                workers.kill()
                workers.start()
            sending.result()
        quiet_since, calls = time.monotonic(), -1
        while (
            missing := sum(not _is_connected(store) for store in stores)
        ) and time.monotonic() < quiet_since + _QUIET:
            if (made := sum(store.calls.endpoints.total() for store in stores)) != calls:
                quiet_since, calls = time.monotonic(), made
            time.sleep(0.2)
        return {"sent_under_kills": len(stores), "kills": kills, "lost": missing}

    def _connect(self, workers: Theirs | Ours, stores: Sequence[SimulatedStore], waits: Sequence[float]) -> list[float]:
        sent = workers.send(stores, waits)
        until = time.monotonic() + 120
        while not all(map(_is_connected, stores)):
            if time.monotonic() > until:
                raise TimeoutError("the stores were not all connected within two minutes")
            time.sleep(0.02)
        return sent

    def _run_bare(self, command: Sequence[str], stores: Sequence[SimulatedStore], waits: Sequence[float]) -> Json:
        listed = [
            {"url": store.url, "key": store.application_key, "wait": wait}
            for store, wait in zip(stores, waits, strict=True)
        ]
        work = json.dumps({"threads": 64, "stores": listed})
        done = subprocess.run(command, input=work, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        told: Json = json.loads(done.stdout)
        return told

    def _stores(self, number: int) -> list[SimulatedStore]:
        self._made += 1
        return self._pipeline.simulator.add_many(number, f"peer-{self._made}-{{n}}")

    @property
    def _waits(self) -> list[float]:
        return [number / self._plan.rate for number in range(max(2, int(self._plan.rate * self._plan.seconds)))]

    def _to_round_trips(self, times: Sequence[float]) -> float | None:
        round_trips = CALLS_IN_A_ROW * self._plan.latency
        return round(median(times) / round_trips, 2) if round_trips else None

    def _counted(self, message: str) -> tuple[int, int]:
        stats = self._pipeline.redis.info("commandstats")
        messages = stats.get(f"cmdstat_{message}", {"calls": 0})["calls"]
        return int(self._pipeline.redis.info("stats")["total_commands_processed"]), int(messages)

    @staticmethod
    def _cpu(workers: Theirs | Ours) -> float:
        groups = set(workers.sessions())
        listed = subprocess.run(["ps", "-A", "-o", "pid=,pgid="], capture_output=True, text=True, check=True).stdout
        pairs = (map(int, line.split()) for line in listed.splitlines())
        return cpu_of(pid for pid, group in pairs if group in groups)


def _is_connected(store: SimulatedStore) -> bool:
    return len({call.slot for call in _writes(store)}) == SLOTS


def _last_write(store: SimulatedStore) -> float:
    return max(call.arrived_wall + (call.answered or call.arrived) - call.arrived for call in _writes(store))


def _writes(store: SimulatedStore) -> list[Call]:
    return [
        call for call in store.calls.entries if call.endpoint == "write_slot" and call.answered and call.status == 200
    ]

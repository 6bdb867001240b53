"""The whole pipeline for end-to-end tests, fault suite and benchmarks: real server, workers and beat in processes of
their own, simulated stores over HTTP. Nothing in it is shortened but the waits.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from celery import Celery

from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.records import Records
from integrations.connections.status import status_object
from integrations.sealing.keyring import SealingKey, seal
from occ.local.commands import beat_command, worker_command
from occ.local.server import EmbeddedServer
from occ.local.tether import tethered
from occ.simulator.runner import Simulator, TlsFiles
from occ.simulator.store import SimulatedStore
from tasks.inbox import STREAM
from tests.waiting import PATIENCE, eventually, wait_until

REPOSITORY = Path(__file__).parent.parent
SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")

# Short enough for tests, in the proportions of the defaults: call deadline < lease, first retry << longest.
PACE = {
    "OCC_CALL_DEADLINE": "2",
    "OCC_CONNECT_TIMEOUT": "1",
    "OCC_LEASE": "7",
    "OCC_RETRY_FIRST": "0.5",
    "OCC_RETRY_MAX": "2",
    "OCC_RETRY_ATTEMPTS": "5",
    "OCC_CONFIRM_REJECTION": "2",
    "OCC_SECOND_LOOK": "1h",
    "OCC_RECHECK_DEGRADED": "2h",
    "OCC_OUTAGE_SHARE": "0",  # tests of many faulty stores are about each of them
    "OCC_REVALIDATE_EVERY": "30d",
}


class Pipeline:
    """Runs while the context is open; workers and beat are started on demand, by the main thread."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        latency: float = 0.0,
        tls: TlsFiles | None = None,
    ) -> None:
        self.folder = folder
        self.key = SealingKey.generate()
        self.server = EmbeddedServer(folder / "server")
        self.simulator = Simulator(latency=latency, tls=tls)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.code = REPOSITORY  # where the processes started from now on have theirs from
        self._settings = dict(settings or {})
        self._cleanup = contextlib.ExitStack()
        self._started = 0

    # --- Life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._cleanup.enter_context(self.simulator)
        self._cleanup.enter_context(self.server)
        self._cleanup.callback(self._end_processes)
        self.redis = redis.Redis.from_url(self.server.url, decode_responses=True)
        self._cleanup.callback(self.redis.close)
        self.records = Records(self.redis)
        self.producer = Celery("a-producer", broker=self.server.broker_url)
        self.producer.conf.update(task_ignore_result=True, broker_transport_options={"priority_steps": [0]})
        self._cleanup.callback(self.producer.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a process of this pipeline is told."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("OCC_")}
        return {
            **plain,
            **PACE,
            "OCC_REDIS_URL": self.server.url,
            "OCC_SEALING_KEYS": self.key.export(),
            "OCC_CALLBACK_URL": "https://hooks.example.com/occ/{merchant_id}/{slot}",
            "OCC_DEV_STORES": self.simulator.dev_stores,
            "OCC_DATA_DIR": str(self.folder),
            "OCC_CONCURRENCY": "16",
            "OCC_LOG_FORMAT": "json",
            **self._settings,
        }

    def allow_stores(self, dev_stores: str) -> None:
        """Also those of another simulator, as it tells them; before anything is started."""
        self._settings["OCC_DEV_STORES"] = f"{self.simulator.dev_stores},{dev_stores}"

    def start_worker(self, *options: str, environment: Mapping[str, str] | None = None) -> str:
        """A worker in a process of its own; returns the name under which it is in `processes`."""
        self._started += 1
        name = f"worker-{self._started}"
        return self._start(name, [*worker_command(name), *options], environment or {})

    def start_beat(self) -> str:
        """A beat; there may be several."""
        self._started += 1
        name = f"beat-{self._started}"
        return self._start(name, beat_command(), {})

    def running_workers(self) -> list[str]:
        """The names of those that were not killed."""
        return [name for name in self.processes if name.startswith("worker")]

    def replace_workers(self, number: int) -> None:
        """Until so many consume: new ones come for those that were killed."""
        for _ in range(number - len(self.running_workers())):
            self.start_worker()
        self.await_workers()

    def await_workers(self) -> None:
        """Until every worker that was started consumes."""
        pending = set(self.running_workers())

        def ready() -> bool:
            pending.difference_update([name for name in pending if b"ready" in self.output(name)])
            return not pending

        wait_until(ready, what="the workers to be ready")

    def kill(self, name: str, sig: int) -> None:
        """Send a signal to a process of ours and, unless it only stops it, wait for its end."""
        process = self.processes.pop(name)
        os.killpg(process.pid, sig)
        process.wait(timeout=180)

    def output(self, name: str) -> bytes:
        """Everything a process has written."""
        return (self.folder / f"{name}.log").read_bytes()

    def _start(self, name: str, command: Iterable[str], environment: Mapping[str, str]) -> str:
        with (self.folder / f"{name}.log").open("wb") as log:
            line, _ = tethered(list(command), on_parent_death=9)  # type: ignore[arg-type]
            self.processes[name] = subprocess.Popen(
                line,
                env={**self.environment, **environment, "PYTHONPATH": str(self.code)},
                cwd=self.code,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return name

    def _end_processes(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()

    # --- Asking -----------------------------------------------------------------------------------------------------

    def request(self, store: SimulatedStore, merchant_id: str | None = None, **changes: object) -> dict[str, Any]:
        """A good connect request for a simulated store."""
        merchant_id = merchant_id or store.name
        sealed = seal(self.key.public_key, self.key.key_id, merchant_id, store.application_key)
        return {"merchant_id": merchant_id, "store_url": store.url, "application_key": sealed, **changes}

    def send(self, request: object) -> None:
        """Through the Celery door, as a foreign producer does."""
        kwargs = request if isinstance(request, dict) else {}
        args = [] if isinstance(request, dict) else [request]
        self.producer.send_task("occ.connect", args=args, kwargs=kwargs, queue="occ")

    def post(self, request: object) -> None:
        """Through the inbox."""
        self.redis.xadd(STREAM, {"request": request if isinstance(request, str) else json.dumps(request)})

    # --- Looking ----------------------------------------------------------------------------------------------------

    def connection(self, merchant_id: str) -> Connection | None:
        """The record."""
        return self.records.load(merchant_id).connection

    def status(self, merchant_id: str) -> dict[str, Any]:
        """The status object, as other programs read it."""
        connection = self.connection(merchant_id)
        assert connection is not None, f"no connection {merchant_id}"
        return status_object(connection)

    def await_end(self, *merchant_ids: str, run: int = 1, within: float = PATIENCE) -> None:
        """Until the run of each merchant has an outcome."""
        left = set(merchant_ids)

        def all_ended() -> bool:
            for snapshot, merchant_id in zip(self.records.load_many(order := sorted(left)), order, strict=True):
                if snapshot.connection is not None and ended(snapshot.connection, run):
                    left.discard(merchant_id)
            return not left

        assert eventually(all_ended, within=within), f"the runs of {sorted(left)[:5]} did not end within {within:g} s"


def ended(connection: Connection, run: int) -> bool:
    """Whether a run has an outcome: its status says so and no slot is still on its way."""
    return (
        connection.run >= run
        and connection.status is not ConnectionStatus.ONBOARDING
        and not any(connection.due().keys() - {None})
    )


@contextlib.contextmanager
def running(pipeline: Pipeline, *, workers: int = 2) -> Iterator[Pipeline]:
    """A pipeline with workers that consume, and beat."""
    with pipeline:
        for _ in range(workers):
            pipeline.start_worker()
        pipeline.start_beat()
        pipeline.await_workers()
        yield pipeline

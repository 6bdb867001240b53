"""What merchants notice of stores that hang: the time from request to last slot, beside many of them and without."""

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from integrations.connections.record import ConnectionStatus
from occ.simulator.store import SimulatedStore
from tasks.worker.counting import TOTALS
from tests.bench.process_time import MachineTime, cpu_of, machine_time
from tests.pipeline import Pipeline
from tests.waiting import wait_until

HEALTHY = 40
LATENCY = 0.1
FIRST_WITHIN = 6.0
AFTERWARDS_RATIO = 1.3
FAULTS = {"hang": {"fault": "hang"}, "drip": {"fault": "drip_head"}, "revalidation": {"fault": "hang"}}
_AFTERWARDS_RATE = 8.0  # a second
_SEED = 40


def measure_bulkheads(
    *, kinds: Sequence[str], hung: int, deadline: float, threads: int, pool: str
) -> list[dict[str, object]]:
    """One row for each kind of trouble, and one without any."""
    settings = {
        "OCC_CONCURRENCY": str(threads),
        "OCC_POOL": pool,
        "OCC_CALL_DEADLINE": f"{deadline:g}",
        "OCC_LEASE": "60",
        "OCC_RETRY_FIRST": "2",
        "OCC_RETRY_MAX": "10m",
        "OCC_RETRY_ATTEMPTS": "8",
    }
    without = _measured("none", 0, settings)
    rows = [without, *(_measured(kind, hung, settings) for kind in kinds)]
    for row in rows:
        row["afterwards_ratio"] = round(float(str(row["afterwards_p95"])) / float(str(without["afterwards_p95"])), 2)
    return rows


def is_as_promised(rows: Sequence[dict[str, object]]) -> bool:
    """Whether those who are healthy hardly notice."""
    return all(
        float(str(row["first_p95"])) <= FIRST_WITHIN and float(str(row["afterwards_ratio"])) <= AFTERWARDS_RATIO
        for row in rows
    )


def _measured(kind: str, hung: int, settings: dict[str, str]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(Path(folder), settings=settings, latency=LATENCY)
        with pipeline:
            pipeline.start_worker()
            pipeline.start_worker()
            pipeline.start_beat()
            pipeline.await_workers()
            stores = pipeline.simulator.add_many(hung, f"{kind}-{{n}}")
            if kind == "revalidation":
                connect_all(pipeline, stores)
            for store in stores:
                store.fail("*", {**FAULTS[kind], "times": "always"})
            warm = pipeline.simulator.add_many(HEALTHY, "warm-{n}")
            connect_all(pipeline, warm)
            first = pipeline.simulator.add_many(HEALTHY, "first-{n}")
            mixed = [*first, *stores]
            random.Random(_SEED).shuffle(mixed)  # noqa: S311 - dice
            began = time.monotonic()
            times = times_to_last_slot(
                pipeline, mixed, first, 0.0, revalidated=set(stores) if kind == "revalidation" else set()
            )
            pipeline_busy = time.monotonic() - began
            time.sleep(max(0.0, 8.0 - pipeline_busy))
            after = pipeline.simulator.add_many(HEALTHY, "after-{n}")
            before = _Spent.by_now(pipeline)
            later = times_to_last_slot(pipeline, after, after, 1 / _AFTERWARDS_RATE, revalidated=set())
            spent = _Spent.by_now(pipeline)
    return {
        "kind": kind,
        "hung": hung,
        "deadline": settings["OCC_CALL_DEADLINE"],
        "first_p50": round(statistics.median(times), 2),
        "first_p95": round(p95(times), 2),
        "afterwards_p50": round(statistics.median(later), 2),
        "afterwards_p95": round(p95(later), 2),
        **spent.since(before),
    }


@dataclass(frozen=True, slots=True)
class _Spent:
    """What workers and machine have done by a moment, to see what the time afterwards was lost on."""

    at: float
    workers: float  # CPU seconds of one
    stood_back: int
    machine: MachineTime | None

    @classmethod
    def by_now(cls, pipeline: Pipeline) -> Self:
        names = pipeline.running_workers()
        workers = cpu_of(pipeline.processes[name].pid for name in names) / len(names)
        totals = cast("dict[str, str]", pipeline.redis.hgetall(TOTALS))
        stood_back = sum(int(total) for name, total in totals.items() if name.endswith("|stood_back"))
        return cls(time.monotonic(), workers, stood_back, machine_time())

    def since(self, before: Self) -> dict[str, object]:
        seconds = self.at - before.at
        figures: dict[str, object] = {
            "afterwards_stood_back_a_second": round((self.stood_back - before.stood_back) / seconds),
            "afterwards_cores_of_a_worker": round((self.workers - before.workers) / seconds, 2),
        }
        if self.machine and before.machine:
            busy, total = self.machine.busy - before.machine.busy, self.machine.total - before.machine.total
            figures["afterwards_machine_busy"] = round(busy / total, 2)
        return figures


def connect_all(pipeline: Pipeline, stores: Sequence[SimulatedStore]) -> None:
    """Connect these, and wait until all are active."""
    for store in stores:
        pipeline.send(pipeline.request(store))
    names = [store.name for store in stores]

    def active() -> bool:
        found = pipeline.records.load_many(names)
        return all(one.connection and one.connection.status is ConnectionStatus.ACTIVE for one in found)

    wait_until(active, within=300, what="the stores to be connected")


def times_to_last_slot(
    pipeline: Pipeline,
    stores: Sequence[SimulatedStore],
    watched: Sequence[SimulatedStore],
    pause: float,
    *,
    revalidated: set[SimulatedStore],
) -> list[float]:
    """Seconds from request to last slot of those that are watched; a request every `pause` seconds."""
    requests = [None if store in revalidated else pipeline.request(store) for store in stores]
    sent: dict[str, float] = {}
    began = time.monotonic()
    for number, (store, request) in enumerate(zip(stores, requests, strict=True)):
        time.sleep(max(0.0, began + number * pause - time.monotonic()))
        sent[store.name] = time.time()
        if request is None:
            pipeline.producer.send_task("occ.revalidate", kwargs={"merchant_id": store.name}, queue="occ")
        else:
            pipeline.send(request)

    def written() -> bool:
        return all(store.calls.endpoints["write_slot"] >= 4 and not store.calls.in_flight.now for store in watched)

    wait_until(written, within=300, what="the healthy stores to be connected")
    return [_last_write(store) - sent[store.name] for store in watched]


def _last_write(store: SimulatedStore) -> float:
    written = [call for call in store.calls.entries if call.endpoint == "write_slot" and call.answered]
    return max(call.arrived_wall + (call.answered or call.arrived) - call.arrived for call in written)


def p95(values: Sequence[float]) -> float:
    """Nineteen of twenty are no larger."""
    return statistics.quantiles(values, n=100, method="inclusive")[94]

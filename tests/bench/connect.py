"""What connecting a merchant costs and how long it takes, against two floors measured in the same run."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from occ.simulator.store import SimulatedStore
from tests.bench.process_time import cpu_seconds
from tests.pipeline import REPOSITORY, Pipeline

FLOOR_THREADS = 64
CALLS_IN_A_ROW = 4  # login, shipping methods, read, write: the other slots go side by side


def measure_connect(*, merchants: int, rate: float, seconds: float, latency: float, workers: int) -> dict[str, object]:
    """The figures, by name."""
    settings = {"OCC_CONCURRENCY": "64", "OCC_LEASE": "60", "OCC_CALL_DEADLINE": "35"}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(Path(folder), settings=settings, latency=latency)
        with pipeline:
            for _ in range(workers):
                pipeline.start_worker()
            pipeline.start_beat()
            pipeline.await_workers()
            _warm_up(pipeline)
            at_once = _at_once(pipeline, merchants)
            paced = _paced(pipeline, rate, seconds)
            floor_at_once = _floor(pipeline, pipeline.simulator.add_many(merchants, "floor-{n}"), [0.0] * merchants)
            waits = [number / rate for number in range(int(rate * seconds))]
            floor_stores = pipeline.simulator.add_many(len(waits), "paced-floor-{n}")
            floor_paced = _floor(pipeline, floor_stores, waits)
    round_trips = CALLS_IN_A_ROW * latency
    return {
        "merchants_at_once": merchants,
        "connections_per_second": round(at_once["per_second"], 1),
        "floor_connections_per_second": round(merchants / floor_at_once["wall"], 1),
        "worker_cpu_ms_per_connection": round(at_once["cpu_ms"], 2),
        "floor_cpu_ms_per_connection": round(floor_at_once["cpu"] / merchants * 1000, 2),
        "cpu_ratio_to_floor": round(at_once["cpu_ms"] / (floor_at_once["cpu"] / merchants * 1000), 2),
        "redis_commands_per_connection": round(at_once["commands"], 1),
        "messages_per_connection": round(at_once["messages"], 2),
        "paced_connections_per_second": rate,
        "p50_seconds": round(statistics.median(paced), 3),
        "p95_seconds": round(_percentile(paced, 95), 3),
        "floor_p50_seconds": round(statistics.median(floor_paced["times"]), 3),
        "floor_p95_seconds": round(_percentile(floor_paced["times"], 95), 3),
        "round_trips_seconds": round(round_trips, 3),
        "p50_ratio_to_floor": round(statistics.median(paced) / statistics.median(floor_paced["times"]), 2),
        "p95_ratio_to_floor": round(_percentile(paced, 95) / _percentile(floor_paced["times"], 95), 2),
        "p50_ratio_to_round_trips": round(statistics.median(paced) / round_trips, 2) if round_trips else None,
    }


def _warm_up(pipeline: Pipeline) -> None:
    stores = pipeline.simulator.add_many(40, "warm-up-{n}")
    for store in stores:
        pipeline.send(pipeline.request(store))
    pipeline.await_end(*(store.name for store in stores), within=60)


def _at_once(pipeline: Pipeline, merchants: int) -> dict[str, float]:
    stores = pipeline.simulator.add_many(merchants, "at-once-{n}")
    requests = [pipeline.request(store) for store in stores]
    workers = [process.pid for name, process in pipeline.processes.items() if name.startswith("worker")]
    before, counted = _cpu(workers), _counted(pipeline)
    started = time.time()
    for request in requests:
        pipeline.send(request)
    _await_writes(stores)
    took = max(map(_last_write, stores)) - started
    pipeline.await_end(*(store.name for store in stores), within=60)
    commands, pushes = (after - then for after, then in zip(_counted(pipeline), counted, strict=True))
    return {
        "per_second": merchants / took,
        "cpu_ms": (_cpu(workers) - before) / merchants * 1000,
        "commands": commands / merchants,
        "messages": pushes / merchants,
    }


def _paced(pipeline: Pipeline, rate: float, seconds: float) -> list[float]:
    """Seconds from request to last slot written, with requests coming in at a steady rate."""
    stores = pipeline.simulator.add_many(int(rate * seconds), "paced-{n}")
    requests = [pipeline.request(store) for store in stores]
    sent = []
    started = time.monotonic()
    for number, request in enumerate(requests):
        time.sleep(max(0.0, started + number / rate - time.monotonic()))
        sent.append(time.time())
        pipeline.send(request)
    _await_writes(stores)
    return [_last_write(store) - at for store, at in zip(stores, sent, strict=True)]


def _floor(pipeline: Pipeline, stores: Sequence[SimulatedStore], waits: Sequence[float]) -> dict[str, Any]:
    work = {
        "threads": FLOOR_THREADS,
        "stores": [
            {"url": store.url, "key": store.application_key, "wait": wait}
            for store, wait in zip(stores, waits, strict=True)
        ],
    }
    command = [sys.executable, "-m", "tests.bench.floor"]
    done = subprocess.run(
        command, input=json.dumps(work), capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=600
    )
    begun = [store.calls.entries[0].arrived_wall for store in stores]
    times = [_last_write(store) - began for store, began in zip(stores, begun, strict=True)]
    return {**json.loads(done.stdout), "times": times}


def _await_writes(stores: Sequence[SimulatedStore]) -> None:
    until = time.monotonic() + 300
    while any(store.calls.endpoints["write_slot"] < 4 or store.calls.in_flight.now for store in stores):
        if time.monotonic() > until:
            raise TimeoutError("the stores were not all connected within 5 minutes")
        time.sleep(0.02)


def _last_write(store: SimulatedStore) -> float:
    """When the last slot was written, by the wall clock."""
    written = [call for call in store.calls.entries if call.endpoint == "write_slot" and call.answered]
    return max(call.arrived_wall + (call.answered or call.arrived) - call.arrived for call in written)


def _counted(pipeline: Pipeline) -> tuple[int, int]:
    """All commands the server has worked off, and the messages among them."""
    total = pipeline.redis.info("stats")["total_commands_processed"]
    pushes = pipeline.redis.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"]
    return int(total), int(pushes)


def _cpu(pids: Sequence[int]) -> float:
    return sum(map(cpu_seconds, pids))


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]

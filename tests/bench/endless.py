"""What healthy merchants notice of stores whose answers never end, and what those cost us in bytes."""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from integrations.sealing.keyring import seal
from occ.simulator.endless import ENDLESS
from occ.simulator.process import SimulatorProcess
from occ.simulator.store import SimulatedStore
from tests.bench.bulkheads import connect_all, p95, times_to_last_slot
from tests.pipeline import Pipeline
from tests.waiting import wait_until

HEALTHY = 40
LATENCY = 0.1
RATIO = 1.3
MOST_BYTES = 2 * 1024 * 1024
_BUFFERS = 1024 * 1024  # of both systems, which take more than we read
_RATE = 8.0  # a second


def measure_endless(*, endless: int, threads: int) -> dict[str, object]:
    """The same healthy merchants without such stores and beside them, in one run."""
    settings = {
        "OCC_CONCURRENCY": str(threads),
        "OCC_CALL_DEADLINE": "35",
        "OCC_LEASE": "60",
        "OCC_RETRY_FIRST": "2",
        "OCC_RETRY_MAX": "10m",
        "OCC_RETRY_ATTEMPTS": "8",
    }
    with tempfile.TemporaryDirectory() as folder, SimulatorProcess() as others:
        pipeline = Pipeline(Path(folder), settings=settings, latency=LATENCY)
        with pipeline:
            pipeline.allow_stores(others.dev_stores)
            pipeline.start_worker()
            pipeline.start_worker()
            pipeline.start_beat()
            pipeline.await_workers()
            connect_all(pipeline, pipeline.simulator.add_many(HEALTHY, "warm-{n}"))
            without = _healthy(pipeline, "without")
            requests = [_request(pipeline, tenant) for tenant in _without_end(others, endless)]
            for request in requests:
                pipeline.send(request)
            names = [str(request["merchant_id"]) for request in requests]
            wait_until(lambda: _met(pipeline, names), what="each endless store to be met")
            before = len(others.client.all_calls())
            beside = _healthy(pipeline, "beside")
            meanwhile = len(others.client.all_calls()) - before
            calls = [call for call in others.client.all_calls() if call["sent"]]
    return {
        "endless stores": endless,
        "calls to them": len(calls),
        "of these meanwhile": meanwhile,
        "most bytes sent in one": max(int(call["sent"]) for call in calls),
        "bytes sent in all": sum(int(call["sent"]) for call in calls),
        "healthy p50 without": round(statistics.median(without), 2),
        "healthy p95 without": round(p95(without), 2),
        "healthy p50 beside": round(statistics.median(beside), 2),
        "healthy p95 beside": round(p95(beside), 2),
        "ratio of p95": round(p95(beside) / p95(without), 2),
    }


def is_as_promised(figures: dict[str, Any]) -> bool:
    """Whether no call took more than the cap, and those who are healthy hardly notice."""
    return bool(figures["most bytes sent in one"] <= MOST_BYTES + _BUFFERS and figures["ratio of p95"] <= RATIO)


def _healthy(pipeline: Pipeline, name: str) -> list[float]:
    stores: Sequence[SimulatedStore] = pipeline.simulator.add_many(HEALTHY, f"{name}-{{n}}")
    return times_to_last_slot(pipeline, stores, stores, 1 / _RATE, revalidated=set())


def _without_end(simulator: SimulatorProcess, count: int) -> list[dict[str, Any]]:
    kinds = list(ENDLESS)
    stores = [
        {
            "name": f"endless-{number}",
            "faults": {"*": [{"fault": "endless", "of": kinds[number % len(kinds)], "times": "always"}]},
        }
        for number in range(count)
    ]
    return simulator.client.add_all(stores)


def _request(pipeline: Pipeline, tenant: dict[str, Any]) -> dict[str, Any]:
    sealed = seal(pipeline.key.public_key, pipeline.key.key_id, tenant["name"], tenant["application_key"])
    return {"merchant_id": tenant["name"], "store_url": tenant["store_url"], "application_key": sealed}


def _met(pipeline: Pipeline, names: Sequence[str]) -> bool:
    """Whether each has had an attempt that ended as it should."""
    connections = [snapshot.connection for snapshot in pipeline.records.load_many(names)]
    return all(
        one is not None and one.cause is not None and one.cause.code == "answer_too_large" for one in connections
    )

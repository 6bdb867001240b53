"""`occ revalidate` for many connections, killed and started again: each store is looked at once, at a capped rate.

With real workers, beat and stores that count their calls.
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from occ.local.processes import PROJECT
from occ.simulator.process import SimulatorProcess
from tests.bench.revalidate import CALLS, SECOND_LOOK, WRITES, Json, stores_of, write_at_rest
from tests.pipeline import Pipeline
from tests.waiting import wait_until

_PATIENCE = 3600.0  # seconds
_QUEUES = ("occ", "occ.steps", "unacked")


def measure_revalidations(*, connections: int, rate: float, kills: int, workers: int) -> Json:
    """The figures, by name. Killed `kills` times, evenly over the whole."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        platform = cleanup.enter_context(SimulatorProcess([]))
        settings = {"OCC_DEV_STORES": platform.dev_stores, "OCC_SECOND_LOOK": f"{SECOND_LOOK:g}"}
        pipeline = cleanup.enter_context(Pipeline(folder, settings=settings))
        template = pipeline.environment["OCC_CALLBACK_URL"]
        stores = stores_of(platform, "m-{n}", connections, template)
        write_at_rest(pipeline, stores, template, due_in=SECOND_LOOK)
        for _ in range(workers):
            pipeline.start_worker()
        pipeline.start_beat()
        pipeline.await_workers()
        platform.client.reset_counts()
        began = time.perf_counter()
        runs = _revalidate_all(pipeline, folder / "journal", connections, rate, kills)
        wait_until(lambda: _is_idle(pipeline), within=_PATIENCE, what="what was asked for to be done")
        return {
            "connections": connections,
            "rate_asked_for": rate,
            "killed_after": [run["done"] for run in runs[:-1]],
            "seconds_until_all_were_looked_at": round(time.perf_counter() - began, 1),
            "begun_per_second_by_run": [run["begun_per_second"] for run in runs],
            "shortest_gap_to_that_of_the_rate": _shortest_gap(folder / "journal", rate),
            **_calls(platform, connections),
        }


def is_as_promised(figures: Mapping[str, object]) -> bool:
    """Whether each store was looked at once, and nothing was written."""
    return figures["stores_looked_at_once"] == figures["connections"] and figures["writes"] == 0


def _revalidate_all(pipeline: Pipeline, journal: Path, connections: int, rate: float, kills: int) -> list[Json]:
    """One call after the other with the same journal, all but the last killed."""
    runs: list[Json] = []
    for number in range(1, kills + 2):
        until = connections * number // (kills + 1) if number <= kills else None
        before, began = _lines(journal, "begun"), time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "occ.cli", "revalidate", "--host", "*", "--json"),
                *("--rate", f"{rate:g}", "--resume", str(journal)),
            ],
            cwd=PROJECT,
            env=pipeline.environment,
            stdout=subprocess.DEVNULL,
        )
        if until is not None:
            _await_lines(journal, until)
            process.kill()
        status = process.wait(_PATIENCE)
        if until is None and status != 0:
            raise RuntimeError(f"occ revalidate ended with {status}")
        begun, took = _lines(journal, "begun") - before, time.perf_counter() - began
        runs.append({"done": _lines(journal, "accepted"), "begun_per_second": round(begun / took, 1)})
    return runs


def _await_lines(journal: Path, count: int) -> None:
    wait_until(lambda: _lines(journal, "accepted") >= count, within=_PATIENCE, what="some of it to be done")


def _lines(journal: Path, kind: str) -> int:
    return journal.read_text(encoding="utf-8").count(f" {kind}") if journal.exists() else 0


def _shortest_gap(journal: Path, rate: float, over: int = 20) -> float:
    """Between beginnings, over so many at a time (their times are a page's, give or take); 1 is just the rate."""
    fields = [line.split() for line in journal.read_text(encoding="utf-8").splitlines()]
    times = sorted(float(line[2]) for line in fields if len(line) > 2 and line[1] == "begun")[::over]
    return round(min((late - soon for soon, late in pairwise(times)), default=over / rate) * rate / over, 2)


def _is_idle(pipeline: Pipeline) -> bool:
    time.sleep(0.25)
    waiting = [pipeline.redis.llen(queue) for queue in _QUEUES[:2]] + [pipeline.redis.hlen(_QUEUES[2])]
    seconds, _ = pipeline.redis.time()
    due: Sequence[object] = pipeline.redis.zrangebyscore("occ:due", "-inf", float(seconds) + 120)
    return not any(waiting) and not due


def _calls(platform: SimulatorProcess, connections: int) -> Json:
    calls: Counter[str] = Counter()
    once = 0
    for summary in platform.client.summary()["tenants"].values():
        calls.update(summary["endpoints"])
        once += summary["endpoints"] == CALLS
    return {
        "stores_looked_at_once": once,
        "stores_with_other_calls": connections - once,
        "calls_per_connection": round(calls.total() / connections, 4),
        "writes": sum(calls[name] for name in WRITES),
    }

"""What a thousand reports a second of slots that were heard from cost everything else: ratios within one run."""

import json
import random
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import redis

from tasks.inbox import STREAM
from tests.bench.process_time import cpu_of
from tests.pipeline import Pipeline, running
from tests.waiting import wait_until

_BATCHES_PER_SECOND = 20
_SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")


class _Reporter(threading.Thread):
    """Posts reports, each an entry of its own, at a rate; `longest` is the longest the inbox has been."""

    def __init__(self, pipeline: Pipeline, merchants: list[str], rate: int) -> None:
        super().__init__(daemon=True)
        self.sent = self.longest = 0
        self._url, self._merchants, self._rate = pipeline.server.url, merchants, rate
        self._over = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        dice, began = random.Random(1), time.monotonic()  # noqa: S311 - who is heard from
        with redis.Redis.from_url(self._url) as client:
            while not self._over.wait(1 / _BATCHES_PER_SECOND):
                with client.pipeline(transaction=False) as pipe:
                    for _ in range(int((time.monotonic() - began) * self._rate) - self.sent):
                        report = {
                            "merchant_id": dice.choice(self._merchants),
                            "slot": dice.choice(_SLOTS),
                            "at": time.time(),
                        }
                        pipe.xadd(STREAM, {"heard": json.dumps(report)})
                    pipe.xlen(STREAM)
                    *sent, length = pipe.execute()
                self.sent, self.longest = self.sent + len(sent), max(self.longest, length)

    def stop(self) -> None:
        """And wait for the end."""
        self._over.set()
        self.join()


@contextmanager
def _reports(pipeline: Pipeline, merchants: list[str], rate: int) -> Any:
    reporter = _Reporter(pipeline, merchants, rate)
    reporter.start()
    try:
        yield reporter
    finally:
        reporter.stop()


def measure_heard(*, merchants: int, connects: int, rate: int, seconds: float, workers: int) -> Mapping[str, object]:
    """The figures, by name: two phases without reports and two with them, in turn, each `seconds` long."""
    with tempfile.TemporaryDirectory() as folder, running(Pipeline(Path(folder)), workers=workers) as pipeline:
        known = [store.name for store in pipeline.simulator.add_many(merchants, "known-{n}")]
        for name in known:
            pipeline.post(pipeline.request(pipeline.simulator.store(name)))
        pipeline.await_end(*known, within=1800)
        took: dict[bool, list[float]] = {False: [], True: []}
        used: dict[bool, float] = {False: 0.0, True: 0.0}
        sent = longest = 0
        for phase in range(4):
            with_reports = bool(phase % 2)
            before = _cpu(pipeline)
            if with_reports:
                with _reports(pipeline, known, rate) as reporter:
                    took[True] += _connect(pipeline, f"new-{phase}", connects, seconds)
                wait_until(lambda: pipeline.redis.xlen(STREAM) == 0, what="the reports to be taken", within=600)
                sent, longest = sent + reporter.sent, max(longest, reporter.longest)
            else:
                took[False] += _connect(pipeline, f"new-{phase}", connects, seconds)
            used[with_reports] += _cpu(pipeline) - before
        return {
            "merchants": merchants,
            "reports": sent,
            "reports_per_second": round(sent / (2 * seconds)),
            "longest_inbox": longest,
            "connects_in_each_phase": connects,
            "seconds_to_connect": round(median(took[False]), 3),
            "seconds_to_connect_with_reports": round(median(took[True]), 3),
            "ratio": round(median(took[True]) / median(took[False]), 2),
            "cpu_ms_of_workers_per_report": round(1000 * (used[True] - used[False]) / max(1, sent), 3),
        }


def _cpu(pipeline: Pipeline) -> float:
    return cpu_of(pipeline.processes[name].pid for name in pipeline.running_workers())


def _connect(pipeline: Pipeline, prefix: str, connects: int, seconds: float) -> list[float]:
    """Connect so many stores, spread over the time; how long each took from acceptance to its outcome."""
    stores = pipeline.simulator.add_many(connects, f"{prefix}-{{n}}")
    began = time.monotonic()
    for number, store in enumerate(stores):
        time.sleep(max(0.0, began + number * seconds / connects - time.monotonic()))
        pipeline.post(pipeline.request(store))
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    pipeline.await_end(*(store.name for store in stores), within=1800)
    took = []
    for snapshot in pipeline.records.load_many([store.name for store in stores]):
        assert snapshot.connection is not None
        took.append(snapshot.connection.updated_at - snapshot.connection.started_at)
    return took

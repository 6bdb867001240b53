"""What traces cost a worker: off, sent to a collector, and with one that is down. `python -m tests.bench.traces`."""

import json
import statistics
import sys
import tempfile
from pathlib import Path

import click

from tests.bench.connect import _at_once, _warm_up
from tests.end_to_end.collector import Collector
from tests.pipeline import Pipeline

NOBODY = "http://127.0.0.1:9"  # discard: nothing listens there


def measure_traces(*, merchants: int, rounds: int, latency: float) -> dict[str, object]:
    """CPU of the workers per connection, and connections per second: medians of rounds that take turns."""
    cpu: dict[str, list[float]] = {}
    pace: dict[str, list[float]] = {}
    spans = 0
    with Collector() as collector:
        ways = {
            "off": {},
            "on": {"OCC_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
            "down": {"OCC_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY},
        }
        for number in range(rounds):
            names = list(ways)[:: 1 if number % 2 else -1]  # none is always the first
            for way in names:
                figures = _connect(merchants, latency, ways[way])
                cpu.setdefault(way, []).append(figures["cpu_ms"])
                pace.setdefault(way, []).append(figures["per_second"])
        spans = len(collector.spans())
    return {
        "merchants": merchants,
        "rounds": rounds,
        "worker_cpu_ms_per_connection": {way: round(statistics.median(all_), 2) for way, all_ in cpu.items()},
        "of_each_round": {way: [round(one, 2) for one in all_] for way, all_ in cpu.items()},
        "connections_per_second": {way: round(statistics.median(all_), 1) for way, all_ in pace.items()},
        "spans_per_connection": round(spans / rounds / (merchants + 40), 1),
    }


def _connect(merchants: int, latency: float, settings: dict[str, str]) -> dict[str, float]:
    settings = {"OCC_CONCURRENCY": "64", "OCC_LEASE": "60", "OCC_CALL_DEADLINE": "35", **settings}
    with (
        tempfile.TemporaryDirectory() as folder,
        Pipeline(Path(folder), settings=settings, latency=latency) as pipeline,
    ):
        for _ in range(2):
            pipeline.start_worker()
        pipeline.start_beat()
        pipeline.await_workers()
        _warm_up(pipeline)
        return _at_once(pipeline, merchants)


@click.command()
@click.option("--merchants", default=300, show_default=True, help="Connections at once.")
@click.option("--rounds", default=3, show_default=True, help="Of each way, taking turns.")
@click.option("--latency", default=0.1, show_default=True, help="Seconds each simulated call takes.")
def traces(merchants: int, rounds: int, latency: float) -> None:
    """Print the figures."""
    json.dump(measure_traces(merchants=merchants, rounds=rounds, latency=latency), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    traces()

"""`python -m tests.bench NAME`: which benchmark, and how large."""

import json

import click

from tests.bench.connect import measure_connect


@click.group(help="Print figures. Compare ratios within one run: machines differ, and are noisy.")
def bench() -> None:
    """All benchmarks."""


@bench.command(help="Connections per second, cost per connection, and time to the last slot, against two floors.")
@click.option("--merchants", default=400, show_default=True, help="Connections at once, for throughput and cost.")
@click.option("--rate", default=8.0, show_default=True, help="Connections per second, for the time each takes.")
@click.option("--seconds", default=20.0, show_default=True, help="How long to keep that rate.")
@click.option("--latency", default=0.1, show_default=True, help="Seconds each simulated call takes.")
@click.option("--workers", default=2, show_default=True, help="Worker processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def connect(merchants: int, rate: float, seconds: float, latency: float, workers: int, *, as_json: bool) -> None:
    """Print the figures of connecting."""
    figures = measure_connect(merchants=merchants, rate=rate, seconds=seconds, latency=latency, workers=workers)
    if as_json:
        click.echo(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {value}")


if __name__ == "__main__":
    bench()

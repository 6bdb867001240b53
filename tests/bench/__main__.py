"""`python -m tests.bench NAME`: which benchmark, and how large."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from tests.bench import bulkheads as hung_stores
from tests.bench import endless as endless_answers
from tests.bench import peers as peers_
from tests.bench import recheck as revalidating
from tests.bench import silence as silences
from tests.bench.churn import measure_churn
from tests.bench.connect import measure_connect
from tests.bench.due import SIZES, measure_due
from tests.bench.heard import measure_heard
from tests.bench.parts import measure_parts
from tests.bench.revalidate import is_as_promised, measure_revalidate
from tests.bench.status import measure_status
from tests.bench.three_days import Plan, simulate


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
    _report(
        measure_connect(merchants=merchants, rate=rate, seconds=seconds, latency=latency, workers=workers),
        as_json=as_json,
    )


@bench.command(help="Six calls and no write per healthy connection, and what they cost. Fails if there are others.")
@click.option("--connections", default=2000, show_default=True, help="How many are looked at.")
@click.option("--workers", default=2, show_default=True, help="Worker processes.")
@click.option("--simulators", default=2, show_default=True, help="Processes that play the stores.")
@click.option("--latency", default=0.1, show_default=True, help="Seconds each simulated call takes.")
@click.option("--rate", default=0.0, help="Come due so many a second, instead of all being overdue at once.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def revalidate(connections: int, workers: int, simulators: int, latency: float, rate: float, *, as_json: bool) -> None:
    """Print the figures of re-validating."""
    figures = measure_revalidate(
        connections=connections, workers=workers, simulators=simulators, latency=latency, rate=rate
    )
    _report(figures, as_json=as_json)
    sys.exit(not is_as_promised(figures))


@bench.command(help="What healthy stores notice of many that hang. Fails if it is more than docs/sizing.md says.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(sorted(hung_stores.FAULTS)), help="Of trouble; all.")
@click.option("--hung", default=300, show_default=True, help="Stores that hang, beside 40 that do not.")
@click.option("--deadline", default=35.0, show_default=True, help="OCC_CALL_DEADLINE.")
@click.option("--threads", default=64, show_default=True, help="OCC_CONCURRENCY of each of the two workers.")
@click.option("--pool", default="threads", show_default=True, type=click.Choice(["threads", "prefork"]))
@click.option("--json", "as_json", is_flag=True, help="JSON objects instead of a table.")
def bulkheads(kinds: tuple[str, ...], hung: int, deadline: float, threads: int, pool: str, *, as_json: bool) -> None:
    """Print the figures beside hung stores."""
    rows = hung_stores.measure_bulkheads(
        kinds=kinds or tuple(hung_stores.FAULTS), hung=hung, deadline=deadline, threads=threads, pool=pool
    )
    for row in rows:
        _report(row, as_json=as_json)
    sys.exit(not hung_stores.is_as_promised(rows))


@bench.command(
    help="What healthy stores notice of answers that never end, and the bytes those cost. Fails if too much."
)
@click.option("--endless", "count", default=200, show_default=True, help="Stores whose answers never end.")
@click.option("--threads", default=64, show_default=True, help="OCC_CONCURRENCY of each of the two workers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def endless(count: int, threads: int, *, as_json: bool) -> None:
    """Print the figures beside endless answers."""
    figures = endless_answers.measure_endless(endless=count, threads=threads)
    _report(figures, as_json=as_json)
    sys.exit(not endless_answers.is_as_promised(figures))


@bench.command(help="A bulk recheck that is killed and resumed: each store once, at the rate. Fails if not.")
@click.option("--connections", default=500, show_default=True, help="How many are looked at.")
@click.option("--rate", default=20.0, show_default=True, help="How many are begun a second, at most.")
@click.option("--kills", default=1, show_default=True, help="How often it is killed.")
@click.option("--workers", default=2, show_default=True, help="Worker processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def recheck(connections: int, rate: float, kills: int, workers: int, *, as_json: bool) -> None:
    """Print how it went."""
    figures = revalidating.measure_revalidations(connections=connections, rate=rate, kills=kills, workers=workers)
    _report(figures, as_json=as_json)
    sys.exit(not revalidating.is_as_promised(figures))


@bench.command(help="Where the CPU of a connect and of a re-validation goes, in milliseconds, without Celery's part.")
@click.option("--merchants", default=100, show_default=True, help="Connected and re-validated.")
@click.option("--beside", default=0, show_default=True, help="Connections at rest in the same records.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def parts(merchants: int, beside: int, *, as_json: bool) -> None:
    """Print the parts."""
    _report(measure_parts(merchants=merchants, beside=beside), as_json=as_json)


@bench.command(help="What a tick costs per due connection, with few connections and with many.")
@click.option("--size", "sizes", multiple=True, type=int, default=SIZES, show_default=True, help="Connections.")
@click.option("--members", default=1_000_000, show_default=True, help="Of the due set alone, without records.")
@click.option("--due", default=20_000, show_default=True, help="How many are taken per size, 1,000 a tick.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def due(sizes: tuple[int, ...], members: int, due: int, *, as_json: bool) -> None:
    """Print the figures of ticks."""
    _report(measure_due(sizes=sizes, members=members, due=due), as_json=as_json)


@bench.command(help="What `occ status` costs whoever waits for it, with few connections and with many.")
@click.option("--size", "sizes", multiple=True, type=int, default=SIZES, show_default=True, help="Connections.")
@click.option("--runs", default=15, show_default=True, help="Of which the times are medians.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def status(sizes: tuple[int, ...], runs: int, *, as_json: bool) -> None:
    """Print the figures of listing."""
    _report(measure_status(sizes=sizes, runs=runs), as_json=as_json)


@bench.command(help="Days on a simulated clock: how even the load is, who is looked at twice or skipped. Fails if so.")
@click.option("--connections", default=100_000, show_default=True, help="How many sign up at the beginning.")
@click.option("--days", default=3, show_default=True, help="How long to look at them.")
@click.option("--bucket", default=60.0, show_default=True, help="Seconds whose load is compared with the mean.")
@click.option("--seed", default=1, show_default=True, help="Of the dice.")
@click.option("--blackout", default=0.0, help="Seconds in which nothing of ours runs, on the second day.")
@click.option("--same-expiry", is_flag=True, help="All keys end at one moment, and a warning of that comes due.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def schedule(
    connections: int, days: int, bucket: float, seed: int, blackout: float, *, same_expiry: bool, as_json: bool
) -> None:
    """Print how the days went."""
    plan = Plan(
        connections=connections, days=days, bucket=bucket, seed=seed, blackout=blackout, same_expiry=same_expiry
    )
    course = simulate(plan)
    _report(course.figures(), as_json=as_json)
    sys.exit(not course.is_even())


@bench.command(
    help="How often healthy stores would be called silent, and how soon silent ones are. Fails if too often."
)
@click.option("--stores", default=10_000, show_default=True, help="Of all sizes, with nights, weekends and seasons.")
@click.option("--weeks", default=26, show_default=True, help="How long to listen to them.")
@click.option("--seed", default=1, show_default=True, help="Of the dice.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def silence(stores: int, weeks: int, seed: int, *, as_json: bool) -> None:
    """Print how well silence is told from quiet."""
    figures = silences.measure_silence(stores=stores, weeks=weeks, seed=seed)
    _report(figures, as_json=as_json)
    sys.exit(not silences.is_as_promised(figures))


@bench.command(
    help="What reports of slots that were heard from cost everything else: time to connect with and without."
)
@click.option("--merchants", default=500, show_default=True, help="Whose slots are reported.")
@click.option("--connects", default=60, show_default=True, help="Stores that are connected in each of four phases.")
@click.option("--rate", default=1000, show_default=True, help="Reports a second, each an entry of its own.")
@click.option("--seconds", default=30.0, show_default=True, help="How long a phase is.")
@click.option("--workers", default=2, show_default=True, help="Worker processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def heard(merchants: int, connects: int, rate: int, seconds: float, workers: int, *, as_json: bool) -> None:
    """Print the figures of reports."""
    figures = measure_heard(merchants=merchants, connects=connects, rate=rate, seconds=seconds, workers=workers)
    _report(figures, as_json=as_json)


@bench.command(help="Merchants who move, leave and come back each hour: what grows. Fails if anything does.")
@click.option("--merchants", default=150, show_default=True, help="How many.")
@click.option("--hours", default=24, show_default=True, help="How long, on a clock moved by hand.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def churn(merchants: int, hours: int, *, as_json: bool) -> None:
    """Print what there is half-way and at the end."""
    figures = measure_churn(merchants=merchants, hours=hours)
    _report(figures, as_json=as_json)
    sys.exit(figures["grown"] != "nothing")


@bench.command(help="The same calls through other libraries, through us, and bare: cost, time, and what kills lose.")
@click.option("--merchants", default=200, show_default=True, help="Connections at once, for throughput and cost.")
@click.option("--rate", default=8.0, show_default=True, help="Connections per second, for the time each takes.")
@click.option("--seconds", default=10.0, show_default=True, help="How long to keep that rate.")
@click.option("--latency", default=0.05, show_default=True, help="Seconds each simulated call takes.")
@click.option("--workers", default=2, show_default=True, help="Worker processes, 32 threads each.")
@click.option("--kills", default=10, show_default=True, help="Workers killed while 15 stores a second come in.")
@click.option("--only", multiple=True, type=click.Choice([*peers_.PEERS, peers_.OURS]), help="Not all of them.")
@click.option("--python", help="A Python with the packages of the group `peers`; else they are installed for this run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def peers(only: tuple[str, ...], python: str | None, *, as_json: bool, **plan: Any) -> None:
    """Print a row for each."""
    with peers_.python_with_peers(python) as with_peers:
        figures = peers_.measure_peers(peers_.Plan(**plan), python=with_peers, only=only)
    _report(figures, as_json=as_json)


def _report(figures: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {value}")


if __name__ == "__main__":
    bench()

"""Metrics of real workers: what they count is what the stores saw, one of them killed or not."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from integrations.settings import load_settings
from occ.metrics.exporter import Exporter, registry_of
from tests.pipeline import Pipeline
from tests.waiting import eventually, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

Samples = dict[tuple[str, ...], float]


class Scraper:
    """One exporter for all workers."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.exporter = Exporter(load_settings(pipeline.environment))
        self.text = ""

    def scrape(self) -> Samples:
        self.text = generate_latest(registry_of(self.exporter)).decode()
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }

    def calls(self) -> Counter[str]:
        """By endpoint."""
        counted: Counter[str] = Counter()
        for name, value in self.scrape().items():
            if name[0] == "occ_calls_total" and value:
                counted[name[1]] += int(value)
        return counted


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    # On a busy machine a call that is given up may count as one although its store never saw it: none is given up.
    patient = {"OCC_CALL_DEADLINE": "30", "OCC_CONNECT_TIMEOUT": "30", "OCC_LEASE": "40"}
    with Pipeline(tmp_path_factory.mktemp("metrics"), settings=patient) as pipeline:
        start_worker(pipeline, "prefork")
        pipeline.start_beat()
        yield pipeline


@pytest.fixture
def pipeline(of_both: Pipeline) -> Pipeline:
    """With a worker of each pool; the one with threads is new if it was killed."""
    if len(of_both.running_workers()) < 2:
        start_worker(of_both, "threads")
    of_both.await_workers()
    return of_both


def start_worker(pipeline: Pipeline, pool: str) -> None:
    pipeline.start_worker("--concurrency=4", environment={"OCC_POOL": pool})


@pytest.fixture
def scraper(pipeline: Pipeline) -> Iterator[Scraper]:
    scraper = Scraper(pipeline)
    with closing(scraper.exporter):
        yield scraper


def test_one_exporter_tells_what_all_workers_did_and_no_metric_names_a_merchant_a_host_or_a_key(
    pipeline: Pipeline, scraper: Scraper
) -> None:
    wait_until(lambda: scraper.scrape()["occ_ticks_total",] > 0, what="a tick to be counted")
    before, before_calls = scraper.scrape(), scraper.calls()
    stores = pipeline.simulator.add_many(10, "told-{n}")
    stores[0].fail("write_slot:order-submit", 503)
    for store in stores:
        pipeline.send(pipeline.request(store))
    pipeline.await_end(*(store.name for store in stores))
    seen = sum((Counter(store.calls.endpoints) for store in stores), Counter())

    def since() -> Samples:
        return {name: value - before.get(name, 0.0) for name, value in scraper.scrape().items()}

    # Workers write what they count within a second: a call, and a moment later the step that made it.
    steps: Samples = {
        ("occ_steps_total", "done", "validate_key"): 10,
        ("occ_steps_total", "done", "check_shipping_methods"): 10,
        ("occ_steps_total", "registered", "register_slot"): 40,
        ("occ_steps_total", "waits", "register_slot"): 1,
    }
    eventually(lambda: scraper.calls() - before_calls == seen and since().items() >= steps.items())
    assert scraper.calls() - before_calls == seen
    after, more = scraper.scrape(), since()
    assert {name: more.get(name) for name in steps} == steps
    assert more["occ_calls_total", "login", "2xx"] == more["occ_access_tokens_total", "login"] == 10
    assert more["occ_access_tokens_total", "cache"] + more["occ_access_tokens_total", "other_worker"] >= 50
    assert more["occ_calls_total", "write_slot", "5xx"] == more["occ_retries_total", "register_slot"] == 1
    assert more["occ_causes_total", "store_error"] == 1
    assert more["occ_call_seconds_count", "write_slot"] == 41
    assert more["occ_connections", "active"] == 10
    assert after["occ_connections", "active"] == pipeline.records.count()
    assert after["occ_repairs_total",] == 0
    secrets = [store.application_key for store in stores] + [store.name for store in stores]
    assert not [secret for secret in [*secrets, "127.0.0.1", "http:", "https:"] if secret in scraper.text]


def test_no_total_goes_down_and_only_the_last_second_of_a_killed_worker_is_missing(
    pipeline: Pipeline, scraper: Scraper
) -> None:
    before = scraper.calls()
    stores = pipeline.simulator.add_many(90, "killed-{n}")

    def seen() -> int:
        return sum(Counter(store.calls.endpoints).total() for store in stores)

    def counted() -> int:
        return (scraper.calls() - before).total()

    for store in stores:
        pipeline.send(pipeline.request(store))
    wait_until(lambda: counted() > 0, what="the first calls to be counted")
    written = counted()
    pipeline.kill(pipeline.running_workers()[1], signal.SIGKILL)
    not_written = seen() - written
    totals = [scraper.calls()]
    while totals[-1:] != totals[-4:-3]:
        time.sleep(0.5)
        totals.append(scraper.calls())
        assert not totals[-2] - totals[-1]
        assert len(totals) < 120
    pipeline.await_end(*(store.name for store in stores))
    wait_until(lambda: scraper.scrape()["occ_connections", "active"] == pipeline.records.count(), what="counts")
    wait_until(lambda: seen() - not_written <= counted() <= seen(), what="the calls since to be counted")

"""What Prometheus is told, from a real server: right figures under stable names, however many scrape."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
import requests
from prometheus_client.parser import text_string_to_metric_families

from integrations.observer import ObservedCall
from integrations.sealing.keyring import SealingKey
from integrations.settings import Settings, load_settings
from occ.local.server import EmbeddedServer
from occ.metrics.exporter import Exporter, serve
from occ.metrics.figures import messages
from tasks.worker.counting import Counts
from tasks.worker.metric import METRICS

pytestmark = pytest.mark.server

Samples = dict[tuple[str, ...], float]


def settings_for(redis_url: str, **more: str) -> Settings:
    needed = {
        "OCC_REDIS_URL": redis_url,
        "OCC_SEALING_KEYS": SealingKey.generate().export(),
        "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
    }
    return load_settings(needed | more)


def scraped(settings: Settings) -> Samples:
    """(sample, label values in the order of their names) -> value, over HTTP."""
    with closing(Exporter(settings)) as exporter, closing(serve(exporter, "127.0.0.1", 0)) as endpoint:
        answer = requests.get(endpoint.url, timeout=180)
    assert answer.ok
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture
def scrape(redis_url: str) -> Callable[[], Samples]:
    settings = settings_for(redis_url)
    return lambda: scraped(settings)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_an_empty_installation_has_zeros_and_no_count_of_connections_before_they_were_counted(
    scrape: Callable[[], Samples], client: redis.Redis
) -> None:
    samples = scrape()
    assert samples["occ_up",] == 1
    assert samples["occ_overdue",] == samples["occ_overdue_oldest_seconds",] == samples["occ_inbox_pending",] == 0
    assert samples["occ_ticks_total",] == samples["occ_calls_total", "login", "2xx"] == 0
    assert samples["occ_outage", "network"] == samples["occ_queue_messages", "occ.steps"] == 0
    assert not any(name == "occ_connections" for name, *_ in samples)
    client.hset("occ:listing", "finished_at", time.time())
    assert scrape()["occ_connections", "active"] == 0


def test_the_server_tells_how_things_stand(scrape: Callable[[], Samples], client: redis.Redis) -> None:
    now = time.time()
    client.hset("occ:listing", "finished_at", now)
    for status, number in {"active": 7, "degraded": 2, "left": 1, "unreadable": 3}.items():
        client.zadd(f"occ:status:{status}", {f"{status}-{index}": 0 for index in range(number)})
    client.zadd("occ:due", {"m-1": now - 90, "m-2|order-submit": now - 5, "m-3": now + 100})
    client.zadd("occ:held", {"m-1": 0})
    client.hset("occ:outage", mapping={"kind": "edge", "number": 1})
    client.lpush("occ.steps", "a", "b")
    client.hset("unacked", "tag", "message")
    client.lpush("occ:quarantine", "x", "y", "z")
    client.xadd("occ:refused", {"refusal": "{}"})
    for _ in range(3):
        client.xadd("occ:inbox", {"request": "{}"})
    client.xgroup_create("occ:inbox", "occ", id="0")
    client.xreadgroup("occ", "tick", {"occ:inbox": ">"}, count=1)
    samples = scrape()
    assert samples["occ_connections", "active"] == 7
    assert samples["occ_connections", "unreachable"] == 0
    assert (samples["occ_stores_left",], samples["occ_records_unreadable",]) == (1, 3)
    assert (samples["occ_due",], samples["occ_overdue",], samples["occ_events_held",]) == (3, 2, 1)
    assert 90 <= samples["occ_overdue_oldest_seconds",] < 120
    assert (samples["occ_outage", "edge"], samples["occ_outage", "network"]) == (1, 0)
    assert (samples["occ_queue_messages", "occ.steps"], samples["occ_queue_messages", "occ"]) == (2, 0)
    assert (samples["occ_queue_unacknowledged",], samples["occ_quarantined_messages",]) == (1, 3)
    assert samples["occ_refused_requests",] == 1
    assert (samples["occ_inbox_requests",], samples["occ_inbox_pending",]) == (3, 1)


def test_readers_of_events_are_told_apart_by_how_far_behind_they_are(
    scrape: Callable[[], Samples], client: redis.Redis
) -> None:
    old = f"{int((time.time() - 600) * 1000)}-0"
    client.xadd("occ:events", {"event": "{}"}, id=old)
    client.xadd("occ:events", {"event": "{}"})
    for group in ("crm", "erp"):
        client.xgroup_create("occ:events", group, id="0")
    client.xreadgroup("crm", "one", {"occ:events": ">"})
    samples = scrape()
    assert samples["occ_events",] == 2
    assert (samples["occ_events_lag", "crm"], samples["occ_events_lag", "erp"]) == (0, 2)
    assert (samples["occ_events_pending", "crm"], samples["occ_events_pending", "erp"]) == (2, 0)
    assert samples["occ_events_oldest_unread_seconds", "crm"] == 0
    assert 600 <= samples["occ_events_oldest_unread_seconds", "erp"] < 630


def test_workers_counts_become_counters_and_a_histogram(
    scrape: Callable[[], Samples], redis_url: str, client: redis.Redis
) -> None:
    counts = Counts(redis_url)
    for seconds in (0.01, 0.3, 0.4, 50):
        counts.called(ObservedCall("write_slot", "PUT", "a.example.com", seconds, status=200))
    counts.close()
    client.hset("occ:metrics", mapping={"occ_calls_total|of|an|older|release": 3, "gone_total": 1})
    samples = scrape()
    assert samples["occ_calls_total", "write_slot", "2xx"] == 4
    bounds = ("0.05", "0.2", "0.5", "35.0", "+Inf")
    assert [samples["occ_call_seconds_bucket", "write_slot", bound] for bound in bounds] == [1, 1, 3, 3, 4]
    assert samples["occ_call_seconds_count", "write_slot"] == 4
    assert samples["occ_call_seconds_sum", "write_slot"] == pytest.approx(50.71)


def test_all_that_is_told_is_listed_and_all_that_is_listed_is_told(
    scrape: Callable[[], Samples], redis_url: str, client: redis.Redis
) -> None:
    client.hset("occ:listing", "finished_at", 1)
    client.set("occ:tick:ended", time.time())
    client.hset("occ:metrics", mapping={"occ_steps_total|validate_key|done": 1, "occ_causes_total|store_busy": 1})
    client.hset("occ:metrics", mapping={"occ_retries_total|validate_key": 1})
    client.xadd("occ:events", {"event": "{}"})
    client.xgroup_create("occ:events", "crm", id="0")
    counts = Counts(redis_url)
    counts.called(ObservedCall("login", "POST", "a.example.com", 0.1, status=200))
    counts.close()
    told = {name for name, *_ in scrape()}
    histogram = {f"occ_call_seconds_{part}" for part in ("bucket", "count", "sum")}
    assert told == {*METRICS} - {"occ_call_seconds"} | histogram


def test_a_broker_of_its_own_is_asked_for_its_queues(client: redis.Redis, tmp_path: Path) -> None:
    client.lpush("occ:quarantine", "from the inbox")
    with EmbeddedServer(tmp_path / "broker") as server, redis.Redis.from_url(server.url) as broker:
        broker.lpush("occ", "message")
        broker.lpush("occ:quarantine", "from a queue")
        told = messages(client, broker)
    assert told.queues == {"occ": 1, "occ.steps": 0, "occ.tick": 0, "occ.quarantine": 0}
    assert told.quarantined == 2


def test_without_the_server_it_says_so_and_goes_on(redis_url: str, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "server") as server:
        settings = settings_for(server.url)
        with closing(Exporter(settings)) as exporter, closing(serve(exporter, "127.0.0.1", 0)) as endpoint:
            assert "occ_up 1.0" in requests.get(endpoint.url, timeout=180).text
            server.stop()
            answer = requests.get(endpoint.url, timeout=180)
            assert (answer.status_code, "occ_up 0.0" in answer.text) == (200, True)
            assert "occ_due" not in answer.text

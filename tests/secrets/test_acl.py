"""The whole pipeline under the least-privilege users that docs/security.md gives; what they may not do, they cannot."""

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
import redis
from prometheus_client import generate_latest

from integrations.connections.rhythm import Rhythm
from integrations.settings import load_settings
from occ.metrics.exporter import Exporter, registry_of
from tests.pipeline import REPOSITORY, Pipeline
from tests.receiving import SECRET as RECEIVER_SECRET
from tests.receiving import ReceiverServer
from tests.secrets import places
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

PASSWORD = "acl-test-password"
USER = re.compile(r"^user (\S+) on >PASSWORD (.+)$", re.MULTILINE)


def documented_users() -> dict[str, list[str]]:
    """Name -> rules, as they stand in the documentation."""
    text = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8").replace("\\\n", "")
    return {name: rules.split() for name, rules in USER.findall(text)}


def as_user(pipeline: Pipeline, name: str, url: str) -> str:
    password = pipeline.server.address.password
    return url.replace(f":{quote(password, safe='')}@", f"{name}:{PASSWORD}@")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    receiver = ReceiverServer(clock=time.time, answer=moody)
    settings = {
        "OCC_RECEIVER_URL": receiver.url,
        "OCC_RECEIVER_SECRETS": RECEIVER_SECRET,
        "OCC_RECEIVER_NETWORKS": "127.0.0.0/8",
        "OCC_RECEIVER_PATIENCE": "1",
    }
    pipeline = Pipeline(tmp_path_factory.mktemp("acl"), settings=settings)
    with receiver, pipeline:
        admin: Any = pipeline.redis
        for name, rules in documented_users().items():
            admin.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rules)
        pipeline._settings["OCC_REDIS_URL"] = as_user(pipeline, "occ", pipeline.server.url)
        pipeline._settings["OCC_BROKER_URL"] = as_user(pipeline, "occ", pipeline.server.broker_url)
        for pool in ("threads", "prefork"):
            pipeline.start_worker(environment={"OCC_POOL": pool})
        pipeline.start_beat()
        pipeline.await_workers()
        yield pipeline


def moody(event: dict[str, Any]) -> int:
    """A receiver with something for each right that deliveries need."""
    return random.choice([204, 204, 400, 503])  # noqa: S311 - a mood


def test_stores_are_connected_under_the_documented_user(pipeline: Pipeline) -> None:
    admin: Any = pipeline.redis
    admin.acl_log_reset()  # other tests try what is not allowed
    flower = places.Flower(pipeline)
    stores = pipeline.simulator.add_many(8)
    stores[0].fail("write_slot:order-submit", 503)
    stores[1].change(token_uses=1)
    with redis.Redis.from_url(as_user(pipeline, "occ-inbox", pipeline.server.url), decode_responses=True) as inbox:
        for store in stores[:4]:
            inbox.xadd("occ:inbox", {"request": json.dumps(pipeline.request(store))})
    for store in stores[4:]:
        pipeline.send(pipeline.request(store))
    pipeline.redis.lpush("occ", "no message at all")
    pipeline.await_end(*(store.name for store in stores))
    assert {pipeline.status(store.name)["status"] for store in stores} == {"active"}
    assert pipeline.redis.llen("occ:quarantine") == 1
    with redis.Redis.from_url(as_user(pipeline, "occ-inbox", pipeline.server.url)) as inbox:
        inbox.xadd("occ:inbox", {"heard": json.dumps({"merchant_id": stores[0].name, "slot": "order-submit"})})
    silent = Rhythm(last=0, since=0, longest_before=60).text()
    pipeline.redis.hset(f"occ:heard:{stores[1].name}", "order-submit", silent)
    pipeline.redis.zadd("occ:listening", {stores[1].name: 0})
    wait_until(lambda: pipeline.redis.zcard("occ:silent") == 1, what="the silence")
    wait_until(lambda: pipeline.redis.exists(f"occ:heard:{stores[0].name}") == 1, what="the report")
    wait_until(lambda: int(pipeline.redis.hget("occ:receiver", "waiting") or 1) == 0, what="the deliveries")
    assert flower.get("/api/workers?refresh=1").ok
    assert any(task["name"] == "occ.register_slot" for task in flower.tasks().values())
    assert places.printed_by_occ(pipeline, [stores[0].name])
    pipeline_logs = places.logs(pipeline)
    assert b"NOPERM" not in pipeline_logs
    assert b"NoPermission" not in pipeline_logs
    assert admin.acl_log() == []


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("occ", ["CONFIG", "GET", "*"]),
        ("occ", ["FLUSHALL"]),
        ("occ", ["KEYS", "*"]),
        ("occ", ["MONITOR"]),
        ("occ", ["ACL", "LIST"]),
        ("occ", ["GET", "somebody:else"]),
        ("occ", ["MODULE", "LIST"]),
        ("occ", ["BGREWRITEAOF"]),
        ("occ-inbox", ["XRANGE", "occ:inbox", "-", "+"]),
        ("occ-inbox", ["LPUSH", "occ", "x"]),
        ("occ-events", ["XADD", "occ:events", "*", "event", "x"]),
        ("occ-events", ["HGETALL", "occ:connection:m-1"]),
        ("occ-metrics", ["HGETALL", "occ:connection:m-1"]),
        ("occ-metrics", ["XRANGE", "occ:inbox", "-", "+"]),
        ("occ-metrics", ["LRANGE", "occ:quarantine", "0", "-1"]),
        ("occ-metrics", ["HSET", "occ:metrics", "occ_ticks_total", "0"]),
    ],
)
def test_what_is_not_needed_is_not_allowed(pipeline: Pipeline, user: str, command: list[str]) -> None:
    with (
        redis.Redis.from_url(as_user(pipeline, user, pipeline.server.url)) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command)


def test_metrics_are_served_under_a_user_that_may_read_no_record(pipeline: Pipeline) -> None:
    pipeline.redis.xadd("occ:events", {"event": "{}"})
    pipeline.redis.xgroup_create("occ:events", "billing", id="0")
    pipeline.redis.zadd("occ:due", {"nobody": 1})
    url = as_user(pipeline, "occ-metrics", pipeline.server.url)
    settings = load_settings({**pipeline.environment, "OCC_REDIS_URL": url, "OCC_BROKER_URL": ""})
    with closing(Exporter(settings)) as exporter:
        told = generate_latest(registry_of(exporter)).decode()
    assert "occ_up 1.0" in told
    assert 'occ_queue_messages{queue="occ"}' in told
    assert 'occ_events_lag{group="billing"}' in told


def test_another_system_reads_events_with_a_group(pipeline: Pipeline) -> None:
    pipeline.redis.xadd("occ:events", {"event": "{}"})
    with redis.Redis.from_url(as_user(pipeline, "occ-events", pipeline.server.url)) as client:
        client.xgroup_create("occ:events", "crm", id="0")
        ((_, entries),) = dict(client.xreadgroup("crm", "one", {"occ:events": ">"})).items()
        entry_id = entries[0][0] if isinstance(entries[0], tuple) else entries[0][0][0]
        assert client.xack("occ:events", "crm", entry_id) == 1

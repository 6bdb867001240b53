"""A producer that does not seal: refused, told how to, and what its mistake leaves behind is known and goes away."""

import json
from collections.abc import Iterator

import pytest
import redis

from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline, running
from tests.secrets import places
from tests.secrets.canaries import CLEAR, Search, application_key
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

SEARCH = Search([CLEAR])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """At DEBUG, with everything in the slow log."""
    one = Pipeline(tmp_path_factory.mktemp("clear"), settings={"OCC_LOG_LEVEL": "DEBUG"})
    with running(one, workers=1) as pipeline:
        pipeline.redis.config_set("slowlog-log-slower-than", 0)
        pipeline.redis.config_set("slowlog-max-len", 1_000_000)
        pipeline.redis.config_set("rdbcompression", "no")
        yield pipeline


def send_in_the_clear(pipeline: Pipeline, store: SimulatedStore) -> int:
    """By every way a careless producer may take; returns how many are refused as requests."""
    key = application_key(store.name, CLEAR)
    request = pipeline.request(store)
    forms = [
        {**request, "application_key": key},
        {**request, "application_key": f"Bearer {key}"},
        {**request, "applicationKey": key},
        {**request, "merchant_id": key},
        {**request, key: "x"},
    ]
    for form in forms:
        pipeline.send(form)
        pipeline.post(form)
    # Of a store's URL only scheme and host are taken, so this one is no mistake.
    pipeline.post({**request, "store_url": f"{store.url}/?key={key}"})
    pipeline.post(key)
    pipeline.post(json.dumps([key]))
    pipeline.send([key])
    # None of these is a task that can be run, or a message at all.
    pipeline.producer.send_task("occ.conect", kwargs=forms[0], queue="occ")
    pipeline.producer.send_task("occ.connect", kwargs=forms[0], queue="occ", shadow=key, argsrepr=key, kwargsrepr=key)
    pipeline.redis.lpush("occ", json.dumps(forms[0]), key, json.dumps({"body": key, "headers": {"task": key}}))
    return 2 * len(forms) + 4


def test_nothing_of_it_is_kept_once_it_was_handled_and_the_file_rewritten(pipeline: Pipeline) -> None:
    store = pipeline.simulator.add("careless")
    expected = send_in_the_clear(pipeline, store)
    wait_until(lambda: len(pipeline.records.refusals(count=500)) >= expected, what="all refusals")
    pipeline.await_end("careless")
    wait_until(lambda: pipeline.redis.llen("occ:quarantine") >= 3, what="the quarantine")
    wait_until(lambda: not SEARCH.hits(places.messages(pipeline)), what="the messages to be gone")
    with redis.Redis.from_url(pipeline.server.url) as client:
        assert SEARCH.hits(places.server_dump(client)) == []
        assert SEARCH.hits(places.logs(pipeline)) == []
        assert SEARCH.hits(places.printed_by_occ(pipeline, [])) == []
        # What went through the server is in its append-only file until that is rewritten, and in its slow log if it
        # was slow. docs/security.md says so; here it is seen to be so, and to be all.
        assert SEARCH.hits(places.slow_log(client))
        assert SEARCH.hits(places.files(pipeline.folder))
        client.slowlog_reset()
        client.bgrewriteaof()
        wait_until(lambda: rewritten(client), what="the file to be rewritten")
        assert SEARCH.hits(places.slow_log(client)) == []
    assert SEARCH.hits(places.files(pipeline.folder)) == []
    assert pipeline.status("careless")["store_url"] == store.url


def rewritten(client: redis.Redis) -> bool:
    info: dict[str, int] = client.info("persistence")
    return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"] and info["aof_rewrites"] > 0


def test_every_refusal_tells_how_to_seal(pipeline: Pipeline) -> None:
    store = pipeline.simulator.add("told")
    pipeline.post({**pipeline.request(store), "application_key": application_key("told", CLEAR)})
    wait_until(
        lambda: any(refusal["merchant_id"] == "told" for refusal in pipeline.records.refusals()),
        what="the refusal",
    )
    refusal = next(refusal for refusal in pipeline.records.refusals() if refusal["merchant_id"] == "told")
    assert refusal["code"] == "not_sealed"
    assert "docs/sealing.md" in refusal["remedy"]

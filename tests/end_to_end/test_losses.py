"""What gets lost on the way is found again: a worker, the queue, messages in hand. The full suite is `./run faults`."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError

from occ.simulator.store import SimulatedStore
from tests.end_to_end.requests import (
    CARRYING_THEIRS,
    SLOTS,
    ask,
    assert_nothing_foreign_was_lost,
    assert_only_theirs_are_in,
    await_forgotten,
    await_true,
    calls,
    history,
    slot_statuses,
)
from tests.pipeline import Pipeline, running
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

MERCHANTS = 12


@pytest.fixture(scope="module")
def of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Slow enough to be hit in mid-run, with a short lease."""
    settings = {"OCC_LEASE": "6", "OCC_CALL_DEADLINE": "1", "OCC_CONCURRENCY": "4"}
    with running(Pipeline(tmp_path_factory.mktemp("losses"), settings=settings, latency=0.1)) as pipeline:
        yield pipeline


@pytest.fixture
def pipeline(of_all: Pipeline) -> Pipeline:
    """With two workers, whatever happened before."""
    of_all.replace_workers(2)
    return of_all


def begin(pipeline: Pipeline) -> list[str]:
    """Connect some merchants, and come back in the middle of it."""
    stores = pipeline.simulator.add_many(MERCHANTS, f"{uuid.uuid4()}-{{n}}")
    for store in stores:
        pipeline.send(pipeline.request(store))
    some = stores[MERCHANTS // 3]
    wait_until(lambda: some.calls.endpoints["login"] > 0, what="the runs to be under way")
    return [store.name for store in stores]


def assert_all_active(pipeline: Pipeline, merchants: list[str]) -> None:
    pipeline.await_end(*merchants)
    assert {pipeline.status(merchant)["status"] for merchant in merchants} == {"active"}
    for merchant in merchants:
        assert pipeline.simulator.store(merchant).summary()["foreign_urls_lost"] == []
        what = [entry["what"] for entry in pipeline.records.timeline(merchant)]
        assert what.count("slot_registered") == 4, "each outcome is recorded once"


def test_a_worker_killed_in_mid_run_loses_nothing(pipeline: Pipeline) -> None:
    merchants = begin(pipeline)
    pipeline.kill(pipeline.running_workers()[0], signal.SIGKILL)
    assert_all_active(pipeline, merchants)


def test_all_workers_killed_and_replaced_lose_nothing(pipeline: Pipeline) -> None:
    merchants = begin(pipeline)
    for worker in pipeline.running_workers():
        pipeline.kill(worker, signal.SIGKILL)
    pipeline.start_worker()
    assert_all_active(pipeline, merchants)


def test_deleted_queues_and_messages_in_hand_lose_nothing_that_was_accepted(pipeline: Pipeline) -> None:
    merchants = begin(pipeline)
    wait_until(lambda: all(pipeline.connection(merchant) for merchant in merchants), what="all to be accepted")
    pipeline.redis.delete("occ", "occ.steps", "unacked", "unacked_index")
    pipeline.kill(pipeline.running_workers()[0], signal.SIGKILL)  # and with it the messages only it knew of
    assert_all_active(pipeline, merchants)


def test_work_that_only_waits_its_turn_gets_no_second_message_while_the_queue_is_long(tmp_path: Path) -> None:
    settings = {"OCC_LEASE": "6", "OCC_CALL_DEADLINE": "1"}
    with Pipeline(tmp_path, settings=settings) as pipeline:
        pipeline.start_worker("--queues", "occ.tick")  # nobody takes the steps
        pipeline.start_beat()
        pipeline.await_workers()
        pipeline.redis.lpush("occ.steps", *["others"] * 1000)
        stores = pipeline.simulator.add_many(3)
        for store in stores:
            pipeline.post(pipeline.request(store))
        wait_until(lambda: pipeline.redis.llen("occ.steps") == 1003, what="the first messages")
        wait_until(lambda: pipeline.records.overdue().count == 3, what="the work to be due again")
        time.sleep(2)  # ticks
        assert pipeline.redis.llen("occ.steps") == 1003
        pipeline.redis.ltrim("occ.steps", 0, 2)
        wait_until(lambda: pipeline.redis.llen("occ.steps") == 6, what="the second messages")


def test_a_full_server_refuses_requests_at_both_doors_and_takes_them_when_there_is_room(pipeline: Pipeline) -> None:
    by_celery, by_inbox, refused = (pipeline.simulator.add(name) for name in ("by-celery", "by-inbox", "refused"))
    for name in pipeline.running_workers():
        pipeline.processes[name].send_signal(signal.SIGSTOP)
    known = {*pipeline.redis.scan_iter("occ:connection*"), *pipeline.redis.scan_iter("occ:due")}
    pipeline.send(pipeline.request(by_celery))
    pipeline.post(pipeline.request(by_inbox))
    pipeline.redis.config_set("maxmemory", 1)
    for name in pipeline.running_workers():
        pipeline.processes[name].send_signal(signal.SIGCONT)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        pipeline.post(pipeline.request(refused))
    with pytest.raises(OperationalError):
        pipeline.send(pipeline.request(refused))
    time.sleep(3)  # ticks and deliveries
    assert pipeline.redis.xlen("occ:inbox") == 1, "kept by the inbox"
    assert {*pipeline.redis.scan_iter("occ:connection*"), *pipeline.redis.scan_iter("occ:due")} <= known
    pipeline.redis.config_set("maxmemory", 0)
    pipeline.await_end(by_celery.name, by_inbox.name)
    assert [pipeline.status(name)["status"] for name in ("by-celery", "by-inbox")] == ["active", "active"]
    assert pipeline.redis.xlen("occ:inbox") == 0
    assert pipeline.connection("refused") is None
    assert all(process.poll() is None for process in pipeline.processes.values())


def test_writes_that_a_failover_has_lost_leave_nobody_with_what_no_record_says(pipeline: Pipeline) -> None:
    stores = pipeline.simulator.add_many(4, f"{uuid.uuid4()}-{{n}}")
    merchants = [store.name for store in stores]
    for store in stores:
        pipeline.post(pipeline.request(store))
    pipeline.await_end(*merchants)
    files = list((pipeline.server.folder / "appendonlydir").glob("*.incr.aof"))
    file = max(files, key=lambda path: path.stat().st_mtime)
    kept = file.stat().st_size
    for store in stores:
        store.change(shipping_methods=[{"repositoryId": "ground", "enabled": False}], filters_enabled=False)
        pipeline.redis.xadd("occ:inbox", {"revalidate": json.dumps({"merchant_id": store.name})})
    wait_until(lambda: statuses_of(pipeline, merchants) == {"degraded"}, what="the trouble")
    heard = [event for _, event in pipeline.records.events(count=100_000)]
    for store in stores:
        store.change(shipping_methods=[{"repositoryId": "ground", "enabled": True}])
    assert pipeline.server.pid is not None
    os.kill(pipeline.server.pid, signal.SIGKILL)
    wait_until(lambda: pipeline.server.pid is None, what="the server to be gone")
    with file.open("r+b") as opened:
        opened.truncate(kept)
    pipeline.server.start()
    wait_until(lambda: latest_heard(pipeline, heard, merchants) == {"active"}, what="corrections")
    assert statuses_of(pipeline, merchants) == {"active"}
    contents: dict[object, object] = {}
    for event in (*heard, *(event for _, event in pipeline.records.events(count=100_000))):
        assert contents.setdefault(event["id"], event) == event


def statuses_of(pipeline: Pipeline, merchants: list[str]) -> set[str]:
    """What the records say."""
    found = pipeline.records.load_many(merchants)
    return {str(snapshot.connection.status) for snapshot in found if snapshot.connection}


def latest_heard(pipeline: Pipeline, heard: list[dict[str, Any]], merchants: list[str]) -> set[str]:
    """What a system takes the statuses to be that has heard this, and all that is in the stream."""
    latest: dict[str, tuple[str, str]] = {}
    try:
        written = [event for _, event in pipeline.records.events(count=100_000)]
    except redis.RedisError:
        return set()
    for event in (*heard, *written):
        if event["subject"] in merchants and event["sequence"] >= latest.get(event["subject"], ("", ""))[0]:
            latest[event["subject"]] = event["sequence"], event["data"].get("status", "")
    return {status for _, status in latest.values()}


def test_a_worker_killed_amid_disconnections_costs_nobody_a_url(pipeline: Pipeline) -> None:
    stores = [pipeline.simulator.add(f"amid-{number}", slots=CARRYING_THEIRS) for number in range(6)]
    requests = [pipeline.request(store) for store in stores]
    for request in requests:
        pipeline.send(request)
    pipeline.await_end(*(store.name for store in stores))
    for store in stores:
        ask(pipeline, "occ.disconnect", merchant_id=store.name)
    await_true(lambda: any(calls(store)["write_slot"] > 4 for store in stores), "a first removal")
    pipeline.kill(pipeline.running_workers()[0], signal.SIGKILL)
    assert any(len(store.urls(slot)) == 2 for store in stores for slot in SLOTS), "some is yet to be done"
    for store in stores:  # a wish that was on its way to the worker is lost with it
        ask(pipeline, "occ.disconnect", merchant_id=store.name)
    await_true(lambda: all(pipeline.status(store.name)["status"] == "disconnected" for store in stores), "all")
    for store, request in zip(stores, requests, strict=True):
        await_true(lambda store=store: slots_are_clear(pipeline, store), "all slots to be clear")  # type: ignore[misc]
        assert_only_theirs_are_in(store)
        await_forgotten(pipeline, store.name, str(request["application_key"]))
        assert len(history(pipeline, store.name, "slot_removed")) == 4, "each outcome is recorded once"
    assert_nothing_foreign_was_lost(stores)


def slots_are_clear(pipeline: Pipeline, store: SimulatedStore) -> bool:
    """Whether our callback URL is recorded as out of every slot."""
    return set(slot_statuses(pipeline.status(store.name)).values()) == {"removed"}

"""What stock Celery clients ask for beside the task, or forget: no worker holds it, and nothing lies unread."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

NewStore = Callable[..., SimulatedStore]


def test_requests_with_a_countdown_wait_in_redis_and_hold_up_nobody(shared: Pipeline, new_store: NewStore) -> None:
    for number in range(300):
        request = {"merchant_id": f"later-{number}"}
        shared.producer.send_task("occ.revalidate", kwargs=request, queue="occ", countdown=3600)
    soon, now = new_store(), new_store()
    shared.producer.send_task("occ.connect", kwargs=shared.request(soon), queue="occ", countdown=3)
    shared.send(shared.request(now))
    shared.await_end(now.name, soon.name)
    assert [shared.status(store.name)["status"] for store in (now, soon)] == ["active", "active"]
    wait_until(lambda: shared.redis.zcard("occ:scheduled") == 300, what="all that is for later to be kept")
    shared.redis.delete("occ:scheduled", "occ:scheduled:requests")


def test_a_request_for_later_is_checked_when_it_comes(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    wrong = shared.request(store) | {"application_key": store.application_key}
    shared.producer.send_task("occ.connect", kwargs=wrong, queue="occ", countdown=3600)
    wait_until(
        lambda: any(one["merchant_id"] == store.name for one in shared.records.refusals(count=200)),
        what="the key in the clear to be refused",
    )
    assert shared.redis.zcard("occ:scheduled") == 0


def stock_client(pipeline: Pipeline, **transport_options: object) -> Celery[Any]:
    """Celery as it is installed: unlike that of the pipeline, with a list for each priority."""
    client: Celery[Any] = Celery("stock", broker=pipeline.server.broker_url, set_as_current=False)
    client.conf.update(broker_transport_options=transport_options)
    return client


CELERYS_EXAMPLE = {"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"}


@pytest.mark.parametrize("transport_options", [{}, CELERYS_EXAMPLE], ids=["default", "as in Celery's example"])
def test_a_priority_or_a_forgotten_queue_loses_nothing(
    shared: Pipeline, new_store: NewStore, transport_options: dict[str, object]
) -> None:
    stores = []
    with stock_client(shared, **transport_options) as client:
        for queue, priority in [("occ", 9), ("occ", 4), ("occ", 1), ("celery", 0), ("celery", 6)]:
            stores.append(new_store())
            client.send_task("occ.connect", kwargs=shared.request(stores[-1]), queue=queue, priority=priority)
    shared.await_end(*(store.name for store in stores))
    assert {shared.status(store.name)["status"] for store in stores} == {"active"}


def test_a_message_in_the_default_queue_is_found_among_those_of_another_program(
    shared: Pipeline, new_store: NewStore
) -> None:
    store = new_store()
    with stock_client(shared) as client:
        for _ in range(450):
            client.send_task("theirs.report")
        client.send_task("occ.connect", kwargs=shared.request(store))
    shared.await_end(store.name)
    assert shared.redis.llen("celery") == 450
    shared.redis.delete("celery")


@pytest.mark.parametrize(
    "options",
    [
        {"time_limit": 0.001, "soft_time_limit": 0.001},
        {"retries": 7},
        {"retry": True, "retry_policy": {"max_retries": 9}},
        {"headers": {"of_their_own": "yes", "not_before": "2099-01-01T00:00:00", "attempt": 9}},
        {"task_id": "chosen-by-the-producer", "shadow": "another name", "ignore_result": False},
        {"expires": 3600},
        {"countdown": -5},
        {"eta": datetime(2000, 1, 1, tzinfo=UTC)},
        {"delivery_mode": 1},
    ],
    ids=", ".join,
)
def test_what_else_a_client_may_ask_for_changes_nothing(
    shared: Pipeline, new_store: NewStore, options: dict[str, Any]
) -> None:
    store = new_store()
    with stock_client(shared) as client:
        client.send_task("occ.connect", kwargs=shared.request(store), queue="occ", **options)
    shared.await_end(store.name)
    assert shared.status(store.name)["status"] == "active"


def test_a_request_that_expired_or_brings_a_chain_is_set_aside_with_a_sentence(
    shared: Pipeline, new_store: NewStore
) -> None:
    gone, linked, chained, compressed = new_store(), new_store(), new_store(), new_store()
    past = datetime.now(UTC) - timedelta(minutes=1)
    shared.producer.send_task("occ.connect", kwargs=shared.request(gone), queue="occ", expires=past)
    shared.producer.send_task(
        "occ.connect",
        kwargs=shared.request(linked),
        queue="occ",
        link=shared.producer.signature("theirs.report", queue="occ"),
    )
    theirs = shared.producer.signature("theirs.report", queue="occ")
    first = shared.producer.signature("occ.connect", kwargs=shared.request(chained), queue="occ")
    (first | theirs).apply_async()
    with stock_client(shared) as client:
        client.send_task("occ.connect", kwargs=shared.request(compressed), queue="occ", compression="zlib")

    def reasons() -> list[str]:
        return [json.loads(entry)["reason"] for entry in shared.redis.lrange("occ:quarantine", 0, -1)]

    wait_until(
        lambda: (
            any("expired" in it for it in reasons())
            and any("compressed" in it for it in reasons())
            and sum("links" in it for it in reasons()) == 2
        ),
        what="all four to be in the quarantine",
    )
    set_aside = {store.name for store in (gone, linked, chained)}
    wait_until(lambda: set_aside <= reported_as_set_aside(shared), what="their senders to hear of it")
    assert shared.connection(gone.name) is None
    assert shared.connection(linked.name) is None
    assert shared.connection(chained.name) is None
    assert shared.connection(compressed.name) is None


def reported_as_set_aside(shared: Pipeline) -> set[str]:
    """The merchants of the requests whose senders heard that they were set aside."""
    reported = [event["data"] for _, event in shared.records.events() if event["type"] == "occ.request.refused"]
    return {data["merchant_id"] for data in reported if data["code"] == "set_aside" and data["message_id"]}

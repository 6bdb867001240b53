"""What stock Celery clients ask for beside the task, or forget: no worker holds it, and nothing lies unread."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

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


@pytest.mark.parametrize(("queue", "priority"), [("occ", 9), ("occ", 4), ("celery", 0), ("celery", 6)])
def test_a_priority_or_a_forgotten_queue_loses_nothing(
    shared: Pipeline, new_store: NewStore, queue: str, priority: int
) -> None:
    store = new_store()
    shared.producer.send_task("occ.connect", kwargs=shared.request(store), queue=queue, priority=priority)
    shared.await_end(store.name)
    assert shared.status(store.name)["status"] == "active"


def test_a_request_that_expired_or_brings_a_chain_is_set_aside_with_a_sentence(
    shared: Pipeline, new_store: NewStore
) -> None:
    gone, linked = new_store(), new_store()
    past = datetime.now(UTC) - timedelta(minutes=1)
    shared.producer.send_task("occ.connect", kwargs=shared.request(gone), queue="occ", expires=past)
    shared.producer.send_task(
        "occ.connect",
        kwargs=shared.request(linked),
        queue="occ",
        link=shared.producer.signature("theirs.report", queue="occ"),
    )

    def reasons() -> list[str]:
        return [json.loads(entry)["reason"] for entry in shared.redis.lrange("occ:quarantine", 0, -1)]

    wait_until(
        lambda: any("expired" in it for it in reasons()) and any("links" in it for it in reasons()),
        what="both to be in the quarantine",
    )
    assert shared.connection(gone.name) is None
    assert shared.connection(linked.name) is None

"""From an order at a store to its receiver and back: heard from, failing, silent, sent again. Real processes and HTTP.

Only the weeks in which a slot's rhythm is learned are put into its memory; nobody waits for them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from integrations.connections.rhythm import Rhythm
from integrations.silence.heard import LISTENING, heard_key
from occ.simulator.store import SimulatedStore
from tests.order_receiver import PYTHON, OrderReceiver
from tests.pipeline import REPOSITORY, Pipeline, running
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
SLOT = SLOTS[0]
DAY = 86400


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pipeline, OrderReceiver]]:
    """A pipeline whose callback URLs lead to the example receiver, which reports to its inbox."""
    folder = tmp_path_factory.mktemp("heard")
    pipeline = Pipeline(folder)
    receiver = OrderReceiver(PYTHON, folder, folder / "orders")
    pipeline._settings |= {
        "OCC_CALLBACK_URL": f"http://127.0.0.1:{receiver.port}/occ/{{merchant_id}}/{{slot}}",
        "OCC_DELIVERY_CHECK_EVERY": "1",
    }
    with running(pipeline, workers=1):
        receiver.redis_url = pipeline.server.url
        yield pipeline, receiver
        receiver.kill()


def connected(pipeline: Pipeline, receiver: OrderReceiver, name: str, **changes: object) -> SimulatedStore:
    """A store that is connected, and whose secrets the receiver knows."""
    store = pipeline.simulator.add(name, allows_http=True, resend_delay=0.2, **changes)
    receiver.secrets[name] = {slot: store.secret(slot) for slot in SLOTS}
    receiver.kill()
    receiver.start()
    pipeline.post(pipeline.request(store))
    pipeline.await_end(name)
    assert pipeline.status(name)["status"] == "active"
    return store


def told(pipeline: Pipeline, merchant_id: str, kind: str) -> list[dict[str, Any]]:
    """What events of a type say of a merchant."""
    events = [event for _, event in pipeline.records.events(count=100_000)]
    return [event["data"] for event in events if event["subject"] == merchant_id and event["type"] == kind]


def findings(pipeline: Pipeline, merchant_id: str) -> set[tuple[str, str]]:
    return {(finding["code"], finding["slot"]) for finding in pipeline.status(merchant_id)["findings"]}


def revalidate(pipeline: Pipeline, merchant_id: str) -> None:
    pipeline.redis.xadd("occ:inbox", {"revalidate": json.dumps({"merchant_id": merchant_id})})


def occ(pipeline: Pipeline, *arguments: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "occ.cli", *arguments, "--json"],
        env=pipeline.environment,
        cwd=REPOSITORY,
        capture_output=True,
        timeout=120,
        check=True,
    )
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_an_order_is_delivered_heard_and_shown_and_what_fails_or_falls_silent_is_found_and_mended(
    pipeline: tuple[Pipeline, OrderReceiver],
) -> None:
    shared, receiver = pipeline
    store = connected(shared, receiver, "m-1", disables_target_after=1)

    first = store.place_order()
    wait_until(lambda: len(told(shared, "m-1", "occ.slot.heard")) == 4, what="all slots to be heard from")
    assert {slot for _, slot, _ in receiver.taken()} == {*SLOTS}
    slots = occ(shared, "status", "m-1")["slots"]
    assert all(slots[slot]["heard"]["deliveries"] >= 1 for slot in SLOTS)
    writes = store.calls.endpoints["write_slot"]

    receiver.kill()
    missed = store.place_order()
    wait_until(lambda: store.summary()["given_up"] == 4, what="the store to give up")
    assert len(store.disabled_targets) == 4
    wait_until(lambda: shared.connection("m-1").started_at + 1 < shared.records.load("m-1").now(), what="a second")  # type: ignore[union-attr]
    revalidate(shared, "m-1")
    failing = {("deliveries_failing", slot) for slot in SLOTS}
    wait_until(lambda: findings(shared, "m-1") == failing, what="the failure to be found")
    assert {event["slot"] for event in told(shared, "m-1", "occ.slot.deliveries_failing")} == {*SLOTS}
    assert shared.status("m-1")["status"] == "active"

    receiver.start()
    store.place_order()  # nothing comes: the store has disabled its targets, and the slots still list them
    now = int(shared.records.load("m-1").now())
    weeks = Rhythm(last=now - 2 * DAY, since=now - 30 * DAY, count=500, longest=3600)
    shared.redis.hset(heard_key("m-1"), SLOT, weeks.text())
    shared.redis.zadd(LISTENING, {"m-1": 0})
    wait_until(lambda: ("slot_silent", SLOT) in findings(shared, "m-1"), what="the silence to be found")
    assert len(told(shared, "m-1", "occ.slot.silent")) == 1
    assert all(store.urls(slot) == [receiver.url("m-1", slot)] for slot in SLOTS)

    store.change(enable_targets=True)
    assert occ(shared, "replay", "m-1")["outcome"] == "asked"
    wait_until(lambda: len(receiver.taken()) == 8, what="what was missed")
    assert {str(content) for _, _, content in receiver.taken()[4:]}
    assert all(missed in str(content) for _, _, content in receiver.taken()[4:])
    wait_until(lambda: ("slot_silent", SLOT) not in findings(shared, "m-1"), what="the silence to end")
    (back,) = (event for event in told(shared, "m-1", "occ.slot.heard") if event["silent_since"])
    assert back["slot"] == SLOT
    revalidate(shared, "m-1")
    wait_until(lambda: findings(shared, "m-1") == set(), what="the findings to go")
    assert len(told(shared, "m-1", "occ.slot.deliveries_cleared")) == 4
    assert store.calls.endpoints["write_slot"] == writes, "nothing of this wrote to the store"
    assert first in str(receiver.taken()[0])


def test_reports_through_the_queue_are_taken_too_and_forged_ones_are_harmless(
    pipeline: tuple[Pipeline, OrderReceiver],
) -> None:
    shared, receiver = pipeline
    connected(shared, receiver, "m-2")
    before = shared.status("m-2")
    reports = [
        {"merchant_id": "nobody", "slot": SLOT},
        {"merchant_id": "m-2", "slot": "no-such-slot"},
        {"merchant_id": "m-2", "slot": SLOT, "at": 4_000_000_000},
        {"merchant_id": "m-2", "slot": SLOT, "at": 1},
        {"merchant_id": "m-2"},
        "nonsense",
    ]
    for report in reports:
        shared.redis.xadd("occ:inbox", {"heard": json.dumps(report)})
        kwargs = report if isinstance(report, dict) else {"reports": report}
        shared.producer.send_task("occ.heard", kwargs=kwargs, queue="occ")
    shared.redis.xadd("occ:inbox", {"heard": "{"})
    shared.producer.send_task("occ.heard", kwargs={"merchant_id": "m-2", "slot": "order-update"}, queue="occ")
    wait_until(lambda: len(told(shared, "m-2", "occ.slot.heard")) == 2, what="both slots to be heard from")
    wait_until(lambda: shared.redis.xlen("occ:inbox") == 0, what="the inbox to be empty")
    assert {event["slot"] for event in told(shared, "m-2", "occ.slot.heard")} == {SLOT, "order-update"}
    assert shared.status("m-2") == before
    assert not shared.redis.exists(heard_key("nobody"))
    assert shared.redis.llen("occ:quarantine") == 0

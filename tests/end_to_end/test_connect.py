"""One request in, a store connected: over real workers, server and HTTP."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

NewStore = Callable[..., SimulatedStore]
SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
ONE_OF_EACH = {"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4}


def calls(store: SimulatedStore) -> dict[str, int]:
    """How often each endpoint was called."""
    return dict(store.calls.endpoints)


def connect(shared: Pipeline, store: SimulatedStore) -> dict[str, Any]:
    """Send a request and wait for what comes of it."""
    shared.send(shared.request(store))
    shared.await_end(store.name)
    return shared.status(store.name)


def slot_statuses(status: dict[str, Any]) -> dict[str, str]:
    """Slot name -> status."""
    return {name: slot["status"] for name, slot in status["slots"].items()}


def test_a_healthy_store_is_connected_with_ten_calls(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    status = connect(shared, store)
    assert status["status"] == "active"
    assert status["findings"] == []
    assert slot_statuses(status) == dict.fromkeys(SLOTS, "registered")
    assert calls(store) == ONE_OF_EACH
    for slot in SLOTS:
        assert store.urls(slot) == [f"https://hooks.example.com/occ/{store.name}/{slot}"]


def test_the_same_request_again_makes_no_call(shared: Pipeline, new_store: NewStore) -> None:
    store, probe = new_store(), new_store()
    before = connect(shared, store)
    shared.send(shared.request(store))  # sealed anew, so that not one byte of the key is the same
    shared.post(shared.request(store, store_url=store.url + "/occs-admin/"))
    connect(shared, probe)  # the queue and the inbox have been worked off by now
    wait_until(lambda: shared.redis.xlen("occ:inbox") == 0, what="the inbox to be empty")
    assert calls(store) == ONE_OF_EACH
    assert shared.status(store.name) == before


def test_real_tenants_with_other_slots_filled_keep_them(shared: Pipeline, new_store: NewStore) -> None:
    others = ["https://oms.example.com/orders", "https://erp.example.com/in?a=1,2"]
    settings = {"headers": {"X-Team": "oms"}, "basicAuthentication": {"user": "secret"}, "resendDelaySeconds": "60"}
    store = new_store(slots={slot: {"urls": others, **settings} for slot in SLOTS})
    before = {slot: store.slot_fields(slot) for slot in SLOTS}
    assert connect(shared, store)["status"] == "active"
    for slot in SLOTS:
        ours = f"https://hooks.example.com/occ/{store.name}/{slot}"
        assert store.slot_fields(slot) == before[slot] | {"urls": [*others, ours]}
    assert store.summary()["secret_resets"] == 0


def assert_nobody_waited_for_the_faulty(shared: Pipeline, store: SimulatedStore, faulty: set[str]) -> None:
    """All healthy slots are registered before any faulty one is tried a second time."""
    what = [(entry["what"], entry.get("attempt")) for entry in shared.records.timeline(store.name)]
    retries = [position for position, (_, attempt) in enumerate(what) if attempt is not None and attempt > 1]
    registered = [position for position, (name, _) in enumerate(what) if name == "slot_registered"]
    assert len(registered) == len(SLOTS) - len(faulty)
    assert not retries or not registered or max(registered) < min(retries)


def test_two_faulty_slots_fail_alone_each_in_its_own_way(shared: Pipeline, new_store: NewStore) -> None:
    always = {"times": "always"}
    permanent, transient = "order-update", "shipment-create"
    faults = {permanent: {"fault": "forbidden_role", **always}, transient: {"fault": "unavailable", **always}}
    store = new_store(faults={f"write_slot:{slot}": [fault] for slot, fault in faults.items()})
    status = connect(shared, store)
    found = {slot: (it["status"], it["attempts"], it["cause"]) for slot, it in status["slots"].items()}
    assert found == dict.fromkeys(SLOTS, ("registered", 1, None)) | {
        permanent: ("failed", 1, "permission_denied"),
        transient: ("failed", 5, "store_error"),
    }
    assert status["status"] == "degraded"
    assert {finding["slot"] for finding in status["findings"]} == {permanent, transient}
    assert_nobody_waited_for_the_faulty(shared, store, {permanent, transient})


def test_a_wait_the_store_asks_for_is_kept_and_holds_nothing(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(faults={"write_slot:shipment-create": [{"fault": "throttled", "retry_after_date": 8}]})
    shared.send(shared.request(store))

    def waiting() -> bool:
        connection = shared.connection(store.name)
        return connection is not None and connection.slots["shipment-create"].next_attempt_at is not None

    wait_until(waiting, what="the slot to wait")
    wait_until(lambda: no_message_about(shared, store.name), what="the last message to be acknowledged")

    def the_others_are_registered() -> bool:  # what was handed on is in no queue
        return sum(slot == "registered" for slot in slot_statuses(shared.status(store.name)).values()) == 3

    wait_until(the_others_are_registered, what="the other slots")
    status = shared.status(store.name)
    assert status["status"] == "onboarding"
    assert status["slots"]["shipment-create"]["status"] == "retrying"
    assert status["slots"]["shipment-create"]["cause"] == "store_busy"
    assert sum(slot == "registered" for slot in slot_statuses(status).values()) == 3
    assert no_work_in_hand(shared, store.name)
    shared.await_end(store.name)
    assert shared.status(store.name)["status"] == "active"
    assert store.calls.undercuts == []


def no_message_about(shared: Pipeline, merchant_id: str) -> bool:
    """Neither in a queue nor delivered and unacknowledged (which is where an ETA would wait)."""
    held = [*shared.redis.lrange("occ.steps", 0, -1), *shared.redis.hvals("unacked")]
    return not any(merchant_id in str(message) for message in held)


def no_work_in_hand(shared: Pipeline, merchant_id: str) -> bool:
    """No worker runs, holds or has scheduled a task of this merchant."""
    inspect = shared.producer.control.inspect(timeout=180, limit=2)
    told = [inspect.active(), inspect.reserved(), inspect.scheduled()]
    assert all(len(answer or {}) == 2 for answer in told), "both workers answer"
    return merchant_id not in str(told)


def test_a_refused_key_is_doubted_first_and_rejected_at_the_second_exchange(
    shared: Pipeline, new_store: NewStore
) -> None:
    store = new_store(revoke_keys=True)
    shared.send(shared.request(store))

    def doubted() -> bool:
        return (connection := shared.connection(store.name)) is not None and (
            (connection.credential.verdict, connection.status) == ("doubted", "onboarding")
        )

    wait_until(doubted, what="the doubt")
    shared.await_end(store.name)
    status = shared.status(store.name)
    assert status["status"] == "needs_reauthorisation"
    assert status["credential"]["verdict"] == "rejected"
    assert [finding["code"] for finding in status["findings"]] == ["key_rejected"]
    assert calls(store) == {"login": 2}
    first, second = (call.arrived for call in store.calls.entries)
    assert second - first >= 2


ALWAYS = {"times": "always"}

ON_THE_WIRE: dict[str, dict[str, list[object]]] = {
    "hangs": {"login": ["hang"]},
    "reset": {"*": [{"fault": "reset", "times": 2}]},
    "truncated": {"read_slot": [{"fault": "truncated", "times": 3}]},
    "drip": {"shipping_methods": ["drip_body"]},
    "huge": {"read_slot:order-update": ["huge"]},
    "bomb": {"read_slot:order-update": ["gzip_bomb"]},
    "write 204": {"write_slot": [{"fault": "no_content", "times": "always"}]},
}
"""What only the wire shows; `tests/fault_matrix` has what each other answer of a store comes to."""


def test_what_breaks_on_the_wire_is_tried_again(shared: Pipeline, new_store: NewStore) -> None:
    stores = {name: new_store(faults=faults) for name, faults in ON_THE_WIRE.items()}
    for store in stores.values():
        shared.send(shared.request(store))
    shared.await_end(*(store.name for store in stores.values()))
    found = {name: shared.status(store.name) for name, store in stores.items()}
    assert {name: (status["status"], status["findings"]) for name, status in found.items()} == {
        name: ("active", []) for name in ON_THE_WIRE
    }


def test_a_write_whose_answer_was_lost_is_not_repeated(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(faults={"write_slot": [{"fault": "reset", "processed": True, "times": 4}]})
    connect(shared, store)
    assert calls(store)["write_slot"] == 4
    assert Counter(len(store.urls(slot)) for slot in SLOTS) == {1: 4}

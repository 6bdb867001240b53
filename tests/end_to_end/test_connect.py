"""One request in, a store connected: over real workers, server and HTTP."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from occ.simulator.application_keys import make_application_key
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


def test_registering_over_urls_that_are_there_writes_nothing(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    connect(shared, store)
    store.change(application_key=make_application_key(subject="another"))
    store.reset_counts()
    shared.send(shared.request(store))
    shared.await_end(store.name, run=2)
    assert shared.status(store.name)["status"] == "active"
    assert calls(store) == {"login": 1, "shipping_methods": 1, "read_slot": 5}  # one to see that the new key may


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


@pytest.mark.parametrize("kind", ["permanent", "transient"])
def test_every_subset_of_faulty_slots_fails_alone(shared: Pipeline, new_store: NewStore, kind: str) -> None:
    fault = "forbidden_role" if kind == "permanent" else "unavailable"
    cause = "permission_denied" if kind == "permanent" else "store_error"
    subsets = [{slot for bit, slot in enumerate(SLOTS) if number >> bit & 1} for number in range(16)]
    stores = [
        new_store(faults={f"write_slot:{slot}": [{"fault": fault, "times": "always"}] for slot in faulty})
        for faulty in subsets
    ]
    for store in stores:
        shared.send(shared.request(store))
    shared.await_end(*(store.name for store in stores))
    for store, faulty in zip(stores, subsets, strict=True):
        status = shared.status(store.name)
        assert status["status"] == ("degraded" if faulty else "active")
        for slot in SLOTS:
            found = status["slots"][slot]
            if slot not in faulty:
                assert (found["status"], found["attempts"], found["cause"]) == ("registered", 1, None)
            else:
                assert (found["status"], found["cause"]) == ("failed", cause)
                assert found["attempts"] == (1 if kind == "permanent" else 5)
        assert {finding["slot"] for finding in status["findings"]} == faulty
        assert_nobody_waited_for_the_faulty(shared, store, faulty)


def assert_nobody_waited_for_the_faulty(shared: Pipeline, store: SimulatedStore, faulty: set[str]) -> None:
    """All healthy slots are registered before any faulty one is tried a second time."""
    what = [(entry["what"], entry.get("attempt")) for entry in shared.records.timeline(store.name)]
    retries = [position for position, (_, attempt) in enumerate(what) if attempt is not None and attempt > 1]
    registered = [position for position, (name, _) in enumerate(what) if name == "slot_registered"]
    assert len(registered) == len(SLOTS) - len(faulty)
    assert not retries or not registered or max(registered) < min(retries)


def test_a_run_outlives_tokens_that_die_after_every_call(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(token_uses=1)
    status = connect(shared, store)
    assert status["status"] == "active"
    assert store.calls.statuses["write_slot 200"] == 4


def test_a_refusal_of_a_fresh_token_is_about_permission_and_no_loop(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(faults={"write_slot:order-update": [{"fault": "unauthorized", "times": "always"}]})
    status = connect(shared, store)
    assert status["status"] == "degraded"
    assert status["slots"]["order-update"] == {
        "status": "failed",
        "attempts": 1,
        "cause": "permission_denied",
        "next_attempt_at": None,
    }
    assert store.calls.slots["write_slot:order-update"] == 2
    assert calls(store)["login"] == 2
    assert [(finding["code"], finding["actor"]) for finding in status["findings"]] == [
        ("permission_denied", "merchant")
    ]


def test_fifty_identical_requests_through_both_doors_are_one_run(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    for number in range(50):
        request = shared.request(store)
        (shared.send if number % 2 else shared.post)(request)
    shared.await_end(store.name)
    wait_until(lambda: shared.redis.xlen("occ:inbox") == 0, what="the inbox to be empty")
    connect(shared, new_store())
    assert calls(store) == ONE_OF_EACH
    assert shared.status(store.name)["run"] == 1


def test_a_changed_key_starts_a_run_and_tasks_of_the_old_one_do_nothing(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    connect(shared, store)
    store.change(application_key=make_application_key(subject="another"))
    shared.send(shared.request(store))
    shared.await_end(store.name, run=2)
    before = calls(store)
    for task in ("occ.validate_key", "occ.check_shipping_methods"):
        shared.producer.send_task(task, kwargs={"merchant_id": store.name, "run": 1}, queue="occ.steps")
    for slot in SLOTS:
        arguments = {"merchant_id": store.name, "run": 1, "slot": slot}
        shared.producer.send_task("occ.register_slot", kwargs=arguments, queue="occ.steps")
    connect(shared, new_store())
    wait_until(lambda: shared.redis.llen("occ.steps") == 0, what="the queue to be empty")
    assert calls(store) == before
    assert shared.status(store.name)["run"] == 2


def test_a_token_of_the_old_key_is_not_used_for_the_new_one(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    connect(shared, store)
    store.change(revoke_keys=True, application_key=make_application_key(subject="another"))
    shared.send(shared.request(store))
    shared.await_end(store.name, run=2)
    assert shared.status(store.name)["credential"]["verdict"] == "valid"
    assert calls(store)["login"] == 2


@pytest.mark.parametrize("form", ["retry_after", "retry_after_date"])
def test_a_wait_the_store_asks_for_is_kept_and_holds_nothing(shared: Pipeline, new_store: NewStore, form: str) -> None:
    store = new_store(faults={"write_slot:shipment-create": [{"fault": "throttled", form: 8}]})
    shared.send(shared.request(store))

    def waiting() -> bool:
        connection = shared.connection(store.name)
        return connection is not None and connection.slots["shipment-create"].next_attempt_at is not None

    wait_until(waiting, what="the slot to wait")
    wait_until(lambda: no_message_about(shared, store.name), what="the last message to be acknowledged")
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
    inspect = shared.producer.control.inspect(timeout=30, limit=2)
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


def test_a_key_refused_only_once_is_a_working_key(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(faults={"login": [{"fault": "unauthorized", "shape": "html"}]})
    status = connect(shared, store)
    assert status["status"] == "active"
    assert status["credential"]["verdict"] == "valid"


def test_a_key_that_dies_in_the_middle_is_found_out(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(
        faults={
            "write_slot:order-submit": [{"fault": "unauthorized", "times": "always"}],
            "login": ["healthy", {"fault": "unauthorized", "times": "always"}],
        }
    )
    status = connect(shared, store)
    assert status["status"] == "needs_reauthorisation"


def test_a_store_without_shipping_methods_ends_the_run_with_a_finding(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(shipping_methods=[{"repositoryId": "ground", "enabled": False}], filters_enabled=False)
    status = connect(shared, store)
    assert status["status"] == "degraded"
    assert status["shipping_methods"] == {"verdict": "missing", "enabled": 0}
    assert [(finding["code"], finding["actor"]) for finding in status["findings"]] == [
        ("no_shipping_methods", "merchant")
    ]
    assert calls(store) == {"login": 1, "shipping_methods": 1}
    assert status["due_at"] is not None


ALWAYS = {"times": "always"}

OUTCOMES: dict[str, tuple[dict[str, object], str, set[str]]] = {
    # what the store does -> status, codes of the findings
    "login 404": ({"login": [{"fault": 404, **ALWAYS}]}, "degraded", {"not_an_admin_host"}),
    "login page": ({"login": [{"fault": "html_in_200", **ALWAYS}]}, "degraded", {"not_an_admin_host"}),
    "login edge": ({"login": [{"fault": "forbidden_page", **ALWAYS}]}, "unreachable", {"edge_refused"}),
    "login 503": ({"login": [{"fault": 503, **ALWAYS}]}, "unreachable", {"store_error"}),
    "login redirect": ({"login": [{"fault": "redirect", **ALWAYS}]}, "degraded", {"redirected"}),
    "login hangs": ({"login": [{"fault": "hang", **ALWAYS}]}, "unreachable", {"store_timeout"}),
    "shipping 403": ({"shipping_methods": [{"fault": 403, **ALWAYS}]}, "degraded", {"permission_denied"}),
    "shipping guard": ({"shipping_methods": [{"fault": "guard_60012", "times": 2}]}, "active", set()),
    "shipping array": ({"shipping_methods": ["bare_array"]}, "active", set()),
    "slot 404": ({"slot:order-update": [{"fault": 404, **ALWAYS}]}, "degraded", {"slot_not_offered"}),
    "slot 405": ({"slot:order-update": [{"fault": 405, **ALWAYS}]}, "degraded", {"slot_refused"}),
    "slot unreadable 405": ({"read_slot:order-update": [{"fault": 405, **ALWAYS}]}, "active", set()),
    "write 400": ({"write_slot:order-update": [{"fault": 400, **ALWAYS}]}, "degraded", {"slot_refused"}),
    "200 with error": ({"write_slot": [{"fault": "error_in_200", "times": 4}]}, "active", set()),
    "write 204": ({"write_slot": [{"fault": "no_content", **ALWAYS}]}, "active", set()),
    "write ignored": (
        {"write_slot:order-update": [{"fault": "write_ignored", **ALWAYS}]},
        "degraded",
        {"registration_not_kept"},
    ),
    "answer lost": ({"write_slot": [{"fault": "reset", "processed": True, "times": 4}]}, "active", set()),
    "reset": ({"*": [{"fault": "reset", "times": 2}]}, "active", set()),
    "truncated": ({"read_slot": [{"fault": "truncated", "times": 3}]}, "active", set()),
    "drip": ({"shipping_methods": ["drip_body"]}, "active", set()),
    "huge": ({"read_slot:order-update": [{"fault": "huge"}]}, "active", set()),
    "bomb": ({"read_slot:order-update": [{"fault": "gzip_bomb"}]}, "active", set()),
}


def test_every_fault_ends_with_its_own_status_and_cause(shared: Pipeline, new_store: NewStore) -> None:
    stores = {name: new_store(faults=faults) for name, (faults, _, _) in OUTCOMES.items()}
    for store in stores.values():
        shared.send(shared.request(store))
    shared.await_end(*(store.name for store in stores.values()), within=90)
    found = {}
    for name, store in stores.items():
        status = shared.status(store.name)
        found[name] = (status["status"], {finding["code"] for finding in status["findings"]})
        assert store.summary()["foreign_urls_lost"] == [], name
    assert found == {name: (status, codes) for name, (_, status, codes) in OUTCOMES.items()}


def test_a_write_whose_answer_was_lost_is_not_repeated(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(faults={"write_slot": [{"fault": "reset", "processed": True, "times": 4}]})
    connect(shared, store)
    assert calls(store)["write_slot"] == 4
    assert Counter(len(store.urls(slot)) for slot in SLOTS) == {1: 4}

"""A re-validation that finds all in order is one task; what is not is left to others, and the record is the same."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from integrations.connections.record import Claim, Connection, Work
from integrations.egress.patience import Bulkhead
from occ.simulator.store import SimulatedStore
from tasks import claimed_step
from tests.integrations.oracle_commerce.by_hand import THEIRS, Desk, connected, ours
from tests.integrations.oracle_commerce.fakes import SLOTS, VALIDATE, slot

Fault = Callable[[SimulatedStore], object]

FAULTS: dict[str, Fault] = {
    "none": SimulatedStore.heal,
    "no key service": lambda store: store.fail("login", 503),
    "key refused": lambda store: store.change(revoke_keys=[store.application_key]),
    "shipping methods away": lambda store: store.fail("shipping_methods", 503),
    "shipping methods forbidden": lambda store: store.fail("shipping_methods", 403),
    "no shipping methods": lambda store: store.change(shipping_methods=0),
    "other shipping methods": lambda store: store.change(shipping_methods=5),
    "slot away": lambda store: store.fail("read_slot:order-update", 503),
    "slot asks to wait": lambda store: store.fail(
        "read_slot:order-update", {"fault": "throttled", "retry_after": 40, "times": 1}
    ),
    "slot forbidden": lambda store: store.fail("read_slot:shipment-update", *[403] * 9),
    "slot gone": lambda store: store.change(offers=[name for name in SLOTS if name != "shipment-create"]),
    "ours gone": lambda store: store.change(slots={"order-update": {"urls": [THEIRS]}}),
    "ours gone everywhere": lambda store: store.change(slots={name: {"urls": [THEIRS]} for name in SLOTS}),
    "ours twice": lambda store: store.change(
        slots={"order-submit": {"urls": [ours("order-submit"), ours("order-submit").upper(), THEIRS]}}
    ),
    "their header gone": lambda store: store.change(slots={"order-submit": {"headers": {}}}),
}


def looked_at(fault: Fault) -> tuple[Desk, SimulatedStore]:
    desk, store = connected(delivery_check_every=0)
    desk.records.lines.clear()
    fault(store)
    desk.revalidate()
    desk.at_once()
    return desk, store


def without_secrets(connection: Connection) -> Connection:
    """Each store has its own."""
    credential = replace(connection.credential, fingerprint="")
    slots = {
        name: replace(slot, seen=replace(slot.seen, secret="") if slot.seen else None)
        for name, slot in connection.slots.items()
    }
    return replace(connection, credential=credential, slots=slots)


@pytest.mark.parametrize("name", FAULTS)
def test_the_record_is_what_tasks_of_their_own_leave(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_go, _ = looked_at(FAULTS[name])
    monkeypatch.setattr(claimed_step, "may_take_all", lambda *_: False)
    step_by_step, _ = looked_at(FAULTS[name])
    assert without_secrets(in_one_go.connection) == without_secrets(step_by_step.connection)
    assert in_one_go.events() == step_by_step.events()
    lines = [sorted(note.what for _, _, note in desk.records.lines) for desk in (in_one_go, step_by_step)]
    assert lines[0] == lines[1]


def test_all_in_order_is_one_message_and_six_calls() -> None:
    desk, store = connected(delivery_check_every=0)
    desk.revalidate()
    assert desk.message("m-1", 1, VALIDATE) == {"outcome": "done", "connection": "active"}
    assert dict(store.calls.endpoints) == {"login": 1, "shipping_methods": 1, "read_slot": 4}
    assert not desk.connection.ready(desk.now)


def test_what_needs_a_write_is_left_to_a_task_of_its_own_and_nothing_else_is() -> None:
    desk, store = connected(delivery_check_every=0)
    store.change(slots={"order-update": {"urls": [THEIRS]}})
    desk.revalidate()
    desk.message("m-1", 1, VALIDATE)
    assert store.calls.endpoints["write_slot"] == 0
    assert desk.connection.ready(desk.now) == {slot("order-update")}
    assert desk.connection.slots["order-update"].attempts == 0
    desk.at_once()
    assert store.urls("order-update") == [THEIRS, ours("order-update")]


def test_a_slot_that_does_not_answer_has_had_its_attempt_and_the_next_ones_do_not_wait_for_it() -> None:
    desk, store = connected(delivery_check_every=0)
    store.fail("read_slot:order-update", 503)
    desk.revalidate()
    told = desk.message("m-1", 1, VALIDATE)
    assert (told["outcome"], told["slot"], told["cause"]) == ("retrying", "order-update", "store_error")
    assert desk.connection.slots["order-update"].attempts == 1
    assert desk.connection.ready(desk.now) == {slot("shipment-create"), slot("shipment-update")}


def test_a_store_that_is_slow_gets_a_task_for_each_step() -> None:
    desk, store = connected(delivery_check_every=0)
    passed = [0.0]
    desk.services.bulkhead = Bulkhead(64, call_deadline=20.0, clock=lambda: passed[0])
    desk.revalidate()
    desk.session.then.append(lambda: passed.append(passed.pop() + 5.0))
    desk.message("m-1", 1, VALIDATE)
    assert dict(store.calls.endpoints) == {"login": 1}
    assert {str(target) for target in desk.connection.ready(desk.now)} == {"check_shipping_methods"}


@pytest.mark.parametrize(
    "work",
    [
        Work(0.0, 0.0, attempts=1),
        Work(0.0, 0.0, stood_back=1),
        Work(0.0, 0.0, claim=Claim("lost", 0.0, 0.0)),
    ],
)
def test_what_did_not_go_well_before_is_done_step_by_step(work: Work) -> None:
    desk, store = connected(delivery_check_every=0)
    desk.revalidate()
    desk.put(work)
    desk.message("m-1", 1, VALIDATE)
    assert dict(store.calls.endpoints) == {"login": 1}


def test_a_first_run_is_a_task_for_each_step() -> None:
    desk = Desk()
    store = desk.store()
    desk.connect(store)
    desk.message("m-1", 1, VALIDATE)
    assert dict(store.calls.endpoints) == {"login": 1}


def test_whoever_is_late_writes_nothing() -> None:
    """The connection was disconnected while it was looked at."""
    desk, store = connected(delivery_check_every=0)
    desk.revalidate()
    desk.session.then.append(desk.disconnect)
    assert desk.message("m-1", 1, VALIDATE)["outcome"] == "nothing_to_do"
    assert store.calls.endpoints["write_slot"] == 0
    desk.at_once()
    assert desk.status == "disconnected"
    assert all(store.urls(name) == [THEIRS] for name in SLOTS)


def test_a_repair_that_is_asked_for_meanwhile_is_not_lost() -> None:
    desk, _ = connected(delivery_check_every=0)
    desk.revalidate()
    desk.session.then.append(lambda: desk.revalidate(repair=True))
    desk.message("m-1", 1, VALIDATE)
    desk.at_once()
    assert desk.status == "active"
    assert "repair_asked" in [note.what for _, _, note in desk.records.lines]

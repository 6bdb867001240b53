"""The timeline tells what happened; that nothing did, day after day, it does not."""

from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.integrations.oracle_commerce.by_hand import THEIRS, Desk, connected, ours
from tests.integrations.oracle_commerce.fakes import slot

DAY = 86400.0
FAILING = slot("order-update")
SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")


def told(desk: Desk) -> list[str]:
    return [note.what for _, _, note in desk.records.lines]


def at_rest() -> tuple[Desk, SimulatedStore]:
    """Connected, and looked at a second time."""
    desk, store = connected()
    desk.records.lines.clear()
    return desk, store


def test_a_run_is_told_and_the_second_look_is_not() -> None:
    desk, _ = connected()
    assert told(desk)[:3] == ["run_started", "validate_key_done", "check_shipping_methods_done"]
    assert told(desk)[3:] == ["slot_registered"] * 4


def test_ten_days_of_looks_that_find_all_in_order_is_no_line() -> None:
    desk, store = at_rest()
    desk.wait(10 * DAY)
    assert store.calls.endpoints["login"] == 10
    assert told(desk) == []
    assert all(desk.now - (desk.connection.slots[name].in_order_at or 0.0) <= DAY for name in SLOTS), "the record tells"


def test_a_repair_is_told_with_when_all_was_well_before() -> None:
    desk, store = at_rest()
    desk.wait(2 * DAY)
    before = desk.connection.slots["order-update"].in_order_at
    store.change(slots={"order-update": {"urls": [THEIRS]}})
    desk.wait(1.5 * DAY)
    ((at, _, line),) = desk.records.lines
    assert (line.what, line.details["in_order_before"]) == ("slot_repaired", before)
    assert before is not None
    assert before < at
    assert store.urls("order-update") == [THEIRS, ours("order-update")]


def test_what_took_more_than_one_attempt_is_told_to_its_end() -> None:
    desk, store = at_rest()
    store.fail("read_slot:order-update", 503)
    desk.wait(1.5 * DAY)
    lines = [(note.what, note.attempt) for _, _, note in desk.records.lines if note.target == FAILING]
    assert lines == [("waits", 1), ("slot_registered", 2)]


def test_another_number_of_shipping_methods_is_told() -> None:
    desk, store = at_rest()
    store.change(shipping_methods=5)
    desk.wait(3.5 * DAY)
    assert told(desk) == ["check_shipping_methods_done"]


def test_while_there_is_a_finding_every_look_is_told() -> None:
    desk, store = at_rest()
    store.change(shipping_methods=0)
    desk.wait(DAY)
    assert told(desk).count("no_shipping_methods") >= 2
    desk.records.lines.clear()
    store.change(shipping_methods=2)
    desk.wait(DAY)
    assert told(desk) == ["check_shipping_methods_done"], "with that all was well, as it had been before"


def test_a_look_that_was_asked_for_is_told() -> None:
    desk, store = at_rest()
    desk.revalidate()
    desk.wait(600)
    assert told(desk) == ["look_asked"]
    assert store.calls.endpoints["write_slot"] == 0


def test_a_new_key_is_told_with_all_that_was_found_out_with_it() -> None:
    desk, store = at_rest()
    key = make_application_key(subject="the next one")
    store.change(accept_keys=[store.application_key, key])
    desk.connect(store, key)
    desk.wait(60)
    assert told(desk)[0] == "reauthorisation_started"
    assert told(desk)[-4:] == ["slot_registered"] * 4

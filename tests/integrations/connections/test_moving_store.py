"""A merchant moves to another store: we leave the old one with the old key, and begin at the new one."""

from dataclasses import replace

import pytest

from integrations.connections.change import at_time
from integrations.connections.record import Connection, KeyVerdict, former_id
from integrations.oracle_commerce.application_key import fingerprint
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.integrations.oracle_commerce.by_hand import FIRST, SECOND, Desk, connected, there
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS, VALIDATE, removal, slot

FORMER = former_id("m-1", 1)


def connected_beside_another() -> tuple[Desk, SimulatedStore, SimulatedStore]:
    """An active connection with the first store, and a second one."""
    desk, first = connected()
    return desk, first, desk.store(SECOND)


def test_the_former_store_is_left_with_its_own_key_before_the_new_run_begins() -> None:
    desk, first, second = connected_beside_another()
    accepted = desk.connect(second)
    assert accepted.started
    assert accepted.former == desk.record(FORMER)
    assert (desk.kept_key(FORMER), desk.kept_key()) == (first.application_key, second.application_key)
    assert desk.record(FORMER).ready(desk.now) == set(map(removal, SLOTS))

    for name in SLOTS:
        assert second.calls.summary()["calls"] == 0
        assert desk.status == "onboarding"
        assert desk.connection.ready(desk.now) == set()
        desk.message(FORMER, 2, removal(name))
    assert there(first) == set()
    assert desk.connection.ready(desk.now) == {VALIDATE}, "nobody waits longer than needed"
    desk.at_once()
    assert there(second) == set(SLOTS)
    assert (desk.status, desk.connection.run, desk.connection.store_url) == ("active", 2, SECOND)

    former = desk.record(FORMER)
    assert (former.status, former.store_url, desk.findings(FORMER), former.due_at) == ("disconnected", FIRST, [], None)
    assert desk.kept_key(FORMER) is None
    assert desk.events() == ["onboarding", "active"], "the former store is nobody's status"
    assert {event["subject"] for event in desk.last_events} == {"m-1"}


def test_a_former_store_that_is_slow_delays_the_new_run_by_a_lease_at_most() -> None:
    desk, first, second = connected_beside_another()
    moved = desk.now
    desk.connect(second)
    snapshot = desk.records.load(FORMER)
    waiting = {name: replace(it, work=at_time(moved + 3600)) for name, it in desk.record(FORMER).slots.items()}
    desk.records.kept[FORMER] = replace(snapshot, connection=replace(desk.record(FORMER), slots=waiting))
    desk.until(moved + desk.pace.lease - 1)
    assert second.calls.summary()["calls"] == 0
    desk.until(moved + desk.pace.lease)
    assert there(first) == there(second) == set(SLOTS)
    assert desk.status == "active"
    desk.wait(3600)
    assert there(first) == set()


def test_a_look_that_is_asked_for_does_not_hurry_the_new_run() -> None:
    """The first store's workers may still write, and both addresses may lead to the same store."""
    desk, _, second = connected_beside_another()
    desk.connect(second)
    assert desk.revalidate().outcome == "under_way"
    assert desk.revalidate(repair=True).outcome == "accepted"
    assert desk.connection.ready(desk.now) == set()
    assert desk.connection.due_at == desk.now + desk.pace.lease


def test_a_worker_at_the_former_store_is_waited_for_and_its_outcome_counts_nowhere() -> None:
    desk, first, second = connected_beside_another()
    first.fail("read_slot:order-submit", 503)  # so that the other slots are left to tasks of their own
    desk.revalidate()
    desk.message("m-1", 1, VALIDATE)
    desk.hold(slot("order-update"))
    held_until = desk.now + desk.pace.lease
    desk.connect(second)
    desk.at_once()
    assert there(first) == {"order-update"}, "its late write must not come after our removal"
    assert desk.message("m-1", 1, slot("order-update"))["reason"] == "superseded"
    desk.until(held_until)
    assert there(first) == set()
    assert there(second) == set(SLOTS)


def test_what_the_former_store_refuses_is_tried_again_beside_the_new_connection() -> None:
    desk, first, second = connected_beside_another()
    first.fail("write_slot:order-update", {"fault": "unavailable", "times": "always"})
    desk.connect(second)
    desk.wait(86400)
    assert desk.findings(FORMER) == [("left_behind", "order-update")]
    assert (desk.status, desk.findings()) == ("active", [])
    assert desk.kept_key(FORMER) == first.application_key
    first.heal()
    desk.wait(86400)
    assert there(first) == set()
    assert desk.kept_key(FORMER) is None
    assert desk.events() == ["onboarding", "active"]


def test_what_the_former_store_refuses_for_ever_is_given_up() -> None:
    desk, first, second = connected_beside_another()
    first.change(reachable=False)
    desk.connect(second)
    desk.wait(desk.pace.clean_up_for)
    former = desk.record(FORMER)
    assert (former.due_at, desk.kept_key(FORMER)) == (None, None)
    assert desk.findings(FORMER) == [("left_behind", name) for name in SLOTS]
    assert desk.events() == ["onboarding", "active"]


def test_our_url_at_the_former_store_is_the_merchants_not_the_records() -> None:
    desk, first, second = connected_beside_another()
    desk.connect(second)
    desk.wait(600)
    assert "@" not in "".join(url for name in SLOTS for url in (*first.urls(name), *second.urls(name)))


def test_where_nothing_ever_was_nothing_is_left() -> None:
    """A mistyped address, put right before its key was ever proven."""
    desk = Desk()
    first, second = desk.store(FIRST), desk.store(SECOND)
    desk.connect(first)
    accepted = desk.connect(second)
    assert accepted.former is None
    assert set(desk.records.kept) == {"m-1"}
    desk.at_once()
    assert desk.now == NOON, "and nothing is waited for"
    assert desk.status == "active"
    assert first.calls.summary()["calls"] == 0


def test_a_store_that_was_left_already_is_not_left_again() -> None:
    desk, first, second = connected_beside_another()
    desk.disconnect()
    desk.at_once()
    first.reset_counts()
    assert desk.connect(second).former is None
    desk.at_once()
    assert (desk.status, first.calls.summary()["calls"]) == ("active", 0)


def test_a_store_that_is_just_being_left_goes_on_being_left() -> None:
    desk, first, second = connected_beside_another()
    first.fail("write_slot:order-update", {"fault": "unavailable", "times": 3})
    desk.disconnect()
    desk.at_once()
    until = desk.connection.disconnection
    accepted = desk.connect(second)
    assert accepted.former is not None
    assert accepted.former.disconnection == until
    desk.wait(6 * 3600)
    assert there(first) == set()
    assert there(second) == set(SLOTS)


@pytest.mark.parametrize("verdict", [KeyVerdict.VALID, KeyVerdict.DOUBTED, KeyVerdict.REJECTED])
def test_a_store_is_left_whatever_became_of_its_key(verdict: KeyVerdict) -> None:
    desk, first, second = connected_beside_another()
    if verdict is not KeyVerdict.VALID:
        first.change(revoke_keys=True, kill_tokens=True)
        desk.revalidate()
        desk.wait(0 if verdict is KeyVerdict.DOUBTED else 600)
    assert desk.connection.credential.verdict is verdict
    assert desk.connect(second).former is not None
    first.change(accept_keys=[first.application_key])
    desk.wait(86400)
    assert (there(first), desk.status) == (set(), "active")


def test_a_store_where_we_were_under_an_earlier_key_is_left_too() -> None:
    """The key was rejected, another was sent that has not been tried yet, and then the merchant moved."""
    desk, first, second = connected_beside_another()
    first.change(revoke_keys=True, kill_tokens=True)
    desk.revalidate()
    desk.wait(600)
    first.change(application_key=make_application_key())
    desk.connect(first)
    assert desk.connection.credential.verdict is KeyVerdict.PENDING
    accepted = desk.connect(second)
    assert accepted.former is not None
    desk.wait(600)
    assert (there(first), there(second)) == (set(), set(SLOTS))


def test_moving_there_and_back_ends_where_the_merchant_is() -> None:
    desk, first, second = connected_beside_another()
    desk.connect(second)
    desk.wait(1)
    desk.connect(first)
    desk.wait(3600)
    assert (desk.status, desk.connection.store_url, desk.connection.run) == ("active", FIRST, 3)
    assert there(first) == set(SLOTS)
    assert there(second) == set()
    assert desk.connection.credential.fingerprint == fingerprint(first.application_key)
    assert all(it.due_at is None for name, it in records(desk) if name != "m-1")


def test_what_was_left_behind_stays_in_a_store_the_merchant_has_come_back_to() -> None:
    desk, first, second = connected_beside_another()
    first.fail("write_slot", {"fault": "forbidden_role", "times": "always"})
    desk.connect(second)
    desk.wait(600)
    assert {slot.status for slot in desk.record(FORMER).slots.values()} == {"left_behind"}
    desk.connect(first)
    desk.wait(600)
    first.heal()
    first.reset_counts()
    desk.wait(3 * 86400)
    assert (there(first), there(second)) == (set(SLOTS), set())
    assert first.calls.endpoints["write_slot"] == 0, "nothing was taken out in between"
    assert {str(slot.status) for slot in desk.record(FORMER).slots.values()} == {"removed"}
    assert sum("moved_back" in note.details for _, _, note in desk.records.lines) == len(SLOTS)
    assert desk.status == "active"


def test_each_move_leaves_a_record_of_its_own() -> None:
    desk, first, second = connected_beside_another()
    for number, store in enumerate((second, first, second, first)):
        desk.connect(store)
        desk.wait(600)
        assert len(desk.records.kept) == number + 2
    assert there(second) == set()
    assert there(first) == set(SLOTS)


def test_a_disconnect_is_about_the_store_where_the_merchant_is() -> None:
    desk, first, second = connected_beside_another()
    first.fail("write_slot", {"fault": "unavailable", "times": 4})
    desk.connect(second)
    desk.wait(600)
    desk.disconnect(forget="now")
    assert desk.kept_key() is None
    assert there(second) == set(SLOTS)
    desk.wait(86400)
    assert there(first) == set(), "the former one is left all the same"


def records(desk: Desk) -> list[tuple[str, Connection]]:
    return [(name, desk.record(name)) for name in desk.records.kept]

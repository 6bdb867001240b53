"""Disconnecting takes our URL out of every slot that lets us, keeps the key while that helps, and forgets it after."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.findings import findings_of
from integrations.connections.lifecycle import disconnection
from integrations.connections.lifecycle.outcomes import Failed, record
from integrations.connections.record import Cause, Slot, SlotStatus, Target
from integrations.errors import PermanentError
from integrations.oracle_commerce.registration import register
from integrations.oracle_commerce.slot import Ours
from occ.simulator.application_keys import make_application_key
from tests.examples import examples
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.by_hand import SECOND, THEIRS, Desk, connected, ours, there
from tests.integrations.oracle_commerce.fakes import (
    NOON,
    SLOTS,
    VALIDATE,
    Drive,
    all_is_well,
    changed,
    claimed,
    removal,
    slot,
)
from tests.integrations.oracle_commerce.slot_stores import DirectSlots
from tests.usual import PACE

FAULTS = ("bad_request", "forbidden_role", "unavailable", "hang")


def has_key(desk: Desk, record_id: str = "m-1") -> bool:
    snapshot = desk.records.load(record_id)
    return bool(snapshot.sealed_key or snapshot.sealed_candidate)


# --- Slots that refuse -----------------------------------------------------------------------------------------------


@example(faults=dict.fromkeys(SLOTS))
@example(faults=dict(zip(SLOTS, FAULTS, strict=True)))
@settings(max_examples=examples(12))
@given(faults=st.fixed_dictionaries(dict.fromkeys(SLOTS, st.sampled_from((None, *FAULTS)))))
def test_what_the_store_refuses_is_left_behind_and_told_and_cleared_later(faults: dict[str, str | None]) -> None:
    """Whatever slots refuse, each in its own way."""
    refusing = {name for name, fault in faults.items() if fault}
    desk, store = connected()
    for name in refusing:
        store.fail(f"write_slot:{name}", {"fault": faults[name], "times": "always"})
    assert desk.disconnect().outcome == "accepted"
    desk.at_once()
    assert there(store) == refusing
    assert desk.slots == {name: "left_behind" if name in refusing else "removed" for name in SLOTS}
    assert desk.status == "disconnected"
    assert desk.events() == ["disconnected"]
    told = {finding["slot"] for finding in desk.last_events[0]["data"]["findings"]}
    assert told == refusing
    assert desk.findings() == [("left_behind", name) for name in SLOTS if name in refusing]
    assert has_key(desk) == bool(refusing), "it is kept for what is left"
    assert (desk.connection.due_at is None) == (not refusing)

    desk.wait(86400)
    assert there(store) == refusing
    store.heal()
    desk.wait(6 * 3600)
    assert there(store) == set()
    assert desk.findings() == []
    assert set(desk.slots.values()) == {"removed"}
    assert not has_key(desk)
    assert desk.connection.due_at is None
    assert desk.events() == [], "the disconnection was told of once"
    assert store.losses.urls == []
    assert store.losses.settings == []


@pytest.mark.parametrize("fault", ["forbidden_role", "unavailable"])
def test_what_is_refused_for_good_is_given_up_in_the_end(fault: str) -> None:
    desk, store = connected()
    store.fail("write_slot:order-update", {"fault": fault, "times": "always"})
    desk.disconnect()
    since = desk.now
    desk.wait(desk.pace.clean_up_for - 6 * 3600 - 1)
    assert has_key(desk)
    desk.until(since + desk.pace.clean_up_for)
    assert not has_key(desk)
    assert desk.connection.due_at is None
    assert (desk.status, desk.slots["order-update"]) == ("disconnected", "left_behind")
    assert desk.findings() == [("left_behind", "order-update")]
    tries = store.calls.slots["write_slot:order-update"]
    assert 7 * 4 <= tries <= 7 * 4 + 16
    desk.wait(30 * 86400)
    assert store.calls.slots["write_slot:order-update"] == tries
    assert desk.events() == ["disconnected"]


def test_leftovers_are_tried_less_and_less_often() -> None:
    desk, store = connected()
    store.fail("write_slot:order-update", {"fault": "forbidden_role", "times": "always"})
    desk.disconnect()
    desk.wait(2 * 86400)
    tries = [at for at, _, note in desk.records.lines if note.what == "slot_left_behind"]
    gaps = [round(later - earlier) for earlier, later in pairwise(tries)]
    assert gaps[:5] == [3600, 7200, 14400, 21600, 21600]


def test_a_wait_the_store_asks_for_is_kept_by_leftovers_too() -> None:
    desk, store = connected()
    store.fail("write_slot:order-update", {"fault": "throttled", "retry_after": 5000, "times": 1})
    desk.disconnect()
    desk.wait(4999)
    assert store.calls.slots["write_slot:order-update"] == 1
    desk.wait(1)
    assert store.calls.slots["write_slot:order-update"] == 2
    assert set(desk.slots.values()) == {"removed"}


def test_a_wait_the_store_asked_for_before_we_leave_is_kept_as_well() -> None:
    desk, store = connected()
    store.fail("read_slot:order-update", {"fault": "throttled", "retry_after": 9000, "times": 1})
    desk.revalidate()
    desk.at_once()
    store.reset_counts()
    desk.disconnect()
    desk.wait(8999)
    assert there(store) == {"order-update"}
    assert store.calls.slots["read_slot:order-update"] == 0
    desk.wait(1)
    assert there(store) == set()


def test_an_access_token_that_another_worker_is_buying_is_no_refusal() -> None:
    """Four slots begin at once, and one login is enough."""
    desk, _ = connected()
    desk.disconnect()
    desk.tokens.drop("m-1")
    desk.tokens.busy = True
    desk.at_once()
    assert set(desk.slots.values()) == {"registered"}
    assert (desk.events(), desk.status) == ([], "active")
    desk.tokens.busy = False
    desk.wait(5)
    assert set(desk.slots.values()) == {"removed"}


def test_nobody_hears_of_a_recovery_while_a_connection_is_leaving() -> None:
    """The slot that made it degraded is the first to be done; what is left then looks well."""
    desk, store = connected()
    store.change(slots={SLOTS[0]: None})
    desk.revalidate()
    desk.at_once()
    assert desk.events() == ["degraded", "drifted"]
    desk.disconnect()
    for name in SLOTS:
        desk.message("m-1", desk.connection.run, removal(name))
    assert desk.events() == ["disconnected"]
    assert desk.last_events[0]["data"]["previous_status"] == "degraded"


# --- Whenever it is asked for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(7))
def test_disconnecting_after_any_step_of_an_onboarding_leaves_nothing_behind(steps: int) -> None:
    desk = Desk()
    store = desk.store()
    desk.connect(store)
    for _ in range(steps):
        desk.one()
    desk.disconnect()
    desk.at_once()
    assert there(store) == set()
    assert set(desk.slots.values()) == {"removed"}
    assert desk.status == "disconnected"
    assert not has_key(desk)
    assert desk.connection.due() == {}
    assert desk.events() == (["onboarding", "active", "disconnected"] if steps == 6 else ["onboarding", "disconnected"])


def test_a_removal_waits_for_the_worker_that_may_be_about_to_write() -> None:
    desk = Desk()
    store = desk.store()
    desk.connect(store)
    desk.message("m-1", 1, VALIDATE)
    desk.one()
    desk.hold(slot("order-update"))
    held = desk.connection.slots["order-update"].work
    assert held is not None
    desk.wait(0.5)
    desk.disconnect()
    desk.until(NOON + 59)
    assert desk.slots["order-submit"] == "removed"
    assert desk.slots["order-update"] == "pending"
    assert desk.status == "onboarding", "not before every slot was dealt with"
    register(DirectSlots(store), "order-update", Ours(ours("order-update")), "urls")  # the worker's late write
    assert there(store) == {"order-update"}
    desk.until(NOON + desk.pace.lease)
    assert there(store) == set()
    assert desk.events() == ["onboarding", "disconnected"]
    assert not has_key(desk)


def test_disconnecting_twice_is_disconnecting_once() -> None:
    desk, store = connected()
    desk.disconnect()
    before = desk.connection
    assert desk.disconnect().outcome == "under_way"
    assert desk.connection == before
    desk.at_once()
    assert desk.disconnect().outcome == "disconnected"
    desk.twice = True
    desk.at_once()
    assert desk.events() == ["disconnected"]
    assert store.calls.endpoints["write_slot"] == 4


def test_tasks_of_the_run_before_end_quietly() -> None:
    desk, _ = connected()
    desk.revalidate()
    desk.message("m-1", 1, VALIDATE)
    run = desk.connection.run
    desk.disconnect()
    for target in (VALIDATE, *map(slot, SLOTS), *map(removal, SLOTS)):
        assert desk.message("m-1", run, target)["reason"] == "superseded"
    assert desk.revalidate().outcome == "disconnected"


def test_slots_in_which_we_never_were_are_not_called_left_behind() -> None:
    """A mistyped key, given up before it ever worked: nobody needs to look for our URL."""
    desk = Desk()
    store = desk.store()
    desk.connect(store, make_application_key())
    desk.wait(3600)
    assert desk.status == "needs_reauthorisation"
    desk.disconnect()
    desk.at_once()
    assert (desk.status, desk.findings(), has_key(desk)) == ("disconnected", [], False)


def test_a_removal_that_takes_its_workers_down_is_left_behind_and_tried_again() -> None:
    desk, store = connected()
    desk.disconnect()
    target = removal("order-submit")
    for _ in range(2):
        desk.hold(target)
        desk.clock.advance(desk.pace.lease)
    work = desk.connection.work_on(target)
    assert work is not None
    assert work.is_suspect
    desk.wait(desk.pace.clean_up_for)
    assert there(store) == set()
    assert not has_key(desk)


# --- Forgetting the key ----------------------------------------------------------------------------------------------


def test_forgetting_at_once_leaves_our_url_where_it_is_and_says_so() -> None:
    desk, store = connected()
    desk.disconnect(forget="now")
    assert not has_key(desk)
    assert desk.connection.due() == {}
    assert (desk.status, desk.events()) == ("disconnected", ["disconnected"])
    assert desk.findings() == [("left_behind", name) for name in SLOTS]
    assert {record.cause for record in desk.connection.slots.values()} == {Cause("credential_forgotten")}
    desk.wait(30 * 86400)
    assert store.calls.summary()["calls"] == 0
    assert there(store) == set(SLOTS)


def test_forgetting_at_once_in_mid_disconnection_keeps_what_was_done() -> None:
    desk, store = connected()
    store.fail("write_slot:order-update", {"fault": "unavailable", "times": "always"})
    desk.disconnect()
    desk.at_once()
    assert desk.disconnect(forget="now").outcome == "accepted"
    assert not has_key(desk)
    assert desk.connection.due() == {}
    assert desk.slots == dict.fromkeys(SLOTS, "removed") | {"order-update": "left_behind"}
    assert desk.disconnect(forget="now").outcome == "disconnected"
    assert desk.events() == ["disconnected"]


def test_forgetting_at_once_tells_of_a_slot_that_was_just_being_written() -> None:
    desk = Desk()
    store = desk.store()
    desk.connect(store)
    desk.message("m-1", 1, VALIDATE)
    desk.one()
    desk.hold(slot("order-update"))
    desk.disconnect(forget="now")
    assert desk.findings() == [("left_behind", "order-update")]
    assert desk.message("m-1", 1, slot("order-update"))["outcome"] == "nothing_to_do"


def test_an_outcome_that_comes_after_the_key_was_forgotten_is_dropped() -> None:
    desk, _ = connected()
    desk.disconnect()
    desk.hold(removal("order-submit"))
    desk.disconnect(forget="now")
    before = desk.connection
    desk.wait(3600)
    assert desk.connection == before


@given(st.permutations(SLOTS), st.lists(st.sampled_from(("refused", "removed")), min_size=4, max_size=12))
def test_the_key_is_forgotten_with_the_last_slot_and_not_before(order: list[str], outcomes: list[str]) -> None:
    connection = disconnection.begin(healthy(), Moment(NOON, PACE))
    run = Drive(connection, PACE, all_is_well, now=NOON)
    left = iter(outcomes)

    def script(target: Target, attempt: int, now: float) -> PermanentError | None:
        return PermanentError("slot_refused") if next(left, "removed") == "refused" else None

    run.script = script
    while run.connection.due_at is not None:
        assert run.has_key
        target = next(removal(name) for name in order if run.connection.slots[name].work)
        work = run.connection.work_on(target)
        assert work is not None
        run.now = max(run.now, work.not_before)
        run.do(target)
    assert not run.has_key
    assert run.connection.disconnected
    assert findings_of(run.connection) == ()
    assert {it.verdict for it in run.connection.slots.values()} == {SlotStatus.REMOVED}


# --- Coming back -----------------------------------------------------------------------------------------------------


def test_connecting_again_in_mid_disconnection_waits_for_the_removal_that_is_under_way() -> None:
    desk, store = connected()
    desk.disconnect()
    desk.message("m-1", 2, removal("order-submit"))
    desk.hold(removal("order-update"))
    began = desk.now
    desk.connect(store)
    desk.wait(desk.pace.lease - 1)
    assert desk.connection.run == 3
    assert there(store) == set(SLOTS) - {"order-submit"}, "it has not begun"
    assert desk.revalidate().outcome == "under_way", "nor may anybody hurry it"
    desk.wait(0)
    assert "order-submit" not in there(store)
    store.change(slots={"order-update": {"urls": [THEIRS]}})  # the late removal
    desk.until(began + desk.pace.lease)
    assert there(store) == set(SLOTS)
    assert desk.message("m-1", 2, removal("order-update"))["reason"] == "superseded"
    assert desk.status == "active"
    desk.wait(86400)
    assert there(store) == set(SLOTS)


def test_connecting_again_while_leftovers_wait_keeps_them() -> None:
    desk, store = connected()
    store.fail("write_slot", {"fault": "unavailable", "times": 4})
    desk.disconnect()
    desk.at_once()
    assert set(desk.slots.values()) == {"left_behind"}
    desk.connect(store)
    store.reset_counts()
    desk.wait(600)
    assert (desk.status, desk.slots) == ("active", dict.fromkeys(SLOTS, "registered"))
    assert store.calls.endpoints["write_slot"] == 0
    assert there(store) == set(SLOTS)


# --- Case by case ----------------------------------------------------------------------------------------------------


def test_only_what_there_is_can_be_left() -> None:
    assert disconnection.disconnect(None, Moment(NOON, PACE)) == Stop("unknown_connection")


def test_a_record_of_a_release_that_remembered_less_is_left_like_any_other() -> None:
    connection = replace(healthy(), slots=dict.fromkeys(SLOTS, Slot(verdict=SlotStatus.REGISTERED)))
    change = disconnection.disconnect(connection, Moment(NOON, PACE), forget_now=True)
    assert isinstance(change, Change)
    assert {it.verdict for it in change.connection.slots.values()} == {SlotStatus.LEFT_BEHIND}
    assert (change.keys.forget_current, change.keys.forget_candidate) == (True, True)


def test_a_disconnection_does_not_disturb_the_next_store() -> None:
    desk, store = connected()
    desk.disconnect()
    desk.at_once()
    desk.connect(desk.store(SECOND))
    assert set(desk.records.kept) == {"m-1"}, "nothing is left to be done at the first"
    desk.at_once()
    assert desk.status == "active"
    assert there(store) == set()


def test_workers_that_died_of_one_attempt_are_not_held_against_the_next_look_at_a_leftover() -> None:
    pace = PACE
    target, later = removal("order-update"), Moment(NOON + pace.lease + 1, pace)
    leaving = claimed(changed(disconnection.disconnect(healthy(), Moment(NOON, pace))), target, Moment(NOON, pace))
    again = claimed(leaving, target, later)
    work = again.slots["order-update"].work
    assert work is not None
    assert work.deaths == 1
    left = record(again, target, Failed(Cause("permission_denied")), later).connection.slots["order-update"]
    assert left.work is not None
    assert (left.work.deaths, left.work.deaths_alone) == (0, 0)

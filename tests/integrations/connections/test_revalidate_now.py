"""Looks: what they find of key, role and reachability, how often they come, and that people may ask for one."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import requests
from integrations.connections.record import Cause, KeyVerdict, SlotStatus, Step, Trouble
from occ.simulator.store import SimulatedStore
from tests.integrations.connections.test_record import ENDED, UNREACHED, healthy
from tests.integrations.oracle_commerce.by_hand import Desk, connected, ours
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS, VALIDATE, disconnected_one
from tests.usual import PACE

DAY = 86400.0
SIX = {"login": 1, "shipping_methods": 1, "read_slot": 4}


# --- A healthy connection --------------------------------------------------------------------------------------------


def test_a_look_at_a_healthy_connection_is_six_calls_and_no_write_once_a_period() -> None:
    desk, store = connected(delivery_check_every=0)
    desk.next_revalidation()
    assert dict(store.calls.endpoints) == SIX
    for _ in range(5):
        store.reset_counts()
        last = desk.now
        desk.next_revalidation()
        assert desk.now - last == DAY
        assert dict(store.calls.endpoints) == SIX
    assert (desk.events(), desk.findings()) == ([], [])


def test_an_attempt_that_failed_says_so_while_the_verdict_stands() -> None:
    desk, store = connected()
    store.fail("read_slot:order-update", 503)
    desk.revalidate()
    told = desk.message("m-1", 1, VALIDATE)
    assert (told["outcome"], told["cause"], told["slot"]) == ("retrying", "store_error", "order-update")
    assert desk.slots["order-update"] == "registered"


def test_a_url_that_a_store_drops_after_a_while_is_put_back_at_the_second_look() -> None:
    desk = Desk()
    store = desk.store(drops_url_after=15, drops_times=1)
    desk.connect(store)
    desk.wait(20)
    assert ours("order-submit") not in store.urls("order-submit")
    desk.wait(desk.pace.second_look)
    assert all(ours(name) in store.urls(name) for name in SLOTS)
    assert desk.status == "active"


def test_a_restart_moves_no_look() -> None:
    desk, _ = connected()
    due = desk.connection.due_at
    desk.restart()
    desk.at_once()
    assert desk.connection.due_at == due


# --- Outages ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_looks_in_trouble_come_less_and_less_often_but_four_times_a_period_at_least() -> None:
    desk, store = connected()
    store.change(reachable=False)
    desk.wait(10 * DAY)
    given_up = [at for at, _, note in desk.records.lines if note.what == "gave_up"]
    pauses = [round(later - earlier, -3) for earlier, later in pairwise(given_up)]
    assert pauses[0] < pauses[1] < pauses[2] <= DAY / 4 + 1000
    for day in range(2, 9):
        begins = desk.now - 10 * DAY + day * DAY
        looks = [at for at in given_up if begins <= at < begins + DAY]
        assert len(looks) >= 3, "a look lasts some minutes here, so that one may fall into the next day"
    assert max(later - earlier for earlier, later in pairwise(given_up)) < DAY / 4 + 600


def test_after_trouble_the_pace_of_looks_is_the_regular_one_again() -> None:
    desk, store = connected()
    store.change(reachable=False)
    desk.wait(5 * DAY)
    store.change(reachable=True)
    desk.next_revalidation()
    assert desk.connection.failed_revalidations == 0
    store.reset_counts()
    desk.wait(5 * DAY)
    assert 4 <= store.calls.endpoints["login"] <= 6


# --- On request ------------------------------------------------------------------------------------------------------


def test_a_look_that_is_asked_for_is_done_at_once_and_the_regular_ones_stay_where_they_are() -> None:
    desk, store = connected()
    desk.next_revalidation()
    regular = desk.connection.due_at
    desk.wait(3600)
    store.reset_counts()
    assert desk.revalidate().outcome == "accepted"
    desk.at_once()
    assert dict(store.calls.endpoints) == SIX
    assert desk.connection.due_at == regular


def test_a_look_asked_for_twice_is_one_look() -> None:
    desk, store = connected()
    assert [desk.revalidate().outcome for _ in range(3)] == ["accepted", "under_way", "under_way"]
    desk.at_once()
    assert dict(store.calls.endpoints) == SIX


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"work": None, "step": Step.REGISTER_SLOT}, "under_way"),
        ({"cause": Cause("store_timeout")}, "under_way"),
        ({"cause": Cause("key_doubted")}, "under_way"),
    ],
)
def test_what_is_under_way_is_not_started_again(changes: dict[str, object], reason: str) -> None:
    assert requests.revalidate_now(healthy(**changes), Moment(NOON, PACE)) == Stop(reason)


@pytest.mark.parametrize("trouble", [UNREACHED, ENDED])
def test_a_connection_in_trouble_is_looked_at_when_somebody_asks(trouble: Trouble) -> None:
    asked = requests.revalidate_now(healthy(trouble=trouble), Moment(NOON, PACE))
    assert isinstance(asked, Change)
    assert asked.connection.ready(NOON) == {VALIDATE}


def test_a_wait_the_store_asked_for_is_kept_whoever_asks() -> None:
    trouble = replace(UNREACHED, not_before=NOON + 3600)
    asked = requests.revalidate_now(healthy(trouble=trouble), Moment(NOON, PACE))
    assert isinstance(asked, Change)
    assert asked.connection.due_at == NOON + 3600


def test_there_is_nothing_to_look_at_where_nobody_is_connected() -> None:
    assert requests.revalidate_now(None, Moment(NOON, PACE)) == Stop("unknown_connection")
    for repair in (False, True):
        assert requests.revalidate_now(disconnected_one(healthy()), Moment(NOON, PACE), repair=repair) == Stop(
            "disconnected"
        )


# --- Settings that want other slots ----------------------------------------------------------------------------------


def ids(*names: str) -> dict[str, object]:
    """OCC_SLOTS with these slots."""
    return {"slots": json.dumps({name: name for name in names})}


def with_slots(*names: str) -> tuple[Desk, SimulatedStore]:
    desk = Desk(**ids(*names))
    store = desk.store(slots={name: {"urls": []} for name in SLOTS})
    desk.connect(store)
    desk.wait(600)
    assert set(desk.slots) == set(names)
    desk.events()
    return desk, store


def there(store: SimulatedStore) -> set[str]:
    return {name for name in SLOTS if ours(name) in store.urls(name)}


def test_slots_the_settings_want_now_are_registered_at_the_next_look() -> None:
    desk, store = with_slots(*SLOTS[:2])
    desk.restart(**ids(*SLOTS))
    desk.at_once()
    assert there(store) == set(SLOTS[:2]), "nothing happens before"
    desk.next_revalidation()
    assert there(store) == set(SLOTS)
    assert desk.slots == dict.fromkeys(SLOTS, "registered")
    assert desk.status == "active"
    assert desk.connection.run == 1


def test_slots_the_settings_no_longer_name_are_left_alone_and_taken_out_when_we_leave() -> None:
    desk, store = with_slots(*SLOTS)
    desk.restart(**ids(*SLOTS[2:]))
    desk.next_revalidation()
    store.reset_counts()
    desk.wait(3 * DAY)
    assert store.calls.slots["read_slot:order-submit"] == 0
    assert there(store) == set(SLOTS)
    assert (desk.status, desk.findings()) == ("active", [])
    desk.disconnect()
    desk.at_once()
    assert there(store) == set()
    assert set(desk.slots.values()) == {"removed"}


def test_a_slot_the_settings_no_longer_name_troubles_nobody_any_more() -> None:
    """Whoever cannot win a slot takes it out of the settings."""
    desk, store = with_slots(*SLOTS)
    store.change(slots={"order-submit": None})
    desk.revalidate()
    desk.at_once()
    assert (desk.status, desk.findings()) == ("degraded", [("slot_not_offered", "order-submit")])
    desk.restart(**ids(*SLOTS[1:]))
    desk.revalidate()
    desk.at_once()
    assert (desk.status, desk.findings()) == ("active", [])


def test_a_slot_where_we_never_were_is_forgotten_with_the_settings() -> None:
    desk = Desk()
    store = desk.store(slots={"order-submit": None})
    desk.connect(store)
    desk.at_once()
    assert desk.status == "degraded"
    desk.restart(**ids(*SLOTS[1:]))
    desk.revalidate()
    desk.at_once()
    assert (set(desk.slots), desk.status) == (set(SLOTS[1:]), "active")


def test_a_slot_that_waits_for_its_next_attempt_when_the_settings_drop_it_is_not_tried_again() -> None:
    desk, store = with_slots(*SLOTS)
    store.fail("read_slot:order-submit", {"fault": "throttled", "retry_after": 100, "times": 1})
    store.fail("login", "healthy", {"fault": "unauthorized", "times": 1})
    desk.revalidate()
    desk.message("m-1", 1, VALIDATE)
    desk.one()
    desk.one()  # order-submit is asked to wait
    store.change(kill_tokens=True)
    desk.one()  # order-update meets a refusal: everything waits for the key
    assert desk.connection.credential.verdict is KeyVerdict.DOUBTED
    assert desk.connection.slots["order-submit"].work is not None
    store.heal()
    store.reset_counts()
    desk.restart(**ids(*SLOTS[1:]))
    desk.wait(DAY)
    assert store.calls.slots["read_slot:order-submit"] == 0
    assert desk.status == "active"


def test_a_slot_that_is_wanted_again_is_looked_at_again() -> None:
    desk, store = with_slots(*SLOTS)
    desk.restart(**ids(*SLOTS[1:]))
    desk.next_revalidation()
    store.change(slots={"order-submit": {"urls": []}})
    desk.restart(**ids(*SLOTS))
    desk.next_revalidation()
    assert there(store) == set(SLOTS)
    assert desk.connection.slots["order-submit"].verdict is SlotStatus.REGISTERED


def test_a_slot_dropped_from_the_settings_is_remembered_through_a_new_key() -> None:
    desk, store = with_slots(*SLOTS)
    desk.restart(**ids(*SLOTS[1:]))
    desk.next_revalidation()
    store.change(revoke_keys=True, kill_tokens=True)
    desk.revalidate()
    desk.wait(600)
    store.change(application_key=store.application_key[:-4] + "abcd")
    desk.connect(store)
    desk.at_once()
    assert desk.status == "active"
    desk.disconnect()
    desk.at_once()
    assert there(store) == set()


def test_a_slot_is_left_under_the_id_it_was_registered_under() -> None:
    desk = Desk(slots='{"order-submit": "production-submitOrder"}')
    store = desk.store(slots={})
    desk.connect(store)
    desk.at_once()
    assert store.urls("production-submitOrder") == [ours("order-submit")]
    desk.restart(**ids("order-submit"))
    desk.disconnect()
    desk.at_once()
    assert store.urls("production-submitOrder") == []


def test_a_slot_that_becomes_optional_no_longer_degrades_the_connection() -> None:
    desk, store = with_slots(*SLOTS)
    store.change(slots={"order-submit": None})
    desk.revalidate()
    desk.at_once()
    assert desk.status == "degraded"
    optional = {name: {"id": name, "required": name != "order-submit"} for name in SLOTS}
    desk.restart(slots=json.dumps(optional))
    desk.revalidate()
    desk.at_once()
    assert desk.status == "active"

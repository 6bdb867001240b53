"""What drifted is mended, counted and told once; against somebody who keeps undoing us we write a few times only."""

import json

import pytest

from integrations.connections.drift import Drift
from integrations.connections.record import Cause, SlotStatus
from occ.simulator.store import SimulatedStore
from tests.integrations.oracle_commerce.by_hand import THEIRS, Desk, connected, ours
from tests.integrations.oracle_commerce.fakes import SLOTS, VALIDATE

DAY = 86400.0
SLOT = "order-submit"
OURS = ours(SLOT)
RIVAL = "https://rival.example.net/hook"


def revalidate(desk: Desk, *, repair: bool = False) -> None:
    """Somebody asks for a look, and it is done; retries too."""
    desk.revalidate(**({"repair": True} if repair else {}))
    desk.wait(30)


def taken_out(store: SimulatedStore) -> None:
    """Somebody takes our URL out."""
    store.change(slots={SLOT: {"urls": [THEIRS]}})


def writes(store: SimulatedStore) -> int:
    return store.calls.endpoints["write_slot"]


def undone(store: SimulatedStore, when: str) -> None:
    """Somebody undoes whatever we write: before our look at it, or after."""
    rival = {"url": RIVAL, "when": "after_write", "how": "undo", "slot": SLOT, "times": "always"}
    store.change(rivals=[rival | {"seen_in_answer": when == "before our read-back"}])
    taken_out(store)


# --- Mending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "drift"),
    [
        ([THEIRS], Drift.URL_MISSING),
        ([OURS, THEIRS, OURS], Drift.URL_DUPLICATED),
        ([THEIRS, f"{OURS}?from=console"], Drift.URL_CHANGED),
    ],
)
def test_what_drifted_is_put_back_and_counted_and_told_once(held: list[str], drift: Drift) -> None:
    desk, store = connected()
    store.change(slots={SLOT: {"urls": held}})
    looked = desk.now
    revalidate(desk)
    assert store.urls(SLOT) == [THEIRS, OURS]
    record = desk.connection.slots[SLOT]
    assert (record.verdict, record.repairs, record.drift) == (SlotStatus.REGISTERED, (looked,), (drift,))
    assert desk.events() == ["drifted"]
    told = desk.last_events[0]["data"]
    assert told.items() >= {"slot": SLOT, "drift": [drift], "repaired": True}.items()
    assert (desk.status, desk.findings()) == ("active", [])
    assert "slot_repaired" in [note.what for _, _, note in desk.records.lines]
    desk.wait(3 * DAY)
    assert desk.events() == []
    assert writes(store) == 1


def test_a_repair_is_followed_by_a_second_look() -> None:
    desk, store = connected()
    taken_out(store)
    revalidate(desk)
    assert desk.connection.due_at == desk.now - 30 + desk.pace.second_look


def test_what_the_store_gave_up_on_meanwhile_is_counted_and_told() -> None:
    desk, store = connected()
    for _ in range(3):
        store.give_up_delivery(SLOT, [OURS])
    store.give_up_delivery(SLOT, [THEIRS])
    taken_out(store)
    revalidate(desk)
    desk.events()
    assert desk.last_events[0]["data"]["missed_events"] == 3
    assert desk.connection.slots[SLOT].missed == 3
    revalidate(desk)
    assert desk.connection.slots[SLOT].missed == 3, "it stays known after all is well"
    taken_out(store)
    revalidate(desk)
    assert desk.connection.slots[SLOT].missed == 0, "counted from when it was last in order"


def test_a_store_that_tells_of_no_failed_messages_is_repaired_all_the_same() -> None:
    desk, store = connected()
    store.fail("failed_messages", {"fault": "forbidden_role", "times": "always"})
    taken_out(store)
    revalidate(desk)
    assert store.urls(SLOT) == [THEIRS, OURS]
    assert desk.connection.slots[SLOT].missed is None
    assert desk.events() == ["drifted"]


def test_repairs_older_than_a_day_are_forgotten() -> None:
    desk, store = connected()
    for _ in range(6):  # twice the limit, in four days
        taken_out(store)
        revalidate(desk)
        assert desk.status == "active"
        desk.wait(0.7 * DAY)
    assert writes(store) == 6
    assert len(desk.connection.slots[SLOT].recent_repairs(desk.now)) <= 2
    desk.wait(2 * DAY)
    assert desk.connection.slots[SLOT].repairs == ()


# --- Somebody who keeps undoing us -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "limit"), [("after our read-back", 3), ("before our read-back", 1)])
def test_after_so_many_repairs_in_a_day_a_slot_is_contested_and_written_no_more(when: str, limit: int) -> None:
    desk, store = connected(repairs_per_day=limit)
    undone(store, when)
    desk.wait(DAY)
    assert writes(store) == limit
    assert desk.slots == dict.fromkeys(SLOTS, "registered") | {SLOT: "contested"}
    assert (desk.status, desk.findings()) == ("degraded", [("slot_contested", SLOT)])
    assert desk.events().count("degraded") == 1
    record = desk.connection.slots[SLOT]
    assert record.cause == Cause("slot_contested", f"{limit} repairs in a day")
    assert len(record.repairs) == limit

    store.reset_counts()
    desk.wait(3 * DAY)
    assert writes(store) == 0, "and people are told once, not every day"
    assert store.calls.endpoints["login"] >= 3, "but it is looked at"
    assert desk.events() == []
    assert desk.connection.slots[SLOT].cause == record.cause, "the finding does not change its words"


def test_what_was_undone_before_our_read_back_is_told_as_one_drift() -> None:
    desk, store = connected()
    undone(store, "before our read-back")
    desk.wait(3 * DAY)
    assert sorted(desk.events()) == ["degraded", "drifted"]
    assert next(it["data"]["repaired"] for it in desk.last_events if it["type"].endswith("drifted")) is False


def test_two_slots_are_fought_over_each_on_its_own() -> None:
    desk, store = connected(repairs_per_day=2)
    undone(store, "after our read-back")
    store.change(slots={SLOT: {"urls": [THEIRS]}, "order-update": {"urls": [THEIRS]}})
    desk.wait(DAY)
    assert desk.slots == dict.fromkeys(SLOTS, "registered") | {SLOT: "contested"}
    assert len(desk.connection.slots["order-update"].repairs) <= 1


def contested() -> tuple[Desk, SimulatedStore]:
    desk, store = connected()
    undone(store, "after our read-back")
    desk.wait(DAY)
    assert desk.slots[SLOT] == "contested"
    desk.events()
    store.reset_counts()
    return desk, store


def test_a_contested_slot_that_is_registered_again_may_be_repaired_again_only_when_the_day_is_over() -> None:
    desk, store = contested()
    store.change(slots={SLOT: {"urls": [OURS]}})
    revalidate(desk)
    taken_out(store)
    revalidate(desk)
    assert (desk.slots[SLOT], writes(store)) == ("contested", 0)
    desk.events()
    store.change(slots={SLOT: {"urls": [OURS]}}, rivals=[])
    desk.wait(1.5 * DAY)
    taken_out(store)
    revalidate(desk)
    assert (desk.slots[SLOT], writes(store)) == ("registered", 1)


def test_a_repair_that_is_undone_as_well_ends_as_before() -> None:
    desk, store = contested()
    revalidate(desk, repair=True)
    desk.wait(DAY)
    assert (desk.slots[SLOT], writes(store)) == ("contested", desk.pace.repairs_per_day)


def test_a_repair_asked_for_in_the_middle_of_a_look_is_not_lost() -> None:
    desk, store = contested()
    store.change(rivals=[])
    desk.revalidate()
    desk.message("m-1", 1, VALIDATE)
    desk.session.then = [lambda: desk.revalidate(repair=True)]
    desk.wait(30)
    assert store.urls(SLOT) == [THEIRS, OURS]
    assert desk.status == "active"


# --- What is not ours to mend ----------------------------------------------------------------------------------------


def test_settings_that_were_lost_stay_a_finding_until_they_are_back() -> None:
    desk = Desk()
    store = desk.store(slots={SLOT: {"urls": [], "headers": {"X-Key": "1", "X-Other": "2"}}})
    desk.connect(store)
    desk.wait(600)
    desk.events()
    store.change(slots={SLOT: {"urls": [OURS], "headers": {"X-Other": "2"}}})
    revalidate(desk)
    assert (desk.status, desk.findings()) == ("active", [("settings_lost", SLOT)])
    assert desk.connection.slots[SLOT].cause == Cause("settings_lost", "X-Key")
    desk.wait(3 * DAY)
    assert desk.events() == ["drifted"]
    store.change(slots={SLOT: {"urls": [OURS], "headers": {"X-Other": "2", "X-Key": "3"}}})
    desk.wait(DAY)
    assert (desk.findings(), desk.events()) == ([], [])


def test_a_repair_that_is_a_day_old_is_not_told_again() -> None:
    """A lasting finding beside it: what is told then is the repair, once, and not its being forgotten."""
    desk, store = connected()
    store.reset_secret(SLOT)
    urls = [url for url in store.urls(SLOT) if url != OURS]
    store.change(slots={SLOT: {**store.slot_fields(SLOT), "urls": urls}})
    revalidate(desk)
    first = desk.events()
    desk.wait(3 * DAY)
    assert desk.connection.slots[SLOT].repairs == ()
    assert (first, desk.events()) == (["drifted"], [])


def test_a_slot_that_is_gone_is_not_offered_and_comes_back() -> None:
    desk, store = connected()
    store.change(shows_secrets=False)  # the slot comes back with another
    content = store.slot_fields(SLOT)
    store.change(slots={SLOT: None})
    revalidate(desk)
    record = desk.connection.slots[SLOT]
    assert (record.verdict, record.drift) == (SlotStatus.NOT_OFFERED, (Drift.SLOT_GONE,))
    assert (desk.status, desk.findings()) == ("degraded", [("slot_not_offered", SLOT)])
    assert sorted(desk.events()) == ["degraded", "drifted"]
    desk.wait(2 * DAY)
    assert (desk.events(), writes(store)) == ([], 0)
    store.change(offers=SLOTS, slots={name: {"urls": [THEIRS, ours(name)]} for name in SLOTS if name != SLOT})
    store.change(slots={SLOT: {"urls": content["urls"]}})
    desk.wait(DAY)
    assert (desk.status, desk.events(), desk.connection.slots[SLOT].drift) == ("active", ["recovered"], ())


def test_events_about_drift_name_no_url() -> None:
    desk, store = connected()
    taken_out(store)
    revalidate(desk)
    desk.events()
    assert "http" not in json.dumps(desk.last_events[0]["data"]).replace(store.url, "")

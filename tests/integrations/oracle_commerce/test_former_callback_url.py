"""Our callback URLs move to another address: the new ones go in and the former ones come out, nobody else's does."""

from collections.abc import Mapping

import pytest

from integrations.errors import TransientError
from integrations.oracle_commerce.registration import unregister
from integrations.oracle_commerce.slot import Ours
from tests.integrations.oracle_commerce.by_hand import THEIRS, Desk, connected, ours
from tests.integrations.oracle_commerce.fakes import SLOTS
from tests.integrations.oracle_commerce.slot_stores import SlotInMemory

DAY = 86400.0
SLOT = "order-submit"
BEFORE = "https://hooks.example.com/occ/{merchant_id}/{slot}"
AFTER = "https://new.example.com/{merchant_id}/{slot}"
OF_ANOTHER = "https://hooks.example.com/occ/m-2/order-submit"


def new(slot: str) -> str:
    return f"https://new.example.com/m-1/{slot}"


def test_at_the_next_look_the_new_one_takes_the_place_of_the_former_one() -> None:
    desk, store = connected()
    desk.restart(callback_url=AFTER, former_callback_urls=(BEFORE,))
    desk.wait(3 * DAY)
    assert {slot: store.urls(slot) for slot in SLOTS} == {slot: [THEIRS, new(slot)] for slot in SLOTS}
    assert store.calls.endpoints["write_slot"] == 4, "once each"
    assert desk.events() == ["drifted"] * 4
    assert {tuple(event["data"]["drift"]) for event in desk.last_events} == {("former_url",)}
    assert (desk.status, desk.findings()) == ("active", [])


def test_one_that_stayed_beside_the_new_one_is_taken_out() -> None:
    """As when the setting is given only after the new address went in."""
    desk, store = connected()
    desk.restart(callback_url=AFTER)
    desk.wait(1.5 * DAY)
    assert store.urls(SLOT) == [THEIRS, ours(SLOT), new(SLOT)]
    desk.restart(callback_url=AFTER, former_callback_urls=(BEFORE,))
    desk.wait(DAY)
    assert all(store.urls(slot) == [THEIRS, new(slot)] for slot in SLOTS)


def test_that_of_another_merchant_stays() -> None:
    desk, store = connected()
    store.change(slots={SLOT: {"urls": [OF_ANOTHER, ours(SLOT)]}})
    desk.restart(callback_url=AFTER, former_callback_urls=(BEFORE,))
    desk.wait(DAY)
    assert store.urls(SLOT) == [OF_ANOTHER, new(SLOT)]


def test_a_new_connection_finds_one_that_was_left_behind() -> None:
    desk = Desk(callback_url=AFTER, former_callback_urls=(BEFORE,))
    store = desk.store(slots={SLOT: {"urls": [ours(SLOT), THEIRS]}})
    desk.connect(store)
    desk.wait(60)
    assert store.urls(SLOT) == [THEIRS, new(SLOT)]


def test_a_slot_with_room_for_one_url_is_not_taken_to_be_somebody_elses() -> None:
    desk = Desk(callback_url=AFTER, former_callback_urls=(BEFORE,), webhook_body="url")
    held = {slot: {"urls": [ours(slot)]} for slot in SLOTS}
    store = desk.store(slots=held, body_style="url")
    desk.connect(store)
    desk.wait(60)
    assert {slot: store.urls(slot) for slot in SLOTS} == {slot: [new(slot)] for slot in SLOTS}
    assert desk.status == "active"


def test_whoever_disconnects_is_left_with_none_of_ours() -> None:
    desk, store = connected()
    store.change(slots={SLOT: {"urls": [ours(SLOT), THEIRS, new(SLOT)]}})
    desk.restart(callback_url=AFTER, former_callback_urls=(BEFORE,))
    desk.disconnect()
    desk.wait(60)
    assert {slot: store.urls(slot) for slot in SLOTS} == {slot: [THEIRS] for slot in SLOTS}
    assert desk.status == "disconnected"


def test_who_keeps_putting_the_former_one_back_is_left_alone_in_the_end() -> None:
    desk, store = connected()
    desk.restart(callback_url=AFTER, former_callback_urls=(BEFORE,))
    for _ in range(8):
        store.change(slots={SLOT: {"urls": [THEIRS, ours(SLOT)]}})
        desk.revalidate()
        desk.wait(30)
    assert desk.slots[SLOT] == "contested"
    assert store.calls.slots[f"write_slot:{SLOT}"] == 3


def test_a_store_that_keeps_the_former_one_has_not_let_us_out() -> None:
    class Keeping(SlotInMemory):
        def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
            super().write_slot(slot_id, body)
            self.content["urls"] = [THEIRS, ours(SLOT)]
            return super().read_slot(slot_id)

    mine = Ours(new(SLOT), former=(ours(SLOT),))
    with pytest.raises(TransientError, match="removal_not_kept"):
        unregister(Keeping({"urls": [THEIRS, ours(SLOT), new(SLOT)]}), SLOT, mine, "urls")
    assert unregister(SlotInMemory({"urls": [THEIRS, ours(SLOT)]}), SLOT, mine, "urls").wrote

"""Disconnecting takes our callback URL out of a slot, and nothing else, whoever writes at the same moment."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import PermanentError, TransientError
from integrations.oracle_commerce.registration import Removal, register, unregister
from occ.simulator.store import SimulatedStore
from tests.examples import examples
from tests.integrations.oracle_commerce.slot_stores import (
    ANSWERS,
    FOREIGN,
    MINE,
    OURS,
    SLOT,
    SPELLINGS,
    THEIRS,
    DirectSlots,
    Meeting,
    Rival,
    SlotInMemory,
    contents,
    foreign,
    ours,
    rivals,
    settings_of_others,
    store_like_occ,
)


def removed(slot: SlotInMemory) -> Removal | None:
    """Unregister, and let the rival who comes afterwards come; None if the store is found to carry our URL still."""
    return slot.after(lambda: unregister(slot, SLOT, MINE, "urls"), not_kept="removal_not_kept")


@settings(max_examples=examples(300))
@given(contents(), ANSWERS)
def test_after_registering_and_unregistering_all_of_others_is_as_it_was(
    content: dict[str, object], answers: str
) -> None:
    slot = SlotInMemory(copy.deepcopy(content), answers=answers)  # type: ignore[arg-type]
    before, there = slot.urls, copy.deepcopy(slot.settings)
    register(slot, SLOT, MINE, "urls")

    assert removed(slot) == Removal(wrote=True)

    assert slot.urls == foreign(before), "in their order and their spelling"
    assert slot.settings == there
    assert slot.bodies[-1] == {"urls": foreign(before)}, "settings of others are never in our body"
    writes = len(slot.bodies)
    assert removed(slot) == Removal(wrote=False)
    assert len(slot.bodies) == writes, "a second pass writes nothing"


@settings(max_examples=examples(300))
@given(contents(), ANSWERS)
def test_a_slot_is_written_only_where_our_url_is_in_it(content: dict[str, object], answers: str) -> None:
    slot = SlotInMemory(copy.deepcopy(content), answers=answers)  # type: ignore[arg-type]
    before = slot.urls

    assert removed(slot) == Removal(wrote=bool(ours(before)))

    assert slot.urls == foreign(before)
    assert bool(slot.bodies) == bool(ours(before))
    if not ours(before):
        assert slot.content == content


@settings(max_examples=examples(500))
@given(contents(), rivals() | st.builds(Rival, st.just(OURS), st.just("merge"), st.sampled_from(Meeting)), ANSWERS)
def test_everything_of_others_that_can_survive_a_rival_survives_a_removal(
    content: dict[str, object], rival: Rival, answers: str
) -> None:
    slot = SlotInMemory(copy.deepcopy(content), answers=answers, rival=rival)  # type: ignore[arg-type]
    there, when = copy.deepcopy(slot.settings), rival.when

    first = removed(slot)

    (read, *_) = slot.urls_when_read
    wrote = bool(slot.bodies)
    assert wrote == bool(ours(read))
    stays = foreign(read)  # also if the rival wrote since we read: the API knows no condition on a write
    came_back = rival.after(stays) if wrote and when is Meeting.BEFORE_ANSWER else stays
    assert slot.urls == (rival.after(came_back) if when is Meeting.AFTER else came_back)
    assert slot.settings == there
    assert (first is None) == bool(ours(came_back)), "what is still there is never called removed"
    if first is not None:
        # Somebody who takes away the second of two equal URLs of theirs has changed nothing that matters.
        assert first == Removal(wrote=wrote, rival={*came_back} != {*stays})

    slot.rival = None
    settled = slot.urls
    assert removed(slot) == Removal(wrote=bool(ours(settled)))
    assert slot.urls == foreign(settled)


@pytest.mark.parametrize("held", SPELLINGS)
def test_a_slot_for_one_url_is_emptied_only_of_ours(held: str) -> None:
    slot = SlotInMemory({"url": held})
    assert unregister(slot, SLOT, MINE, "url") == Removal(wrote=True)
    assert slot.bodies == [{"url": None}]
    assert unregister(slot, SLOT, MINE, "url") == Removal(wrote=False)


@settings(max_examples=examples(100))
@given(st.sampled_from(FOREIGN), settings_of_others)
def test_a_slot_for_one_url_that_is_somebody_elses_is_left_alone(held: str, others: dict[str, object]) -> None:
    slot = SlotInMemory({**others, "url": held})
    assert unregister(slot, SLOT, MINE, "url") == Removal(wrote=False)
    assert slot.content == {**others, "url": held}
    assert slot.bodies == []


@pytest.mark.parametrize(
    "content", [{"url": OURS, "urls": [THEIRS]}, {"url": THEIRS, "urls": [OURS]}, {"url": [OURS, THEIRS]}]
)
def test_a_slot_for_one_url_that_shows_two_is_not_emptied(content: dict[str, object]) -> None:
    slot = SlotInMemory(copy.deepcopy(content))
    assert unregister(slot, SLOT, MINE, "url") == Removal(wrote=False, left=("slot_unreadable", ""))
    assert slot.bodies == []


@pytest.mark.parametrize("content", [{"urls": 5}, {"urls": [5]}, {"urls": {"a": OURS}}])
def test_what_cannot_be_read_is_not_written(content: dict[str, object]) -> None:
    slot = SlotInMemory(content)
    with pytest.raises(PermanentError):
        unregister(slot, SLOT, MINE, "urls")
    assert slot.bodies == []


def test_against_a_store_that_behaves_like_occ_only_ours_is_gone() -> None:
    store = store_like_occ()
    before = store.slot_fields(SLOT)
    register(DirectSlots(store), SLOT, MINE, "urls")

    assert unregister(DirectSlots(store), SLOT, MINE, "urls") == Removal(wrote=True)
    assert unregister(DirectSlots(store), SLOT, MINE, "urls") == Removal(wrote=False)

    assert store.slot_fields(SLOT) == before
    assert store.losses.urls == []
    assert store.losses.settings == []
    assert store.calls.endpoints["write_slot"] == 2


def test_a_store_for_one_url_sends_nothing_after_ours_is_out() -> None:
    store = SimulatedStore("s", body_style="url")
    register(DirectSlots(store), SLOT, MINE, "url")
    assert unregister(DirectSlots(store), SLOT, MINE, "url") == Removal(wrote=True)
    assert store.urls(SLOT) == []


def test_a_store_that_keeps_our_url_all_the_same_is_tried_again() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS, OURS]}})
    store.fail(f"write_slot:{SLOT}", {"fault": "write_ignored"})
    with pytest.raises(TransientError) as kept:
        unregister(DirectSlots(store), SLOT, MINE, "urls")
    assert kept.value.code == "removal_not_kept"
    assert unregister(DirectSlots(store), SLOT, MINE, "urls") == Removal(wrote=True)
    assert store.urls(SLOT) == [THEIRS]


def test_a_store_whose_answer_is_not_what_it_keeps_has_not_removed_ours() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS, OURS]}})
    store.fail(f"write_slot:{SLOT}", {"fault": "write_ignored", "answers": "as_asked"})
    with pytest.raises(TransientError) as kept:
        unregister(DirectSlots(store), SLOT, MINE, "urls")
    assert kept.value.code == "removal_not_kept"


def test_what_went_in_moments_ago_and_is_not_shown_is_not_called_removed() -> None:
    slot = SlotInMemory({"urls": [THEIRS]})
    with pytest.raises(TransientError) as unseen:
        unregister(slot, SLOT, MINE, "urls", settles_in=7.0)
    assert (unseen.value.code, unseen.value.retry_after) == ("not_shown_yet", 7.0)
    assert unregister(slot, SLOT, MINE, "urls") == Removal(wrote=False)
    assert unregister(SlotInMemory({"urls": [OURS]}), SLOT, MINE, "urls", settles_in=7.0) == Removal(wrote=True)


def test_a_removal_reads_no_later_than_it_must_and_looks_again() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS, OURS]}})
    unregister(DirectSlots(store), SLOT, MINE, "urls")
    assert [call.endpoint for call in store.calls.entries][1:] == ["read_slot", "write_slot", "read_slot"]


@pytest.mark.parametrize("status", [404, 400])
def test_a_slot_the_store_no_longer_offers_is_gone(status: int) -> None:
    store = SimulatedStore("s", slots={SLOT: None}, unknown_slot_status=status)
    assert unregister(DirectSlots(store), SLOT, MINE, "urls") == Removal(wrote=False, gone=True)
    assert store.calls.endpoints["write_slot"] == 0


@pytest.mark.parametrize(
    ("read", "listed"),
    [(404, 404), (404, 403), (405, 405), (405, "healthy"), (404, {"fault": "status", "status": 200, "body": []})],
    ids=str,
)
def test_a_slot_that_cannot_be_read_is_said_to_be_left_and_not_written(read: int, listed: object) -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS, OURS]} if read == 404 else None})
    store.change(faults={f"read_slot:{SLOT}": [read], "list_slots": [listed]})
    left = Removal(wrote=False, left=("slot_unreadable", f"HTTP {read}, errorCode 10{read}"))
    assert unregister(DirectSlots(store), SLOT, MINE, "urls") == left
    assert store.calls.endpoints["write_slot"] == 0


def test_a_single_read_that_fails_is_made_up_for_by_the_list() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS, OURS]}})
    store.fail(f"read_slot:{SLOT}", 404)
    assert unregister(DirectSlots(store), SLOT, MINE, "urls") == Removal(wrote=True)
    assert store.urls(SLOT) == [THEIRS]


def test_a_store_that_hides_the_slot_after_our_write_is_looked_at_again() -> None:
    with pytest.raises(TransientError):
        unregister(SlotInMemory({"urls": [OURS]}, answers="nothing", hides_after_write=True), SLOT, MINE, "urls")

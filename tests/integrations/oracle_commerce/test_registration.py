"""Our callback URL gets into a slot, and nothing of anybody else's gets out, whoever writes at the same moment."""

import contextlib
import copy
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import PermanentError, TransientError
from integrations.oracle_commerce.registration import Registration, SlotStore, register
from integrations.oracle_commerce.slot import BodyStyle
from occ.simulator.store import SimulatedStore
from tests.examples import examples
from tests.integrations.oracle_commerce.slot_stores import (
    ANSWERS,
    FOREIGN,
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


@dataclass
class Visit:
    """How one registration ended."""

    registered: Registration | None
    wrote: dict[str, object] | None


def visit(slot: SlotInMemory, style: BodyStyle = "urls") -> Visit:
    """Register, and let the rival who comes afterwards come."""
    before = len(slot.bodies)
    registered = slot.after(lambda: outcome(slot, style), not_kept="registration_not_kept")
    return Visit(registered, slot.bodies[-1] if len(slot.bodies) > before else None)


def outcome(store: SlotStore, style: BodyStyle = "urls") -> Registration:
    """One registration, without what it says to remember."""
    return replace(register(store, SLOT, OURS, style), seen=None)


@settings(max_examples=examples(300))
@given(contents(), ANSWERS)
def test_everything_of_others_survives_and_a_second_pass_writes_nothing(
    content: dict[str, object], answers: str
) -> None:
    slot = SlotInMemory(copy.deepcopy(content), answers=answers)  # type: ignore[arg-type]
    before, there = slot.urls, copy.deepcopy(slot.settings)

    first = visit(slot)

    assert first.registered is not None
    assert first.registered.wrote == (len(ours(before)) != 1)
    assert not first.registered.rival
    assert foreign(slot.urls) == foreign(before)
    assert len(ours(slot.urls)) == 1
    assert slot.settings == there
    if first.wrote is not None:
        assert first.wrote == {"urls": [*foreign(before), OURS]}, "settings of others are never in our body"
    assert visit(slot) == Visit(Registration(wrote=False), None)


@settings(max_examples=examples(500))
@given(contents(), rivals(), ANSWERS)
def test_everything_of_others_that_can_survive_a_rival_survives_it(
    content: dict[str, object], rival: Rival, answers: str
) -> None:
    slot = SlotInMemory(copy.deepcopy(content), answers=answers, rival=rival)  # type: ignore[arg-type]
    there = copy.deepcopy(slot.settings)
    when = rival.when

    first = visit(slot)

    (read, *_) = slot.urls_when_read
    if len(ours(read)) == 1:
        assert first == Visit(Registration(wrote=False), None)
        stays = read
    else:
        assert first.wrote == {"urls": [*foreign(read), OURS]}, "all that was there when we read, and ours once"
        stays = [*foreign(read), OURS]  # also if the rival wrote since we read: its write is lost, see the next test
    if when is Meeting.AFTER or (when is Meeting.BEFORE_ANSWER and first.wrote is not None):
        stays = rival.after(stays)
    assert slot.urls == stays
    assert slot.settings == there
    undone = rival.how == "replace" and when is Meeting.BEFORE_ANSWER and first.wrote is not None
    assert (first.registered is None) == undone, "what did not stay is never called registered"
    if first.registered is not None and first.wrote is not None and when is Meeting.BEFORE_ANSWER:
        assert first.registered.rival == (stays != [*foreign(read), OURS]), "a rival seen in the answer is noted"

    settled = slot.urls
    slot.rival = None
    second = visit(slot)
    assert second.wrote == (None if len(ours(settled)) == 1 else {"urls": [*foreign(settled), OURS]})
    assert foreign(slot.urls) == foreign(settled)
    assert len(ours(slot.urls)) == 1
    assert visit(slot) == Visit(Registration(wrote=False), None)


@pytest.mark.parametrize("how", ["merge", "replace"])
def test_the_one_unavoidable_loss_is_what_a_rival_writes_between_our_read_and_our_write(how: str) -> None:
    """The API knows no condition on a write, and no later answer shows it: this documents the window."""
    rival = Rival("https://rival.example.net/hook", how, Meeting.BEFORE_WRITE)  # type: ignore[arg-type]
    slot = SlotInMemory({"urls": [THEIRS]}, rival=rival)
    assert visit(slot).registered == Registration(wrote=True, rival=False)
    assert slot.urls == [THEIRS, OURS], "only the rival's own URL is lost, and what it removed is back"


def test_no_registration_reads_later_than_it_must() -> None:
    """The window is one round trip: the write follows the read it was merged from, with no other call between."""
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS]}})
    assert register(DirectSlots(store), SLOT, OURS, "urls").wrote
    assert [call.endpoint for call in store.calls.entries][-2:] == ["read_slot", "write_slot"]


@settings(max_examples=examples(200))
@given(
    held=st.sampled_from((None, "", *SPELLINGS, *FOREIGN)),
    shape=st.sampled_from(("url", "urls", "both")),
    others=settings_of_others,
    answers=ANSWERS,
)
def test_in_a_slot_for_one_url_nobody_elses_is_ever_replaced(
    held: str | None, shape: str, others: dict[str, object], answers: str
) -> None:
    shown: dict[str, object] = {"url": held} if shape != "urls" else {}
    shown |= {"urls": [held] if held else []} if shape != "url" else {}
    content = {**others, **shown}
    slot = SlotInMemory(copy.deepcopy(content), answers=answers)  # type: ignore[arg-type]
    if held in FOREIGN:
        with pytest.raises(PermanentError) as occupied:
            register(slot, SLOT, OURS, "url")
        assert occupied.value.code == "slot_occupied"
        assert slot.content == content
        assert slot.bodies == []
    elif held in SPELLINGS:
        assert outcome(slot, "url") == Registration(wrote=False)
    elif shape == "url":
        assert outcome(slot, "url") == Registration(wrote=True)
        assert slot.bodies == [{"url": OURS}]
        assert outcome(slot, "url") == Registration(wrote=False)


@pytest.mark.parametrize("urls", [5, {"a": THEIRS}, [5], [[THEIRS]], True])
def test_what_cannot_be_read_is_never_written(urls: object) -> None:
    slot = SlotInMemory({"urls": urls})
    with pytest.raises(PermanentError) as unreadable:
        register(slot, SLOT, OURS, "urls")
    assert unreadable.value.code == "slot_unreadable"
    assert slot.bodies == []


def test_a_store_that_takes_our_url_and_does_not_keep_it_is_tried_again() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS]}})
    store.fail(f"write_slot:{SLOT}", {"fault": "write_ignored"})
    with pytest.raises(TransientError) as not_kept:
        register(DirectSlots(store), SLOT, OURS, "urls")
    assert not_kept.value.code == "registration_not_kept"
    store.heal()
    assert outcome(DirectSlots(store)) == Registration(wrote=True)
    assert store.urls(SLOT) == [THEIRS, OURS]


def test_an_empty_answer_to_the_write_is_checked_by_reading_once_more() -> None:
    slot = SlotInMemory({"urls": [THEIRS]}, answers="nothing")
    assert outcome(slot) == Registration(wrote=True)
    assert slot.urls_when_read == [[THEIRS], [THEIRS, OURS]]


def test_against_a_store_that_behaves_like_occ_nothing_of_others_is_lost() -> None:
    store = store_like_occ()
    before = store.slot_fields(SLOT)
    assert outcome(DirectSlots(store)) == Registration(wrote=True)
    assert outcome(DirectSlots(store)) == Registration(wrote=False)
    assert store.slot_fields(SLOT) == {**before, "urls": [THEIRS, "https://erp.example.org/x", OURS]}
    assert store.losses.urls == []
    assert store.losses.settings == []
    assert store.calls.endpoints["write_slot"] == 1


# --- Slots that cannot be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 405])
def test_a_slot_the_store_does_not_know_is_not_offered(status: int) -> None:
    store = SimulatedStore("s", unknown_slot_status=status)
    with pytest.raises(PermanentError) as missing:
        register(DirectSlots(store), "no-such-slot", OURS, "urls")
    assert missing.value.code == "slot_not_offered"


def test_a_store_that_calls_an_unknown_id_a_bad_request_is_believed_without_a_write() -> None:
    store = SimulatedStore("s", unknown_slot_status=400)
    with pytest.raises(PermanentError) as missing:
        register(DirectSlots(store), "no-such-slot", OURS, "urls")
    assert missing.value.code == "slot_not_offered"
    assert store.calls.endpoints["write_slot"] == 0


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_slot_that_only_the_list_shows_is_registered_from_there(status: int) -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS]}})
    store.fail(f"read_slot:{SLOT}", {"fault": "status", "status": status, "times": "always"})
    assert register(DirectSlots(store), SLOT, OURS, "urls").wrote
    assert store.urls(SLOT) == [THEIRS, OURS]


def test_a_list_that_does_not_show_urls_is_not_taken_for_a_slot_without_any() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS], "missing": ["urls"]}})
    store.fail(f"read_slot:{SLOT}", 404)
    with pytest.raises(PermanentError) as unreadable:
        register(DirectSlots(store), SLOT, OURS, "urls")
    assert unreadable.value.code == "slot_unreadable"
    assert store.urls(SLOT) == [THEIRS]


def test_a_slot_that_can_no_longer_be_looked_at_after_the_write_is_looked_at_again_later() -> None:
    with pytest.raises(TransientError):
        register(SlotInMemory({"urls": [THEIRS]}, answers="nothing", hides_after_write=True), SLOT, OURS, "urls")


def test_a_slot_that_may_be_written_but_not_read_is_registered_by_one_write() -> None:
    slot = SlotInMemory({"urls": []}, readable=False)
    assert outcome(slot) == Registration(wrote=True)
    assert slot.urls == [OURS]


def test_a_read_that_fails_with_404_for_a_moment_costs_nobody_their_url() -> None:
    """An edge or a deployment may answer one read with 404; the write that decides then replaces the whole list."""
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS]}})
    store.fail(f"read_slot:{SLOT}", 404)
    with contextlib.suppress(PermanentError, TransientError):
        register(DirectSlots(store), SLOT, OURS, "urls")
    assert THEIRS in store.urls(SLOT)


@pytest.mark.parametrize("body", [{"success": True}, {"message": "Scheduled maintenance"}])
def test_an_object_that_is_no_slot_is_not_taken_for_an_empty_one(body: dict[str, object]) -> None:
    slot = SlotInMemory(body)
    with pytest.raises((PermanentError, TransientError)):
        register(slot, SLOT, OURS, "urls")
    assert slot.bodies == []


def test_an_answer_that_cannot_be_understood_is_checked_by_reading_once_more() -> None:
    class Odd(SlotInMemory):
        def write_slot(self, slot_id: str, body: object) -> dict[str, object]:
            super().write_slot(slot_id, body)  # type: ignore[arg-type]
            return {"urls": 1}

    assert register(Odd({"urls": [THEIRS]}), SLOT, OURS, "urls").wrote

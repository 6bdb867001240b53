"""Our callback URL gets into a slot, and nothing of anybody else's gets out, whoever writes at the same moment."""

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from integrations.connections.drift import Seen
from integrations.errors import CredentialRejected, PermanentError, SlotNotFound, SlotNotReadable, TransientError
from integrations.learnt import Spelling
from integrations.oracle_commerce import look_back
from integrations.oracle_commerce.reading import SlotStore
from integrations.oracle_commerce.registration import Registration, register, unregister
from integrations.oracle_commerce.slot import BodyStyle
from integrations.oracle_commerce.spelling import is_cut_of
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
    OnlyListed,
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
    return replace(register(store, SLOT, MINE, style, blindly=True), seen=None, spelling=None)


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
@example(
    content={"urls": [THEIRS, f"{THEIRS}?b=1", OURS, OURS]},
    rival=Rival("https://rival.example.net/hook", "replace", Meeting.BEFORE_ANSWER),
    answers="content",
)
def test_everything_of_others_that_can_survive_a_rival_survives_it(
    content: dict[str, object], rival: Rival, answers: str
) -> None:
    slot = SlotInMemory(copy.deepcopy(content), answers=answers, rival=rival)  # type: ignore[arg-type]
    there = copy.deepcopy(slot.settings)
    when = rival.when

    first = visit(slot)

    (read, *_) = slot.urls_when_read
    settled = slot.urls
    if len(ours(read)) == 1:
        assert first == Visit(Registration(wrote=False), None)
        assert settled == (rival.after(read) if when is Meeting.AFTER else read)
    else:
        assert slot.bodies[0] == {"urls": [*foreign(read), OURS]}, "all that was there when we read, and ours once"
        stays = [*foreign(read), OURS]  # also if the rival wrote since we read: its write is lost, see the next test
        undone = rival.how == "replace" and when is Meeting.BEFORE_ANSWER
        assert (first.registered is None) == undone, "what did not stay is never called registered"
        if undone:  # and what went with it is put back, beside what the rival wrote
            is_like_a_cut = any(is_cut_of(rival.url, url) for url in foreign(read))  # then it is not sent
            among = [{rival.url}, {rival.url, *foreign(read)}, *([{*foreign(read)}] if is_like_a_cut else [])]
            assert {*foreign(settled)} in among
            assert len(slot.bodies) == 1 or {*foreign(read)} <= {*settled}
            if answers == "content" and len(foreign(read)) > 1:  # one for another is no less than before
                assert {*foreign(read)} <= {*settled}
        elif when in {Meeting.AFTER, Meeting.BEFORE_ANSWER}:
            stays = rival.after(stays)
        assert undone or settled == stays
        if first.registered is not None and when is Meeting.BEFORE_ANSWER:
            assert first.registered.rival == (stays != [*foreign(read), OURS]), "a rival seen in the answer is noted"
    assert slot.settings == there

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
    assert register(DirectSlots(store), SLOT, MINE, "urls").wrote
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
            register(slot, SLOT, MINE, "url")
        assert occupied.value.code == "slot_occupied"
        assert slot.content == content
        assert slot.bodies == []
    elif held in SPELLINGS:
        assert outcome(slot, "url") == Registration(wrote=False)
        assert slot.bodies == []
    elif shape == "url":
        assert outcome(slot, "url") == Registration(wrote=True)
        assert slot.bodies == [{"url": OURS}]
        assert outcome(slot, "url") == Registration(wrote=False)


@pytest.mark.parametrize("urls", [5, {"a": THEIRS}, [5], [[THEIRS]], True])
def test_what_cannot_be_read_is_never_written(urls: object) -> None:
    slot = SlotInMemory({"urls": urls})
    with pytest.raises(PermanentError) as unreadable:
        register(slot, SLOT, MINE, "urls")
    assert unreadable.value.code == "slot_unreadable"
    assert slot.bodies == []


def test_a_store_that_takes_our_url_and_does_not_keep_it_is_tried_again() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS]}})
    store.fail(f"write_slot:{SLOT}", {"fault": "write_ignored"})
    with pytest.raises(TransientError) as not_kept:
        register(DirectSlots(store), SLOT, MINE, "urls")
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
        register(DirectSlots(store), "no-such-slot", MINE, "urls", blindly=True)
    assert missing.value.code == "slot_not_offered"


def test_a_store_that_calls_an_unknown_id_a_bad_request_is_believed_without_a_write() -> None:
    store = SimulatedStore("s", unknown_slot_status=400)
    with pytest.raises(PermanentError) as missing:
        register(DirectSlots(store), "no-such-slot", MINE, "urls")
    assert missing.value.code == "slot_not_offered"
    assert store.calls.endpoints["write_slot"] == 0


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_slot_that_only_the_list_shows_is_registered_from_there(status: int) -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS]}})
    store.fail(f"read_slot:{SLOT}", {"fault": "status", "status": status, "times": "always"})
    assert register(DirectSlots(store), SLOT, MINE, "urls").wrote
    assert store.urls(SLOT) == [THEIRS, OURS]


def test_a_list_that_does_not_show_urls_is_not_taken_for_a_slot_without_any() -> None:
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS], "missing": ["urls"]}})
    store.fail(f"read_slot:{SLOT}", 404)
    with pytest.raises(PermanentError) as unreadable:
        register(DirectSlots(store), SLOT, MINE, "urls")
    assert unreadable.value.code == "slot_unreadable"
    assert store.urls(SLOT) == [THEIRS]


def test_a_slot_that_can_no_longer_be_looked_at_after_the_write_is_looked_at_again_later() -> None:
    with pytest.raises(TransientError):
        register(SlotInMemory({"urls": [THEIRS]}, answers="nothing", hides_after_write=True), SLOT, MINE, "urls")


def test_a_slot_that_may_be_written_but_not_read_is_registered_by_one_write_where_that_is_allowed() -> None:
    slot = SlotInMemory({"urls": []}, readable=False)
    with pytest.raises(PermanentError) as unread:
        register(slot, SLOT, MINE, "urls")
    assert unread.value.code == "slot_unreadable"
    assert slot.bodies == []
    assert outcome(slot) == Registration(wrote=True)
    assert slot.urls == [OURS]


def test_a_store_whose_list_is_not_for_us_can_be_read_and_is_not_written_blindly() -> None:
    class ForOthers(OnlyListed):
        def list_slots(self) -> list[dict[str, object]]:
            raise PermanentError("permission_denied", "HTTP 403")

    store = ForOthers([])
    with pytest.raises(PermanentError):
        register(store, SLOT, MINE, "urls", blindly=True)
    assert store.written == []


def test_a_list_whose_ids_differ_in_case_shows_the_slot() -> None:
    store = OnlyListed([{"id": "production-other", "urls": []}, {"id": " Order-SUBMIT", "urls": [THEIRS]}])
    with pytest.raises(TransientError):  # this store shows no write
        register(store, SLOT, MINE, "urls")
    assert store.written == [{"urls": [THEIRS, OURS]}]


@pytest.mark.parametrize("reason", [SlotNotFound("HTTP 404"), SlotNotReadable("HTTP 405")], ids=str)
@pytest.mark.parametrize("listing", [[], [{"id": "another", "urls": []}]], ids=str)
def test_a_slot_that_is_not_in_the_list_is_not_written_blindly(
    listing: list[dict[str, object]], reason: PermanentError
) -> None:
    store = OnlyListed(listing, reason)
    with pytest.raises(PermanentError) as missing:
        register(store, SLOT, MINE, "urls", blindly=True)
    assert missing.value.code == "slot_not_offered"
    assert store.written == []


@pytest.mark.parametrize("shown", [{"id": SLOT, "name": "Submit order"}, {}, {"id": SLOT, "targetUrls": []}], ids=str)
@pytest.mark.parametrize("has_list", [True, False], ids=["list", "no list"])
def test_an_answer_that_says_nothing_of_urls_once_costs_nobody_theirs(shown: dict[str, object], has_list: bool) -> None:
    class Reticent(SlotInMemory):
        answers_left = 1

        def read_slot(self, slot_id: str) -> dict[str, object]:
            content = super().read_slot(slot_id)
            self.answers_left -= 1
            return content if self.answers_left < 0 else dict(shown)

        def list_slots(self) -> list[dict[str, object]]:
            if not has_list:
                raise PermanentError("request_refused", "HTTP 405")
            return super().list_slots()

    store = Reticent({"id": SLOT, "urls": [THEIRS]})
    assert register(store, SLOT, MINE, "urls").wrote
    assert store.urls == [THEIRS, OURS]


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("meanwhile", [[], ["https://rival.example.net/hook"]])
def test_a_former_list_that_may_be_back_is_written_again_but_not_over_what_came_since(
    meanwhile: list[str], *, carried_out: bool
) -> None:
    class Full(SlotInMemory):
        """It keeps the last URL, and the second write ends unseen."""

        def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
            answer = super().write_slot(slot_id, body)
            if len(self.bodies) == 2:
                held = [THEIRS] if carried_out else [OURS]
                self.content["urls"] = [*held, *meanwhile]
                raise TransientError("store_timeout")
            self.content["urls"] = self.urls[-1:]
            return {**answer, "urls": self.urls} if answer else None

    store = Full({"urls": [THEIRS]})
    with pytest.raises(PermanentError, match="url_pushed_out"):
        register(store, SLOT, MINE, "urls")
    assert len(store.bodies) == (2 if meanwhile else 3), "what shows it may be an answer from before"
    assert {*meanwhile} <= {*store.urls}
    assert store.urls[0] == THEIRS or (meanwhile and not carried_out)


def test_a_former_list_is_put_back_also_where_an_older_answer_shows_it_while_it_is_not_there() -> None:
    class Late(SlotInMemory):
        """It keeps the last URL, is busy once, and then shows what was there at first."""

        def read_slot(self, slot_id: str) -> dict[str, object]:
            return super().read_slot(slot_id) | ({"urls": [THEIRS]} if len(self.bodies) == 2 else {})

        def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
            held = self.urls
            answer = super().write_slot(slot_id, body)
            self.content["urls"] = self.urls[-1:]
            if len(self.bodies) == 2:
                self.content["urls"] = held
                raise TransientError("store_busy")
            return {**answer, "urls": self.urls} if answer else None

    store = Late({"urls": [THEIRS]})
    with pytest.raises(PermanentError, match="url_pushed_out"):
        register(store, SLOT, MINE, "urls")
    assert store.urls == [THEIRS]


class Lying(SlotInMemory):
    """It shows nothing in its first answer, and `then` its list, once or for good."""

    shown: tuple[list[str], ...] = ([],)

    def read_slot(self, slot_id: str) -> dict[str, object]:
        content = super().read_slot(slot_id)
        at = len(self.urls_when_read) - 1
        return {**content, "urls": self.shown[at]} if at < len(self.shown) else content


@pytest.mark.parametrize(
    ("content", "known"),
    [
        ({"id": SLOT, "urls": [THEIRS], "headers": {"X-Integration": "acme"}}, {}),
        ({"id": SLOT, "urls": [THEIRS]}, {"seen": Seen(others=1), "once_registered": True}),
        ({"id": SLOT, "urls": [THEIRS]}, {"at_least": 1}),
    ],
)
@pytest.mark.parametrize("has_list", [True, False], ids=["list", "no list"])
def test_a_slot_that_shows_less_than_it_should_is_not_written_on_one_answer(
    content: dict[str, object], known: dict[str, Any], *, has_list: bool
) -> None:
    class OneLie(Lying):
        def list_slots(self) -> list[dict[str, object]]:
            if not has_list:
                raise PermanentError("request_refused", "HTTP 405")
            return super().list_slots()

    store = OneLie(copy.deepcopy(content))
    with pytest.raises(TransientError, match="contradict"):
        register(store, SLOT, MINE, "urls", **known)
    assert store.bodies == []
    assert register(store, SLOT, MINE, "urls", **known).wrote
    assert store.urls == [THEIRS, OURS]


def test_a_slot_that_shows_less_after_a_write_that_nobody_saw_the_end_of_is_not_written() -> None:
    sent = replace(MINE, remembered=look_back.unconfirmed({"urls": [THEIRS]}, MINE))
    store = Lying({"id": SLOT, "urls": [THEIRS]})
    with pytest.raises(TransientError, match="contradict"):
        register(store, SLOT, sent, "urls")
    gone = SlotInMemory({"id": SLOT, "urls": []})
    with pytest.raises(PermanentError, match="url_pushed_out"):
        register(gone, SLOT, sent, "urls")
    assert store.bodies == gone.bodies == []


def test_a_slot_that_others_have_left_is_written_once_two_answers_agree() -> None:
    store = SlotInMemory({"id": SLOT, "urls": []})
    assert register(store, SLOT, MINE, "urls", seen=Seen(others=3), once_registered=True).wrote
    assert len(store.urls_when_read) == 2


def test_a_first_registration_in_an_empty_slot_reads_it_once() -> None:
    store = SimulatedStore("s")
    assert register(DirectSlots(store), SLOT, MINE, "urls").wrote
    assert [call.endpoint for call in store.calls.entries][1:] == ["read_slot", "write_slot"]


def test_a_list_that_shows_the_slot_twice_is_no_answer() -> None:
    store = OnlyListed([{"id": SLOT, "urls": [THEIRS]}, {"id": SLOT.upper(), "urls": []}])
    with pytest.raises(TransientError) as unclear:
        register(store, SLOT, MINE, "urls")
    assert unclear.value.code == "unreadable_answer"
    assert store.written == []


def test_a_key_that_is_refused_while_listing_is_the_outcome() -> None:
    class Refused(OnlyListed):
        def list_slots(self) -> list[dict[str, object]]:
            raise CredentialRejected("HTTP 401")

    store = Refused([])
    with pytest.raises(CredentialRejected):
        register(store, SLOT, MINE, "urls")
    assert store.written == []


def test_a_blind_write_whose_answer_lacks_our_url_has_not_registered_it() -> None:
    class Forgetful(SlotInMemory):
        def write_slot(self, slot_id: str, body: object) -> dict[str, object]:
            super().write_slot(slot_id, body)  # type: ignore[arg-type]
            return {"id": slot_id, "urls": [THEIRS]}

    with pytest.raises(TransientError) as lost:
        register(Forgetful({"urls": []}, readable=False), SLOT, MINE, "urls", blindly=True)
    assert lost.value.code == "registration_not_kept"


def test_a_slot_that_was_written_blindly_and_is_not_in_the_list_later_is_gone() -> None:
    for repair in (True, False):
        with pytest.raises(PermanentError) as gone:
            register(OnlyListed([{"id": "another"}]), SLOT, MINE, "urls", once_registered=True, repair=repair)
        assert gone.value.code == "slot_not_offered"


def test_a_read_that_fails_with_404_for_a_moment_costs_nobody_their_url() -> None:
    """An edge or a deployment may answer one read with 404; the write that decides then replaces the whole list."""
    store = SimulatedStore("s", slots={SLOT: {"urls": [THEIRS]}})
    store.fail(f"read_slot:{SLOT}", 404)
    with contextlib.suppress(PermanentError, TransientError):
        register(DirectSlots(store), SLOT, MINE, "urls")
    assert THEIRS in store.urls(SLOT)


@pytest.mark.parametrize("body", [{"success": True}, {"message": "Scheduled maintenance"}])
def test_an_object_that_is_no_slot_is_not_taken_for_an_empty_one(body: dict[str, object]) -> None:
    slot = SlotInMemory(body)
    with pytest.raises((PermanentError, TransientError)):
        register(slot, SLOT, MINE, "urls")
    assert slot.bodies == []


def test_an_answer_that_cannot_be_understood_is_checked_by_reading_once_more() -> None:
    class Odd(SlotInMemory):
        def write_slot(self, slot_id: str, body: object) -> dict[str, object]:
            super().write_slot(slot_id, body)  # type: ignore[arg-type]
            return {"urls": 1}

    assert register(Odd({"urls": [THEIRS]}), SLOT, MINE, "urls").wrote


@dataclass
class FullStore:
    """A store that keeps the last two URLs, and tells nothing in its answer to a write.

    `shows`: whether a read shows what was written. `fails`: how many reads after a write fail.
    """

    urls: list[str]
    shows: bool = True
    fails: int = 0
    shown: list[str] = field(default_factory=list)
    writes: int = 0

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """The list, or that from before."""
        if self.writes and self.fails:
            self.fails -= 1
            raise TransientError("store_error")
        return {"id": slot_id, "urls": list(self.urls if self.shows or not self.writes else self.shown)}

    def list_slots(self) -> list[dict[str, object]]:
        """The only one."""
        return [self.read_slot(SLOT)]

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> None:
        """Keep the last two."""
        del slot_id
        urls = body["urls"]
        assert isinstance(urls, list)
        self.shown, self.urls, self.writes = self.urls, urls[-2:], self.writes + 1


PARTNERS = ["https://erp.example.org/x", THEIRS]


def test_what_a_write_cost_somebody_is_put_back_although_one_read_after_it_fails() -> None:
    store = FullStore(list(PARTNERS), fails=1)
    with pytest.raises(PermanentError) as ended:
        register(store, SLOT, MINE, "urls")
    assert (ended.value.code, store.urls, store.writes) == ("url_pushed_out", PARTNERS, 2)


def test_what_a_write_cost_somebody_is_said_when_it_shows_too_late_to_be_put_back() -> None:
    store = FullStore(list(PARTNERS), shows=False)
    with pytest.raises(TransientError) as unseen:
        register(store, SLOT, MINE, "urls")
    assert unseen.value.code == "registration_not_kept"
    assert unseen.value.learnt is not None
    known = replace(MINE, remembered=unseen.value.learnt.spelling or Spelling())
    store.shows = True
    for _ in range(2):  # and it is not forgotten at the next look
        with pytest.raises(PermanentError) as late:
            register(store, SLOT, known, "urls")
        assert (late.value.code, late.value.detail) == ("url_pushed_out", "1 of those that were there before")
        assert late.value.learnt is not None
        known = replace(MINE, remembered=late.value.learnt.spelling or Spelling())
    assert (store.urls, store.writes) == ([THEIRS, OURS], 1)
    store.urls = [*PARTNERS, OURS]  # people have made room, and entered it again
    assert register(store, SLOT, known, "urls") == replace(register(store, SLOT, MINE, "urls"), spelling=None)


class ShiftingStore(SlotInMemory):
    """A store that shows the beginnings of URLs, one character less with each write."""

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """The beginnings."""
        return {"id": slot_id, "urls": [url[: 32 - len(self.bodies)] for url in self.urls]}

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """And as the answer."""
        super().write_slot(slot_id, body)
        return self.read_slot(slot_id)


def test_what_still_shows_once_it_was_left_out_is_not_taken_for_ours() -> None:
    store, known = ShiftingStore({"urls": ["https://hooks.example.com/occ/m-2/order-submit"]}), MINE
    for _ in range(4):
        with pytest.raises(PermanentError) as ended:
            register(store, SLOT, known, "urls")
        assert ended.value.learnt is not None
        known = replace(MINE, remembered=ended.value.learnt.spelling or Spelling())
    assert len(store.urls) >= 1, "somebody else's is there"
    assert len(store.bodies) <= 2
    assert unregister(store, SLOT, known, "urls").left is not None
    assert len(store.urls) >= 1

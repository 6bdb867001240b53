"""What single habits of a store come to, from the connect to the disconnect and back."""

from collections import Counter
from typing import Any

import pytest

from integrations.connections.record import Cause, Slot
from integrations.errors import TransientError
from tests.integrations.oracle_commerce.any_store import DAY, SLOT, Habits, Keeper, OneMerchant

TEMPLATE = "https://hooks.example.com/occ/{merchant_id}/{slot}"
OURS = "https://hooks.example.com/occ/m-1/order-submit"
THEIRS = "https://oms.example.net/in"


def connected(habits: Habits, prior: tuple[str, ...] = (THEIRS,), merchants: tuple[str, ...] = ("m-1",)) -> Keeper:
    """A store that merchants are connected to, a day later."""
    keeper = Keeper(habits, merchants, TEMPLATE, list(prior))
    for merchant in merchants:
        keeper.connect(merchant)
        keeper.desk.wait(40)
    keeper.desk.wait(DAY)
    return keeper


def held(keeper: Keeper) -> list[str]:
    """The list as the store keeps it."""
    return [entry.text for entry in keeper.store.entries]


def slot_of(keeper: Keeper, merchant: str = "m-1") -> Slot:
    """As it is recorded."""
    return keeper.desk.record(merchant).slots[SLOT]


@pytest.mark.parametrize("answers", ["content", "nothing"])
@pytest.mark.parametrize("delay", [0.0, 15.0])
def test_a_store_that_changes_urls_of_others_is_written_no_more(answers: str, delay: float) -> None:
    keeper = connected(Habits(on_write=("slash",), answers=answers, delay=delay))
    desk, store = keeper.desk, keeper.store
    assert held(keeper) == [f"{THEIRS}/", f"{OURS}/"]
    assert desk.findings() == [("urls_altered", SLOT)]
    assert desk.status == "active", "ours is there"
    writes = len(store.writes)
    assert writes <= 2
    store.change(lambda entries: entries[:1])  # somebody takes ours out
    desk.wait(3 * DAY)
    assert (len(store.writes), desk.findings()) == (writes, [("urls_altered", SLOT)])
    desk.revalidate(repair=True)  # people have looked
    desk.wait(60)
    assert held(keeper) == [f"{THEIRS}/", f"{OURS}/"], "what is spelt its way is not changed again"
    assert desk.findings() == []


@pytest.mark.parametrize("answers", ["content", "nothing"])
@pytest.mark.parametrize("delay", [0.0, 15.0])
def test_a_url_at_our_host_that_a_store_changes_as_it_changes_ours_is_not_taken_out(answers: str, delay: float) -> None:
    theirs, template = "https://hooks.example.com/occ/b?c=d", "https://hooks.example.com/occ?m={merchant_id}&s={slot}"
    habits = Habits(on_write=("query added",), on_read=("upper case",), answers=answers, delay=delay)
    keeper = Keeper(habits, ("m-1",), template, [theirs])
    keeper.connect("m-1")
    keeper.desk.wait(2 * DAY)
    assert [entry.origin for entry in keeper.store.entries] == [theirs, "ours:m-1"]
    assert len(keeper.store.writes) <= 2
    assert slot_of(keeper).cause is not None
    keeper.disconnect("m-1")
    keeper.desk.wait(2 * DAY)
    assert [entry.origin for entry in keeper.store.entries] == [theirs, "ours:m-1"]
    assert keeper.desk.findings() == [("left_behind", SLOT)]


def test_what_the_answer_to_a_write_shows_of_others_is_not_forgotten_when_the_next_reads_fail() -> None:
    keeper = connected(Habits(on_write=("slash",), wrong=((3, "error"), (4, "error"))))
    assert keeper.desk.findings() == [("urls_altered", SLOT)]
    assert len(keeper.store.writes) == 1


def test_what_the_answer_to_a_removal_shows_of_others_is_not_forgotten_when_the_next_reads_fail() -> None:
    keeper = connected(Habits())
    calls = keeper.store._calls
    keeper.store.habits = Habits(on_write=("slash",), wrong=((calls + 3, "error"), (calls + 4, "error")))
    keeper.disconnect("m-1")
    keeper.desk.wait(DAY)
    assert held(keeper) == [f"{THEIRS}/"]
    (removed,) = [note.details for _, _, note in keeper.desk.records.lines if note.what == "slot_removed"]
    assert removed["changed_meanwhile"]


def test_a_store_that_changes_urls_of_others_keeps_ours_after_a_disconnect_and_that_is_said() -> None:
    keeper = connected(Habits(on_write=("query added",)))
    writes = len(keeper.store.writes)
    keeper.disconnect("m-1")
    keeper.desk.wait(2 * DAY)
    assert len(keeper.store.writes) == writes
    assert keeper.desk.findings() == [("left_behind", SLOT)]
    assert keeper.desk.kept_key() is not None, "until people decide"


def test_a_store_that_adds_something_with_each_write_is_not_sent_one_more_copy_of_ours_each_time() -> None:
    keeper = connected(Habits(on_write=("slash", "spaces")), merchants=("m-1", "M-1"))
    keeper.desk.wait(7 * DAY)
    for merchant in ("m-1", "M-1"):
        assert sum(entry.origin == f"ours:{merchant}" for entry in keeper.store.entries) == 1
        assert sum(whose == merchant for _, whose, _ in keeper.store.writes) <= 2


@pytest.mark.parametrize("once_registered", [False, True])
def test_writes_that_always_time_out_are_few(once_registered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three a day, whether they come to something or not: nobody sees the end of them."""
    sent: list[float] = []

    def unanswered(self: OneMerchant, slot_id: str, body: Any) -> None:
        sent.append(self.store.now())
        raise TransientError("store_timeout")

    keeper = Keeper(Habits(), ("m-1",), TEMPLATE, [THEIRS])
    if once_registered:
        keeper.connect("m-1")
        keeper.store.change(lambda entries: entries[:1])  # somebody takes ours out
    monkeypatch.setattr(OneMerchant, "write_slot", unanswered)
    if not once_registered:
        keeper.connect("m-1")
    for _ in range(4 * 24):
        keeper.desk.wait(3600)
        keeper.desk.revalidate()
    assert max(sum(at <= other < at + DAY for other in sent) for at in sent) == 3
    assert len(sent) > 6, "and it is tried again every day"
    assert slot_of(keeper).cause == Cause("store_timeout"), "nobody undoes us"
    monkeypatch.undo()
    keeper.desk.wait(DAY)
    assert held(keeper) == [THEIRS, OURS], "once it is over"


def test_writes_that_time_out_are_forgiven_where_people_request_a_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(Habits(), ("m-1",), TEMPLATE, [THEIRS])
    with monkeypatch.context() as patched:
        late = TransientError("store_timeout")
        patched.setattr(OneMerchant, "write_slot", lambda *_: (_ for _ in ()).throw(late))
        keeper.connect("m-1")
        for _ in range(4):
            keeper.desk.wait(3600)
            keeper.desk.revalidate()
        keeper.desk.wait(60)
    keeper.desk.revalidate()
    keeper.desk.wait(60)
    assert held(keeper) == [THEIRS], "not before the day is over"
    keeper.desk.revalidate(repair=True)
    keeper.desk.wait(60)
    assert held(keeper) == [THEIRS, OURS]


def test_what_was_left_behind_is_still_known_when_the_merchant_comes_back() -> None:
    keeper = connected(Habits())
    desk, store = keeper.desk, keeper.store
    changed = f"{OURS}/v2"  # somebody made that of ours
    store.change(lambda entries: [*entries[:1], store.entry(changed)])
    keeper.disconnect("m-1")
    desk.wait(DAY)
    assert desk.findings() == [("left_behind", SLOT)]
    keeper.connect("m-1")
    desk.wait(DAY)
    assert held(keeper) == [THEIRS, changed], "nothing is added beside it"
    assert desk.findings() == [("url_in_doubt", SLOT)]


def test_what_a_store_makes_of_two_merchants_urls_alike_is_taken_out_by_whom_it_is() -> None:
    """Who has taken theirs out leaves what looks the same and came later alone, and does so for ever."""
    keeper = connected(Habits(on_write=("cut at 40", "lower case")), merchants=("m-1", "M-1"))
    assert [entry.origin for entry in keeper.store.entries] == [THEIRS, "ours:M-1"]
    keeper.desk.wait(7 * DAY)
    assert [entry.origin for entry in keeper.store.entries] == [THEIRS, "ours:M-1"]
    assert {whose: count for whose, count in _writes(keeper).items() if count > 2} == {}
    assert slot_of(keeper, "M-1").cause == Cause("url_in_doubt", OURS[:40]), "of which nobody can tell whose it is"


def test_what_is_left_of_ours_beside_what_is_taken_for_ours_is_not_forgotten() -> None:
    """A store shows capitals as small letters, and cuts ours with a write of the other: that one's is shown as ours."""
    template = "https://hooks.example.com/occ?merchant={merchant_id}&slot={slot}"
    habits = Habits(on_write=("cut at 60",), on_read=("lower case", "spaces"), room=1, delay=3.0, answers="nothing")
    keeper = Keeper(habits, ("m-1", "M-1"), template, [THEIRS])
    for merchant in ("m-1", "M-1"):
        keeper.connect(merchant)
        keeper.desk.wait(40)
    keeper.desk.wait(2 * DAY)
    assert len(held(keeper)) == 2
    for merchant in ("m-1", "M-1"):
        keeper.disconnect(merchant)
        keeper.desk.wait(90)
    assert [entry.origin for entry in keeper.store.entries] == ["ours:m-1"]
    assert keeper.desk.findings("m-1") == [("left_behind", SLOT)]


def test_a_full_store_that_makes_the_same_of_two_merchants_urls_is_not_written_every_day() -> None:
    """Ours takes the place of the other's, in the same letters, and nothing shows. What a rival adds later stays."""
    habits = Habits(on_write=("upper case",), order="reversed", room=1, normal=True)
    keeper, rival = connected(habits, merchants=("m-1", "M-1")), "https://rival.example.net/a"
    keeper.desk.wait(2 * DAY)
    keeper.store.change(lambda entries: [*entries, keeper.store.entry(rival)])
    keeper.desk.wait(5 * DAY)
    assert sum(whose == "M-1" for _, whose, _ in keeper.store.writes) == 2
    assert slot_of(keeper, "M-1").cause == Cause("url_in_doubt", OURS.upper())
    assert [entry.origin for entry in keeper.store.entries] == ["ours:M-1", rival]
    keeper.disconnect("M-1")
    keeper.desk.wait(2 * DAY)
    assert keeper.desk.findings("M-1") == [("left_behind", SLOT)]


def test_a_url_that_stays_letter_by_letter_stays_whose_it_was_although_it_was_read_for_ours() -> None:
    """After our write, the store shows ours as it showed another's, and that one as something else.

    The former list, put back, names the other's in the letters that the store holds. It is there, and ours is not.
    """
    anothers = "https://hooks.example.com/occ/m-2/order-submit"
    keeper = connected(Habits(on_read=("cut at 32", "percent twice")), prior=(anothers,), merchants=("m-10",))
    cut = "https://hooks.example.com/occ/m%252d"
    assert [urls for _, _, urls in keeper.store.writes] == [[cut, keeper.ours["m-10"]], [cut]]
    assert [(entry.origin, entry.text) for entry in keeper.store.entries] == [(anothers, cut)]


def test_two_urls_that_are_written_in_each_others_letters_have_changed_places() -> None:
    """What was shown for one is what the other is held as: both are there."""
    store = Keeper(Habits(), ("m-1",), TEMPLATE, ["https://a.example/1", "https://b.example/2"]).store
    store.read_as["m-1"] = [("https://b.example/2", "https://a.example/1"), ("x:3", "https://b.example/2")]
    store.put(["https://b.example/2", "x:3", OURS], "m-1", {"m-1": OURS})
    assert [entry.origin for entry in store.entries] == ["https://b.example/2", "https://a.example/1", "ours:m-1"]


def _writes(keeper: Keeper) -> Counter[str]:
    return Counter(whose for _, whose, _ in keeper.store.writes)


def test_a_read_that_does_not_show_ours_once_does_not_make_it_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = connected(Habits())
    answers = iter([{"id": SLOT, "urls": [THEIRS]}])
    read = OneMerchant.read_slot
    monkeypatch.setattr(OneMerchant, "read_slot", lambda self, slot_id: next(answers, None) or read(self, slot_id))
    keeper.disconnect("m-1")
    keeper.desk.wait(DAY)
    assert held(keeper) == [THEIRS]
    assert slot_of(keeper).verdict == "removed"


@pytest.mark.parametrize("answer", [[], ["https://other.example/slot"]], ids=["empty", "another's"])
@pytest.mark.parametrize("left_behind", [False, True])
def test_whoever_comes_back_does_not_believe_one_answer_that_shows_fewer_than_there_were(
    answer: list[str], left_behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = connected(Habits(), prior=(THEIRS, "https://erp.example.org/hook"))
    read, write = OneMerchant.read_slot, OneMerchant.write_slot
    if left_behind:
        busy = TransientError("store_busy")
        monkeypatch.setattr(OneMerchant, "write_slot", lambda *_: (_ for _ in ()).throw(busy))
    keeper.disconnect("m-1")
    keeper.desk.wait(600)
    assert slot_of(keeper).verdict == ("left_behind" if left_behind else "removed")
    monkeypatch.setattr(OneMerchant, "write_slot", write)
    answers = iter([{"id": SLOT, "urls": answer}])
    monkeypatch.setattr(OneMerchant, "read_slot", lambda self, slot_id: next(answers, None) or read(self, slot_id))
    keeper.connect("m-1")
    keeper.desk.wait(DAY)
    assert held(keeper) == [THEIRS, "https://erp.example.org/hook", OURS]

from typing import Any

import pytest

from occ.simulator.caller import OUR_URL, THEIR_URL, Caller
from occ.simulator.clocks import StoppedClock
from occ.simulator.setting_error import SettingError
from occ.simulator.store import SimulatedStore

RIVAL_URL = "https://rival.example.net/hook"


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def caller_of(clock: StoppedClock, **changes: Any) -> Caller:
    slots = {"order-submit": {"urls": [THEIR_URL], "headers": {"A": "1"}}}
    return Caller(SimulatedStore("m-1", clocks=clock.clocks, slots=slots, **changes)).login()


def urls(caller: Caller) -> list[str]:
    return caller.store.urls("order-submit")


def test_a_rival_between_our_read_and_our_write_is_overwritten_and_counted_as_lost(clock: StoppedClock) -> None:
    caller = caller_of(clock, rivals=[{"url": RIVAL_URL, "when": "between_read_and_write", "how": "merge"}])
    caller.register()
    assert urls(caller) == [THEIR_URL, OUR_URL]
    assert caller.store.losses.urls == [("order-submit", RIVAL_URL)]


def test_a_rival_does_not_come_without_a_write_of_ours(clock: StoppedClock) -> None:
    caller = caller_of(clock, rivals=[{"url": RIVAL_URL}])
    caller.read()
    assert urls(caller) == [THEIR_URL]


def test_a_rival_comes_so_often_per_slot(clock: StoppedClock) -> None:
    caller = caller_of(clock, rivals=[{"url": RIVAL_URL, "when": "after_write", "times": 2}])
    for slot in ("order-submit", "order-submit", "order-submit", "order-update"):
        caller.write({"urls": [OUR_URL]}, slot)
    assert urls(caller) == [OUR_URL]
    assert caller.store.urls("order-update") == [OUR_URL, RIVAL_URL]


def test_a_rival_of_one_slot_leaves_the_others_alone(clock: StoppedClock) -> None:
    caller = caller_of(clock, rivals=[{"url": RIVAL_URL, "when": "after_write", "slot": "order-update"}])
    caller.register()
    caller.register(slot="order-update")
    assert RIVAL_URL not in urls(caller)
    assert RIVAL_URL in caller.store.urls("order-update")


@pytest.mark.parametrize(
    ("how", "left"),
    [("merge", [THEIR_URL, OUR_URL, RIVAL_URL]), ("replace", [RIVAL_URL]), ("undo", [THEIR_URL])],
)
def test_a_rival_after_our_write_does_what_it_likes(clock: StoppedClock, how: str, left: list[str]) -> None:
    caller = caller_of(clock, rivals=[{"url": RIVAL_URL, "when": "after_write", "how": how}])
    answer = caller.register()
    assert answer["urls"] == [THEIR_URL, OUR_URL]
    assert urls(caller) == left


def test_the_answer_can_already_show_the_rival(clock: StoppedClock) -> None:
    rival = {"url": RIVAL_URL, "when": "after_write", "how": "replace", "seen_in_answer": True}
    assert caller_of(clock, rivals=[rival]).register()["urls"] == [RIVAL_URL]


def test_a_rival_can_take_its_time(clock: StoppedClock) -> None:
    caller = caller_of(clock, rivals=[{"url": RIVAL_URL, "when": "after_write", "how": "replace", "delay": 5}])
    caller.register()
    clock.advance(4.9)
    assert urls(caller) == [THEIR_URL, OUR_URL]
    clock.advance(0.1)
    assert caller.read()["urls"] == [RIVAL_URL]


def test_a_store_can_forget_our_url_after_a_while(clock: StoppedClock) -> None:
    caller = caller_of(clock, drops_url_after=15, drops_times=1)
    caller.register()
    clock.advance(14.9)
    assert urls(caller) == [THEIR_URL, OUR_URL]
    clock.advance(0.2)
    assert urls(caller) == [THEIR_URL]
    caller.register()
    clock.advance(60)
    assert urls(caller) == [THEIR_URL, OUR_URL]


def test_a_rival_can_be_sent_by_hand(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    caller.store.rival_writes("order-submit", RIVAL_URL)
    assert urls(caller) == [THEIR_URL, RIVAL_URL]
    caller.write({"urls": [OUR_URL]})
    assert caller.store.losses.urls == [("order-submit", THEIR_URL), ("order-submit", RIVAL_URL)]


def test_settings_of_others_that_a_write_changes_are_counted(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    caller.write({"urls": [THEIR_URL, OUR_URL], "headers": {"A": "1"}})
    assert caller.store.losses.settings == []
    caller.write({"headers": {"A": "1", "B": "2"}})
    assert caller.store.losses.settings == [("order-submit", "headers")]


def test_urls_of_ours_are_not_foreign(clock: StoppedClock) -> None:
    slots = {"order-submit": {"urls": [OUR_URL, THEIR_URL]}}
    store = SimulatedStore("m-1", slots=slots, own_urls_start_with="https://hooks.example.com/")
    Caller(store).login().write({"urls": []})
    assert store.losses.urls == [("order-submit", THEIR_URL)]


def test_a_write_that_changes_nothing_is_counted_as_repeated(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    caller.register()
    assert caller.store.summary()["repeated_writes"] == 0
    caller.write({"urls": [THEIR_URL, OUR_URL]})
    assert caller.store.summary()["repeated_writes"] == 1
    caller.write({"urls": [THEIR_URL, OUR_URL], "resendDelaySeconds": "3600"})
    assert caller.store.summary()["repeated_writes"] == 2


@pytest.mark.parametrize("rival", ["x", {"who": 1}, {"when": "never"}, {"how": "gently"}])
def test_a_rival_that_does_not_fit_is_refused(clock: StoppedClock, rival: object) -> None:
    with pytest.raises(SettingError):
        caller_of(clock, rivals=[rival])

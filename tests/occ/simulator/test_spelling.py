"""Stores that make something of the URLs they are given."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occ.simulator.caller import OUR_URL, THEIR_URL, Caller, shown
from occ.simulator.clocks import StoppedClock
from occ.simulator.setting_error import SettingError
from occ.simulator.spelling import RULES, spelt
from occ.simulator.store import SimulatedStore

URLS = st.sampled_from([OUR_URL, f"{OUR_URL}?a=1&b=2", f"{OUR_URL}/", "https://h.example.com:8443/A-b?c=D", "http://x"])


def logged_in(**settings: Any) -> Caller:
    return Caller(SimulatedStore("m-1", clocks=StoppedClock().clocks, **settings)).login()


@given(url=URLS, rules=st.lists(st.sampled_from([*RULES, "truncate:30"]), max_size=3))
def test_a_rule_does_no_more_the_second_time(url: str, rules: list[str]) -> None:
    for rule in rules:
        assert spelt(spelt(url, [rule]), [rule]) == spelt(url, [rule])


@pytest.mark.parametrize(
    ("rule", "spelling"),
    [
        ("slash", "https://hooks.example.com/A-b/"),
        ("http", "http://hooks.example.com/A-b"),
        ("lower_path", "https://hooks.example.com/a-b"),
        ("reencode", "https://hooks.example.com/A%2Db"),
        ("port", "https://hooks.example.com:443/A-b"),
        ("truncate:27", "https://hooks.example.com/A"),
    ],
)
def test_each_rule(rule: str, spelling: str) -> None:
    assert spelt("https://hooks.example.com/A-b", [rule]) == spelling
    assert spelt("https://h.example.com/?a=1&b=2", ["entities"]) == "https://h.example.com/?a=1&amp;b=2"
    assert spelt("https://h.example.com/?a=1&b=2", ["no_query"]) == "https://h.example.com/"


def test_a_store_spells_what_it_keeps_or_what_it_shows() -> None:
    keeps, shows = logged_in(spells_stored=["slash"]), logged_in(spells_shown=["slash"])
    for caller in (keeps, shows):
        assert caller.register()["urls"] == [f"{OUR_URL}/"]
        assert caller.read()["urls"] == [f"{OUR_URL}/"]
    assert keeps.store.urls("order-submit") == [f"{OUR_URL}/"]
    assert shows.store.urls("order-submit") == [OUR_URL]


def test_a_store_keeps_the_last_ones_only() -> None:
    caller = logged_in(keeps_last=1, slots={"order-submit": {"urls": [THEIR_URL]}})
    assert caller.register()["urls"] == [OUR_URL]
    assert caller.store.summary()["foreign_urls_lost"] == [{"slot": "order-submit", "url": THEIR_URL}]


def test_a_store_shows_each_url_twice_and_ids_in_another_case() -> None:
    caller = logged_in(shows_urls_twice=True, shows_ids="upper", slots={"order-submit": {"urls": [THEIR_URL]}})
    assert caller.read()["urls"] == [THEIR_URL, THEIR_URL]
    assert caller.read()["id"] == "ORDER-SUBMIT"
    assert "ORDER-UPDATE" in [slot["id"] for slot in shown(caller.ask("GET", "/ccadmin/v1/webhooks"))]


def test_a_write_shows_after_a_while() -> None:
    clock = StoppedClock()
    caller = Caller(SimulatedStore("m-1", clocks=clock.clocks, shows_writes_after=2)).login()
    assert caller.register()["urls"] == []
    clock.advance(1)
    assert caller.read()["urls"] == []
    clock.advance(1)
    assert caller.read()["urls"] == [OUR_URL]


@pytest.mark.parametrize("rules", [["crooked"], 5, ["truncate:0"], [1]])
def test_a_rule_that_is_none_is_refused(rules: object) -> None:
    with pytest.raises(SettingError, match="spells_shown"):
        logged_in(spells_shown=rules)

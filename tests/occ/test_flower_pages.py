"""How tasks read in Flower. Pure; the pages themselves are looked at in test_flower_pages.py."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery.events.state import State
from hypothesis import given
from hypothesis import strategies as st

from integrations.connections.causes import CAUSES
from occ.flower_pages import in_words, with_children


def task(**fields: Any) -> Any:
    """A task as Flower keeps it: descriptions, not values."""
    plain = {"name": "occ.register_slot", "args": "()", "kwargs": "{}", "result": None, "state": "SUCCESS"}
    return in_words(SimpleNamespace(**{**plain, **fields}))


KWARGS = {"merchant_id": "m-1", "run": 1, "slot": "order-update", "attempt": 2}


def test_a_task_is_shown_by_whose_it_is_first() -> None:
    shown = task(kwargs=repr(KWARGS))
    assert (shown.kwargs, shown.args) == ("m-1 · order-update · attempt 2 · run 1", "none")
    assert task(kwargs="{'merchant_id': 'm-1', 'store_url': 'https://x'}").kwargs == "m-1 · store_url: https://x"


def test_a_task_tells_how_to_find_the_whole_run() -> None:
    shown = task(kwargs=repr(KWARGS), args="root_id:1795446120000-0")
    assert shown.args.startswith("none. Search the list for root_id:1795446120000-0:")
    assert shown.args.endswith("occ timeline m-1 --svg timeline.svg")


def test_a_task_has_its_children_oldest_first_and_no_other_task_as_python_shows_it() -> None:
    state: Any = State()
    parent = state.get_or_create_task("1-0")[0]
    parent.name, parent.kwargs = "occ.check_shipping_methods", repr(KWARGS)
    for name, at in (("b", 2.0), ("a", 1.0)):
        child = state.get_or_create_task(name)[0]
        child.received, child.parent_id = at, "1-0"
        parent.children.add(child)
    shown = in_words(with_children(parent))
    assert [child.id for child in shown.children] == ["a", "b"]
    assert (shown.root, shown.parent) == (None, None)
    assert len(parent.children) == 2
    assert parent.kwargs == repr(KWARGS)


def test_a_failed_slot_tells_why_and_who_acts_and_is_not_called_a_success() -> None:
    shown = task(result=repr({"outcome": "failed", "cause": "slot_refused"}))
    first, why, who = shown.result.splitlines()
    assert (first, why) == ("failed: slot_refused.", CAUSES["slot_refused"].sentence)
    assert who == "The operator of this installation must act."
    assert shown.state == "FAILURE"


def test_a_wait_tells_when_it_ends() -> None:
    next_at = {"next_attempt_at": "2026-11-23T15:02:09.500Z"}
    shown = task(result=repr({"outcome": "waits", "cause": "store_busy", **next_at}))
    assert shown.result.splitlines()[0] == "waits: store_busy, next 2026-11-23 15:02:09Z."
    assert shown.state == "RETRY"


def test_a_delivery_that_waits_tells_what_arrived_before() -> None:
    waits = {"outcome": "waits", "reason": "HTTP 503", "events": 2, "next_attempt_at": "2026-11-23T15:02:09.500Z"}
    shown = task(name="occ.deliver", kwargs="{'merchant_id': 'm-1'}", result=repr(waits))
    assert (shown.kwargs, shown.state) == ("m-1", "RETRY")
    assert shown.result == "waits: HTTP 503, 2 delivered, next 2026-11-23 15:02:09Z"


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"outcome": "registered"}, "registered"),
        ({"outcome": "delivered", "events": 3}, "delivered: 3"),
        ({"outcome": "done", "connection": "active"}, "done, connection active"),
        ({"outcome": "nothing_to_do", "reason": "superseded"}, "nothing to do: superseded"),
        ({"outcome": "accepted", "merchant_id": "m-1", "run": 1}, "accepted"),
    ],
)
def test_what_went_well_stays_a_success(result: dict[str, object], told: str) -> None:
    shown = task(result=repr(result))
    assert (shown.result, shown.state) == (told, "SUCCESS")


def test_a_refusal_tells_the_field_and_the_remedy() -> None:
    refused = {"outcome": "refused", "field": "store_url", "code": "storefront_host", "remedy": "use the admin host"}
    shown = task(name="occ.connect", result=repr(refused))
    assert shown.result.splitlines() == ["refused: storefront_host.", "store_url: use the admin host"]
    assert shown.state == "FAILURE"


def test_a_task_that_failed_or_runs_is_left_in_its_state() -> None:
    for state in ("FAILURE", "STARTED", "RECEIVED"):
        assert task(state=state, result=repr({"outcome": "failed", "cause": "slot_refused"})).state == state


ANYTHING = st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(), st.text()).map(repr))


@given(ANYTHING, ANYTHING, st.sampled_from(["occ.connect", "celery.ping", None]))
def test_nothing_is_too_strange_to_be_shown(kwargs: object, result: object, name: object) -> None:
    shown = task(name=name, kwargs=kwargs, result=result)
    if name != "occ.connect":
        assert (shown.kwargs, shown.result, shown.args) == (kwargs, result, "()")


@pytest.mark.parametrize("text", ["[" * 3000, "{'merchant_id': " + "'x" * 3000, "{'a': 1", "{1: 2}", "open('x')"])
def test_what_cannot_be_read_stays_as_it_is(text: str) -> None:
    shown = task(kwargs=text, result=text)
    assert (shown.kwargs, shown.result) == (text, text)

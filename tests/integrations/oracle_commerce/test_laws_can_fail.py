"""The laws of `test_any_store.py` can fail: with the product broken on purpose, stores drawn at random show it."""

import re
from collections.abc import Callable
from random import Random

import pytest

from integrations.oracle_commerce import registration, slot
from integrations.oracle_commerce.spelling import place_of
from integrations.oracle_commerce.steps import Attempt
from tests.integrations.oracle_commerce.test_any_store import at_random, drawn_store_does_no_harm

Break = Callable[[pytest.MonkeyPatch], None]


def puts_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registration, "_put_back", lambda *_: (False, 0))


def takes_whatever_is_at_our_host_for_ours(patch: pytest.MonkeyPatch) -> None:
    def same(url: str, other: str) -> bool:
        place, ours = place_of(url), place_of(other)
        return place is not None and ours is not None and place.host == ours.host

    patch.setattr(slot, "same", same)


def writes_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Attempt, "may_write", True)


def leaves_what_may_be_ours_unsaid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(slot.Ours, "left_of", lambda *_: ())
    patch.setattr(slot.Ours, "in_doubt", lambda *_: ())
    patch.setattr(slot.Ours, "doubted_before", lambda *_: ())


def believes_one_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registration, "confirmed", lambda _, __, content, **___: content)


@pytest.mark.parametrize(
    ("broken", "law", "first"),
    [
        (puts_nothing_back, "is lost", 130),
        (takes_whatever_is_at_our_host_for_ours, "is lost", 0),
        (writes_without_end, "writes in a day", 10),
        (leaves_what_may_be_ours_unsaid, "is left, and removed is said", 0),
        (believes_one_answer, "is lost", 130),
    ],
)
def test_a_product_that_does_harm_is_found_out(
    broken: Break, law: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`first`: the number of a store shortly before one that shows it; without that, a test takes up to a minute."""
    broken(monkeypatch)
    for number in range(first, 500):
        try:
            drawn_store_does_no_harm(**at_random(Random(f"7/{number}")))  # noqa: S311 - nothing is kept secret by it
        except AssertionError as failed:
            if re.search(law, str(failed)):
                return
    raise AssertionError("none of these stores shows it")

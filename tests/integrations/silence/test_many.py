"""Silence is shared when a share and a number of merchants fall silent, and ends later than it began."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.silence.many import Rule, Tally, is_on

RULE = Rule(share=0.3, merchants=20)
counts = st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("tally", "was_on", "is_now"),
    [
        (Tally(20, 0), False, True),
        (Tally(19, 0), False, False),
        (Tally(30, 70), False, True),
        (Tally(29, 71), False, False),
        (Tally(29, 71), True, True),
        (Tally(14, 86), True, False),
        (Tally(0, 0), True, False),
    ],
)
def test_when_it_begins_and_when_it_ends(tally: Tally, was_on: bool, is_now: bool) -> None:
    assert is_on(tally, RULE, was_on=was_on) is is_now


@given(counts, counts)
def test_what_would_begin_goes_on(silent: int, heard: int) -> None:
    tally = Tally(silent, heard)
    assert is_on(tally, RULE, was_on=True) or not is_on(tally, RULE, was_on=False)


@given(counts, counts, st.booleans())
def test_a_share_of_nothing_turns_it_off(silent: int, heard: int, was_on: bool) -> None:
    assert not is_on(Tally(silent, heard), Rule(0, 1), was_on=was_on)

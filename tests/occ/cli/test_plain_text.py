"""Texts as a terminal or a file gets them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occ.cli.plain_text import clock_near, columns, date_and_clock, from_now, lasting, one_line, printable

NOON = 1_795_435_200.0


@settings(deadline=None)
@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    assert all(character == "\n" or character.isprintable() or character.isspace() for character in printable(text))
    assert not {"\x1b", "\x9b", "\r", "\b", "\u202e", "\u2066"} & set(printable(text))
    assert "\n" not in one_line(text)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab"), st.text("cd"), st.text("ef")), min_size=1))
def test_columns_line_up(rows: list[tuple[str, str, str]]) -> None:
    lines = list(columns(rows))
    width = max(len(first) for first, _, _ in rows)
    assert [line[:width].rstrip() for line in lines] == [first for first, _, _ in rows]


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (4.4, "4 s"), (119, "119 s"), (300, "5 min"), (7200, "2 h"), (259200, "3 d")]
)
def test_durations_are_told_in_the_largest_sensible_unit(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_times_are_told_from_now() -> None:
    assert from_now(NOON + 90, NOON) == "in 90 s"
    assert from_now(NOON - 1, NOON) == "now"
    assert from_now(None, NOON) == ""


def test_a_time_of_another_day_comes_with_its_date() -> None:
    assert clock_near(NOON + 3600, NOON) == "13:00:00Z"
    assert clock_near(NOON + 86400, NOON) == "2026-11-24 12:00:00 UTC"
    assert date_and_clock(1e18).startswith("9999-12-31")

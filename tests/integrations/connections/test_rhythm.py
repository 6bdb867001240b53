"""A rhythm is learned from what is new, whatever else is reported; a silence is longer than any pause, by far."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from integrations.connections.rhythm import FACTOR, LEAST, SHORTEST, WINDOW, Rhythm, hear, rhythm_in

NOW = 1_800_000_000
DAY = 86400

times = st.integers(NOW - 400 * DAY, NOW)
reports = st.lists(times, min_size=1, max_size=60)


def heard(*at: float, now: float = NOW) -> Rhythm:
    rhythm = hear(None, at, now)
    assert rhythm is not None
    return rhythm


def regular(*, every: int, deliveries: int, last: int = NOW) -> Rhythm:
    """Heard from at one pace, up to `last`."""
    return heard(*(last - every * number for number in range(deliveries)), now=last)


@given(reports)
def test_reports_that_come_twice_or_out_of_order_together_change_nothing(at: list[int]) -> None:
    rhythm = heard(*at)
    assert heard(*at, *at) == rhythm
    assert heard(*reversed(at)) == rhythm
    assert hear(rhythm, at, NOW) == rhythm, "and neither if they come again"


@given(reports, times)
def test_a_late_report_says_nothing_new(at: list[int], late: int) -> None:
    assume(late <= max(at))
    rhythm = heard(*at)
    assert hear(rhythm, [late], NOW) == rhythm


@given(reports, st.integers(1, 10**11))
def test_a_report_of_the_future_is_one_of_now(at: list[int], ahead: int) -> None:
    assert hear(heard(*at), [NOW + ahead], NOW) == hear(heard(*at), [NOW], NOW)


@given(reports)
def test_it_is_the_same_however_the_reports_are_bundled(at: list[int]) -> None:
    one_by_one: Rhythm | None = None
    for moment in sorted(at):
        one_by_one = hear(one_by_one, [moment], NOW)
    assert one_by_one == heard(*at)


@given(st.lists(st.integers(1, 90 * DAY), min_size=1, max_size=200), st.integers(0, 100_000))
def test_what_is_stored_can_be_read_again_and_stays_short(pauses: list[int], run: int) -> None:
    rhythm: Rhythm | None = None
    at = NOW
    for pause in pauses:
        at += pause
        rhythm = hear(rhythm, [at], at)
    assert rhythm is not None
    rhythm = replace(rhythm, count=rhythm.count + 9_000_000, run=run)
    assert rhythm_in(rhythm.text()) == rhythm
    assert len(rhythm.text()) <= 64, "longer, and the server keeps the hash in a form that takes several times as much"


@given(st.text() | st.none() | st.lists(st.integers(), max_size=9).map(lambda it: " ".join(map(str, it))))
def test_a_text_that_is_none_of_ours_is_learned_anew(text: str | None) -> None:
    rhythm = rhythm_in(text)
    assert rhythm is None or rhythm_in(rhythm.text()) == rhythm


@given(st.lists(st.integers(1, 3 * DAY), min_size=LEAST, max_size=300))
def test_no_slot_is_silent_within_six_hours_or_within_its_longest_pause(pauses: list[int]) -> None:
    rhythm = heard(at := NOW)
    for pause in pauses:
        assert not rhythm.is_silent(at + min(pause, SHORTEST))
        at += pause
        after = hear(rhythm, [at], at)
        assert after is not None
        rhythm = after
    assert not rhythm.is_silent(at + max(SHORTEST, *pauses[-20:]))


def test_a_slot_is_silent_after_three_times_its_longest_pause() -> None:
    rhythm = regular(every=DAY, deliveries=LEAST)
    assert rhythm.silent_at == NOW + FACTOR * DAY
    assert not rhythm.is_silent(NOW + FACTOR * DAY)
    assert rhythm.is_silent(NOW + FACTOR * DAY + 1)


@pytest.mark.parametrize(
    "unknown",
    [
        regular(every=DAY, deliveries=LEAST - 1),  # too few
        regular(every=3600, deliveries=21 * 24),  # of less than three weeks
        heard(NOW),
    ],
)
def test_before_the_rhythm_is_known_nothing_is_a_silence(unknown: Rhythm) -> None:
    assert unknown.silent_at is None
    assert not unknown.is_silent(NOW + 1000 * DAY)


def test_long_pauses_are_forgotten_after_two_windows() -> None:
    slow = regular(every=2 * DAY, deliveries=LEAST)
    busy = slow
    for moment in range(NOW, NOW + 2 * WINDOW + 4 * DAY, 3600):
        busy = hear(busy, [moment], moment) or busy
    assert slow.longest_pause == 2 * DAY
    assert busy.longest_pause == 3600
    assert busy.is_learned


def test_one_silence_does_not_hide_the_next_but_a_slower_rhythm_is_learned() -> None:
    rhythm = regular(every=3600, deliveries=24 * 30)
    back = hear(rhythm, [NOW + 10 * DAY], NOW + 10 * DAY)
    assert back is not None
    assert back.longest_pause == 2 * 3600, "not ten days"
    at = NOW + 10 * DAY
    for _ in range(8):  # orders come every other day now
        at += 2 * DAY
        back = hear(back, [at], at)
        assert back is not None
    assert not back.is_silent(at + 3 * DAY)

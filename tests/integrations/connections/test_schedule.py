"""Connections are looked at again soon after a change, often while something is amiss, and else each at its moment."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from integrations.connections.record import DAY, Cause, Credential, KeyVerdict, SlotStatus, Trouble
from integrations.connections.schedule import days_left_to_report, next_in_phase, phase_of, spread_phase
from tests.examples import examples
from tests.integrations.connections.test_record import FAILED, healthy
from tests.integrations.oracle_commerce.fakes import NOON
from tests.usual import PACE

times = st.floats(min_value=1.6e9, max_value=4e9)
phases = st.floats(min_value=0, max_value=1, exclude_max=True)
periods = st.floats(min_value=1.0, max_value=30 * 86400.0)


@settings(deadline=None)
@given(phase=phases, period=periods, now=times)
def test_the_next_moment_lies_within_one_period(phase: float, period: float, now: float) -> None:
    moment = next_in_phase(phase, period, now)
    assert now < moment <= now + period


@settings(deadline=None)
@given(phase=phases, period=periods, now=times, later=st.floats(min_value=0, max_value=1e7))
def test_a_connection_keeps_its_moment_whenever_one_asks(phase: float, period: float, now: float, later: float) -> None:
    moment, other = next_in_phase(phase, period, now), next_in_phase(phase, period, now + later)
    periods_apart = (other - moment) / period
    assume(period > 10)
    assert abs(periods_apart - round(periods_apart)) < 1e-4


def fullest_and_emptiest(phases: Iterable[float], buckets: int) -> tuple[int, int]:
    """Of so many equal parts of the period."""
    per_part = Counter(int(phase * buckets) for phase in phases)
    return max(per_part.values()), min(per_part[part] for part in range(buckets))


@pytest.mark.parametrize("connections", [240, 2400, 100_000])
def test_connections_are_spread_evenly_over_the_period_however_many_there_are(connections: int) -> None:
    hours = fullest_and_emptiest((spread_phase(number) for number in range(connections)), 24)
    assert hours[0] - hours[1] <= 4


def test_the_fullest_minute_of_many_is_hardly_fuller_than_the_mean() -> None:
    fullest, _ = fullest_and_emptiest((spread_phase(number) for number in range(100_000)), 1440)
    assert fullest <= 1.05 * 100_000 / 1440


def test_a_record_without_a_place_takes_one_from_its_merchant_id() -> None:
    places = [phase_of(replace(healthy(), merchant_id=f"m-{number}")) for number in range(2400)]
    fullest, emptiest = fullest_and_emptiest(places, 24)
    assert emptiest > 60
    assert fullest < 140
    assert phase_of(replace(healthy(), phase=0.25)) == 0.25


def test_an_untouched_active_connection_waits_for_its_moment() -> None:
    assert PACE.next_revalidation(healthy(), NOON) == next_in_phase(phase_of(healthy()), PACE.revalidate_every, NOON)


def test_what_we_wrote_is_looked_at_again_soon() -> None:
    assert PACE.next_revalidation(healthy(wrote_to_store=True), NOON) == NOON + PACE.second_look


@pytest.mark.parametrize(
    "connection",
    [
        healthy(slots={"order-submit": FAILED}),
        healthy(slots={"order-submit": FAILED}, wrote_to_store=True),
        healthy(slots={"order-submit": replace(FAILED, verdict=SlotStatus.NOT_OFFERED)}),
        healthy(trouble=Trouble(Cause("store_timeout"), passing=True)),
    ],
)
def test_what_is_amiss_is_looked_at_more_often(connection: object) -> None:
    assert PACE.next_revalidation(connection, NOON) == NOON + PACE.recheck_degraded  # type: ignore[arg-type]


def test_no_look_comes_later_than_the_regular_one() -> None:
    """Which is the first of its merchant's moments that leaves what was just established alone for a while."""
    pace = replace(PACE, revalidate_every=10, second_look=9, recheck_degraded=3600)
    for connection in (healthy(wrote_to_store=True), healthy(slots={"order-submit": FAILED})):
        assert NOON + 9 <= pace.next_revalidation(connection, NOON) <= NOON + 9 + 10


@settings(max_examples=examples(50))
@given(looks=st.integers(min_value=0, max_value=2000), degraded=st.floats(min_value=1, max_value=6 * 3600))
def test_looks_in_trouble_grow_rare_but_stay_four_in_a_period(looks: int, degraded: float) -> None:
    pace = replace(PACE, recheck_degraded=degraded)
    waits = [pace.next_try(healthy(failed_revalidations=number), NOON) - NOON for number in (looks, looks + 1)]
    assert degraded <= waits[0] + 1e-3
    assert waits[0] <= waits[1] <= pace.revalidate_every / 4 + 1e-3


@pytest.mark.parametrize(
    ("days", "told"),
    [
        *((31, None), (30, 30), (14.01, 30), (14, 14), (7.5, 14), (7, 7), (1.5, 7), (1, 1), (0.01, 1)),
        *((0, None), (-5, None), (None, None)),
    ],
)
def test_the_warning_that_is_due_is_the_most_urgent_one(days: float | None, told: int | None) -> None:
    assert days_left_to_report(None if days is None else NOON + days * DAY, NOON) == told


def test_a_look_is_due_at_the_moment_of_a_warning_and_not_long_before() -> None:
    expires_at = NOON + 30.25 * DAY
    credential = Credential("f", expires_at, KeyVerdict.VALID)
    connection = healthy(credential=credential, phase=next_phase_after(NOON + DAY / 2))
    assert PACE.next_revalidation(connection, NOON) == NOON + DAY / 4
    no_end = replace(connection, credential=replace(credential, expires_at=None))
    assert PACE.next_revalidation(no_end, NOON) == pytest.approx(NOON + DAY / 2)


def next_phase_after(moment: float) -> float:
    """The place in a period of a day that this moment has."""
    return moment % DAY / DAY


def test_what_was_just_established_is_not_asked_again_at_once() -> None:
    """However near the merchant's own moment is."""
    for number in range(200):
        merchant = replace(healthy(), merchant_id=f"m-{number}")
        assert PACE.next_revalidation(merchant, NOON) >= NOON + PACE.second_look


def test_a_warning_that_comes_soon_does_not_hurry_the_next_look() -> None:
    credential = Credential("f", NOON + 30 * DAY + 1, KeyVerdict.VALID)
    connection = healthy(credential=credential, phase=next_phase_after(NOON + DAY / 2))
    assert PACE.next_revalidation(connection, NOON) == NOON + PACE.second_look

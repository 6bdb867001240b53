"""Connections are looked at again soon after a change, often while something is amiss, and else each at its moment."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from integrations.oracle_commerce.connection import Cause, SlotStatus, Trouble
from integrations.oracle_commerce.schedule import Pace, next_in_phase
from tests.integrations.oracle_commerce.fakes import NOON
from tests.integrations.oracle_commerce.test_connection import FAILED, healthy

PACE = Pace()
times = st.floats(min_value=1.6e9, max_value=4e9)
periods = st.floats(min_value=1.0, max_value=30 * 86400.0)


@settings(deadline=None)
@given(merchant=st.text(), period=periods, now=times)
def test_the_next_moment_lies_within_one_period(merchant: str, period: float, now: float) -> None:
    moment = next_in_phase(merchant, period, now)
    assert now < moment <= now + period


@settings(deadline=None)
@given(merchant=st.text(), period=periods, now=times, later=st.floats(min_value=0, max_value=1e7))
def test_a_merchant_keeps_its_moment_whenever_one_asks(merchant: str, period: float, now: float, later: float) -> None:
    moment, other = next_in_phase(merchant, period, now), next_in_phase(merchant, period, now + later)
    periods_apart = (other - moment) / period
    assume(period > 10)
    assert abs(periods_apart - round(periods_apart)) < 1e-4


def test_merchants_are_spread_over_the_period() -> None:
    moments = [next_in_phase(f"m-{number}", 86400, NOON) - NOON for number in range(2400)]
    per_hour = [sum(hour * 3600 <= moment < (hour + 1) * 3600 for moment in moments) for hour in range(24)]
    assert min(per_hour) > 60
    assert max(per_hour) < 140


def test_an_untouched_active_connection_waits_for_its_moment() -> None:
    assert PACE.next_look(healthy(), NOON) == next_in_phase("m-1", PACE.revalidate_every, NOON)


def test_what_we_wrote_is_looked_at_again_soon() -> None:
    assert PACE.next_look(healthy(wrote_to_store=True), NOON) == NOON + PACE.second_look


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
    assert PACE.next_look(connection, NOON) == NOON + PACE.recheck_degraded  # type: ignore[arg-type]


def test_no_look_comes_later_than_the_regular_one() -> None:
    """Which is the first of its merchant's moments that leaves what was just established alone for a while."""
    pace = Pace(revalidate_every=10, second_look=9, recheck_degraded=3600)
    for connection in (healthy(wrote_to_store=True), healthy(slots={"order-submit": FAILED})):
        assert NOON + 9 <= pace.next_look(connection, NOON) <= NOON + 9 + 10


def test_what_was_just_established_is_not_asked_again_at_once() -> None:
    """However near the merchant's own moment is."""
    for number in range(200):
        merchant = replace(healthy(), merchant_id=f"m-{number}")
        assert PACE.next_look(merchant, NOON) >= NOON + PACE.second_look

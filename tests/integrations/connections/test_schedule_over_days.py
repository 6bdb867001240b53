"""Days on a simulated clock, with workers and beats that come, go and die: the load stays even, and nobody is looked at
twice in a period, or skipped.

1,000 connections. For the full number, and for minutes instead of longer stretches (it takes some of them itself):
`TEST_CONNECTIONS=100000 ./run test tests/integrations/connections/test_schedule_over_days.py`.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from integrations.connections.record import DAY
from integrations.connections.records import Records
from integrations.connections.schedule import spread_phase
from tests.bench.three_days import FULLEST_TO_MEAN, Course, Plan, simulate
from tests.integrations.oracle_commerce.recorded import at_once
from tests.usual import PACE

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

CONNECTIONS = int(os.environ.get("TEST_CONNECTIONS", "1000"))
# As many in each stretch of time as there are in a minute with 100,000: the law is about that many.
PLAN = Plan(connections=CONNECTIONS, bucket=max(60.0, 60.0 * 100_000 / CONNECTIONS))


@pytest.fixture(scope="module")
def course() -> Course:
    return simulate(PLAN)


def test_the_busiest_minute_is_hardly_busier_than_the_mean(course: Course) -> None:
    assert course.fullest_to_mean <= FULLEST_TO_MEAN
    assert course.calls_fullest_to_mean <= FULLEST_TO_MEAN
    assert course.emptiest_to_mean >= 1 / FULLEST_TO_MEAN


def test_in_every_period_every_connection_is_looked_at_once(course: Course) -> None:
    """But for those with a reason: a warning of their key's end, or a store that cannot be reached."""
    assert (course.twice_in_a_period, course.skipped_periods) == (0, 0)
    assert course.longest_gap <= DAY + PLAN.pace.second_look + course.latest + 30
    assert course.looks >= 3 * CONNECTIONS


def test_restarts_and_ticks_that_die_delay_a_look_by_minutes_at_most(course: Course) -> None:
    assert course.latest <= 300
    assert course.counts["ticks that died"] > 0
    assert course.is_even()


def test_a_healthy_look_takes_six_calls_and_one_message(course: Course) -> None:
    """A few more after what was killed, and for stores in trouble."""
    assert 6 <= course.calls_per_revalidation < 6.1
    assert 1 <= course.messages_per_revalidation < 1.1


@pytest.mark.skipif(CONNECTIONS > 10_000, reason="minutes more; ./run bench schedule --blackout does it")
def test_hours_in_which_nothing_runs_move_nobody() -> None:
    """What was missed is made up for as fast as workers can; a day later everybody is back at their own moment."""
    course = simulate(replace(PLAN, connections=400, bucket=15_000.0, blackout=3 * 3600.0))
    assert 3 * 3600 - 600 < course.latest < 3 * 3600 + 900
    assert course.fullest_on_last_day <= FULLEST_TO_MEAN
    assert (course.twice_in_a_period, course.skipped_periods) == (0, 0)


def test_other_periods_are_as_even() -> None:
    pace = replace(PACE, revalidate_every=DAY / 4)
    course = simulate(replace(PLAN, connections=300, days=1, bucket=6000.0, pace=pace, new_a_day=0.0, in_trouble=0.0))
    assert course.fullest_to_mean <= FULLEST_TO_MEAN
    assert (course.twice_in_a_period, course.skipped_periods) == (0, 0)


@pytest.mark.server
def test_merchants_who_sign_up_at_once_get_places_of_their_own(records: Records) -> None:
    numbers = at_once(16, lambda _: [records.next_number() for _ in range(25)])
    taken = sorted(number for some in numbers for number in some)
    assert taken == list(range(400))
    assert len({spread_phase(number) for number in taken}) == 400


@pytest.fixture
def records(redis_url: str) -> Iterator[Records]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Records(client)

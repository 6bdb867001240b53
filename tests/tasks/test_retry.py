"""Waits grow, differ, end, and are never shorter than the store asked for."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.retry import LONGEST_RETRY_AFTER, RetryPolicy

attempts = st.integers(min_value=1, max_value=10_000)
asked = st.none() | st.floats(min_value=0, max_value=1e9)
policies = st.tuples(st.floats(min_value=0.01, max_value=60), st.floats(min_value=1, max_value=1000)).map(
    lambda ends: RetryPolicy(first=min(ends), longest=max(ends))
)

USUAL = RetryPolicy(first=2, longest=600)


class Highest(random.Random):
    """Every draw is the end of its range."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class Lowest(random.Random):
    """Every draw is the beginning of its range."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


@settings(deadline=None)
@given(policies, attempts, asked, st.randoms(use_true_random=False))
def test_what_the_store_asks_for_is_never_undercut_and_capped_at_a_day(
    policy: RetryPolicy, attempt: int, retry_after: float | None, dice: random.Random
) -> None:
    least = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
    assert LONGEST_RETRY_AFTER == 86_400
    assert least <= policy.delay(attempt, retry_after, rng=dice) <= least + policy.longest
    assert policy.delay(attempt, retry_after, rng=Lowest()) == least


@settings(deadline=None)
@given(policies, attempts)
def test_the_most_one_waits_doubles_up_to_the_longest_and_stays_there(policy: RetryPolicy, attempt: int) -> None:
    most = [policy.delay(number, rng=Highest()) for number in range(1, 20)]
    assert most[0] == policy.first
    assert most == sorted(most)
    for earlier, later in pairwise(most):
        assert later == pytest.approx(min(policy.longest, 2 * earlier))
    assert policy.first <= policy.delay(attempt, rng=Highest()) <= policy.longest


def test_the_jitter_is_full() -> None:
    """Stores that failed together are not asked together: any share of the wait is as likely as any other."""
    dice = random.Random(1)  # noqa: S311
    waits = [RetryPolicy(first=8, longest=8).delay(1, rng=dice) for _ in range(4000)]
    per_second = [sum(second <= wait < second + 1 for wait in waits) for second in range(8)]
    assert min(per_second) > 400
    assert max(per_second) < 600


def test_who_was_asked_to_wait_does_not_come_back_in_step_either() -> None:
    assert len({USUAL.delay(1, 30.0) for _ in range(20)}) == 20


@pytest.mark.parametrize("nonsense", [-5.0, float("-inf"), 0.0])
def test_a_wait_that_is_none_is_none(nonsense: float) -> None:
    assert USUAL.delay(1, nonsense, rng=Lowest()) == 0.0


def test_no_number_of_attempts_is_too_many() -> None:
    assert USUAL.delay(10**9, rng=Highest()) == 600.0

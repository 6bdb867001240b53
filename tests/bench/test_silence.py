"""The benchmark of silence tells stores that are well from those that are not, and its verdict can fail."""

import random

import pytest

from tests.bench.silence import is_as_promised, measure_silence, orders


@pytest.mark.long
def test_some_stores_are_watched_for_weeks_and_hardly_ever_called_silent() -> None:
    figures = measure_silence(stores=25, weeks=12, seed=3, samples=4)
    assert figures["stores_with_a_rhythm"] >= 20  # type: ignore[operator]
    assert figures["store_weeks_watched"] >= 100  # type: ignore[operator]
    assert figures["false_alarms"] <= 2  # type: ignore[operator]


def test_orders_come_when_a_store_is_open_and_as_many_as_it_has() -> None:
    open_by_day = [1.0 if 8 <= hour % 24 < 20 else 0.0 for hour in range(168 * 10)]
    dice = random.Random(1)  # noqa: S311 - no secret
    times = list(orders(dice, open_by_day, per_week=168 * 2))
    assert times == sorted(times)
    assert all(8 <= at // 3600 % 24 < 20 for at in times)
    assert 0.8 < len(times) / (2 * 12 * 7 * 10) < 1.2


def test_more_than_one_false_alarm_in_a_thousand_store_weeks_is_a_failure() -> None:
    assert is_as_promised({"false_alarms_per_1000_store_weeks": 1.0})
    assert not is_as_promised({"false_alarms_per_1000_store_weeks": 1.01})

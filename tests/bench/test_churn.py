"""What merchants who move, leave and come back leave behind is bounded."""

import pytest

from tests.bench.churn import Churn, grown

pytestmark = pytest.mark.server


def test_a_day_of_moving_leaving_and_coming_back_leaves_nothing_more_than_half_a_day(redis_url: str) -> None:
    churn = Churn(redis_url, merchants=2)
    hours = [churn.hour(number) for number in range(24)]
    assert grown(hours) == []

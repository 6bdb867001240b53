"""The benchmark of bulk commands measures what it says, and so does its verdict."""

import pytest

from tests.bench.recheck import is_as_promised, measure_revalidations

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]


def test_killed_half_way_and_resumed_each_store_is_looked_at_once() -> None:
    figures = measure_revalidations(connections=40, rate=20, kills=1, workers=1)
    assert is_as_promised(figures), figures
    assert figures["calls_per_connection"] == 6.0
    (killed_after,) = figures["killed_after"]
    assert 20 <= killed_after < 40
    assert all(rate <= 20.5 for rate in figures["begun_per_second_by_run"])


def test_one_store_looked_at_twice_or_not_at_all_is_a_failure() -> None:
    assert is_as_promised({"connections": 2, "stores_looked_at_once": 2, "writes": 0})
    assert not is_as_promised({"connections": 2, "stores_looked_at_once": 1, "writes": 0})
    assert not is_as_promised({"connections": 2, "stores_looked_at_once": 2, "writes": 1})

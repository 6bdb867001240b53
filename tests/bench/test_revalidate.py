"""The benchmark of re-validations measures what it says, and so does its verdict."""

import pytest

from tests.bench.revalidate import is_as_promised, measure_revalidate

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]


def test_looking_at_healthy_connections_takes_six_calls_each_and_no_write() -> None:
    figures = measure_revalidate(connections=24, workers=1, simulators=2, latency=0.0, rate=0.0)
    assert figures["connections"] == 24
    assert figures["calls_by_name"] == {"login": 1.0, "read_slot": 4.0, "shipping_methods": 1.0}
    assert figures["writes"] == 0
    assert is_as_promised(figures)


def test_one_write_or_one_call_too_many_is_a_failure() -> None:
    assert is_as_promised({"connections_with_other_calls": 0, "writes": 0})
    assert not is_as_promised({"connections_with_other_calls": 1, "writes": 0})
    assert not is_as_promised({"connections_with_other_calls": 0, "writes": 1})

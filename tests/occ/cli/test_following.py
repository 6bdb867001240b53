"""Looking again and again: rides out a restart of the server, and ends when it should."""

from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat

import pytest
import redis

from occ.cli.set_up import repeatedly


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def reading(answers: Iterator[int | Exception]) -> Callable[[], int]:
    def read() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


def test_it_looks_until_the_time_is_over_and_at_least_once() -> None:
    time = Time()
    assert len(list(repeatedly(lambda: 1, every=1.0, until=3.0, clock=time.clock, sleep=time.sleep))) == 4
    assert list(repeatedly(lambda: 1, every=1.0, until=0.0, clock=time.clock, sleep=time.sleep)) == [1]


@pytest.mark.parametrize("away", [redis.ConnectionError(), redis.TimeoutError(), redis.exceptions.BusyLoadingError()])
def test_a_restart_of_the_server_is_ridden_out(away: Exception) -> None:
    time = Time()
    read = reading(chain([1], repeat(away, 20), [2], repeat(away, 20), [3]))
    seen = repeatedly(read, every=1.0, clock=time.clock, sleep=time.sleep)
    assert list(islice(seen, 3)) == [1, 2, 3]


def test_a_server_that_stays_away_is_given_up() -> None:
    time = Time()
    seen = repeatedly(
        reading(chain([1], repeat(redis.ConnectionError()))), every=1.0, clock=time.clock, sleep=time.sleep
    )
    assert next(seen) == 1
    with pytest.raises(redis.ConnectionError):
        next(seen)
    assert 30 < time.now < 35


def test_an_outage_does_not_prolong_the_wait() -> None:
    time = Time()
    read = reading(repeat(redis.ConnectionError()))
    with pytest.raises(redis.ConnectionError):
        next(repeatedly(read, every=1.0, until=5.0, clock=time.clock, sleep=time.sleep))
    assert time.now == 5.0


def test_a_refused_login_does_not_get_better_by_waiting() -> None:
    time = Time()
    with pytest.raises(redis.AuthenticationError):
        next(repeatedly(reading(repeat(redis.AuthenticationError())), clock=time.clock, sleep=time.sleep))
    assert time.now == 0.0

"""The cap on how much is begun per second, on a clock of the test's own."""

from occ.cli.bulk.run import Rate


class Time:
    def __init__(self) -> None:
        self.now = 100.0


def begin_when_allowed(rate: Rate, time: Time) -> float:
    time.now += rate.left()
    rate.begin()
    return time.now


def test_beginnings_are_spaced_evenly() -> None:
    time = Time()
    rate = Rate(4.0, clock=lambda: time.now)
    assert [begin_when_allowed(rate, time) - 100 for _ in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_time_that_was_lost_is_not_made_up_for() -> None:
    time = Time()
    rate = Rate(10.0, clock=lambda: time.now)
    begin_when_allowed(rate, time)
    time.now += 60.0
    begun = [begin_when_allowed(rate, time) for _ in range(11)]
    assert round(begun[-1] - begun[0], 6) == 1.0


def test_less_than_one_a_second_is_fine() -> None:
    time = Time()
    rate = Rate(0.1, clock=lambda: time.now)
    assert [begin_when_allowed(rate, time) - 100 for _ in range(3)] == [0.0, 10.0, 20.0]


def test_what_is_begun_before_its_time_is_waited_for_afterwards() -> None:
    time = Time()
    rate = Rate(4.0, clock=lambda: time.now)
    rate.begin()
    rate.begin()
    assert rate.left() == 0.5

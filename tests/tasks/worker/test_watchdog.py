"""A worker that takes nothing although messages wait ends by itself; no other one does."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.worker.watchdog import Watchdog


def test_it_counts_from_the_last_message_that_was_taken() -> None:
    now = [0.0]
    watchdog = Watchdog(180, count=lambda: now[0])
    for seconds, waiting, taken, stuck in [
        (0, 5, 1, False),
        (170, 5, 1, False),
        (175, 5, 2, False),  # one was taken
        (350, 5, 2, False),
        (356, 5, 2, True),
        (360, 0, 2, False),  # nothing waits
        (370, 3, 2, False),
        (550, 3, 2, True),
        (555, None, 2, False),  # the broker does not say
        (730, 3, 2, False),
    ]:
        now[0] = float(seconds)
        assert bool(watchdog.seconds_stuck(waiting, taken)) is stuck, seconds


@given(st.lists(st.tuples(st.integers(0, 100), st.one_of(st.none(), st.integers(0, 3)), st.booleans())))
def test_it_never_ends_a_worker_that_took_something_within_its_patience(
    looks: list[tuple[int, int | None, bool]],
) -> None:
    now, taken, last = 0.0, 0, 0.0
    watchdog = Watchdog(50, count=lambda: now)
    watchdog.seconds_stuck(1, taken)
    for passed, waiting, takes in looks:
        now += passed
        if takes or not waiting:
            taken, last = taken + takes, now
        if watchdog.seconds_stuck(waiting, taken):
            assert now - last > 50

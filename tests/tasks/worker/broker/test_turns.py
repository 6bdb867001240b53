"""No queue keeps another waiting for long, and runs that are under way come before new ones."""

from collections import Counter
from typing import Any

from kombu.utils.scheduling import cycle_by_name

from tasks.queues import QUARANTINE, QUEUES, REQUESTS, STEPS, TICKS


def turns_of(*queues: str) -> Any:
    turns: Any = cycle_by_name("tasks.worker.broker.turns:Turns")()
    turns.update(queues)
    return turns


def taken(waiting: dict[str, int], steps_of_a_request: int = 0) -> list[str]:
    """The queues of all messages, in the order in which they are taken."""
    turns = turns_of(*QUEUES)
    left, order = Counter(waiting), list[str]()
    while +left:
        turns.steps_waiting = left[STEPS]
        queue = next(name for name in turns.consume(len(QUEUES)) if left[name])
        turns.rotate(queue)
        left[queue] -= 1
        left[STEPS] += steps_of_a_request if queue == REQUESTS else 0
        order.append(queue)
    return order


def test_requests_that_begin_runs_make_no_queue_of_steps() -> None:
    order = taken({REQUESTS: 200}, steps_of_a_request=6)
    waiting = 0
    for queue in order:
        waiting += 6 if queue == REQUESTS else -1
        assert waiting <= 410


def test_requests_have_their_share_however_many_steps_wait() -> None:
    order = taken({REQUESTS: 50, STEPS: 1000})
    assert all(REQUESTS in order[at : at + 9] for at in range(0, 440, 9))
    assert taken({REQUESTS: 50, STEPS: 300})[:100].count(REQUESTS) == 50, "half while threads only wait for stores"


def test_ticks_and_steps_take_turns() -> None:
    order = taken({TICKS: 20, STEPS: 100, REQUESTS: 100})
    assert order[:40].count(TICKS) >= 9
    assert sorted(order) == sorted([TICKS] * 20 + [STEPS] * 100 + [REQUESTS] * 100)


def test_what_costs_no_steps_is_taken_as_it_comes() -> None:
    assert taken({REQUESTS: 5}) == [REQUESTS] * 5
    assert turns_of(QUARANTINE).consume(1) == [QUARANTINE]

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.egress.deadline import Deadline, DeadlineSocket, obeyed
from integrations.egress.patience import Bulkhead, Patience, Places, current, learned, moment_for, places_for
from integrations.errors import TransientError
from tests.waiting import PATIENCE

THREADS = 8


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bulkhead(clock: Clock) -> Bulkhead:
    return Bulkhead(THREADS, 35.0, clock=clock)


class Holding:
    """Attempts that have taken so many places."""

    def __init__(self, bulkhead: Bulkhead, count: int) -> None:
        self._attempts = [bulkhead.attempt() for _ in range(count)]

    def __enter__(self) -> Self:
        self.took = [attempt.__enter__().take_place() for attempt in self._attempts]
        return self

    def __exit__(self, *_: object) -> None:
        for attempt in reversed(self._attempts):
            attempt.__exit__(None, None, None)


# --- Laws ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 1000))
def test_most_threads_never_wait_long(threads: int) -> None:
    assert 1 <= places_for(threads) <= max(1, threads / 4)


@given(st.floats(0, 1000), st.floats(0.1, 1000))
def test_any_store_may_take_a_second_and_none_takes_a_thread_for_most_of_a_deadline(
    typical: float, deadline: float
) -> None:
    assert 1.0 <= moment_for(typical, deadline) <= max(1.0, deadline / 4)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(4, 1000))
def test_slower_answers_never_make_us_less_patient(one: float, other: float, deadline: float) -> None:
    assert moment_for(min(one, other), deadline) <= moment_for(max(one, other), deadline)


@given(st.floats(0.02, 30))
def test_where_all_stores_are_slow_we_become_as_slow(seconds: float) -> None:
    typical = 0.01
    for _ in range(200):
        typical = learned(typical, seconds)
    assert seconds / 1.3 <= typical <= seconds * 1.3


@given(st.lists(st.booleans(), min_size=30, max_size=30))
def test_a_few_slow_stores_do_not_make_us_patient_with_all(order: list[bool]) -> None:
    typical = 0.1
    for is_slow in order:
        typical = learned(typical, 30.0 if is_slow else 0.1)
        typical = learned(learned(typical, 0.1), 0.1)
    assert moment_for(typical, 35.0) == 1.0


# --- One attempt -----------------------------------------------------------------------------------------------------


def test_who_waits_a_moment_needs_no_place(bulkhead: Bulkhead, clock: Clock) -> None:
    with Holding(bulkhead, 2), bulkhead.attempt() as patience:
        clock.now += 0.9
        left = patience.time_left()
        assert left is not None
        assert 0 < left < 0.2


def test_who_waits_longer_takes_a_place_if_one_is_free(bulkhead: Bulkhead, clock: Clock) -> None:
    with Holding(bulkhead, 1), bulkhead.attempt() as patience:
        clock.now += 1.1
        assert patience.time_left() is None
        clock.now += 1000
        assert patience.time_left() is None


def test_who_waits_longer_makes_way_if_none_is_free(bulkhead: Bulkhead, clock: Clock) -> None:
    with Holding(bulkhead, places_for(THREADS)) as holding, bulkhead.attempt() as patience:
        assert all(holding.took)
        clock.now += 1.1
        with pytest.raises(TransientError) as cut:
            patience.time_left()
    assert cut.value.code == "made_way"


def test_each_answer_gives_a_store_its_time_anew(bulkhead: Bulkhead, clock: Clock) -> None:
    with Holding(bulkhead, places_for(THREADS)), bulkhead.attempt() as patience:
        for _ in range(5):
            clock.now += 0.9
            patience.answered()
            assert patience.time_left() is not None


def test_a_place_is_free_again_once_its_attempt_is_over(bulkhead: Bulkhead) -> None:
    for _ in range(3):
        with Holding(bulkhead, places_for(THREADS) + 1) as holding:
            assert holding.took == [True] * places_for(THREADS) + [False]


def test_patience_ends_with_its_attempt_and_is_no_other_threads(bulkhead: Bulkhead) -> None:
    elsewhere: list[Patience | None] = []
    with bulkhead.attempt() as patience:
        assert current() is patience
        thread = threading.Thread(target=lambda: elsewhere.append(current()))
        thread.start()
        thread.join()
    assert current() is None
    assert elsewhere == [None]


# --- On the wire -----------------------------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[DeadlineSocket]:
    ours, theirs = socket.socketpair()
    guarded = DeadlineSocket(ours.family, ours.type, ours.proto, fileno=ours.detach())
    with guarded, theirs:
        yield guarded


def test_a_store_that_is_silent_is_cut_short_long_before_the_deadline(silent: DeadlineSocket) -> None:
    bulkhead = Bulkhead(THREADS, 35.0)
    deadline = Deadline.after(PATIENCE)
    with Holding(bulkhead, places_for(THREADS)), bulkhead.attempt(), obeyed(deadline):
        with pytest.raises(TransientError) as cut:
            silent.recv_into(bytearray(9))
        assert deadline.remaining() > 0
    assert cut.value.code == "made_way"


def test_with_a_place_it_has_until_the_deadline(silent: DeadlineSocket) -> None:
    with Bulkhead(THREADS, 35.0).attempt(), obeyed(Deadline.after(1.5)), pytest.raises(TimeoutError):
        silent.recv_into(bytearray(9))


# --- Several processes -----------------------------------------------------------------------------------------------

_CHILD = """
import os, sys
from integrations.egress.patience import Places
places = Places(2, int(sys.argv[1]))
print(places.take(), places.take(), places.take(), flush=True)
sys.stdin.read()
"""


def test_processes_share_their_places_and_a_killed_one_leaves_none_behind() -> None:
    file = os.memfd_create("places") if hasattr(os, "memfd_create") else None
    if file is None:
        pytest.skip("this system has no files without a name that a test can pass on")
    command = [sys.executable, "-c", _CHILD, str(file)]
    with subprocess.Popen(command, pass_fds=[file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().split() == ["0", "1", "None"]
        ours = Places(2, file)
        assert ours.take() is None
        child.kill()
        child.wait(timeout=PATIENCE)
        assert [ours.take(), ours.take(), ours.take()] == [0, 1, None]
    os.close(file)

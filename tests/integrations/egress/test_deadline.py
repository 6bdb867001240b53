import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from integrations.egress.deadline import Deadline, DeadlineSocket, obeyed, time_left
from tests.integrations.wire_servers import ending_after


@pytest.fixture
def pair() -> Iterator[tuple[DeadlineSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    guarded = DeadlineSocket(ours.family, ours.type, ours.proto, fileno=ours.detach())
    with guarded, theirs:
        yield guarded, theirs


def test_a_deadline_counts_down_and_goes_below_zero() -> None:
    assert 0 < Deadline.after(60).remaining() <= 60
    deadline = Deadline.after(0.05)
    assert deadline.remaining() <= 0.05
    time.sleep(0.06)
    assert deadline.remaining() < 0


def test_the_earlier_of_two_deadlines_counts() -> None:
    assert Deadline.after(60).within(1).remaining() <= 1
    assert Deadline.after(1).within(60).remaining() <= 1


def test_without_a_deadline_no_time_is_set() -> None:
    assert time_left() is None


def test_a_deadline_is_obeyed_only_as_long_as_it_is_said_and_in_this_thread() -> None:
    elsewhere: list[float | None] = []
    with obeyed(Deadline.after(60)):
        with obeyed(Deadline.after(1)):
            inner = time_left()
        outer = time_left()
        thread = threading.Thread(target=lambda: elsewhere.append(time_left()))
        thread.start()
        thread.join()
    assert inner is not None
    assert inner <= 1
    assert outer is not None
    assert outer > 1
    assert elsewhere == [None]
    assert time_left() is None


def test_after_a_deadline_no_system_call_is_begun(pair: tuple[DeadlineSocket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"there is something to read")
    with obeyed(Deadline.after(-1)):
        for call in (lambda: ours.recv_into(bytearray(9)), lambda: ours.send(b"x"), lambda: ours.sendall(b"x")):
            with pytest.raises(TimeoutError):
                call()


def test_bytes_arriving_one_by_one_do_not_prolong_a_deadline(pair: tuple[DeadlineSocket, socket.socket]) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.02):
            theirs.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with ending_after(0.2), obeyed(Deadline.after(0.2)), pytest.raises(TimeoutError):
            _for_ever(lambda: ours.recv_into(bytearray(9)))
    finally:
        stop.set()
        thread.join()


def test_writing_to_somebody_who_does_not_read_ends(pair: tuple[DeadlineSocket, socket.socket]) -> None:
    ours, _ = pair
    with ending_after(0.2), obeyed(Deadline.after(0.2)), pytest.raises(TimeoutError):
        ours.sendall(b"x" * 50_000_000)
    with ending_after(0.2), obeyed(Deadline.after(0.2)), pytest.raises(TimeoutError):
        _for_ever(lambda: ours.send(b"x" * 65536))


def _for_ever(call: Callable[[], object]) -> None:
    while True:
        call()

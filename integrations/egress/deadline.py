"""When a call to a store must be over, and sockets that keep to it whatever the other side does.

A timeout per system call bounds nothing: a store that sends one byte at a time keeps such a call alive for ever. So the
sockets below ask, before every system call, how much time the whole call has left. No timer threads are involved.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, TypeVar

from integrations.egress import allowance, patience

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing's own from Python 3.12 on


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock by which something must be over."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left; zero or less when it has passed."""
        return self.at - time.monotonic()

    def within(self, seconds: float) -> Deadline:
        """The earlier of this moment and `seconds` from now."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.at)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def obeyed(deadline: Deadline) -> Iterator[None]:
    """While this lasts, the sockets of this module obey `deadline` in this thread."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def time_left() -> float | None:
    """Seconds the next system call may take: always more than zero; None when no deadline is obeyed.

    Raises TimeoutError when the deadline has passed: a timeout of zero would make a socket non-blocking instead.
    """
    deadline = _current.get()
    if deadline is None:
        return None
    remaining = deadline.remaining()
    if remaining <= 0:
        raise TimeoutError("the deadline has passed")
    return remaining


def next_wait() -> float | None:
    """Seconds until the deadline passes or the attempt's patience ends, whichever comes first; None if neither does.

    Raises TimeoutError when the deadline has passed, TransientError `made_way` when others need this thread more.
    """
    left, current = time_left(), patience.current()
    patient_for = current.time_left() if current is not None else None
    return min((seconds for seconds in (left, patient_for) if seconds is not None), default=None)


def _hurry(sock: socket.socket) -> None:
    left = time_left()
    if left is not None:
        sock.settimeout(left)


def _patiently(sock: socket.socket, operation: Callable[[], T]) -> T:
    """Carry out one that can be gone on with after a timeout, until the deadline passes or the patience ends."""
    while True:
        wait = next_wait()
        if wait is not None:
            sock.settimeout(wait)
        try:
            return operation()
        except TimeoutError:
            if wait is None:
                raise


class DeadlineSocket(socket.socket):
    """A socket whose reads and writes end by the obeyed deadline, and whose reads are paid for from the allowance.

    It knows whether it may serve another call: by itself it may not, an answer that was read whole has to say so.
    """

    reusable = False
    answering = False
    """Whether anything has come since the last request."""
    answered_at = 0.0  # by the monotonic clock
    _unanswered = 0  # bytes of a request of which no answer has begun

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Read what is there; answers are read in no other way."""
        may_receive, wanted = allowance.current(), nbytes or len(memoryview(buffer))
        read = super().recv_into
        if may_receive is None:
            return _patiently(self, lambda: read(buffer, wanted, flags))
        most = may_receive.next_read(wanted)
        received = _patiently(self, lambda: read(buffer, most, flags))
        may_receive.spend(received)
        self.answering = self.answering or received > 0
        if received and self._unanswered:
            sent, self._unanswered = self._unanswered, 0
            if self.has_unacknowledged(sent):
                raise HTTPException("an answer from before the request")
        return received

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Write as much as fits."""
        _hurry(self)
        sent = super().send(data, flags)
        self._unanswered += sent
        return sent

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Write everything; CPython counts the timeout over all of its system calls."""
        _hurry(self)
        before = self._unanswered
        super().sendall(data, flags)  # with TLS a loop over `send`
        self._unanswered = before + len(memoryview(data))

    def unasked(self) -> bytes | None:
        """A byte nobody asked for; empty if the other side has left or broken off; None if all is quiet.

        Only for a connection that is idle, and of no use any more unless it is quiet.
        """
        self.settimeout(0)
        try:
            return self.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def served(self) -> None:
        """An answer was read whole, and nothing is left of it."""
        self._unanswered = 0
        self.answered_at = time.monotonic()
        self.reusable = self.unasked() is None and not self.has_unacknowledged(1)

    def begin_request(self) -> None:
        """From now on the other side owes an answer. Raises HTTPException if it has sent one already."""
        if self.unasked():
            raise HTTPException("an answer before the request")
        self.reusable = self.answering = False
        self._unanswered = 0

    def has_unacknowledged(self, count: int) -> bool:
        """Whether so many of the bytes we sent have not reached the system of the other side; False if none can tell.

        Whatever it sends after it got our request says that it did (RFC 9293, 3.4).
        """
        with suppress(OSError):
            waiting = fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(4))
            return int.from_bytes(waiting, sys.byteorder) >= count
        return False


class DeadlineTLSSocket(DeadlineSocket, ssl.SSLSocket):
    """The same with TLS; its handshake ends by the obeyed deadline, too.

    CPython counts a socket's timeout over all system calls of one TLS operation, so that a record arriving byte by byte
    gains no time.
    """

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature is CPython's
        """Agree on keys and check the certificate."""
        shake_hands = super().do_handshake
        _patiently(self, lambda: shake_hands(block))

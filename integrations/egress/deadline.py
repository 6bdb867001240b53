"""When a call to a store must be over, and sockets that keep to it whatever the other side does.

A timeout per system call bounds nothing: a store that sends one byte at a time keeps such a call alive for ever. So the
sockets below ask, before every system call, how much time the whole call has left. No timer threads are involved.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing's own from Python 3.12 on


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


def _hurry(sock: socket.socket) -> None:
    left = time_left()
    if left is not None:
        sock.settimeout(left)


class DeadlineSocket(socket.socket):
    """A plain socket whose reads and writes end by the obeyed deadline."""

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Read what is there; http.client reads in no other way."""
        _hurry(self)
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Write as much as fits."""
        _hurry(self)
        return super().send(data, flags)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Write everything; CPython counts the timeout over all of its system calls."""
        _hurry(self)
        super().sendall(data, flags)


class DeadlineTLSSocket(ssl.SSLSocket):
    """A TLS socket whose handshake, reads and writes end by the obeyed deadline.

    CPython counts a socket's timeout over all system calls of one TLS operation, so that a record arriving byte by byte
    gains no time. `sendall` is a loop over `send`.
    """

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature is CPython's
        """Agree on keys and check the certificate."""
        _hurry(self)
        super().do_handshake(block)

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Read what is there; http.client reads in no other way."""
        _hurry(self)
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Write as much as fits."""
        _hurry(self)
        return super().send(data, flags)

"""What the answer to one call may cost us: how many bytes, in how many pieces. Pure.

A cap on the body alone bounds nothing: interim answers, headers, trailers, chunk extensions and empty chunks are no
part of it, and none of them need ever end. So all that a call receives is paid for from one allowance.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from integrations.errors import TransientError

MOST_HEAD_BYTES = 64 * 1024
"""Status lines, headers and trailers of one answer, those of the interim answers before it included."""
MOST_HEAD_LINES = 256
MOST_INTERIM_ANSWERS = 8
MOST_CHUNKS = 8192
MOST_GZIP_MEMBERS = 8

# Each read costs as much as this at least: a store that sends single bytes keeps us busy with few of them.
_LEAST_COST = 512


@dataclass(slots=True)
class Allowance:
    """What one call may still receive. `bytes_received`: so far, as TLS hands them over."""

    most_bytes: int
    bytes_received: int = 0
    _cost: int = 0

    def next_read(self, wanted: int) -> int:
        """How many bytes may be read now. Raises TransientError when nothing is left."""
        left = self.most_bytes - self._cost
        if left <= 0:
            raise too_large(f"more than {self.most_bytes} bytes on the wire, or in too many pieces")
        return min(wanted, left)

    def spend(self, received: int) -> None:
        """Pay for one read."""
        self.bytes_received += received
        self._cost += max(received, _LEAST_COST) if received else 0


def too_large(detail: str) -> TransientError:
    """The end of a call whose answer has no end."""
    return TransientError("answer_too_large", detail)


_current: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def paid_from(allowance: Allowance) -> Iterator[None]:
    """While this lasts, what our sockets receive in this thread is paid for from `allowance`."""
    token = _current.set(allowance)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Allowance | None:
    """The allowance of the call this thread is making, if any."""
    return _current.get()

"""Connections that wait for another call: for how long, and how many of them at most.

Networks forget connections over which nothing is sent; what is sent over such a one is lost, or answered with a reset.
"""

import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

_SHARE_OF_FILES = 4  # the rest is for calls under way, the server, the resolver and whatever else is open
_FEWEST, _MOST = 8, 512


class Closable(Protocol):
    """A connection, kept in a pool by somebody else; one that was closed there dials anew when it is used."""

    def close(self) -> None:
        """Close its socket."""


class IdleConnections:
    """Closes connections that have been idle for `keep` seconds, and the oldest when there are more than `most`."""

    def __init__(self, keep: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep = keep
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._since: OrderedDict[Closable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._since)

    def put(self, connection: Closable) -> None:
        """It is idle from now on."""
        with self._lock:
            self._since.pop(connection, None)
            self._since[connection] = self._clock()
            self._close_surplus()

    def take(self, connection: Closable) -> None:
        """It is in use from now on, and closed if it has been idle for too long."""
        with self._lock:
            self._close_surplus()
            self._since.pop(connection, None)

    def _close_surplus(self) -> None:
        oldest_kept = self._clock() - self._keep
        while self._since:
            connection, since = next(iter(self._since.items()))
            if since > oldest_kept and len(self._since) <= self._most:
                return
            del self._since[connection]
            connection.close()


def most_idle() -> int:
    """How many idle connections a process may keep: a part of the files it may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return min(_MOST, max(_FEWEST, soft // _SHARE_OF_FILES))

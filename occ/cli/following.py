"""Reading records again and again, for as long as somebody waits for a change."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import redis

T = TypeVar("T")

LOOK_EVERY = 0.25
"""Seconds: a change is seen at once by a person's measure, for one small read each time."""

_PATIENCE = 30.0
"""Seconds that the server may be away: long enough for a restart."""


def looks(
    read: Callable[[], T],
    *,
    every: float = LOOK_EVERY,
    until: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[T]:
    """What `read` returns, every so often, until the clock says `until`; at least once.

    Rides out an outage of the server, unless it lasts: then raises what redis-py raises.
    """
    away_since: float | None = None
    while True:
        try:
            seen = read()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            away_since = clock() if away_since is None else away_since
            refused = isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError)
            if refused or clock() - away_since > _PATIENCE or (until is not None and clock() >= until):
                raise
        else:
            away_since = None
            yield seen
            if until is not None and clock() >= until:
                return
        sleep(every)

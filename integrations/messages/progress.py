"""Whether the pipeline makes progress: when a tick last ended well, how long the oldest message of each queue waits.

occ:tick         string  when the last tick began, by the server's clock
occ:tick:ended   string  when one last ended well
occ:oldest       hash    by queue (and the inbox): its oldest message at the last tick, since when it is that, by the
                         pipeline's clock, and how many there were
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from integrations.clock import CLOCK, ours_at
from integrations.lua import lua_beside

OLDEST = "occ:oldest"
PROBE = "occ:health"
"""Written to see whether the server takes writes; gone within a minute."""


_BEGAN = "occ:tick"
_ENDED = "occ:tick:ended"
_AT_MOST_EVERY = "0.5"
"""Seconds between two ticks; more of them, from two beats or a queue that was not read for a while, do nothing."""


def begin_tick(client: redis.Redis) -> bool:
    """Whether this tick is to do its work: none began within the last half second."""
    return bool(client.eval(lua_beside(__file__, "begin_tick"), 1, _BEGAN, _AT_MOST_EVERY))


def tick_ended_well(client: redis.Redis) -> None:
    """Note that a tick has done all its work."""
    client.eval(lua_beside(__file__, "tick_ended"), 1, _ENDED)


def seconds_since_a_tick(client: redis.Redis) -> float | None:
    """How long ago a tick last ended well; None if none ever did."""
    ended = client.get(_ENDED)
    if not isinstance(ended, (str, bytes)):
        return None
    seconds, microseconds = client.time()
    # A clock that was set back makes the last tick one of the future: as long ago as it is away.
    return abs(float(seconds) + float(microseconds) / 1e6 - float(ended))


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest message of a queue, by a mark that no other message has; how many there are, and how long it waits."""

    mark: str
    messages: int
    seconds: float = 0.0


def note_oldest(client: redis.Redis, seen: Mapping[str, Oldest], now: float) -> None:
    """Note what a tick has seen, by queue; a queue that is not in it is empty. `now`: our time."""
    known = _oldest_in(client.hgetall(OLDEST), now)
    with client.pipeline(transaction=True) as pipe:
        for queue in known.keys() - seen.keys():
            pipe.hdel(OLDEST, queue)
        for queue, oldest in seen.items():
            before = known.get(queue)
            since = now - before.seconds if before is not None and before.mark == oldest.mark else now
            pipe.hset(OLDEST, queue, f"{oldest.mark} {since:.3f} {oldest.messages}")
        pipe.execute()


def oldest_messages(client: redis.Redis) -> dict[str, Oldest]:
    """The oldest message of each queue as of the last tick, and how long it has waited; empty queues are not there."""
    with client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.get(CLOCK)
        pipe.hgetall(OLDEST)
        answer: Any = pipe.execute()
    (seconds, microseconds), clock, known = answer
    return _oldest_in(known, ours_at(seconds + microseconds / 1e6, clock))


def _oldest_in(known: Any, now: float) -> dict[str, Oldest]:
    oldest = {}
    for queue, text in known.items():
        mark, since, messages = str(text).split(" ")
        oldest[str(queue)] = Oldest(mark, int(messages), max(0.0, now - float(since)))
    return oldest

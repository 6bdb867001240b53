"""Whether the pipeline makes progress: when a tick last ended well, by the server's clock.

occ:tick         string  when the last tick began
occ:tick:ended   string  when one last ended well
"""

import redis

_BEGAN = "occ:tick"
_ENDED = "occ:tick:ended"
_AT_MOST_EVERY = "0.5"
"""Seconds between two ticks; more of them, from two beats or a queue that was not read for a while, do nothing."""

# KEYS: when the last tick began. ARGV: seconds. A last tick in the future began before the clock was set back: a lock
# that ends by that clock would hold for as long as it was set back.
_BEGIN = """
local time = redis.call('TIME')
local now, last = time[1] + time[2] / 1000000, tonumber(redis.call('GET', KEYS[1]) or '')
if last and now >= last and now - last < tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], string.format('%.6f', now))
return 1
"""

# KEYS: when a tick ended well.
_END = """
local time = redis.call('TIME')
redis.call('SET', KEYS[1], string.format('%.6f', time[1] + time[2] / 1000000))
"""


def begin_tick(client: redis.Redis) -> bool:
    """Whether this tick is to do its work: none began within the last half second."""
    return bool(client.eval(_BEGIN, 1, _BEGAN, _AT_MOST_EVERY))


def tick_ended_well(client: redis.Redis) -> None:
    """Note that a tick has done all its work."""
    client.eval(_END, 1, _ENDED)


def seconds_since_a_tick(client: redis.Redis) -> float | None:
    """How long ago a tick last ended well; None if none ever did."""
    ended = client.get(_ENDED)
    if not isinstance(ended, (str, bytes)):
        return None
    seconds, microseconds = client.time()
    # A clock that was set back makes the last tick one of the future: as long ago as it is away.
    return abs(float(seconds) + float(microseconds) / 1e6 - float(ended))

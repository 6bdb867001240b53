"""The queues of the pipeline; nothing else is ever sent to."""

REQUESTS = "occ"
"""Connect requests: the queue other systems write to, part of the public contract."""

STEPS = "occ.steps"
"""The steps of a run, one message each."""

TICKS = "occ.tick"
"""Apart from the work, so that a full queue of steps cannot delay the tick that heals it."""

QUARANTINE = "occ.quarantine"
"""Steps that may be what takes workers down. A worker of its own runs them one at a time, so that nobody is hit."""

QUEUES = (REQUESTS, STEPS, TICKS)
"""What ordinary workers consume."""

_SEPARATOR = "\x06\x16"  # between a queue and a priority, in Kombu's names of lists
_PRIORITIES = (3, 6, 9)  # Kombu's default steps; 0 is the queue itself

BESIDE_QUEUES = {f"{queue}{_SEPARATOR}{priority}": queue for queue in QUEUES for priority in _PRIORITIES}
"""Lists where a message with a priority lands, and the queue it was meant for."""

FORGOTTEN = ("celery", *(f"celery{_SEPARATOR}{priority}" for priority in _PRIORITIES))
"""Celery's own default queue: where a client sends that names none."""

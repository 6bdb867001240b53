"""The queues of the pipeline; nothing else is ever sent to. Pure."""

import hashlib
import json
from collections.abc import Sequence

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

# Between a queue and a priority, in Kombu's names of lists: its default, and the one in Celery's example.
_SEPARATORS = ("\x06\x16", ":")
_PRIORITIES = range(1, 10)  # Kombu's default steps are 3, 6 and 9, those of Celery's example all; 0 is the queue itself


def _beside(queue: str) -> list[str]:
    return [f"{queue}{separator}{priority}" for separator in _SEPARATORS for priority in _PRIORITIES]


BESIDE_QUEUES = {name: queue for queue in QUEUES for name in _beside(queue)}
"""Lists where a message with a priority lands, and the queue it was meant for."""

FORGOTTEN = ("celery", *_beside("celery"))
"""Celery's own default queue: where a client sends that names none."""


def is_ours(message: bytes | str) -> bool:
    """Whether a message asks for a task of ours."""
    try:
        return str(json.loads(message)["headers"]["task"]).startswith("occ.")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def mark_of(message: bytes) -> str:
    """What tells a message from others."""
    return hashlib.sha256(message).hexdigest()[:16]


def only_quarantine(arguments: Sequence[str]) -> bool:
    """Whether a worker's command line names no queue but the quarantine: it then does one thing at a time."""
    named: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument in {"-Q", "--queues"}:
            named += following.split(",")
        elif argument.startswith(("-Q", "--queues=")):
            named += argument.removeprefix("--queues=").removeprefix("-Q").split(",")
    return {name.strip() for name in named} == {QUARANTINE}

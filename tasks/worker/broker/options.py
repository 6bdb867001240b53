"""What a producer may ask for beside the task itself, and what becomes of it. `docs/producers.md` has the table.

Celery would hold a message with an eta in the worker's memory, drop one that expired without a trace, end a process
for a time limit of the producer's, and send what is linked from here. None of that may depend on a producer.
"""

from collections.abc import MutableMapping
from datetime import datetime

from celery.utils.dispatch import Signal

request_set_aside = Signal(name="request_set_aside", providing_args=["message", "reason"])
"""Sent for a message that is not carried out, once it is in the quarantine. What a receiver raises is logged."""


NOT_BEFORE = "not_before"
"""The header in which a task of ours finds the eta of its message."""


def settle_options(headers: MutableMapping[str, object], body: object, now: float) -> str | None:
    """Take the options out of a task's headers; answers with the problem in words if the task must not run.

    `headers` and `body` have been checked (`envelope.py`). `now`: seconds since the epoch.
    """
    eta, expires = _time(headers.get("eta")), _time(headers.get("expires"))
    if expires is not None and expires <= max(now, eta or 0.0):
        return "it expires before it is to be carried out" if expires > now else "it has expired"
    embedded = body[2] if isinstance(body, list) and isinstance(body[2], dict) else {}
    if any(embedded.values()):
        return "links, chains and chords are not carried out here: follow the events instead"
    headers[NOT_BEFORE] = headers.get("eta")
    headers.update(eta=None, expires=None, timelimit=[None, None])
    return None


def _time(value: object) -> float | None:
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None

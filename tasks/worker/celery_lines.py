"""Celery's own log lines, rewritten as facts with fields: without arguments, bodies, headers and return values.

Celery words them for people and mixes into the text what a message held. Those that could quote a message are listed
here by their template, each with the few values worth keeping; a test holds the list against the installed Celery.
All other lines keep their text, which is redacted like ours.
"""

import functools
import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from structlog.types import EventDict

from tasks.worker.message_view import ids_of_task


class RewrittenLine(NamedTuple):
    """What is kept of a line: the name of the fact, and its values by their place in Celery's line."""

    event: str
    fields: Mapping[str | int, str]


_TASK: Mapping[str | int, str] = {"name": "task", "id": "task_id"}


@functools.cache
def rewritten_lines() -> Mapping[str, RewrittenLine]:
    """Celery's templates and what becomes of them."""
    # Imported with the first line Celery logs: who only configures logs, as the command line does, need not load it.
    from celery.app import trace  # noqa: PLC0415

    consumer: Any = importlib.import_module("celery.worker.consumer.consumer")

    lines = {
        trace.LOG_RECEIVED: RewrittenLine("task_received", _TASK),
        trace.LOG_SUCCESS: RewrittenLine("task_succeeded", {**_TASK, "runtime": "seconds"}),
        # Celery has the same words for an error in a task and for one in its own machinery; `description` says which.
        trace.LOG_FAILURE: RewrittenLine("task_failed", {**_TASK, "exc": "error", "description": "description"}),
        trace.LOG_RETRY: RewrittenLine("task_retried", {**_TASK, "exc": "error"}),
        trace.LOG_IGNORED: RewrittenLine("task_ignored", {**_TASK, "description": "description"}),
        trace.LOG_REJECTED: RewrittenLine("task_rejected", {**_TASK, "exc": "error"}),
        "Task accepted: %s[%s] pid:%r": RewrittenLine("task_accepted", {0: "task", 1: "task_id", 2: "pid"}),
        "TaskPool: Apply %s (args:%s kwargs:%s)": RewrittenLine("task_handed_to_pool", {}),
        "Couldn't convert ETA %r to timestamp: %r. Task: %r": RewrittenLine("message_refused", {1: "error"}),
        consumer.UNKNOWN_FORMAT: RewrittenLine("message_refused", {}),
        consumer.UNKNOWN_TASK_ERROR: RewrittenLine("message_refused", {0: "unknown_task"}),
        consumer.INVALID_TASK_ERROR: RewrittenLine("message_refused", {0: "error"}),
        consumer.MESSAGE_DECODE_ERROR: RewrittenLine("message_refused", {0: "error", 1: "content_type", 2: "encoding"}),
    }
    return {template.strip(): line for template, line in lines.items()}


def is_about_a_tick(record: logging.LogRecord) -> bool:
    """Whether a line only says that a tick was sent: one a second would drown what it started."""
    is_sent = isinstance(record.msg, str) and record.msg.startswith("Scheduler: Sending due task")
    return is_sent and record.name == "celery.beat" and record.levelno <= logging.INFO


def rewrite_line(_: Any, __: str, event_dict: EventDict) -> EventDict:
    """A structlog processor for foreign lines: replaces Celery's text, and adds the ids of the task it is about."""
    values = event_dict.pop("positional_args", None) or ()
    record: logging.LogRecord = event_dict["_record"]
    if not record.name.startswith("celery"):
        return event_dict
    line = rewritten_lines().get(record.msg.strip()) if isinstance(record.msg, str) else None
    if line is not None:
        event_dict["event"] = line.event
        for place, field in line.fields.items():
            value = _value(values, place)
            if value is not None:
                event_dict[field] = round(value, 4) if isinstance(value, float) else value
    mentioned = values.values() if isinstance(values, Mapping) else values
    for name, value in ids_of_task(mentioned).items():
        event_dict.setdefault(name, value)
    return event_dict


def _value(values: Mapping[str, object] | Sequence[object], place: str | int) -> object:
    if isinstance(values, Mapping):
        return values.get(place) if isinstance(place, str) else None
    return values[place] if isinstance(place, int) and place < len(values) else None

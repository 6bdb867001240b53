"""What people get to see of a task's message: a few ids, never arguments as a producer wrote them.

A message carries its arguments, and next to them a description of them that its producer made. Celery shows both: in
Flower, in `celery inspect`, in logs. A foreign producer may have put a key in the clear there, so both are replaced.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakValueDictionary

from celery.worker.request import Request as CeleryRequest
from structlog.contextvars import bound_contextvars

from integrations.sealing.redaction import redact_text
from tasks.worker.task_ends import SUCCEEDED, end_of, summary_in

IDS = ("merchant_id", "run", "slot", "attempt", "request_id")
"""The arguments that are ids, and may be shown wherever a task is."""

REQUESTS = frozenset({"occ.connect", "occ.revalidate", "occ.disconnect", "occ.heard"})
"""Tasks that other systems send. What they were part of there is no page here, so each begins a chain."""

ROOT = "root_id:"
"""What stands before the root in a task's description: Flower's search finds a chain by it."""

_LONGEST_ID = 128
_PLAIN_URL = re.compile(r"(https?://)?[A-Za-z0-9.-]{1,200}(:\d{1,5})?/?", re.ASCII)

_requests: "WeakValueDictionary[str, Request]" = WeakValueDictionary()


def ids_of(arguments: Mapping[Any, Any]) -> dict[str, str | int]:
    """The ids among a task's arguments by name: short printable texts and numbers only, anything else is left out."""
    ids: dict[str, str | int] = {}
    for name in IDS:
        value = arguments.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            ids[name] = value
        elif isinstance(value, str) and len(value) <= _LONGEST_ID and value.isprintable():
            ids[name] = redact_text(value)
    return ids


def chain_id(task_id: object) -> str:
    """The id of a task as it may be kept in a record and shown; "" if it is too long, or none."""
    if not isinstance(task_id, str) or not task_id.isprintable() or len(task_id) > _LONGEST_ID:
        return ""
    return task_id if redact_text(task_id) == task_id else ""


def description(arguments: Mapping[Any, Any]) -> str:
    """What is shown of a task's arguments: the ids, and the store if it is a plain address."""
    shown: dict[str, object] = dict(ids_of(arguments))
    store_url = arguments.get("store_url")
    if isinstance(store_url, str) and _PLAIN_URL.fullmatch(store_url):
        shown["store_url"] = store_url
    return repr(shown)


def named(task: Any, args: Any, kwargs: Any) -> dict[Any, Any]:
    """A task's arguments by name, as far as a message that may be malformed shows them."""
    arguments: dict[Any, Any] = {}
    if args and isinstance(args, list | tuple):
        # More arguments than parameters: whatever does not fit makes the call fail later, and is not shown here.
        arguments.update(zip(inspect.signature(task.run).parameters, args, strict=False))
    if isinstance(kwargs, Mapping):
        arguments.update(kwargs)
    return arguments


def ids_of_task(mentioned: Iterable[object]) -> dict[str, str | int]:
    """The ids of the task of which this worker process holds the message, if one of these values is its task id."""
    for value in mentioned:
        request = _requests.get(value) if isinstance(value, str) else None
        if request is not None:
            return {"task_id": request.id, "task": request.name, **request.ids}
    return {}


class Request(CeleryRequest):
    """A message in a worker, described by its ids alone. Named in `Task.Request` of our tasks."""

    def __init__(self, message: Any, *, headers: Mapping[str, Any] | None = None, **options: Any) -> None:
        # A producer may ask for a task to be shown under another name; only the real one is known to hold no secret.
        real_name = {**(message.headers if headers is None else headers), "shadow": None}
        super().__init__(message, headers=real_name, **options)
        arguments = named(self.task, self.args, self.kwargs)
        self.ids = ids_of(arguments)
        if self.name in REQUESTS and not isinstance(arguments.get("run"), int):
            self._root_id, self._parent_id = self.id, None
        # The request's headers go on to the process that runs the task, and from there into its log lines.
        self._argsrepr = self.request_dict["argsrepr"] = ROOT + (chain_id(self.root_id) or "none")
        self._kwargsrepr = self.request_dict["kwargsrepr"] = description(arguments)
        _requests[self.id] = self

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        """The task failed, or the process it ran in is gone; what is logged about that has the ids."""
        with self._on_every_line():
            return super().on_failure(*args, **kwargs)

    def on_timeout(self, *args: Any, **kwargs: Any) -> Any:
        """The task ran out of time; likewise."""
        with self._on_every_line():
            return super().on_timeout(*args, **kwargs)

    def acknowledge(self) -> None:
        """The broker may forget the message; likewise, should that fail."""
        with self._on_every_line():
            super().acknowledge()

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - as Celery calls it
        """The broker may have the message back; likewise."""
        with self._on_every_line():
            super().reject(requeue=requeue)

    def _on_every_line(self) -> AbstractContextManager[None]:
        return bound_contextvars(task=self.name, task_id=self.id, **self.ids)

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - as Celery calls it
        """What `celery inspect` shows of this message."""
        return super().info(safe=True)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - as Celery calls it
        """Tell Flower how a task ended; texts of exceptions and results come from anywhere, and are redacted."""
        if type == SUCCEEDED:
            type, reason = end_of(summary_in(fields.get("result")))  # noqa: A001
            fields |= reason
        shown = {name: redact_text(value) if isinstance(value, str) else value for name, value in fields.items()}
        super().send_event(type, **shown)

"""The page that Flower has of a request from the inbox.

Such a request is no task, so no worker tells Flower of it. The tick that takes it does: under the id of its entry,
which its producer got from XADD. All steps of the run lead back there. Best effort, and for display only.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
import structlog
from kombu.exceptions import OperationalError

from tasks.celery import app
from tasks.worker.message_view import ROOT, description
from tasks.worker.task_ends import end_of

log = structlog.get_logger(__name__)

_TOGETHER = 300  # events in one message to Flower: a few hundred bytes each


class InboxPages:
    """The pages of the requests that one tick takes from the inbox, told to Flower together."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    @contextmanager
    def page(self, entry_id: str, name: str, request: object) -> Iterator[Callable[[Mapping[str, object]], None]]:
        """The page of one request, called like the task that brings such requests. It is there once answered."""
        began = time.time()
        answers: list[Mapping[str, object]] = []
        yield answers.append
        for answer in answers:
            shown = {
                "name": name,
                "args": ROOT + entry_id,
                "kwargs": description(request if isinstance(request, dict) else {}),
                "root_id": entry_id,
                "parent_id": None,
                "retries": 0,
            }
            ended = time.time()
            self._report("task-received", entry_id, began, shown)
            self._report("task-started", entry_id, began, {})
            event, reason = end_of(answer)
            self._report(event, entry_id, ended, {"result": repr(dict(answer)), "runtime": ended - began, **reason})

    def _report(self, event: str, entry_id: str, at: float, fields: Mapping[str, object]) -> None:
        self.events.append((event, {"uuid": entry_id, "timestamp": at, **fields}))


@contextmanager
def inbox_pages(worker: str | None) -> Iterator[InboxPages]:
    """The pages of what is taken meanwhile. `worker`: in whose name Flower is told; None to keep it to ourselves."""
    pages = InboxPages()
    try:
        yield pages
    finally:
        if worker and pages.events and app.conf.worker_send_task_events:
            _send(worker, pages.events)


def _send(worker: str, events: list[tuple[str, dict[str, Any]]]) -> None:
    try:
        with app.events.default_dispatcher(hostname=worker) as dispatcher:
            dispatcher.buffer_group, dispatcher.buffer_limit = {"task"}, _TOGETHER
            for event, fields in events:
                dispatcher.send(event, **fields)
            dispatcher.flush()
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("pages_not_sent", error=type(error).__name__)

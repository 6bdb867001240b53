"""Log lines: facts with fields, columns on a terminal and JSON elsewhere, for our own lines and everybody else's alike.

All of them go to standard error through one chain that adds what is known (merchant_id, run, slot, attempt, task_id,
task), renders exceptions without local variables, and redacts. Nothing is configured at import.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

import billiard.util
import structlog
from celery import signals
from structlog.contextvars import bind_contextvars, merge_contextvars, reset_contextvars
from structlog.stdlib import ProcessorFormatter
from structlog.types import EventDict, Processor

from integrations.sealing.redaction import redact
from integrations.settings import KeylessSettings
from tasks.worker.celery_lines import is_about_a_tick, rewrite_line
from tasks.worker.message_view import ids_of, named

Format = Literal["auto", "json", "columns"]

_FIRST = (
    "timestamp",
    "level",
    "event",
    "logger",
    "merchant_id",
    "run",
    "slot",
    "attempt",
    "request_id",
    "task",
    "task_id",
)

log = structlog.get_logger(__name__)


def configure(level: str = "INFO", format: Format = "auto", stream: TextIO | None = None) -> None:  # noqa: A002
    """Set up all logging of this process: ours, the libraries', warnings, and exceptions nobody caught.

    May be called again, as Celery does: the last call wins. `stream` is standard error unless given.
    """
    stream = stream or sys.stderr
    in_columns = _in_columns(format, stream)
    handler = _Handler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[merge_contextvars, structlog.stdlib.add_logger_name, rewrite_line],
            pass_foreign_args=True,
            processors=[
                _exception_as_text,
                ProcessorFormatter.remove_processors_meta,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _redact,
                *(_columns(stream) if in_columns else [_as_json]),
            ],
        )
    )
    if level != "DEBUG":
        handler.addFilter(lambda record: not is_about_a_tick(record))
    # That a task was received, and that it succeeded: a line of ours says what came of it.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel("WARNING" if level == "INFO" else "NOTSET")
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # billiard keeps the prefork pool's lines to itself, and prints those that nobody handles as they are.
    billiard.util.get_logger().propagate = True
    # Says at DEBUG that a task goes to the pool, with all that is in its message and without its ids.
    logging.getLogger("celery.pool").setLevel(logging.INFO)
    # It warns about malformed headers with a traceback; what they mean for us is an outcome of the call.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[merge_contextvars, structlog.stdlib.add_logger_name, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a cached logger would miss what a test or a second call configures
    )
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def connect_signals(settings: Callable[[], KeylessSettings]) -> None:
    """Make Celery log through `configure`, and put the ids of the running task on every line it causes.

    `settings` is called when a worker or beat starts, not before.
    """

    def set_up(**_: object) -> None:
        configure(settings().log_level, settings().log_format)
        worker_program = sys.modules.get("celery.apps.worker")
        if worker_program is not None and not _in_columns(settings().log_format, sys.stderr):
            # It writes "worker: Warm shutdown" to standard output in the midst of lines that somebody parses.
            worker_program.safe_say = _say  # type: ignore[attr-defined]

    def warn_of_dev_stores(**_: object) -> None:
        if stores := settings().dev_stores:
            where = [f"{store.network}:{store.port or '*'}" for store in stores]
            log.warning("dev_stores_are_called", where=where, remedy="leave OCC_DEV_STORES unset in production")

    # Celery warns about running as root before it sets up logging, hence the first of these.
    signals.celeryd_init.connect(set_up, weak=False, dispatch_uid="occ logs: worker starts")
    signals.celeryd_init.connect(warn_of_dev_stores, weak=False, dispatch_uid="occ logs: dev stores")
    signals.setup_logging.connect(set_up, weak=False, dispatch_uid="occ logs: set up")
    signals.task_prerun.connect(_task_starts, weak=False, dispatch_uid="occ logs: task starts")
    signals.task_postrun.connect(_task_ended, weak=False, dispatch_uid="occ logs: task ended")


def _task_starts(task: Any, task_id: str, args: Any, kwargs: Any, **_: object) -> None:
    task.request.log_context = bind_contextvars(task=task.name, task_id=task_id, **ids_of(named(task, args, kwargs)))


def _task_ended(task: Any, **_: object) -> None:
    # Back to what was bound before, and not to nothing: a task may run inside something else that has its own context.
    reset_contextvars(**getattr(task.request, "log_context", {}))


def _exception_as_text(_: Any, __: str, event_dict: EventDict) -> EventDict:
    """Tracebacks with the lines of source they went through, but never with the values of variables."""
    exc_info = event_dict.pop("exc_info", None)
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    elif exc_info and not isinstance(exc_info, tuple):
        exc_info = sys.exc_info()
    if exc_info and exc_info[0] is not None:
        try:
            event_dict["exception"] = "".join(traceback.format_exception(*exc_info)).rstrip()
        except Exception:  # noqa: BLE001 - Celery hands over imitations of tracebacks
            event_dict["exception"] = f"{exc_info[0].__name__}, and its traceback cannot be shown"
    return event_dict


def _redact(_: Any, __: str, event_dict: EventDict) -> EventDict:
    """Everything in the line as plain data without secrets, what it is about first."""
    redacted = redact(event_dict)
    return {name: redacted.pop(name) for name in _FIRST if name in redacted} | redacted


def _as_json(_: Any, __: str, event_dict: EventDict) -> str:
    return json.dumps(event_dict)


def _in_columns(format: Format, stream: TextIO) -> bool:  # noqa: A002
    return format == "columns" or (format == "auto" and stream.isatty())


def _columns(stream: TextIO) -> list[Processor]:
    colors = stream.isatty() and not os.environ.get("NO_COLOR")
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return [_on_one_line, renderer]


def _on_one_line(_: Any, __: str, event_dict: EventDict) -> EventDict:
    """For terminals: foreign text neither starts a new line that looks like ours nor moves the cursor."""
    for name, value in event_dict.items():
        if isinstance(value, str):
            kept = "\n\t" if name == "exception" else ""
            event_dict[name] = "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in value)
    return event_dict


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; a line that cannot be made is reported without what was in it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging calls it
        # logging itself would print the arguments of the line, which nothing has redacted yet.
        with contextlib.suppress(Exception):
            at = f"{record.pathname}:{record.lineno}"
            self.stream.write(json.dumps({"level": "error", "event": "log_line_failed", "at": at}) + self.terminator)


def _say(message: str, _file: object = None) -> None:
    """A line of Celery's from within a signal handler, where logging may be in use already: written as it is."""
    with contextlib.suppress(OSError, ValueError):
        timestamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        line = {"timestamp": timestamp, "level": "info", "event": "worker_says", "message": message}
        os.write(sys.stderr.fileno(), f"{json.dumps(line)}\n".encode())


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("uncaught_exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if not issubclass(caught.exc_type, SystemExit):
        thread = caught.thread.name if caught.thread else None
        log.critical("uncaught_exception", thread=thread, exc_info=_as_exc_info(caught))


def _unraisable(caught: "sys.UnraisableHookArgs") -> None:
    # Its `object` is not shown: that may be anything, with any repr.
    log.error("unraisable_exception", exc_info=_as_exc_info(caught))


def _as_exc_info(caught: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> tuple[object, object, object]:
    return caught.exc_type, caught.exc_value, caught.exc_traceback

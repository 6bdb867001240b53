import inspect
import logging
from typing import Any

import pytest
from celery.app import trace
from celery.concurrency import base
from celery.worker import request, strategy
from celery.worker.consumer import consumer

from tasks.worker.celery_lines import is_about_a_tick, rewrite_line, rewritten_lines

CANARY = "c4nary-hunter2"
MODULES: tuple[Any, ...] = (trace, base, request, strategy, consumer)


def rewritten(template: str, *values: object, logger: str = "celery.app.trace") -> dict[str, Any]:
    record = logging.LogRecord(logger, logging.INFO, "trace.py", 1, template, values, None)
    event = {"event": record.getMessage(), "_record": record, "positional_args": record.args}
    told = dict(rewrite_line(None, "info", event))
    del told["_record"]
    return told


@pytest.mark.parametrize("template", list(rewritten_lines()))
def test_every_line_that_is_retold_is_one_the_installed_celery_logs(template: str) -> None:
    constants = {text.strip() for module in MODULES for text in vars(module).values() if isinstance(text, str)}
    assert template in constants or any(f"({quote}{template}{quote}," in _calls(m) for m in MODULES for quote in "'\"")


def _calls(module: Any) -> str:
    return inspect.getsource(module)


@pytest.mark.parametrize("template", list(rewritten_lines()))
def test_nothing_of_a_message_is_left_in_a_line_that_could_quote_it(template: str) -> None:
    kept = {*rewritten_lines()[template].fields}
    if "%(" in template:
        names = ("id", "name", "args", "kwargs", "return_value", "runtime", "exc", "description", "traceback", "eta")
        told = rewritten(template, {name: "shown" if name in kept else CANARY for name in names})
    else:
        count = template.count("%s") + template.count("%r")
        told = rewritten(template, *("shown" if place in kept else CANARY for place in range(count)))
    assert CANARY not in str(told)
    assert told["event"] == rewritten_lines()[template].event
    assert len(told) == 1 + len(kept)


def test_a_success_says_how_long_it_took_and_not_what_came_back() -> None:
    values = {
        "id": "t",
        "name": "occ.connect",
        "runtime": 0.123456789,
        "return_value": CANARY,
        "args": CANARY,
        "kwargs": CANARY,
    }
    assert rewritten(trace.LOG_SUCCESS, values) == {
        "event": "task_succeeded",
        "task": "occ.connect",
        "task_id": "t",
        "seconds": 0.1235,
    }


def test_other_lines_of_celery_keep_their_words() -> None:
    assert rewritten("mingle: searching for neighbors", logger="celery.worker") == {
        "event": "mingle: searching for neighbors"
    }


def test_lines_of_others_that_look_like_celerys_are_left_alone() -> None:
    told = rewritten("Task %(name)s[%(id)s] received", {"id": "t", "name": "x"}, logger="somebody")
    assert told == {"event": "Task x[t] received"}


@pytest.mark.parametrize("values", [(), (None,), (5, {}, []), ({"a": 1},)])
def test_a_line_with_unexpected_values_is_still_told(values: tuple[object, ...]) -> None:
    record = logging.LogRecord("celery.x", logging.INFO, "x.py", 1, trace.LOG_SUCCESS, None, None)
    event = {"event": "x", "_record": record, "positional_args": values}
    assert rewrite_line(None, "info", event)["event"] == "task_succeeded"


@pytest.mark.parametrize(
    ("name", "text", "args", "about_a_tick"),
    [
        ("celery.beat", "Scheduler: Sending due task %s (%s)", ("tick", "occ.tick"), True),
        ("celery.beat", "beat: Starting...", (), False),
    ],
)
def test_ticks_that_come_and_go_are_told_apart(
    name: str, text: str, args: tuple[object, ...], about_a_tick: bool
) -> None:
    """They are left out of the log; everything else of beat's stays."""
    assert is_about_a_tick(logging.LogRecord(name, logging.INFO, "", 0, text, args, None)) is about_a_tick

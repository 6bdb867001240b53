import importlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import billiard.util
import pytest
import structlog
from celery import signals
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from integrations.sealing.keyring import SealingKey, seal
from integrations.settings import Settings, load_settings
from tasks.worker import logs
from tests.tasks.logging_app import app

CANARY = "c4nary-hunter2"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
KEY = SealingKey.generate()

worker_program: Any = importlib.import_module("celery.apps.worker")
log = structlog.get_logger("ours")
theirs = logging.getLogger("theirs")


@pytest.fixture(autouse=True)
def _loggers_of_celery_come_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = ("celery.pool", "celery.worker.strategy", "celery.app.trace")
    loggers = [billiard.util.get_logger(), *map(logging.getLogger, names)]
    before = [(logger.propagate, logger.level) for logger in loggers]
    monkeypatch.setattr(worker_program, "safe_say", worker_program.safe_say)
    yield
    for logger, (propagate, level) in zip(loggers, before, strict=True):
        logger.propagate, logger.level = propagate, level


class Lines:
    """Where log lines go in a test."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.all if line["event"] == event]

    @property
    def last(self) -> dict[str, Any]:
        return self.all[-1]


def configured(style: logs.Format = "json", level: str = "DEBUG") -> Lines:
    """Called in the test itself it also takes pytest's own handlers away, which cannot bear everything."""
    stream = io.StringIO()
    logs.configure(level, style, stream)
    return Lines(stream)


@pytest.fixture
def lines() -> Lines:
    return configured()


def test_our_lines_and_those_of_others_have_the_same_fields(lines: Lines) -> None:
    with bound_contextvars(merchant_id="m-1", run=3):
        log.info("slot_registered", slot="order-submit")
        theirs.info("said %s", "something")
    ours, foreign = lines.all
    common = {"level": "info", "merchant_id": "m-1", "run": 3}
    assert ours.items() >= {**common, "event": "slot_registered", "slot": "order-submit", "logger": "ours"}.items()
    assert foreign.items() >= {**common, "event": "said something", "logger": "theirs"}.items()
    assert list(ours)[:3] == list(foreign)[:3] == ["timestamp", "level", "event"]


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    logs.configure("WARNING", "json", stream)
    log.info("a")
    theirs.info("b")
    log.warning("c")
    theirs.error("d")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["c", "d"]


def test_configuring_again_replaces_what_was_configured_before(lines: Lines) -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    log.info("once")
    assert lines.text == ""
    assert len(stream.getvalue().splitlines()) == 1


def test_json_goes_where_no_terminal_is_and_columns_to_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        logs.configure("INFO", "auto", stream)
        log.info("slot_registered", slot="order-submit")
    assert json.loads(file.getvalue())["slot"] == "order-submit"
    assert "slot_registered" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_columns_are_one_line_each_whatever_is_in_them() -> None:
    lines = configured("columns")
    log.info("slot_registered", slot="a\nb\x1b[2J", other="2026-11-23 [info] all is well\r")
    theirs.info("x\ny\x1b[31m")
    assert len(lines.text.splitlines()) == 2
    assert "\x1b" not in lines.text


def test_an_exception_in_columns_is_a_traceback_without_values() -> None:
    lines = configured("columns")
    try:
        fail()
    except RuntimeError:
        log.exception("step_failed")
    assert "Traceback (most recent call last):" in lines.text
    assert lines.text.rstrip().endswith("RuntimeError: went wrong")
    assert CANARY not in lines.text


def fail(message: str = "went wrong", cause: Exception | None = None) -> None:
    application_key = CANARY
    if application_key:
        raise RuntimeError(message) from cause


@pytest.mark.parametrize("logger", ["ours", "theirs"])
def test_an_exception_is_told_with_its_traceback_but_without_local_variables(lines: Lines, logger: str) -> None:
    try:
        fail()
    except RuntimeError:
        (log if logger == "ours" else theirs).exception("step_failed")
    assert lines.last["level"] == "error"
    exception = lines.last["exception"]
    assert exception.startswith("Traceback (most recent call last):")
    assert "in fail" in exception
    assert exception.endswith("RuntimeError: went wrong")
    assert CANARY not in lines.text


def test_an_exception_may_be_handed_over_as_such(lines: Lines) -> None:
    log.warning("step_failed", exc_info=ValueError(f"Bearer {CANARY}"))
    assert lines.last["exception"] == "ValueError: Bearer [redacted]"
    log.warning("nothing_failed", exc_info=True)  # noqa: LOG014 - a mistake that must do no harm
    assert "exception" not in lines.last


def test_secrets_are_taken_out_of_every_part_of_a_line(lines: Lines) -> None:
    sealed = seal(KEY.public_key, KEY.key_id, "m-1", JWT)
    for write in (log.info, theirs.info):
        write(f"with {JWT}")
        write(f"with redis://:{CANARY}@records/0")
        write(f"with {sealed}")
    log.info(
        "x",
        application_key=CANARY,
        deep={"headers": [{"Authorization": CANARY}]},
        body=CANARY.encode(),
        text=f"Bearer {CANARY}",
    )
    log.info("x", cause=ValueError(JWT))
    with bound_contextvars(merchant_id=JWT):
        theirs.warning("x")
    for error in (ValueError(f"token={CANARY}"), KeyError(JWT)):
        try:
            fail(f"Bearer {CANARY}", error)
        except RuntimeError:
            log.exception("x")
            theirs.exception("x")
    assert len(lines.all) == 13
    for secret in (CANARY, "canary", JWT[:20], JWT[-10:], sealed[30:60]):
        assert secret not in lines.text
    assert f"sealed.v1.{KEY.key_id}.[redacted]" in lines.text


def test_what_others_attach_to_their_lines_is_not_shown(lines: Lines) -> None:
    theirs.info("x", extra={"data": {"kwargs": CANARY}, "other": CANARY})
    assert CANARY not in lines.text


def test_objects_are_told_as_text_and_every_line_is_json() -> None:
    lines = configured()

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError(CANARY)

    log.info("x", odd=Odd(), many={1, 2}, number=float("nan"), nested={(1, 2): object}, text="\ud800")
    assert lines.last["odd"] == "[Odd]"
    assert lines.last["number"] == "nan"


def test_a_line_that_cannot_be_made_says_where_and_not_what(capsys: pytest.CaptureFixture[str]) -> None:
    lines = configured()
    theirs.info("%d things", CANARY)
    theirs.info("the next one")
    assert lines.text.count("\n") == 2
    assert "log_line_failed" in lines.text
    assert "test_logs.py" in lines.text
    shown = capsys.readouterr()
    assert CANARY not in lines.text + shown.out + shown.err


def test_warnings_are_lines_too(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn(f"old way, with Bearer {CANARY}", stacklevel=1)
        logging.captureWarnings(capture=False)
    assert (lines.last["logger"], lines.last["level"]) == ("py.warnings", "warning")
    assert CANARY not in lines.text


def test_an_exception_nobody_caught_is_a_line(lines: Lines) -> None:
    try:
        fail(f"Bearer {CANARY}")
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=fail, name="worker-7")
    thread.start()
    thread.join()
    main, threaded = lines.of("uncaught_exception")
    assert main["level"] == threaded["level"] == "critical"
    assert main["exception"].endswith("RuntimeError: Bearer [redacted]")
    assert threaded["thread"] == "worker-7"
    assert threaded["exception"].endswith("RuntimeError: went wrong")
    assert CANARY not in lines.text


def test_an_exception_that_could_not_be_raised_is_a_line(lines: Lines) -> None:
    class Unhappy:
        def __del__(self) -> None:
            raise RuntimeError(f"Bearer {CANARY}")

        def __repr__(self) -> str:
            return CANARY

    unhappy = Unhappy()
    del unhappy
    (line,) = lines.of("unraisable_exception")
    assert line["exception"].endswith("RuntimeError: Bearer [redacted]")
    assert CANARY not in lines.text


def test_the_prefork_pool_does_not_write_past_everything(lines: Lines) -> None:
    billiard.util.get_logger().error("Process %r exited", f"token={CANARY}")
    assert lines.last.items() >= {"logger": "multiprocessing", "level": "error"}.items()
    assert CANARY not in lines.text


def test_tests_can_still_capture_what_is_logged(lines: Lines) -> None:
    cached = structlog.get_logger("ours").bind(slot="order-submit")
    cached.info("before")
    with capture_logs() as captured:
        cached.info("during")
    assert [line["event"] for line in captured] == ["during"]
    assert [line["event"] for line in lines.all] == ["before"]


# Celery


SETTINGS = {
    "OCC_REDIS_URL": "redis://nowhere",
    "OCC_SEALING_KEYS": KEY.export(),
    "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
    "OCC_LOG_LEVEL": "DEBUG",
    "OCC_LOG_FORMAT": "json",
}


@pytest.fixture
def signals_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for signal in (signals.celeryd_init, signals.setup_logging, signals.task_prerun, signals.task_postrun):
        monkeypatch.setattr(signal, "receivers", [])
        monkeypatch.setattr(signal, "sender_receivers_cache", {}, raising=False)


IDS = {"merchant_id": "m-1", "run": 3, "slot": "order-submit", "attempt": 2}
ARGUMENTS = {**IDS, "application_key": CANARY}


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("name", ["occ.works", "occ.fails", "occ.retries"])
def test_every_line_about_a_task_has_its_ids_and_none_its_arguments(
    signals_of_this_test: None, name: str, level: str
) -> None:
    """That one has succeeded is said at DEBUG only: lines of its own say what came of it."""
    logs.connect_signals(lambda: load_settings(SETTINGS))
    lines = configured(level=level)
    task = app.tasks[name]
    task.apply(kwargs=ARGUMENTS)
    task.apply(args=tuple(ARGUMENTS.values()))
    ends = {"occ.works": "task_succeeded", "occ.fails": "task_failed", "occ.retries": "task_retried"}
    quiet = level == "INFO" and name != "occ.fails"
    assert len(lines.of(ends[name])) == (0 if quiet else 2)
    about_the_task = [line for line in lines.all if line["logger"] in {"celery.app.trace", "ours", "theirs"}]
    assert [line for line in about_the_task if not line.items() >= {**IDS, "task": name}.items()] == []
    assert all(line["task_id"] for line in about_the_task)
    assert CANARY not in lines.text


def test_a_line_after_a_task_has_none_of_its_ids(signals_of_this_test: None, lines: Lines) -> None:
    logs.connect_signals(lambda: load_settings(SETTINGS))
    with bound_contextvars(command="demo"):
        app.tasks["occ.works"].apply(kwargs=ARGUMENTS)
        assert get_contextvars() == {"command": "demo"}
    assert lines.of("inside")[0].items() >= {**IDS, "command": "demo", "task": "occ.works"}.items()


def test_settings_are_not_read_before_a_worker_starts(signals_of_this_test: None) -> None:
    def settings() -> Settings:
        raise AssertionError("read too early")

    logs.connect_signals(settings)
    with pytest.raises(AssertionError, match="read too early"):
        raise signals.setup_logging.send(sender=None)[0][1]


@pytest.mark.parametrize("dev_stores", ["", "127.0.0.0/8:8800,10.0.0.0/8:*"])
def test_dev_stores_are_shouted_at_start(
    signals_of_this_test: None, capsys: pytest.CaptureFixture[str], dev_stores: str
) -> None:
    logs.connect_signals(lambda: load_settings(SETTINGS | {"OCC_DEV_STORES": dev_stores}))
    signals.celeryd_init.send(sender="worker")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["where"]) for line in told] == (
        [("warning", ["127.0.0.0/8:8800", "10.0.0.0/8:*"])] if dev_stores else []
    )


def test_what_a_worker_says_on_being_stopped_is_json_too(
    signals_of_this_test: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    with open(read) as reading, open(write, "w") as writing:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", writing)
        logs.connect_signals(lambda: load_settings(SETTINGS))
        signals.setup_logging.send(sender=None)
        worker_program.safe_say("worker: Warm shutdown (MainProcess)", sys.__stdout__)
        assert json.loads(reading.readline())["message"] == "worker: Warm shutdown (MainProcess)"


def test_importing_configures_nothing() -> None:
    code = "import logging, tasks.worker.logs; assert not logging.getLogger().handlers"
    subprocess.run([sys.executable, "-c", code], check=True)

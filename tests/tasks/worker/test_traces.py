"""Spans say what was done, in ids and codes; whoever collects them cannot hold work up."""

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integrations.errors import SettingsError
from integrations.observer import ObservedCall
from integrations.sealing.keyring import SealingKey
from integrations.settings import Settings
from tasks.worker import otlp
from tasks.worker.traces import (
    REQUIREMENTS,
    Traces,
    describe,
    opened,
    parse_traceparent,
    traceparent_in,
    traceparent_of,
    traces_of,
)
from tests.pipeline import REPOSITORY

PRODUCER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = PRODUCER[3:35]


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """Tracing silences the SDK's own lines in its process; here that process goes on."""
    level = logging.getLogger("opentelemetry").level
    yield
    logging.getLogger("opentelemetry").setLevel(level)


class Traced:
    """A tracing whose spans can be looked at once it is closed."""

    def __init__(self, **environ: str) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = Traces(lambda: otlp.sender(environ, self.exporter))

    def spans(self) -> dict[str, ReadableSpan]:
        self.traces.close()
        return {span.name: span for span in self.exporter.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str, str | None]:
    """Of trace, span and parent."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent else None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def test_a_call_hangs_below_the_step_that_made_it_and_that_below_the_producer() -> None:
    traced = Traced()
    with opened(traced.traces.step("register_slot", PRODUCER, time.time())) as span:
        describe(span, slot="order-submit", attempt=2, cause=None)
        traced.traces.called(ObservedCall("read_slot", "GET", "127.0.0.1:8800", 0.5, status=200))
    spans = traced.spans()
    step, call = spans["occ.register_slot"], spans["GET read_slot"]
    assert ids(step) == (TRACE_ID, ids(step)[1], PRODUCER[36:52])
    assert ids(call)[0::2] == (TRACE_ID, ids(step)[1])
    assert dict(step.attributes or {}) == {"occ.slot": "order-submit", "occ.attempt": 2}
    assert dict(call.attributes or {}) == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": 8800,
        "http.response.status_code": 200,
        "occ.endpoint": "read_slot",
    }
    assert call.start_time is not None
    assert call.end_time is not None
    assert call.end_time - call.start_time == 500_000_000
    assert call.status.is_unset


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (ObservedCall("login", "POST", "a.example.com", 0.1, status=401), "401"),
        (ObservedCall("login", "POST", "a.example.com", 0.1, status=503), "503"),
        (ObservedCall("login", "POST", "[::1]:8800", 0.1, error="store_timeout"), "store_timeout"),
    ],
)
def test_a_call_that_failed_says_how(call: ObservedCall, error: str) -> None:
    traced = Traced()
    with opened(traced.traces.step("validate_key", "", time.time())):
        traced.traces.called(call)
    span = traced.spans()["POST login"]
    assert not span.status.is_ok
    assert not span.status.is_unset
    assert (span.attributes or {})["error.type"] == error
    assert span.status.description is None


def test_without_a_producer_a_trace_begins_and_can_be_joined() -> None:
    traced = Traced()
    with (
        traced.traces.request("connect", "") as accepted,
        opened(traced.traces.step("validate_key", traceparent_of(accepted), time.time())),
    ):
        pass
    spans = traced.spans()
    root = ids(spans["occ.accept"])
    assert root[2] is None
    assert ids(spans["occ.validate_key"])[0::2] == root[:2]


def test_of_an_error_nothing_but_its_class_is_told() -> None:
    traced = Traced()
    with pytest.raises(ValueError, match="secret"), opened(traced.traces.step("validate_key", "", time.time())):
        raise ValueError("secret")
    span = traced.spans()["occ.validate_key"]
    assert "secret" not in span.to_json()
    assert (span.attributes or {})["error.type"] == "ValueError"


def test_what_its_producer_does_not_sample_is_not_sent() -> None:
    traced = Traced()
    with opened(traced.traces.step("validate_key", PRODUCER[:-2] + "00", time.time())) as span:
        assert traceparent_of(span).endswith("-00")
        traced.traces.called(ObservedCall("login", "POST", "a.example.com", 0.1, status=200))
    assert traced.spans() == {}


def test_a_call_outside_of_all_steps_is_not_traced() -> None:
    traced = Traced()
    with opened(traced.traces.step("validate_key", "", time.time())):
        pass
    traced.traces.called(ObservedCall("login", "POST", "a.example.com", 0.1, status=200))
    assert set(traced.spans()) == {"occ.validate_key"}


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "occ-connect"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine,a=b"}, "mine"),
    ],
)
def test_the_service_has_a_name_of_its_own_or_a_given_one(
    environ: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    traced = Traced(**environ)
    with opened(traced.traces.step("validate_key", "", time.time())):
        pass
    assert traced.spans()["occ.validate_key"].resource.attributes["service.name"] == name


def test_opentelemetrys_own_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traced = Traced()
    with opened(traced.traces.step("validate_key", "", time.time())) as span:
        describe(span, slot="a")
        assert traceparent_of(span) == ""
    assert traced.spans() == {}


class Stuck(SpanExporter):
    """A collector that takes nothing and does not answer, until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def export(self, _: Sequence[ReadableSpan]) -> SpanExportResult:
        self.over.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


@pytest.mark.long
def test_a_collector_that_does_not_answer_keeps_no_work_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    stuck = Stuck()
    traces = Traces(lambda: otlp.sender({}, stuck))
    try:
        for _ in range(200):  # were one of them to wait for the collector, pytest's timeout would come first
            with opened(traces.step("validate_key", "", time.time())):
                pass
        traces.close()
        assert ending(), "close gave up waiting"
    finally:
        stuck.over.set()
        for thread in ending():  # it tells that spans were not sent: here, not in the test that follows
            thread.join()


def ending() -> list[threading.Thread]:
    """What is still trying to send off the last spans."""
    return [thread for thread in threading.enumerate() if thread.name == "traces end"]


class Moody(SpanExporter):
    """Fails in one way or another, or not."""

    def __init__(self, *moods: str) -> None:
        self.moods = list(moods)

    def export(self, _: Sequence[ReadableSpan]) -> SpanExportResult:
        mood = self.moods.pop(0)
        if mood == "raises":
            raise RuntimeError("http://login:secret@collector/ is down")
        return SpanExportResult.SUCCESS if mood == "takes" else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


def test_a_collector_that_is_down_is_logged_once_and_so_is_its_return() -> None:
    exporter = Moody("raises", "refuses", "refuses", "takes", "takes", "refuses")
    logging_exporter = otlp.LoggingExporter(exporter)
    with structlog.testing.capture_logs() as lines:
        while exporter.moods:
            logging_exporter.export([])
    assert [line["event"] for line in lines] == ["traces_not_sent", "traces_sent_again", "traces_not_sent"]
    assert "secret" not in str(lines)


# --- The switch -------------------------------------------------------------------------------------------------------


def settings_with(traces: str) -> Settings:
    return Settings(
        redis_url="redis://127.0.0.1:1/0",
        sealing_keys=(SealingKey.generate(),),
        callback_url="https://hooks.example.com/{merchant_id}/{slot}",
        traces=traces,
    )


def test_nothing_is_traced_unless_it_is_asked_for() -> None:
    traces = traces_of(settings_with("none"), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    with opened(traces.step("validate_key", PRODUCER, 0.0)) as span:
        assert not span.is_recording()
    with traces.request("connect", "") as span:
        assert traceparent_of(span) == ""


def test_without_the_extra_what_asks_for_it_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tasks.worker.otlp", None)
    with pytest.raises(SettingsError) as raised:
        traces_of(settings_with("otlp"), {})
    (problem,) = raised.value.problems
    assert problem.startswith("OCC_TRACES: ")
    assert "pip install" in problem
    assert all(requirement in problem for requirement in REQUIREMENTS)


def test_the_remedy_is_what_the_project_declares() -> None:
    declared = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{requirement}"' in declared for requirement in REQUIREMENTS)


WITHOUT_THE_SDK = "import sys; sys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None\n"


def test_a_worker_needs_nothing_but_the_api_unless_traces_are_asked_for() -> None:
    question = "import tasks.step, tasks.doors; from tasks.worker.traces import Traces; Traces().request('connect', '')"
    subprocess.run([sys.executable, "-c", WITHOUT_THE_SDK + question], cwd=REPOSITORY, check=True, timeout=180)


def test_up_says_at_start_what_is_missing(tmp_path: Path) -> None:
    up = "from occ.local.up import up; up(['--no-flower', '--no-metrics'])"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_SDK + up],
        env={"PATH": os.environ["PATH"], "OCC_DATA_DIR": str(tmp_path / "data"), "OCC_TRACES": "otlp"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "OCC_TRACES: otlp needs packages that are not installed" in done.stderr
    assert "is running" not in done.stdout


def test_commands_do_not_load_opentelemetry() -> None:
    question = "import occ.cli.__main__, tasks.wiring; assert 'opentelemetry.trace' not in sys.modules"
    subprocess.run([sys.executable, "-c", WITHOUT_THE_SDK + question], cwd=REPOSITORY, check=True, timeout=180)


# --- The context a producer sends -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    version=st.integers(0, 254),
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    flags=st.integers(0, 255),
)
def test_every_good_context_is_taken_and_taken_again(version: int, trace_id: int, span_id: int, flags: int) -> None:
    taken = parse_traceparent(f"{version:02x}-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    assert taken == f"00-{trace_id:032x}-{span_id:016x}-{flags & 1:02x}"
    assert parse_traceparent(taken) == taken


@settings(deadline=None)
@given(st.text() | st.text("0123456789abcdef-", max_size=80))
def test_no_text_is_repeated_that_is_not_a_context(text: str) -> None:
    assert re.fullmatch(r"(00-[0-9a-f]{32}-[0-9a-f]{16}-0[01])?", parse_traceparent(text))


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        7,
        [PRODUCER],
        {"traceparent": PRODUCER},
        "",
        PRODUCER.upper(),
        f"{PRODUCER}-more",
        f"ff{PRODUCER[2:]}",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln",
    ],
)
def test_anything_else_is_none(malformed: object) -> None:
    assert parse_traceparent(malformed) == ""
    assert traceparent_in({"traceparent": malformed}) == ""


@pytest.mark.parametrize("request_", [None, "text", [], {}, {"merchant_id": "m-1"}])
def test_a_request_need_not_bring_a_context(request_: object) -> None:
    assert traceparent_in(request_) == ""

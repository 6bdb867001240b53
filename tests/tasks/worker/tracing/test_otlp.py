"""Spans say what was done, in ids and codes; whoever collects them cannot hold work up."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integrations.errors import SettingsError
from integrations.observer import Call
from integrations.sealing.keyring import SealingKey
from integrations.settings import Settings
from tasks.worker.tracing.extra import REQUIREMENTS
from tasks.worker.tracing.otlp import OtlpTracing
from tasks.worker.tracing.span import UNTRACED, tracing_of
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
        self.tracing = OtlpTracing(environ, self.exporter)

    def spans(self) -> dict[str, ReadableSpan]:
        self.tracing.close()
        return {span.name: span for span in self.exporter.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str, str | None]:
    """Of trace, span and parent."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent else None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def test_a_call_hangs_below_the_step_that_made_it_and_that_below_the_producer() -> None:
    traced = Traced()
    with traced.tracing.step("register_slot", PRODUCER, time.time()) as span:
        span.tell(slot="order-submit", attempt=2, cause=None)
        traced.tracing.saw(Call("read_slot", "GET", "127.0.0.1:8800", 0.5, status=200))
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
        (Call("login", "POST", "a.example.com", 0.1, status=401), "401"),
        (Call("login", "POST", "a.example.com", 0.1, status=503), "503"),
        (Call("login", "POST", "[::1]:8800", 0.1, error="store_timeout"), "store_timeout"),
    ],
)
def test_a_call_that_failed_says_how(call: Call, error: str) -> None:
    traced = Traced()
    with traced.tracing.step("validate_key", "", time.time()):
        traced.tracing.saw(call)
    span = traced.spans()["POST login"]
    assert not span.status.is_ok
    assert not span.status.is_unset
    assert (span.attributes or {})["error.type"] == error
    assert span.status.description is None


def test_without_a_producer_a_trace_begins_and_can_be_joined() -> None:
    traced = Traced()
    with traced.tracing.request("connect", "") as accepted:
        joined = traced.tracing.step("validate_key", accepted.traceparent, time.time())
        with joined:
            pass
    spans = traced.spans()
    root = ids(spans["occ.accept"])
    assert root[2] is None
    assert ids(spans["occ.validate_key"])[0::2] == root[:2]


def test_of_an_error_nothing_but_its_class_is_told() -> None:
    traced = Traced()
    with pytest.raises(ValueError, match="secret"), traced.tracing.step("validate_key", "", time.time()):
        raise ValueError("secret")
    span = traced.spans()["occ.validate_key"]
    assert "secret" not in span.to_json()
    assert (span.attributes or {})["error.type"] == "ValueError"


def test_what_its_producer_does_not_sample_is_not_sent() -> None:
    traced = Traced()
    with traced.tracing.step("validate_key", PRODUCER[:-2] + "00", time.time()) as span:
        assert span.traceparent.endswith("-00")
        traced.tracing.saw(Call("login", "POST", "a.example.com", 0.1, status=200))
    assert traced.spans() == {}


def test_a_call_outside_of_all_steps_is_not_traced() -> None:
    traced = Traced()
    with traced.tracing.step("validate_key", "", time.time()):
        pass
    traced.tracing.saw(Call("login", "POST", "a.example.com", 0.1, status=200))
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
    with traced.tracing.step("validate_key", "", time.time()):
        pass
    assert traced.spans()["occ.validate_key"].resource.attributes["service.name"] == name


def test_opentelemetrys_own_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traced = Traced()
    with traced.tracing.step("validate_key", "", time.time()) as span:
        span.tell(slot="a")
        assert span.traceparent == ""
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


def test_a_collector_that_does_not_answer_keeps_no_work_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    stuck = Stuck()
    tracing = OtlpTracing({}, stuck)
    try:
        for _ in range(200):  # were one of them to wait for the collector, pytest's timeout would come first
            with tracing.step("validate_key", "", time.time()):
                pass
        tracing.close()
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


def test_a_collector_that_is_down_is_told_of_once_and_so_is_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    exporter = Moody("raises", "refuses", "refuses", "takes", "takes", "refuses")
    tracing = OtlpTracing({}, exporter)
    with structlog.testing.capture_logs() as lines:
        while exporter.moods:
            with tracing.step("validate_key", "", time.time()):
                pass
            assert tracing._batches is not None
            tracing._batches.force_flush()
    tracing.close()
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


def test_tracing_is_off_unless_it_is_asked_for() -> None:
    assert tracing_of(settings_with("none"), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is UNTRACED
    assert isinstance(tracing_of(settings_with("otlp"), {}), OtlpTracing)
    with UNTRACED.step("validate_key", PRODUCER, 0.0) as span:
        assert span.traceparent == ""


def test_without_the_extra_what_asks_for_it_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tasks.worker.tracing.otlp", None)
    with pytest.raises(SettingsError) as told:
        tracing_of(settings_with("otlp"), {})
    (problem,) = told.value.problems
    assert problem.startswith("OCC_TRACES: ")
    assert "pip install" in problem
    assert all(requirement in problem for requirement in REQUIREMENTS)


def test_the_remedy_is_what_the_project_declares() -> None:
    declared = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{requirement}"' in declared for requirement in REQUIREMENTS)


def test_nothing_of_ours_needs_opentelemetry_unless_it_is_asked_for() -> None:
    without = "import sys; sys.modules['opentelemetry'] = None\n"  # what is not installed cannot be imported
    question = "import tasks.step, tasks.wiring, tasks.worker.tracing.span, tasks.worker.tracing.extra\n"
    answer = "assert 'tasks.worker.tracing.otlp' not in sys.modules"
    subprocess.run([sys.executable, "-c", without + question + answer], cwd=REPOSITORY, check=True, timeout=60)

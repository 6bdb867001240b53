"""One trace from a producer over all steps to each call, as a collector receives it; and no secret in it."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from occ.simulator.store import SimulatedStore
from tests.end_to_end.collector import Collector, Span
from tests.end_to_end.requests import ours, revalidate
from tests.pipeline import Pipeline
from tests.secrets import canaries, stores
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

# What is in requests, headers, queries, paths and bodies, and has no business in a span.
NEVER = (b"sealed.v1", b"Bearer", b"client_credentials", b"limit=", b"fields=", b"/ccadmin", b"hooks.example.com")

STEPS = 7  # of a run in which one slot takes two attempts


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def pipeline_that_traces(folder: Path, collector: Collector, **settings: str) -> Pipeline:
    return Pipeline(
        folder,
        settings={
            "OCC_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OCC_CONCURRENCY": "4",
            **settings,
        },
    )


def start_worker(pipeline: Pipeline, name: str, *options: str) -> str:
    return pipeline.start_worker(*options, environment={"OTEL_RESOURCE_ATTRIBUTES": f"worker={name}"})


class Producer:
    """Another system, with a trace of its own."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._tracer = TracerProvider(shutdown_on_exit=False).get_tracer("shop")

    def ask(self, door: str, store: SimulatedStore) -> tuple[str, str]:
        """Ask for a connection; tells the ids of its trace and of its own span there."""
        with self._tracer.start_as_current_span("signup"):
            carrier: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(carrier)
            request = self._pipeline.request(store)
            if door == "inbox":
                self._pipeline.post({**request, **carrier})
            else:
                self._pipeline.producer.send_task("occ.connect", kwargs=request, queue="occ", headers=carrier)
            known = trace.get_current_span().get_span_context()
        return f"{known.trace_id:032x}", f"{known.span_id:016x}"


def steps(spans: list[Span]) -> Counter[tuple[object, ...]]:
    wanted = ("occ.slot", "occ.attempt", "occ.outcome", "occ.cause")
    return Counter(
        (span.name, *(span.facts.get(name) for name in wanted))
        for span in spans
        if not span.is_call and span.name != "occ.accept"
    )


def calls(spans: list[Span]) -> Counter[str]:
    """By endpoint, as the simulated store counts them."""
    return Counter(str(span.facts["occ.endpoint"]) for span in spans if span.is_call)


def await_run(collector: Collector, store: SimulatedStore) -> list[Span]:
    """Until as many spans of calls have arrived as the store was called, and those of the steps and the request."""

    def arrived() -> bool:
        spans = collector.of_merchant(store.name)
        complete = steps(spans).total() == STEPS and any(span.name == "occ.accept" for span in spans)
        return complete and calls(spans) == Counter(store.calls.endpoints)

    wait_until(arrived, what="all spans of the run")
    return collector.of_merchant(store.name)


def assert_calls_hang_below_steps(spans: list[Span]) -> None:
    names = {span.span_id: span.name for span in spans}
    for span in spans:
        if span.is_call:
            assert names[span.parent_id] in {"occ.validate_key", "occ.check_shipping_methods", "occ.register_slot"}
            assert span.facts["server.address"].startswith("127.")
            assert isinstance(span.facts["http.response.status_code"], int)


def assert_no_secret(collector: Collector, store: SimulatedStore) -> None:
    everything = b"".join(collector.received)
    assert canaries.Search([canaries.KEY, canaries.TOKEN, canaries.CLEAR]).hits(everything) == []
    assert not [piece for piece in (*NEVER, store.application_key.encode()) if piece in everything]
    assert not [text for span in collector.spans() for text in (span.name, *span.facts.values()) if "?" in str(text)]


POOLS = ("threads", "prefork")


def test_one_trace_covers_a_run_and_another_the_look_that_follows(tmp_path: Path, collector: Collector) -> None:
    with pipeline_that_traces(tmp_path, collector) as pipeline:
        for pool in POOLS:
            start_worker(pipeline, pool, f"--pool={pool}")
        pipeline.start_beat()
        pipeline.await_workers()
        for door in ("celery", "inbox"):
            store = stores.add(pipeline.simulator, door)
            store.fail("write_slot:order-submit", 503)
            trace_id, span_id = Producer(pipeline).ask(door, store)
            pipeline.await_end(store.name)
            spans = await_run(collector, store)
            assert {span.trace_id for span in spans} == {trace_id}
            assert {span.parent_id for span in spans if not span.is_call} == {span_id}
            assert_calls_hang_below_steps(spans)
            (accepted,) = [span for span in spans if span.name == "occ.accept"]
            assert accepted.facts == {
                "occ.request": "connect",
                "occ.door": door,
                "occ.outcome": "accepted",
                "occ.merchant_id": store.name,
                "occ.run": 1,
            }
            assert steps(spans) == {
                ("occ.validate_key", None, 1, "done", None): 1,
                ("occ.check_shipping_methods", None, 1, "done", None): 1,
                ("occ.register_slot", "order-submit", 1, "retrying", "store_error"): 1,
                ("occ.register_slot", "order-submit", 2, "registered", None): 1,
                ("occ.register_slot", "order-update", 1, "registered", None): 1,
                ("occ.register_slot", "shipment-create", 1, "registered", None): 1,
                ("occ.register_slot", "shipment-update", 1, "registered", None): 1,
            }
        # A look that mends a slot asks, with a query string, for what was missed meanwhile.
        store.change(slots={"order-update": {"urls": []}})
        store.reset_counts()
        revalidate(pipeline, store)
        assert ours(store.name, "order-update") in store.urls("order-update")
        assert store.calls.endpoints["failed_messages"]

        def of_the_look() -> list[Span]:
            return [span for span in collector.of_merchant(store.name) if span.trace_id != trace_id]

        assert_malformed_is_ignored_and_not_repeated(pipeline, collector)
        wait_until(lambda: calls(of_the_look()) == Counter(store.calls.endpoints), what="the look's calls")
        assert len({span.trace_id for span in of_the_look()}) == 1
        assert_no_secret(collector, store)
    assert steps(of_the_look()) == {
        ("occ.validate_key", None, 1, "done", None): 1,
        ("occ.register_slot", "order-update", 1, "registered", None): 1,
    }


def assert_malformed_is_ignored_and_not_repeated(pipeline: Pipeline, collector: Collector) -> None:
    store = stores.add(pipeline.simulator, "malformed")
    for key in ("in-the-field", "in-the-header"):
        clear = canaries.application_key(key, canaries.CLEAR)
        request = pipeline.request(store, merchant_id=key, **({"traceparent": clear} if "field" in key else {}))
        header = {} if "field" in key else {"traceparent": clear}
        pipeline.producer.send_task("occ.connect", kwargs=request, queue="occ", headers=header)
        pipeline.await_end(key)
        assert pipeline.status(key)["status"] == "active"
        wait_until(lambda key=key: steps(collector.of_merchant(key)).total() == 6, what="its steps")  # type: ignore[misc]
        assert len({span.trace_id for span in collector.of_merchant(key)}) == 1
    kept = b"".join(str(pipeline.redis.hgetall(key)).encode() for key in pipeline.redis.keys("occ:connection:*"))
    assert canaries.CLEAR.encode() not in kept
    for name in pipeline.processes:
        assert canaries.CLEAR.encode() not in pipeline.output(name)


def test_what_waits_to_be_sent_is_sent_when_workers_end(tmp_path: Path, collector: Collector) -> None:
    with pipeline_that_traces(tmp_path, collector, OTEL_BSP_SCHEDULE_DELAY="3600000") as pipeline:
        for pool in POOLS:
            start_worker(pipeline, pool, f"--pool={pool}")
        pipeline.start_beat()
        pipeline.await_workers()
        asked: dict[str, SimulatedStore] = {}
        while not all(b'"recorded"' in pipeline.output(name) for name in pipeline.running_workers()):
            store = stores.add(pipeline.simulator, f"waits-{len(asked)}")
            trace_id, _ = Producer(pipeline).ask("celery", store)
            asked[trace_id] = store
            pipeline.await_end(store.name)
        assert collector.received == []
    for trace_id, store in asked.items():
        spans = collector.of_merchant(store.name)
        assert {span.trace_id for span in spans} == {trace_id}
        assert calls(spans) == Counter(store.calls.endpoints)
        assert steps(spans).total() == 6
    assert {span.worker for span in collector.spans()} == {*POOLS}


def test_what_a_killed_worker_left_is_done_in_the_same_trace(tmp_path: Path, collector: Collector) -> None:
    with pipeline_that_traces(tmp_path, collector, OCC_RETRY_ATTEMPTS="100") as pipeline:
        killed = start_worker(pipeline, "killed")
        pipeline.start_beat()
        pipeline.await_workers()
        store = stores.add(pipeline.simulator, "left")
        store.fail("read_slot:order-update", {"fault": "slow", "delay": 60, "times": "always"})
        trace_id, span_id = Producer(pipeline).ask("inbox", store)
        wait_until(lambda: store.calls.slots["write_slot:order-submit"] == 1, what="the slots to be under way")
        wait_until(lambda: store.calls.slots["read_slot:order-update"] >= 1, what="the call to be under way")
        pipeline.kill(killed, signal.SIGKILL)
        seen = Counter(store.calls.endpoints)
        store.heal()
        start_worker(pipeline, "heir")
        pipeline.await_workers()
        pipeline.await_end(store.name)

        def of_the_heir() -> list[Span]:
            return [span for span in collector.spans() if span.worker == "heir"]

        def done_by_the_heir() -> list[int]:
            facts = [span.facts for span in of_the_heir() if span.facts.get("occ.slot") == "order-update"]
            return [int(one["occ.attempt"]) for one in facts if one["occ.outcome"] == "registered"]

        wait_until(lambda: bool(done_by_the_heir()), what="the heir's span")
    (attempt,) = done_by_the_heir()
    assert attempt > 1
    spans = collector.of_merchant(store.name)
    assert {span.trace_id for span in spans} == {trace_id}
    assert {span.parent_id for span in spans if not span.is_call} == {span_id}
    made = Counter(store.calls.endpoints) - seen
    assert not calls(of_the_heir()) - made
    in_hand = 4  # calls that were on their way when their worker was killed
    assert (made - calls(of_the_heir())).total() <= in_hand
    assert_no_secret(collector, store)


def test_a_collector_that_is_down_is_told_of_once_per_process_and_harms_nothing(tmp_path: Path) -> None:
    settings = {
        "OCC_TRACES": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://login:CanaryPwdQ7zx@127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with Pipeline(tmp_path, settings=settings) as pipeline:
        worker = pipeline.start_worker()
        pipeline.start_beat()
        pipeline.await_workers()
        for store in pipeline.simulator.add_many(3, "down-{n}"):
            pipeline.send(pipeline.request(store))
            pipeline.await_end(store.name)
            assert pipeline.status(store.name)["status"] == "active"
        wait_until(lambda: b"traces_not_sent" in pipeline.output(worker), what="it to be told")
    output = pipeline.output(worker)
    assert output.count(b"traces_not_sent") == 1
    assert b"CanaryPwdQ7zx" not in output
    assert b"Traceback" not in output

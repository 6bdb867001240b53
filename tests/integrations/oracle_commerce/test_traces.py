"""One trace for all work of a run, and one for each look; retries, dead workers and old records included."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integrations.connections.change import Change, Moment
from integrations.connections.lifecycle import claims, outcomes
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.lifecycle.requests import is_at_rest
from integrations.connections.record import Cause, KeyVerdict, Step, Target
from integrations.connections.stored_record import RECORD as _RECORD
from integrations.oracle_commerce.accept import Door
from integrations.sealing.keyring import seal
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tasks.worker.traces import Traces, parse_traceparent
from tests.integrations.oracle_commerce.by_hand import OURS, SECOND, Desk

PRODUCER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ANOTHER = "00-11111111111111111111111111111111-2222222222222222-01"


class TracedDesk(Desk):
    """A desk whose spans can be looked at."""

    def restart(self, **settings: object) -> None:
        super().restart(**settings)
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.services.traces = Traces(lambda: (provider.get_tracer("test"), provider.shutdown))

    def ask(self, store: SimulatedStore, traceparent: object = PRODUCER, key: str | None = None) -> None:
        """A request of a producer that has a trace."""
        sealed = seal(OURS.public_key, OURS.key_id, "m-1", key or store.application_key)
        request = {"merchant_id": "m-1", "store_url": store.url, "application_key": sealed}
        self.services.acceptance.accept(request, Door.INBOX, traceparent=parse_traceparent(traceparent))

    def request(self, kind: str, **choice: object) -> None:
        """A request about m-1 that comes in the trace ANOTHER."""
        acceptance = self.services.acceptance
        accept = {"revalidate": acceptance.revalidate, "disconnect": acceptance.disconnect}[kind]
        accept({"merchant_id": "m-1", **choice}, Door.INBOX, traceparent=ANOTHER)

    def spans(self) -> list[ReadableSpan]:
        """Those ended since this was asked last."""
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans


@pytest.fixture
def desk() -> Iterator[TracedDesk]:
    desk = TracedDesk()
    yield desk
    desk.services.traces.close()


def traces(spans: list[ReadableSpan]) -> set[str]:
    return {f"{span.context.trace_id:032x}" for span in spans if span.context}


def parents(spans: list[ReadableSpan]) -> set[str]:
    """Of the spans of steps."""
    steps = [span for span in spans if span.name.startswith("occ.")]
    assert steps
    return {f"{span.parent.span_id:016x}" if span.parent else "none" for span in steps}


def facts(spans: list[ReadableSpan]) -> list[tuple[object, ...]]:
    told = [span.attributes or {} for span in spans if span.name == "occ.register_slot"]
    return sorted((one["occ.slot"], one["occ.attempt"], one["occ.outcome"], one.get("occ.cause")) for one in told)


def test_all_work_of_a_run_hangs_below_its_producer_retries_included(desk: TracedDesk) -> None:
    store = desk.store()
    store.fail("write_slot:order-submit", 503)
    desk.ask(store)
    desk.wait(60)
    spans = desk.spans()
    assert traces(spans) == {PRODUCER[3:35]}
    assert parents(spans) == {PRODUCER[36:52]}
    assert facts(spans) == [
        ("order-submit", 1, "retrying", "store_error"),
        ("order-submit", 2, "registered", None),
        ("order-update", 1, "registered", None),
        ("shipment-create", 1, "registered", None),
        ("shipment-update", 1, "registered", None),
    ]
    calls = [span for span in spans if not span.name.startswith("occ.")]
    assert len(calls) == store.calls.endpoints.total()


def test_the_work_a_dead_worker_left_belongs_to_the_same_trace(desk: TracedDesk) -> None:
    desk.ask(desk.store())
    desk.one()  # the key
    desk.one()  # the shipping methods
    desk.hold(Target(desk.connection.step, "order-submit"))
    desk.wait(300)
    spans = desk.spans()
    assert traces(spans) == {PRODUCER[3:35]}
    assert ("order-submit", 2, "registered", None) in facts(spans)


def test_a_doubt_about_the_key_belongs_to_the_run(desk: TracedDesk) -> None:
    store = desk.store()
    store.fail("login", 401)
    desk.ask(store)
    desk.wait(desk.pace.confirm_rejection + 60)
    spans = desk.spans()
    assert desk.status == "active"
    assert [span.name for span in spans].count("occ.validate_key") == 2
    assert traces(spans) == {PRODUCER[3:35]}


def test_a_doubt_that_a_slot_meets_in_a_look_belongs_to_the_look(desk: TracedDesk) -> None:
    store = desk.store()
    desk.ask(store)
    desk.wait(60)
    desk.spans()
    store.fail("login", "healthy", 401)
    store.fail("read_slot:order-submit", {"fault": "unauthorized", "times": 2})
    desk.next_revalidation()
    assert desk.connection.credential.verdict is KeyVerdict.DOUBTED
    desk.wait(desk.pace.confirm_rejection + 60)
    assert desk.status == "active"
    spans = desk.spans()
    assert [span.name for span in spans].count("occ.validate_key") == 2
    assert len(traces(spans)) == 1


def test_work_that_gave_way_to_another_worker_is_not_at_rest(desk: TracedDesk) -> None:
    desk.ask(desk.store())
    desk.wait(60)
    rested = desk.connection
    assert is_at_rest(rested)
    target, at = Target(Step.VALIDATE_KEY), Moment((rested.due_at or 0) + 1, desk.pace)
    claimed = claims.claim(rested, rested.run, target, "worker", at)
    assert isinstance(claimed, Change)
    again = outcomes.record(claimed.connection, target, Failed(Cause("token_renewal_pending"), 1), at)
    assert not is_at_rest(claimed.connection)
    assert not is_at_rest(again.connection)


def test_every_look_has_a_trace_of_its_own_for_all_its_work(desk: TracedDesk) -> None:
    store = desk.store()
    desk.ask(store)
    desk.wait(60)
    seen = traces(desk.spans())
    assert desk.connection.traceparent == ""  # nothing is kept where nothing is under way
    for failing in ("write_slot:order-submit", "shipping_methods", "login"):
        store.change(slots={"order-submit": {"urls": []}})
        store.fail(failing, 503)
        desk.next_revalidation()
        desk.wait(60)
        spans = desk.spans()
        assert "occ.validate_key" in {span.name for span in spans}
        assert "order-submit" in {slot for slot, *_ in facts(spans)}
        (revalidate,) = traces(spans)
        assert revalidate not in seen
        seen.add(revalidate)


def test_looks_in_trouble_have_traces_of_their_own(desk: TracedDesk) -> None:
    store = desk.store(shipping_methods=[])
    desk.ask(store)
    desk.wait(60)
    seen = traces(desk.spans())
    for _ in range(3):
        desk.next_revalidation()
        (revalidate,) = traces(desk.spans())
        assert revalidate not in seen
        seen.add(revalidate)


def test_a_run_without_a_producers_trace_has_one(desk: TracedDesk) -> None:
    desk.connect(desk.store())
    desk.wait(60)
    spans = desk.spans()
    assert len(traces(spans)) == 1
    (root,) = [span for span in spans if span.parent is None]
    assert root.name == "occ.validate_key"


def test_a_new_key_and_a_new_store_belong_to_who_sent_them(desk: TracedDesk) -> None:
    store = desk.store()
    desk.ask(store)
    desk.wait(60)
    desk.spans()
    key = make_application_key(issued_at=1.0, lifetime=None)
    store.change(accept_keys=[store.application_key, key])
    desk.ask(store, ANOTHER, key)
    desk.wait(60)
    assert traces(desk.spans()) == {ANOTHER[3:35]}
    moved = desk.store(SECOND)
    desk.ask(moved, PRODUCER, key)
    moved.change(accept_keys=[key])
    desk.wait(600)
    spans = desk.spans()
    names = [span.name for span in spans]
    assert names.count("occ.disconnect") == 4
    assert traces([span for span in spans if span.name == "occ.disconnect"]) == {PRODUCER[3:35]}


@pytest.mark.parametrize("asked", ["revalidate", "disconnect"])
def test_what_a_wish_begins_belongs_to_its_trace(desk: TracedDesk, asked: str) -> None:
    desk.ask(desk.store())
    desk.wait(60)
    desk.spans()
    desk.request(asked)
    desk.wait(60)
    assert traces(desk.spans()) == {ANOTHER[3:35]}


def test_a_repair_asked_for_in_the_midst_of_a_run_leaves_it_in_its_trace(desk: TracedDesk) -> None:
    desk.ask(desk.store())
    desk.one()
    desk.request("revalidate", repair=True)
    desk.wait(60)
    assert traces(desk.spans()) == {PRODUCER[3:35]}


@pytest.mark.parametrize("malformed", ["0-0-0-0", 7, None, ["x"], "eyJhbGciOiJSUzI1NiJ9.secret.x", "x" * 100_000])
def test_a_malformed_one_is_ignored_and_kept_nowhere(desk: TracedDesk, malformed: object) -> None:
    desk.ask(desk.store(), malformed)
    assert desk.connection.traceparent == ""
    desk.wait(60)
    assert desk.status == "active"
    assert len(traces(desk.spans())) == 1


def test_without_tracing_records_keep_a_trace_no_longer_than_it_lasts() -> None:
    desk = Desk()
    store = desk.store()
    sealed = seal(OURS.public_key, OURS.key_id, "m-1", store.application_key)
    request = {"merchant_id": "m-1", "store_url": store.url, "application_key": sealed}
    desk.services.acceptance.accept(request, Door.INBOX, traceparent=PRODUCER)
    desk.one()
    assert desk.connection.traceparent == PRODUCER  # another worker may trace
    desk.wait(60)
    desk.next_revalidation()
    assert desk.connection.traceparent == ""
    assert b"traceparent" not in _RECORD.dump_json(desk.connection, exclude_defaults=True)


def test_a_record_of_an_older_release_is_read() -> None:
    desk = Desk()
    desk.connect(desk.store())
    written = _RECORD.dump_python(desk.connection, mode="json")
    del written["traceparent"]
    assert _RECORD.validate_python(written) == desk.connection

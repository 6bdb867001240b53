"""A trace context is taken as W3C writes it, and anything else counts as none."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from integrations.traceparent import parse_traceparent, traceparent_of

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# Near what is meant: a piece may be too short, too long, of other digits, or nothing but zeros.
digits = st.sampled_from(string.hexdigits + "g-\u0660 ")
hexes = st.text("0123456789abcdef", max_size=40)
pieces = st.builds(lambda length, more: (more * 40)[:length], st.sampled_from([1, 2, 16, 32, 33]), hexes | digits)
near = st.builds("-".join, st.lists(pieces | st.sampled_from(["00", "01", "ff", "0" * 16, "0" * 32]), max_size=6))


def as_opentelemetry_reads(text: str) -> str:
    known = trace.get_current_span(TraceContextTextMapPropagator().extract({"traceparent": text})).get_span_context()
    if not known.is_valid:
        return ""
    return f"00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags & 1:02x}"


@settings(deadline=None)
@given(near | st.text() | st.just(GOOD))
def test_what_is_taken_is_what_opentelemetry_takes(text: str) -> None:
    ours, theirs = parse_traceparent(text), as_opentelemetry_reads(text)
    assert ours in {theirs, ""}
    if text.isascii() and text == text.strip() and text.count("-") == 3 and not text.startswith("ff"):
        assert ours == theirs


@settings(deadline=None)
@given(
    version=st.integers(0, 254),
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    flags=st.integers(0, 255),
)
def test_every_good_one_is_taken_and_taken_again(version: int, trace_id: int, span_id: int, flags: int) -> None:
    taken = parse_traceparent(f"{version:02x}-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    assert taken == f"00-{trace_id:032x}-{span_id:016x}-{flags & 1:02x}"
    assert parse_traceparent(taken) == taken


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        7,
        [GOOD],
        {"traceparent": GOOD},
        "",
        GOOD.upper(),
        f" {GOOD}",
        f"{GOOD}\n",
        f"{GOOD}-more",
        f"ff{GOOD[2:]}",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln",
    ],
)
def test_anything_else_is_none(malformed: object) -> None:
    assert parse_traceparent(malformed) == ""
    assert traceparent_of({"traceparent": malformed}) == ""


def test_a_later_version_may_say_more() -> None:
    assert parse_traceparent(f"01{GOOD[2:]}-more") == GOOD


@pytest.mark.parametrize("request_", [None, "text", [], {}, {"merchant_id": "m-1"}])
def test_a_request_need_not_bring_one(request_: object) -> None:
    assert traceparent_of(request_) == ""

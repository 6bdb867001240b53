"""Every call is told of once: which one, how it ended, how long it took, and nothing else."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest

from integrations.connections.causes import explain
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import IntegrationError
from integrations.observer import CallOutcome, ObservedCall
from integrations.oracle_commerce.client import CommerceCloud, Endpoint
from tests.integrations.wire_servers import WireServer, answering, http

LOGIN = json.dumps({"access_token": "t.t.t", "expires_in": 300}).encode()
SLOT = b'{"id": "order-submit", "urls": []}'
LIST = b'{"items": []}'

Ask = Callable[[CommerceCloud, Deadline], object]


class Calls:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, CallOutcome]] = []
        self.seconds: list[float] = []

    def called(self, call: ObservedCall) -> None:
        self.heard.append((call.endpoint, call.outcome))
        self.seconds.append(call.seconds)

    def token_taken(self, _: object) -> None:
        raise AssertionError("no token was asked for")


def heard(session: GuardedSession, answer: bytes, ask: Ask) -> Calls:
    calls = Calls()
    with WireServer(answering(answer)) as server:
        store = CommerceCloud(session, f"http://127.0.0.1:{server.port}", observer=calls)
        with suppress(IntegrationError):
            ask(store, Deadline.after(5))
    return calls


@pytest.mark.parametrize(
    ("endpoint", "answer", "ask"),
    [
        (Endpoint.LOGIN, LOGIN, lambda store, soon: store.login("k.k.k", soon)),
        (Endpoint.SHIPPING_METHODS, LIST, lambda store, soon: store.shipping_methods("t", soon)),
        (Endpoint.READ_SLOT, SLOT, lambda store, soon: store.read_slot("t", "order-submit", soon)),
        (Endpoint.LIST_SLOTS, LIST, lambda store, soon: store.list_slots("t", soon)),
        (Endpoint.WRITE_SLOT, SLOT, lambda store, soon: store.write_slot("t", "order-submit", {"urls": []}, soon)),
        (Endpoint.FAILED_MESSAGES, LIST, lambda store, soon: store.failed_messages("t", soon, limit=1, offset=0)),
        (Endpoint.RESEND, b"{}", lambda store, soon: store.resend_failed_message("t", "1", soon)),
    ],
)
def test_each_call_is_told_of_by_name(session: GuardedSession, endpoint: str, answer: bytes, ask: Ask) -> None:
    assert heard(session, http(200, answer), ask).heard == [(endpoint, CallOutcome.OK)]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (http(401, b"{}"), "401"),
        (http(404, b"{}"), "4xx"),
        (http(429, b"{}"), "429"),
        (http(503, b"<html>"), "5xx"),
        (http(302, b"", {"Location": "https://elsewhere.example/"}), "3xx"),
        (http(200, b"no JSON"), "2xx"),  # by its status: that it cannot be read is a cause, and counted as one
        (b"SSH-2.0-OpenSSH\r\n\r\n", "unreadable"),
    ],
)
def test_a_call_is_told_of_by_how_it_ended(session: GuardedSession, answer: bytes, outcome: str) -> None:
    assert heard(session, answer, _read).heard == [("read_slot", outcome)]


def test_what_never_reached_the_store_is_told_of_too(session: GuardedSession) -> None:
    calls = Calls()
    for url in ("http://127.0.0.1:1", "https://10.0.0.1"):
        with pytest.raises(IntegrationError):
            _read(CommerceCloud(session, url, observer=calls), Deadline.after(5))
    assert [outcome for _, outcome in calls.heard] == ["unreachable", "blocked"]
    with pytest.raises(IntegrationError):
        _read(CommerceCloud(session, "http://127.0.0.1:1", observer=calls), Deadline.after(0))
    assert calls.heard[-1] == ("read_slot", "timeout")
    assert all(0 <= seconds < 5 for seconds in calls.seconds)


def _read(store: CommerceCloud, deadline: Deadline) -> object:
    return store.read_slot("t", "order-submit", deadline)


def test_an_error_of_ours_is_told_of_as_one() -> None:
    assert explain("internal_error").call == "error"
    assert CallOutcome.of_status(999) == "unreadable"

import json
from collections.abc import Callable

import pytest

from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import (
    AccessTokenRefused,
    CredentialRejected,
    IntegrationError,
    PermanentError,
    SlotNotFound,
    TransientError,
)
from integrations.oracle_commerce.client import CommerceCloud, FailedMessages, Login, ShippingMethod
from tests.integrations.wire_servers import WireServer, answering, http

KEY = "aGVhZGVy.Y2xhaW1z.c2ln+/bmF0dXJl=="
TOKEN = "hhh.ppp+/.sss="
SLOT = {"id": "production-submitOrder", "urls": ["https://theirs.example/\u00e4"], "secretKey": None}


class Recorder:
    """A store that gives one answer and keeps the requests."""

    def __init__(self, answer: bytes) -> None:
        self.requests: list[bytes] = []
        self.server = WireServer(answering(answer, self.requests))

    def store(self, session: GuardedSession, *, path: str = "/ccadmin/v1/shippingMethods") -> CommerceCloud:
        return CommerceCloud(session, f"http://127.0.0.1:{self.server.port}", shipping_methods_path=path)

    @property
    def request(self) -> tuple[str, dict[str, str], bytes]:
        """Request line, headers in lower case and body of the only request."""
        (request,) = self.requests
        head, _, body = request.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        return line, {name.lower(): value for name, value in headers.items()}, body


def soon() -> Deadline:
    return Deadline.after(5)


def test_a_key_is_exchanged_with_a_form_and_the_key_as_bearer(session: GuardedSession) -> None:
    recorder = Recorder(http(200, json.dumps({"access_token": TOKEN, "expires_in": 300}).encode()))
    with recorder.server:
        assert recorder.store(session).login(KEY, soon()) == Login(TOKEN, 300.0)
    line, headers, body = recorder.request
    assert line == "POST /ccadmin/v1/login HTTP/1.1"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert body == b"grant_type=client_credentials"


def test_shipping_methods_are_asked_for_with_the_access_token(session: GuardedSession) -> None:
    recorder = Recorder(http(200, b'{"items": [{"repositoryId": "ground", "enabled": true}]}'))
    with recorder.server:
        assert recorder.store(session).shipping_methods(TOKEN, soon()) == [ShippingMethod("ground", enabled=True)]
    line, headers, body = recorder.request
    assert line == "GET /ccadmin/v1/shippingMethods HTTP/1.1"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert body == b""


def test_the_path_of_shipping_methods_can_differ(session: GuardedSession) -> None:
    recorder = Recorder(http(200, b"[]"))
    with recorder.server:
        assert (
            recorder.store(session, path="/ccadmin/v1/merchant/shippingMethods").shipping_methods(TOKEN, soon()) == []
        )
    assert recorder.request[0] == "GET /ccadmin/v1/merchant/shippingMethods HTTP/1.1"


def test_a_slot_is_read_by_its_id(session: GuardedSession) -> None:
    recorder = Recorder(http(200, json.dumps(SLOT).encode()))
    with recorder.server:
        assert recorder.store(session).read_slot(TOKEN, "production-submitOrder", soon()) == SLOT
    assert recorder.request[0] == "GET /ccadmin/v1/webhooks/production-submitOrder HTTP/1.1"


@pytest.mark.parametrize(("slot_id", "path"), [("a/b", "a%2Fb"), ("a b?c#d", "a%20b%3Fc%23d"), ("\u00e4", "%C3%A4")])
def test_a_slot_id_stays_one_part_of_the_path(session: GuardedSession, slot_id: str, path: str) -> None:
    recorder = Recorder(http(404, b"{}"))
    with recorder.server, pytest.raises(SlotNotFound):
        recorder.store(session).read_slot(TOKEN, slot_id, soon())
    assert recorder.request[0] == f"GET /ccadmin/v1/webhooks/{path} HTTP/1.1"


def test_a_slot_is_written_with_json(session: GuardedSession) -> None:
    recorder = Recorder(http(200, json.dumps(SLOT).encode()))
    with recorder.server:
        written = recorder.store(session).write_slot(TOKEN, "production-submitOrder", {"urls": SLOT["urls"]}, soon())
    assert written == SLOT
    line, headers, body = recorder.request
    assert line == "PUT /ccadmin/v1/webhooks/production-submitOrder HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"urls": SLOT["urls"]}


def test_a_write_without_a_telling_answer_is_not_a_failure(session: GuardedSession) -> None:
    recorder = Recorder(http(204, b""))
    with recorder.server:
        assert recorder.store(session).write_slot(TOKEN, "production-submitOrder", {}, soon()) is None


def test_failed_messages_are_asked_for_page_by_page_and_without_the_orders_in_them(session: GuardedSession) -> None:
    recorder = Recorder(http(200, b'{"items": [{"id": "200001"}], "totalResults": 501}'))
    with recorder.server:
        page = recorder.store(session).failed_messages(TOKEN, soon(), limit=250, offset=500)
    assert page == FailedMessages([{"id": "200001"}], 501)
    fields = "items.id,items.remainingTargetUrls,items.savedTime,items.resend,items.lastErrorMessage,totalResults"
    path = f"/ccadmin/v1/webhookFailedMessages?limit=250&offset=500&fields={fields}"
    assert recorder.request[0] == f"GET {path} HTTP/1.1"


def test_one_failed_message_is_queued_again(session: GuardedSession) -> None:
    recorder = Recorder(http(200, b'{"id": "200001", "resend": true}'))
    with recorder.server:
        recorder.store(session).resend_failed_message(TOKEN, "200001", soon())
    line, headers, body = recorder.request
    assert line == "PUT /ccadmin/v1/webhookFailedMessages/200001 HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"resend": True}


def test_the_id_of_a_message_stays_one_part_of_the_path(session: GuardedSession) -> None:
    recorder = Recorder(http(200, b"{}"))
    with recorder.server:
        recorder.store(session).resend_failed_message(TOKEN, "../a?q=x", soon())
    assert recorder.request[0] == "PUT /ccadmin/v1/webhookFailedMessages/..%2Fa%3Fq%3Dx HTTP/1.1"


@pytest.mark.parametrize("message_id", ["", ".", "..", " ", "a b", "1\r\nX: y", "\u00e4", "1" * 101])
def test_a_resend_can_never_mean_the_messages_of_everybody(session: GuardedSession, message_id: str) -> None:
    recorder = Recorder(http(200, b"{}"))
    with recorder.server, pytest.raises(PermanentError, match="request_refused"):
        recorder.store(session).resend_failed_message(TOKEN, message_id, soon())
    assert recorder.requests == []


CALLS: list[Callable[[CommerceCloud, str], object]] = [
    lambda store, token: store.shipping_methods(token, soon()),
    lambda store, token: store.read_slot(token, "order-submit", soon()),
    lambda store, token: store.write_slot(token, "order-submit", {}, soon()),
    lambda store, token: store.failed_messages(token, soon(), limit=250, offset=0),
    lambda store, token: store.resend_failed_message(token, "200001", soon()),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("token", ["", "canary-7f3a\r\nX: y", "canary-7f3a \u20ac", "canary-7f3a\x00", " canary-7f3a"])
def test_a_token_no_header_can_carry_is_as_good_as_refused(
    session: GuardedSession, call: Callable[[CommerceCloud, str], object], token: str
) -> None:
    recorder = Recorder(http())
    with recorder.server, pytest.raises(AccessTokenRefused) as caught:
        call(recorder.store(session), token)
    assert "canary" not in str(caught.value)
    assert recorder.requests == []


def test_a_key_no_header_can_carry_is_as_good_as_rejected(session: GuardedSession) -> None:
    recorder = Recorder(http())
    with recorder.server, pytest.raises(CredentialRejected) as caught:
        recorder.store(session).login("canary-7f3a\r\nX: y", soon())
    assert "canary" not in str(caught.value)
    assert recorder.requests == []


@pytest.mark.parametrize("call", CALLS)
def test_the_deadline_of_the_work_bounds_every_call(
    session: GuardedSession, call: Callable[[CommerceCloud, str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(http())
    monkeypatch.setitem(globals(), "soon", lambda: Deadline.after(-1))
    with recorder.server, pytest.raises(TransientError, match="store_timeout"):
        call(recorder.store(session), TOKEN)
    assert recorder.requests == []


@pytest.mark.parametrize("call", CALLS)
def test_what_the_store_says_no_to_is_an_error_of_ours(
    session: GuardedSession, call: Callable[[CommerceCloud, str], object]
) -> None:
    recorder = Recorder(http(503, b"<html>", {"Retry-After": "9"}))
    with recorder.server, pytest.raises(IntegrationError) as caught:
        call(recorder.store(session), TOKEN)
    assert isinstance(caught.value, TransientError)
    assert caught.value.retry_after == 9.0
    assert str(caught.value) == "store_error: HTTP 503"

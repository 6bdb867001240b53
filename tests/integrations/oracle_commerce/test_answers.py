import codecs
import json
import string
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from integrations.egress.answer import Answer, retry_after
from integrations.errors import (
    AccessTokenRefused,
    CredentialRejected,
    IntegrationError,
    PermanentError,
    SlotNotFound,
    SlotNotReadable,
    TransientError,
)
from integrations.oracle_commerce import answers
from integrations.oracle_commerce.answers import FailedMessages, Login, ShippingMethod
from integrations.oracle_commerce.slot import urls_in
from tests.examples import examples

NOON = 1_780_000_000.0
HTML = b"<!DOCTYPE html><html><body>Access Denied</body></html>"
ORACLE_ERROR = {"message": "Ein Fehler", "status": "400", "errorCode": "82001"}
ORDER_SUBMIT = "production-submitOrder"
LOGIN, METHODS = answers.login, answers.shipping_methods
READ = partial(answers.slot, slot_id=ORDER_SUBMIT)
WRITE = partial(answers.written_slot, slot_id=ORDER_SUBMIT)
FAILED, RESENT = answers.failed_messages, answers.resent
READERS: list[Callable[[Answer], object]] = [LOGIN, METHODS, READ, WRITE, FAILED, RESENT]


def answer(
    status: int = 200,
    body: object = b"",
    headers: Mapping[str, str] | None = None,
    *,
    content_type: str = "application/json",
) -> Answer:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = CaseInsensitiveDict({"Content-Type": content_type, **(headers or {})})
    return Answer(status, fields, encoded, NOON)


def trouble(read: Callable[[Answer], object], given_answer: Answer) -> IntegrationError:
    with pytest.raises(IntegrationError) as caught:
        read(given_answer)
    return caught.value


def page(status: int) -> Answer:
    return answer(status, HTML, content_type="text/html")


def error(status: int, **fields: object) -> Answer:
    return answer(status, {"message": "x", **fields})


# Refusals


@pytest.mark.parametrize(
    ("read", "given_answer", "kind", "code"),
    [
        # Whatever the call
        *((read, answer(500), TransientError, "store_error") for read in READERS),
        *((read, page(503), TransientError, "store_error") for read in READERS),
        *((read, answer(599), TransientError, "store_error") for read in READERS),
        *((read, answer(status), TransientError, "store_error") for read in READERS for status in (408, 425)),
        *((read, answer(429), TransientError, "store_busy") for read in READERS),
        *((read, page(429), TransientError, "store_busy") for read in READERS),
        *((read, error(403, errorCode="60012"), TransientError, "store_overloaded") for read in READERS),
        *((read, error(403, errorCode=60012), TransientError, "store_overloaded") for read in READERS),
        *((read, page(403), TransientError, "edge_refused") for read in READERS),
        *((read, answer(403, HTML), TransientError, "edge_refused") for read in READERS),
        *((read, answer(100), TransientError, "unreadable_answer") for read in READERS),
        # Login
        (LOGIN, answer(401, ORACLE_ERROR), CredentialRejected, "key_rejected"),
        (LOGIN, answer(401, {"error": "invalid_client"}), CredentialRejected, "key_rejected"),
        *(
            (LOGIN, answer(200, {"error": refused}), CredentialRejected, "key_rejected")
            for refused in ("invalid_client", "invalid_grant", "unauthorized_client")
        ),
        (LOGIN, answer(200, {"error": "invalid_client", "status": "503"}), TransientError, "store_error"),
        (LOGIN, answer(200, {"error": "temporarily_unavailable"}), TransientError, "store_error"),
        (METHODS, answer(200, {"error": "invalid_client"}), TransientError, "store_error"),
        (LOGIN, answer(401), CredentialRejected, "key_rejected"),
        (LOGIN, page(401), CredentialRejected, "key_rejected"),
        (LOGIN, answer(400, ORACLE_ERROR), CredentialRejected, "key_rejected"),
        (LOGIN, answer(400), CredentialRejected, "key_rejected"),
        (LOGIN, page(400), TransientError, "edge_refused"),
        (LOGIN, answer(400, b"Bad Request"), TransientError, "edge_refused"),
        (LOGIN, error(403), TransientError, "edge_refused"),
        (LOGIN, page(404), PermanentError, "not_an_admin_host"),
        (LOGIN, error(404), PermanentError, "not_an_admin_host"),
        (LOGIN, answer(405), PermanentError, "not_an_admin_host"),
        (LOGIN, page(200), PermanentError, "not_an_admin_host"),
        (LOGIN, answer(415), PermanentError, "request_refused"),
        # Shipping methods
        (METHODS, error(401), AccessTokenRefused, "access_token_refused"),
        (METHODS, page(401), AccessTokenRefused, "access_token_refused"),
        (METHODS, error(403), PermanentError, "permission_denied"),
        (METHODS, answer(403), PermanentError, "permission_denied"),
        (METHODS, error(404), PermanentError, "shipping_methods_not_found"),
        (METHODS, error(400, errorCode="1"), PermanentError, "request_refused"),
        (METHODS, page(200), TransientError, "unreadable_answer"),
        # Reading a slot
        (READ, error(401), AccessTokenRefused, "access_token_refused"),
        (READ, error(403), PermanentError, "permission_denied"),
        (READ, error(404), SlotNotFound, "slot_not_offered"),
        (READ, page(405), SlotNotReadable, "slot_not_offered"),
        (READ, error(400), PermanentError, "slot_not_offered"),
        (READ, error(409), PermanentError, "request_refused"),
        (READ, page(200), TransientError, "unreadable_answer"),
        # Writing a slot
        (WRITE, error(401), AccessTokenRefused, "access_token_refused"),
        (WRITE, error(403), PermanentError, "permission_denied"),
        (WRITE, error(404), PermanentError, "slot_not_offered"),
        (WRITE, error(400), PermanentError, "slot_refused"),
        (WRITE, error(405), PermanentError, "slot_refused"),
        (WRITE, error(412), PermanentError, "slot_refused"),
        # The failed-message log
        *((read, error(401), AccessTokenRefused, "access_token_refused") for read in (FAILED, RESENT)),
        *((read, error(403), PermanentError, "permission_denied") for read in (FAILED, RESENT)),
        *((read, error(404), PermanentError, "request_refused") for read in (FAILED, RESENT)),
        *((read, error(400), PermanentError, "request_refused") for read in (FAILED, RESENT)),
        *((read, page(405), PermanentError, "request_refused") for read in (FAILED, RESENT)),
        *((read, page(200), TransientError, "unreadable_answer") for read in (FAILED, RESENT)),
        (FAILED, answer(204), TransientError, "unreadable_answer"),
    ],
)
def test_what_a_status_means_for_a_call(
    read: Callable[[Answer], object], given_answer: Answer, kind: type[IntegrationError], code: str
) -> None:
    raised = trouble(read, given_answer)
    assert type(raised) is kind
    assert raised.code == code
    assert str(given_answer.status) in raised.detail


def test_a_slot_that_cannot_be_read_is_not_the_same_as_one_that_is_not_there() -> None:
    assert not isinstance(trouble(READ, error(400)), SlotNotFound)


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        ({"errorCode": "1", "status": "401"}, AccessTokenRefused, "HTTP 200, status 401, errorCode 1"),
        ({"errorCode": "1", "status": 404}, SlotNotFound, "HTTP 200, status 404, errorCode 1"),
        ({"errorCode": "60012", "status": "403"}, TransientError, "HTTP 200, status 403, errorCode 60012"),
        ({"errorCode": 82001}, TransientError, "HTTP 200, errorCode 82001"),
        ({"error": "oops"}, TransientError, "HTTP 200"),
        ({"error": "oops", "status": "200"}, TransientError, "HTTP 200"),
        ({"error": "oops", "status": "teapot"}, TransientError, "HTTP 200"),
        ({"errors": [{"errorCode": "20031", "status": "404"}]}, SlotNotFound, "HTTP 200, status 404, errorCode 20031"),
        (
            {"status": "404", "errorCode": None, "errors": [{"errorCode": "5"}]},
            SlotNotFound,
            "HTTP 200, status 404, errorCode 5",
        ),
    ],
)
def test_an_error_that_arrives_as_a_success_counts_by_its_own_status(
    body: object, kind: type[IntegrationError], detail: str
) -> None:
    raised = trouble(READ, answer(200, body))
    assert type(raised) is kind
    assert raised.detail == detail


def test_a_login_refused_within_a_success_is_refused() -> None:
    assert isinstance(trouble(LOGIN, answer(200, {"error": "invalid_client", "status": "401"})), CredentialRejected)
    assert isinstance(trouble(LOGIN, answer(200, {"error": "invalid_client"})), CredentialRejected)


def test_the_http_status_counts_more_than_the_one_in_the_body() -> None:
    assert isinstance(trouble(READ, answer(503, {"errorCode": "1", "status": "401"})), TransientError)


def test_error_codes_are_shown_and_texts_are_not() -> None:
    assert trouble(READ, error(400, errorCode="82001", message="canary")).detail == "HTTP 400, errorCode 82001"
    assert trouble(READ, error(400, errorCode="canary-7f3a")).detail == "HTTP 400"
    assert trouble(READ, error(400, errorCode={"canary": 1}, error="canary")).detail == "HTTP 400"


def test_empty_error_fields_are_no_errors() -> None:
    slot: dict[str, object] = {"id": ORDER_SUBMIT, "error": None, "errorCode": "", "errors": []}
    assert READ(answer(200, slot)) == slot


# Values


def test_a_login_brings_a_token_and_its_lifetime() -> None:
    body = {"access_token": "hhh.ppp+/.sss=", "token_type": "bearer", "expires_in": 300, "links": [{"rel": "self"}]}
    assert LOGIN(answer(200, body)) == Login("hhh.ppp+/.sss=", 300.0)


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        *((930, 930.0), ("930", 930.0), (" 930 ", 930.0), (299.5, 299.5), ("299.5", 299.5)),
        *((value, 300.0) for value in (None, "", "soon", 0, -5, "-5", True, [300], 1e300, 10**40, "9" * 50)),
    ],
)
def test_the_lifetime_of_a_token_is_read_tolerantly(expires_in: object, lifetime: float) -> None:
    assert LOGIN(answer(200, {"access_token": "t", "expires_in": expires_in})).lifetime == lifetime


def test_a_token_without_a_lifetime_lives_five_minutes() -> None:
    assert LOGIN(answer(200, {"access_token": "t"})).lifetime == 300.0


@pytest.mark.parametrize(
    "body",
    [
        *({"access_token": token} for token in (None, "", " ", "a b", "a\nb", "\u20ac", 5, ["t"], "x" * 20_000)),
        *({}, [], [{"access_token": "t"}], None, "t", 5, b"", b"{", b"access_token=t"),
    ],
)
def test_a_login_without_a_usable_token_is_unreadable(body: object) -> None:
    assert trouble(LOGIN, answer(200, body)).code == "unreadable_answer"


def test_a_login_hides_its_token() -> None:
    assert "canary" not in repr(Login("canary", 300.0))


ITEM = {"repositoryId": "ground", "id": "other", "enabled": True, "displayName": None}


@pytest.mark.parametrize(
    ("body", "methods"),
    [
        ({"items": [ITEM], "links": []}, [ShippingMethod("ground", enabled=True)]),
        ([ITEM], [ShippingMethod("ground", enabled=True)]),
        ({"items": []}, []),
        ({"items": None}, []),
        ([], []),
        ([{"id": "x"}], [ShippingMethod("x", enabled=True)]),
        ([{"repositoryId": None, "id": 7}], [ShippingMethod("7", enabled=True)]),
        ([{}], [ShippingMethod(None, enabled=True)]),
        ([None, "x", 5, []], []),
        *(
            ([{"id": "x", "enabled": no}], [ShippingMethod("x", enabled=False)])
            for no in (False, "false", " FALSE", 0, "0")
        ),
        *(([{"id": "x", "enabled": yes}], [ShippingMethod("x", enabled=True)]) for yes in (True, "true", 1, None)),
    ],
)
def test_shipping_methods_are_read_in_either_form(body: object, methods: list[ShippingMethod]) -> None:
    assert METHODS(answer(200, body)) == methods


@pytest.mark.parametrize("body", [{}, {"items": 5}, {"items": {}}, 5, "x", None, b"", HTML])
def test_without_a_list_nothing_is_said_about_shipping_methods(body: object) -> None:
    assert trouble(METHODS, answer(200, body)).code == "unreadable_answer"


SLOT = {
    "id": "production-submitOrder",
    "urls": ["https://theirs.example/\u00e4?a=1&b=2"],
    "maxNumberOfResendAttempts": "5",
    "headers": None,
    "basicAuthentication": {"user": "password"},
    "unheardOf": [1, 2.5, {"x": None}],
}


@pytest.mark.parametrize("body", [SLOT, [SLOT], {"items": [SLOT]}])
@pytest.mark.parametrize("status", [200, 201])
def test_a_slot_comes_as_the_store_has_it(body: object, status: int) -> None:
    assert READ(answer(status, body)) == SLOT
    assert WRITE(answer(status, body)) == SLOT


@pytest.mark.parametrize("body", [[], [SLOT, SLOT], {"items": []}, None, 5, "x", b"", b"ok", HTML])
def test_a_slot_is_one_object(body: object) -> None:
    assert trouble(READ, answer(200, body)).code == "unreadable_answer"
    if body == HTML:  # from something in front of the store: nobody knows whether it was written
        assert trouble(WRITE, answer(200, body)).code == "unreadable_answer"
    else:
        assert WRITE(answer(200, body)) is None


@pytest.mark.parametrize(
    ("body", "total"),
    [
        ({"items": [{"id": "1"}], "totalResults": 7, "total": 8}, 7),
        ({"items": [{"id": "1"}], "totalResults": "7"}, 7),
        ({"items": [{"id": "1"}], "total": 8}, 8),
        ({"items": [{"id": "1"}], "totalResults": None}, None),
        ({"items": [{"id": "1"}], "totalResults": -7}, None),
        ({"items": [{"id": "1"}], "totalResults": True}, None),
        ([{"id": "1"}], None),
    ],
)
def test_failed_messages_come_as_the_store_has_them(body: object, total: int | None) -> None:
    assert FAILED(answer(200, body)) == FailedMessages([{"id": "1"}], total)


def test_a_failed_message_that_cannot_be_read_keeps_its_place() -> None:
    assert FAILED(answer(200, {"items": ["x", {"id": "1"}, None]})).items == [{}, {"id": "1"}, {}]


@pytest.mark.parametrize("body", [{}, None, "x", {"items": None}, {"items": {"id": "1"}}, 5])
def test_without_a_list_nothing_is_said_about_failed_messages(body: object) -> None:
    assert trouble(FAILED, answer(200, body)).code == "unreadable_answer"


def test_failed_messages_hide_what_they_carry() -> None:
    assert "canary" not in repr(FAILED(answer(200, [{"asRaw": "canary"}])))


@pytest.mark.parametrize("given_answer", [answer(204), answer(200, {"id": "1", "resend": True}), answer(202, {})])
def test_a_resend_may_be_accepted_with_or_without_a_body(given_answer: Answer) -> None:
    RESENT(given_answer)


def test_a_write_may_be_answered_without_a_body() -> None:
    assert WRITE(answer(204)) is None
    assert trouble(READ, answer(204)).code == "unreadable_answer"


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [
        ("utf-8", "application/json"),
        ("utf-8", "application/json;charset=UTF-8"),
        ("utf-8", 'application/json; charset="utf8"'),
        ("utf-8", "text/html; charset=iso-8859-1"),
        ("utf-8", ""),
        ("utf-8-sig", "text/plain"),
        ("utf-16", "application/json"),
        ("utf-16-le", "application/json"),
        ("latin-1", "application/json;charset=ISO-8859-1"),
        ("latin-1", "application/json; charset=windows-1252"),
    ],
)
def test_json_is_read_in_any_encoding_and_under_any_content_type(encoding: str, content_type: str) -> None:
    body = codecs.encode(json.dumps(SLOT, ensure_ascii=False), encoding)
    assert READ(answer(200, body, content_type=content_type)) == SLOT


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"{'a': 1}", b'{"a": undefined}', b"\xff\xfe{"])
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    assert trouble(READ, answer(200, body)).code == "unreadable_answer"


CARELESS = [
    b'"Ground\t(3-5 days)"',
    b'"one\r\ntwo\x00\x1f"',
    b'"caf\xe9"',  # Latin-1 in what says to be UTF-8
    rb'"\ud83d"',  # half a character, cut by a length limit
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"1" * 5000,
    b'{"low": 0, "high": Infinity, "low": 1}',
]


@pytest.mark.parametrize("text", CARELESS)
def test_a_careless_text_nobody_reads_does_no_harm(text: bytes) -> None:
    methods = answer(200, b'{"items": [{"repositoryId": "g", "enabled": true, "displayName": ' + text + b"}]}")
    assert METHODS(methods) == [ShippingMethod("g", enabled=True)]
    assert LOGIN(answer(200, b'{"access_token": "t", "expires_in": 60, "x": ' + text + b"}")) == Login("t", 60.0)
    slot = answer(200, b'{"urls": ["https://a.example"], "displayName": ' + text + b"}")
    assert READ(slot)["urls"] == ["https://a.example"]
    (listed,) = answers.slots(answer(200, b'[{"urls": ["https://a.example"], "displayName": ' + text + b"}]"))
    assert listed["urls"] == ["https://a.example"]


def test_a_byte_order_mark_is_no_part_of_an_answer() -> None:
    assert METHODS(answer(200, codecs.BOM_UTF8 + b'{"items": []}')) == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"urls": ["https://a.example/\t"  , "https://b.example/a\tb"]}',
        rb'{"urls": ["https://a.example/\u0000x"]}',
        b'{"urls": ["https://a.example/\xff"]}',
        rb'{"url": "https://a.example/\ud800"}',
        b'{"urls": ["https://a.example"], "urls": []}',
        b'{"url": "https://a.example", "url": null}',
    ],
)
def test_a_slot_whose_urls_are_damaged_is_not_taken_over(body: bytes) -> None:
    assert trouble(READ, answer(200, body)).code == "slot_unreadable"
    assert WRITE(answer(200, body)) is None
    (listed,) = answers.slots(answer(200, b"[" + body + b"]"))
    with pytest.raises(PermanentError, match="slot_unreadable"):
        urls_in(listed)


@pytest.mark.parametrize("lifetime", [b"NaN", b"Infinity", b"1e999", b"-1e999", b"1" * 5000])
def test_what_is_no_number_is_no_lifetime(lifetime: bytes) -> None:
    login = LOGIN(answer(200, b'{"access_token": "t", "expires_in": ' + lifetime + b"}"))
    assert login.lifetime == answers.APPLICATION_KEY_TOKEN_LIFETIME


def test_two_access_tokens_are_none() -> None:
    both = answer(200, b'{"access_token": "a", "access_token": "b"}')
    assert trouble(LOGIN, both).code == "unreadable_answer"


@pytest.mark.parametrize("named", ["production-cancel", "", 7, ["production-submitOrder"], {"id": ORDER_SUBMIT}, True])
def test_an_object_that_names_another_slot_is_no_answer(named: object) -> None:
    other = {"id": named, "urls": ["https://crm.example.com/cancel"]}
    for body in (other, [other], {"items": [other]}):
        assert trouble(READ, answer(200, body)).code == "unreadable_answer"
        assert WRITE(answer(200, body)) is None


@pytest.mark.parametrize("named", [ORDER_SUBMIT, "PRODUCTION-SUBMITORDER", " production-submitorder\n", None])
def test_stores_do_not_tell_slots_apart_by_case(named: str | None) -> None:
    slot = {"id": named, "urls": ["https://a.example"]}
    assert READ(answer(200, slot)) == WRITE(answer(200, slot)) == slot


# Retry-After


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), (" 120 ", 120.0), ("0", 0.0), ("1.5", 1.5), ("999999999", 999999999.0)]
    + [(text, None) for text in ("", "-5", "soon", "7, 9", "1e3", "9" * 400, "\u0667", "0x10", "7 seconds")],
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert retry_after(CaseInsensitiveDict({"retry-after": text}), NOON) == seconds


@pytest.mark.parametrize(
    "form",
    [
        lambda moment: formatdate(moment, usegmt=True),
        formatdate,
        lambda moment: _strftime("%A, %d-%b-%y %H:%M:%S GMT", moment),
        lambda moment: _strftime("%a %b %e %H:%M:%S %Y", moment),
    ],
    ids=["IMF-fixdate", "offset", "RFC 850", "asctime"],
)
@pytest.mark.parametrize("skew", [-7200, 0, 7200])
def test_retry_after_as_a_date_is_counted_by_the_stores_clock(form: Callable[[float], str], skew: float) -> None:
    headers = {"Retry-After": form(NOON + skew + 90), "Date": formatdate(NOON + skew, usegmt=True)}
    assert retry_after(headers, NOON) == 90.0


def test_retry_after_as_a_date_without_a_usable_date_header_is_counted_from_the_arrival() -> None:
    for headers in ({}, {"Date": "yesterday"}, {"Date": ""}):
        assert retry_after({"Retry-After": formatdate(NOON + 90, usegmt=True), **headers}, NOON + 0.25) == 89.75


def test_a_moment_that_has_passed_is_no_wait() -> None:
    assert retry_after({"Retry-After": formatdate(NOON - 1, usegmt=True)}, NOON) is None


def test_every_transient_answer_may_ask_for_a_wait() -> None:
    for status in (429, 503, 500, 403):
        raised = trouble(METHODS, answer(status, HTML, {"Retry-After": "31"}))
        assert isinstance(raised, TransientError)
        assert raised.retry_after == 31.0
    for body in ({"error": "x"}, HTML):
        raised = trouble(METHODS, answer(200, body, {"Retry-After": "31"}))
        assert isinstance(raised, TransientError)
        assert raised.retry_after == 31.0


# Laws

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["errorCode", "error", "errors", "status", "items", "access_token", "expires_in", "id", "enabled"]
)
bodies = (
    st.binary(max_size=200)
    | st.text(string.printable).map(str.encode)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(names, json_values, max_size=5).map(lambda value: json.dumps(value).encode())
    | st.just(HTML)
)
header_texts = st.text(max_size=40) | st.sampled_from(
    ["5", "Wed, 21 Oct 2026 07:28:00 GMT", "text/html", "Mon", "1 Jan"]
)
all_headers = st.dictionaries(st.sampled_from(["Retry-After", "Date", "Content-Type"]), header_texts)


@given(st.sampled_from(READERS), st.integers(0, 1000) | st.sampled_from([200, 400, 401, 403, 404]), all_headers, bodies)
@settings(max_examples=examples(300))
def test_any_answer_is_a_value_or_one_of_our_errors(
    read: Callable[[Answer], object], status: int, headers: dict[str, str], body: bytes
) -> None:
    raised = error_of(read, Answer(status, CaseInsensitiveDict(headers), body, NOON))
    if raised is None:
        return
    assert set(raised.detail) <= set(string.ascii_letters + string.digits + " ,")
    wait = getattr(raised, "retry_after", None)
    assert wait is None or 0 <= wait < 1e12


def error_of(read: Callable[[Answer], object], given_answer: Answer) -> IntegrationError | None:
    try:
        read(given_answer)
    except IntegrationError as raised:
        return raised
    return None


@given(st.dictionaries(st.text(), json_values, max_size=5))
@settings(deadline=None)
def test_every_slot_comes_through_unchanged(slot: dict[str, object]) -> None:
    decisive = {"error", "errorCode", "errors", "items", "id", "url", "urls"}  # each decides whether this is a slot
    slot = {name: value for name, value in slot.items() if name not in decisive}
    assert READ(answer(200, slot)) == slot
    assert json.loads(json.dumps(READ(answer(200, slot)), allow_nan=False)) == slot


def _strftime(form: str, moment: float) -> str:
    return time.strftime(form, time.gmtime(moment))

"""Laws: whatever comes in, what comes out is one of our errors at most, and no text of it holds a secret.

`HYPOTHESIS_PROFILE=long` looks at 10,000 examples of each.
"""

import json
import traceback
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from integrations.egress.answer import Answer, retry_after
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import IntegrationError, RequestRefused
from integrations.messages.quarantine import holds_clear_key
from integrations.oracle_commerce import answers
from integrations.oracle_commerce.application_key import check_application_key, expiry_of, fingerprint
from integrations.oracle_commerce.request import parse_request
from integrations.oracle_commerce.store_url import normalise_store_url
from integrations.sealing.keyring import Keyring, SealingKey, seal
from integrations.sealing.redaction import REDACTED, redact, redact_text
from tasks.worker.message_view import ids_of
from tests.integrations.hostile import HOSTILE_URLS, dialled
from tests.integrations.wire_servers import resolve_to
from tests.secrets.canaries import KEY, TOKEN, Search, application_key

CANARY = application_key("law")
SEARCH = Search([KEY, TOKEN])
pytestmark = pytest.mark.timeout(1800)  # in the long form

KEYRING = Keyring([SealingKey("law", b"l" * 32)])

words = st.one_of(st.text(max_size=30), st.sampled_from([CANARY, f"Bearer {CANARY}", CANARY[:-3], CANARY.lower()]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)
fields = st.sampled_from(["merchant_id", "store_url", "application_key", "request", "token", "access_token"])


def assert_silent(error: BaseException) -> None:
    """No secret in anything an error shows, whoever shows it."""
    shown = [*traceback.format_exception(error), repr(error), str(error), repr(error.args), repr(vars(error))]
    assert SEARCH.hits("\n".join(shown).encode(errors="surrogatepass")) == []


@given(st.one_of(values, st.dictionaries(st.one_of(fields, words), st.one_of(words, values), max_size=5)))
def test_any_request_is_parsed_or_refused(request: object) -> None:
    try:
        parsed = parse_request(request)
    except RequestRefused as refused:
        assert_silent(refused)
    else:
        assert KEY not in parsed.merchant_id


@given(st.one_of(words, st.text(max_size=200), st.sampled_from(HOSTILE_URLS)), words)
def test_any_store_url_is_normalised_or_refused(start: str, end: str) -> None:
    for text in (start, start + end, f"https://{start}/{end}", f"https://{start}@{end}"):
        try:
            assert normalise_store_url(text, allowed_hosts=(), dev_stores=()).startswith("https://")
        except RequestRefused as refused:
            assert_silent(refused)


SESSION = GuardedSession(resolve=resolve_to("127.0.0.1"))


@given(st.one_of(words, st.text(max_size=60), st.sampled_from(HOSTILE_URLS)), words)
def test_any_url_is_called_or_refused_and_never_with_a_forbidden_address(start: str, end: str) -> None:
    for url in (start + end, f"https://{start}/{end}"):
        with dialled() as record, pytest.raises(IntegrationError) as caught:
            SESSION.request("GET", url, headers={"Authorization": CANARY}, deadline=Deadline.after(5))
        assert record == []
        assert SEARCH.hits(f"{caught.value!r} {caught.value}".encode(errors="surrogatepass")) == []


bodies = st.one_of(
    st.binary(max_size=200),
    words.map(lambda text: text.encode(errors="surrogatepass")),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["access_token", "expires_in", "items", "urls", "errorCode", "status", "message", "errors"]),
        values,
        max_size=5,
    ).map(lambda value: json.dumps(value).encode()),
)
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "Date", "Content-Type", "Location", CANARY]), words, max_size=4
)


@given(st.one_of(st.sampled_from([200, 201, 204, 400, 401, 403, 404, 405, 429, 500, 503]), st.integers(100, 999)),
       headers, bodies)  # fmt: skip
def test_any_answer_means_something_and_no_refusal_repeats_it(status: int, head: dict[str, str], body: bytes) -> None:
    answer = Answer(status, CaseInsensitiveDict(head), body, 1_700_000_000.0)
    assert SEARCH.hits(repr(answer).encode()) == []
    slots = (partial(answers.slot, slot_id="a"), partial(answers.written_slot, slot_id="a"))
    for read in (answers.login, answers.shipping_methods, *slots):
        try:
            value = read(answer)
        except IntegrationError as error:
            assert_silent(error)
        else:
            if read is answers.login:
                assert SEARCH.hits(repr(value).encode()) == []
    wait = retry_after(answer.headers, answer.received_at)
    assert wait is None or wait >= 0


segments = st.one_of(st.text(max_size=20), st.sampled_from(CANARY.split(".")), st.text("aZ09+/=_-", max_size=40))


@given(st.lists(segments, max_size=5).map(".".join))
def test_any_application_key_is_read_or_refused(text: str) -> None:
    try:
        key = check_application_key(text)
    except RequestRefused as refused:
        assert_silent(refused)
    else:
        assert SEARCH.hits(fingerprint(key).encode()) == []
        expiry = expiry_of(key)
        assert expiry is None or isinstance(expiry, float)


@given(words, words, st.sampled_from(["", "sealed.v1.law.", "sealed.v1.", "sealed.v2.x."]))
def test_any_sealed_key_opens_or_is_refused(merchant_id: str, text: str, prefix: str) -> None:
    try:
        KEYRING.open(prefix + text, merchant_id)
    except RequestRefused as refused:
        assert_silent(refused)
    sealed = seal(KEYRING.newest.public_key, "law", "m-1", CANARY)
    assert SEARCH.hits(sealed.encode()) == []
    assert KEYRING.decrypt_token(merchant_id, text) is None


@given(st.dictionaries(st.one_of(fields, words), st.one_of(words, values), max_size=5))
def test_no_field_shows_a_key(shown: dict[str, object]) -> None:
    for text in (json.dumps(redact(shown)), json.dumps(ids_of(shown))):
        assert CANARY not in text
        assert CANARY.split(".")[2] not in text


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_shows_a_key_between_others(before: str, after: str) -> None:
    shown = redact_text(f"{before} {CANARY} {after}")
    assert SEARCH.hits(shown.encode(errors="surrogatepass")) == []
    assert REDACTED in shown
    assert holds_clear_key(f"{before} {CANARY} {after}".encode(errors="surrogatepass"))

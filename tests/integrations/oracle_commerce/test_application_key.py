import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import RequestRefused
from integrations.oracle_commerce.application_key import check_application_key, expiry_of, fingerprint
from tests.examples import examples

HEADER = {"typ": "JWT", "alg": "HS256"}
CLAIMS = {"sub": "5c7b21d0-0000-4000-8000-000000000001", "iss": "applicationAuth", "iat": 1700000000, "exp": 1731536000}


def padded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def bare(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def key(claims: object = CLAIMS, *, header: object = HEADER, signature: str = "c2lnbmF0dXJlCg==") -> str:
    return f"{padded(header)}.{padded(claims)}.{signature}"


def test_a_key_in_padded_standard_base64_is_accepted() -> None:
    claims = {**CLAIMS, "sub": "\u00ff\u00fe???>>>"}
    text = f"{padded(HEADER)}.{base64.b64encode(json.dumps(claims, ensure_ascii=False).encode()).decode()}.a+b/c=="
    assert "=" in text
    assert "+" in text
    assert "/" in text
    assert check_application_key(text) == text


def test_a_key_in_bare_url_safe_base64_is_accepted() -> None:
    text = f"{bare(HEADER)}.{bare(CLAIMS)}.a-b_c"
    assert check_application_key(text) == text


@pytest.mark.parametrize("around", ["{}", " {}\n", "Bearer {}", "bearer  {}", "\r\nBEARER\t{} "])
def test_white_space_and_a_leading_bearer_are_taken_off(around: str) -> None:
    assert check_application_key(around.format(key())) == key()


def test_an_expired_key_is_let_through_because_the_store_decides() -> None:
    text = key({**CLAIMS, "exp": 1})
    assert check_application_key(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer",
        "canary-7f3a",
        "a.b",
        "..",
        f"{padded(HEADER)}.{padded(CLAIMS)}.",
        f"{padded(HEADER)}.{padded(CLAIMS)}",
        f"{key()}.more",
        f"{padded(HEADER)}.canary-7f3a.x",
        f"canary-7f3a.{padded(CLAIMS)}.x",
        key([1, 2]),
        key(header="JWT"),
        f"{padded(HEADER)}.{base64.b64encode(b'[' * 9000).decode()}.x",
        f"{padded(HEADER)}.{base64.b64encode(bytes([0xFF, 0xFE, 0xFD])).decode()}.x",
        key().replace(".", ". "),
        key() + "\u00e9",
        key().replace(".", "\uff0e"),
        key(signature="x" * 20_000),
        "sealed.v1.abc.canary-7f3a",
    ],
)
def test_what_cannot_be_a_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        check_application_key(text)
    assert (caught.value.field, caught.value.code) == ("application_key", "bad_application_key")
    assert "canary-7f3a" not in f"{caught.value!r}{caught.value}"
    assert caught.value.__context__ is None


def test_a_fingerprint_tells_keys_apart_and_reveals_neither() -> None:
    assert fingerprint(key()) == fingerprint(key())
    assert fingerprint(key()) != fingerprint(key({**CLAIMS, "iat": 1}))
    assert len(fingerprint(key())) == 16
    assert set(fingerprint(key())) <= set("0123456789abcdef")


def test_a_key_says_when_it_ends() -> None:
    assert expiry_of(key()) == 1731536000.0
    assert expiry_of(f"{bare(HEADER)}.{bare(CLAIMS)}.x") == 1731536000.0


@pytest.mark.parametrize(
    "claims",
    [{}, {"exp": None}, {"exp": "soon"}, {"exp": True}, {"exp": -1}, {"exp": 1e300}, {"exp": float("nan")}, []],
)
def test_a_key_that_does_not_say_when_it_ends_has_no_expiry(claims: object) -> None:
    assert expiry_of(key(claims)) is None
    assert expiry_of("not a key") is None


@given(st.text(max_size=200) | st.lists(st.text("aeyJ09-_+/=. ", max_size=30), max_size=4).map(".".join))
@settings(max_examples=examples(500))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    assert len(fingerprint(text)) == 16
    assert expiry_of(text) is None or time.gmtime(expiry_of(text))
    try:
        checked = check_application_key(text)
    except RequestRefused:
        return
    assert check_application_key(checked) == checked
    assert checked in text


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.floats(), max_size=5))
@settings(deadline=None)
def test_every_jwt_is_a_key_in_either_alphabet(claims: dict[str, object]) -> None:
    for text in (f"{padded(HEADER)}.{padded(claims)}.x", f"{bare(HEADER)}.{bare(claims)}.x"):
        assert check_application_key(text) == text

"""A request is checked before anything is done about it; a refusal names field and remedy, and repeats no value."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import RequestRefused
from integrations.oracle_commerce.request import (
    MAX_FIELD_LENGTH,
    ConnectRequest,
    FollowUpRequest,
    is_merchant_id,
    parse_follow_up,
    parse_request,
)
from tests.examples import examples

CANARY = "canary4711"
GOOD = {
    "merchant_id": "m-1",
    "store_url": "https://ccadmin-z1.oracleoutsourcing.com",
    "application_key": "sealed.v1.k.abc",
}
FIELDS = tuple(GOOD)


def refusal_of(request: object) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        parse_request(request)
    assert refused.value.remedy, "says what to do"
    assert CANARY not in f"{refused.value!s} {refused.value!r} {refused.value.field} {refused.value.code}"
    return refused.value


def test_the_three_fields_are_taken_as_they_came() -> None:
    assert parse_request(GOOD) == ConnectRequest(**GOOD)


def test_a_request_does_not_show_its_key() -> None:
    assert CANARY not in repr(parse_request(GOOD | {"application_key": CANARY}))


@pytest.mark.parametrize("request_", [None, CANARY, 5, [GOOD], [CANARY], True, b"{}", ("merchant_id",)])
def test_what_is_no_object_is_refused(request_: object) -> None:
    refused = refusal_of(request_)
    assert (refused.field, refused.code) == ("request", "not_an_object")
    assert all(field in refused.remedy for field in FIELDS)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_field_is_named(field: str, value: object) -> None:
    for request in ({**GOOD, field: value}, {name: text for name, text in GOOD.items() if name != field}):
        refused = refusal_of(request)
        assert (refused.field, refused.code) == (field, "missing")
        assert field in refused.remedy


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [5, 0, True, False, [CANARY], {CANARY: CANARY}, 1.5, []])
def test_a_field_that_is_no_text_is_named(field: str, value: object) -> None:
    refused = refusal_of({**GOOD, field: value})
    assert (refused.field, refused.code) == (field, "not_text")


@pytest.mark.parametrize("field", FIELDS)
def test_an_oversized_field_is_named_with_the_limit(field: str) -> None:
    refused = refusal_of({**GOOD, field: CANARY + "x" * MAX_FIELD_LENGTH})
    assert (refused.field, refused.code) == (field, "too_large")
    assert str(MAX_FIELD_LENGTH) in refused.remedy


@pytest.mark.parametrize("name", [CANARY, f'", "application_key": "{CANARY}', "", "x" * 100_000, 5, None])
def test_a_field_we_do_not_know_is_refused_without_repeating_its_name(name: object) -> None:
    """With a comma missing, a key becomes the name of a field."""
    refused = refusal_of(dict([*GOOD.items(), (name, CANARY)]))
    assert (refused.field, refused.code) == ("request", "unknown_field")
    assert len(refused.remedy) < 200


@pytest.mark.parametrize("merchant_id", ["m", "m-1", "A.b_c~d-9", "0", "x" * 128])
def test_merchant_ids_that_are_fine(merchant_id: str) -> None:
    assert parse_request(GOOD | {"merchant_id": merchant_id}).merchant_id == merchant_id


@pytest.mark.parametrize(
    "merchant_id",
    [
        f"{CANARY}/",
        f"{CANARY}|order-submit",
        f"{CANARY}:lock",
        f"-{CANARY}",
        f".{CANARY}",
        f"{CANARY} ",
        f"{CANARY}\n",
        f"{CANARY}\0",
        f"{CANARY}é",
        f"{CANARY}٣",
        f"{CANARY}\ud800",
        f"{CANARY}{{slot}}",
        CANARY + "x" * 128,
        " ",
    ],
)
def test_merchant_ids_that_would_not_fit_into_keys_and_urls_are_refused(merchant_id: str) -> None:
    refused = refusal_of(GOOD | {"merchant_id": merchant_id})
    assert (refused.field, refused.code) == ("merchant_id", "bad_merchant_id")
    assert not is_merchant_id(merchant_id)


# --- Wishes ----------------------------------------------------------------------------------------------------------

REPAIR = ("repair", (True, False))
FORGET = ("forget", ("now", "end"))


@pytest.mark.parametrize(
    ("request_", "option", "choice"),
    [
        ({"merchant_id": "m-1"}, REPAIR, None),
        ({"merchant_id": "m-1", "repair": True}, REPAIR, True),
        ({"merchant_id": "m-1", "repair": False}, REPAIR, False),
        ({"merchant_id": "m-1"}, FORGET, None),
        ({"merchant_id": "m-1", "forget": "now"}, FORGET, "now"),
        ({"merchant_id": "m-1", "forget": "end"}, FORGET, "end"),
    ],
)
def test_a_wish_is_a_merchant_and_perhaps_a_choice(
    request_: object, option: tuple[str, tuple[object, ...]], choice: object
) -> None:
    assert parse_follow_up(request_, *option) == FollowUpRequest("m-1", choice)


@pytest.mark.parametrize(
    ("request_", "field", "code"),
    [
        ([CANARY], "request", "not_an_object"),
        (CANARY, "request", "not_an_object"),
        ({}, "merchant_id", "missing"),
        ({"merchant_id": ["m-1"]}, "merchant_id", "not_text"),
        ({"merchant_id": f"{CANARY}@1"}, "merchant_id", "bad_merchant_id"),
        ({"merchant_id": "m-1", CANARY: 1}, "request", "unknown_field"),
        ({"merchant_id": "m-1", "repair": True}, "request", "unknown_field"),
        ({"merchant_id": "m-1", "forget": CANARY}, "forget", "unknown_choice"),
        ({"merchant_id": "m-1", "forget": True}, "forget", "unknown_choice"),
        ({"merchant_id": "m-1", "forget": None}, "forget", "unknown_choice"),
        ({"merchant_id": "m-1", "forget": [CANARY]}, "forget", "unknown_choice"),
    ],
)
def test_a_wish_that_cannot_be_understood_is_refused(request_: object, field: str, code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_follow_up(request_, *FORGET)
    assert (refused.value.field, refused.value.code) == (field, code)
    assert CANARY not in f"{refused.value!s}{refused.value!r}{refused.value.remedy}"


_anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=examples(200))
@given(_anything | st.fixed_dictionaries(dict.fromkeys(FIELDS, _anything)))
def test_any_request_is_either_taken_or_refused(request_: object) -> None:
    try:
        merchant_id, field = parse_request(request_).merchant_id, "none"
    except RequestRefused as refused:
        merchant_id, field = "none", refused.field
    assert is_merchant_id(merchant_id)
    assert field in {"none", "request", *FIELDS}


@settings(max_examples=examples(100))
@given(_anything | st.fixed_dictionaries({"merchant_id": st.just("m-1"), "forget": _anything}))
def test_any_wish_is_either_taken_or_refused(request_: object) -> None:
    try:
        choice, field = parse_follow_up(request_, *FORGET).choice, "none"
    except RequestRefused as refused:
        choice, field = None, refused.field
    assert choice in {None, "now", "end"}
    assert field in {"none", "request", "merchant_id", "forget"}

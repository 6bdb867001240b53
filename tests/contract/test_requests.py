"""What the schemas of requests allow, the code takes; what the code refuses for its form, the schemas refuse."""

import json
from collections.abc import Callable

import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from integrations.errors import RequestRefused
from integrations.oracle_commerce.reports import parse_reports
from integrations.oracle_commerce.request import MAX_FIELD_LENGTH, parse_follow_up, parse_request
from integrations.oracle_commerce.store_url import MAX_STORE_URL
from integrations.sealing.keyring import MAX_SEALED_LENGTH, SealingKey, key_id_of, seal
from tests.contract.validators import of_file, problems

CONNECT = of_file("connect.schema.json")
GOOD = {
    "merchant_id": "m-1",
    "store_url": "https://ccadmin-z1.oracleoutsourcing.com/occs-admin/",
    "application_key": "sealed.v1.k-1.QUJD",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=5,
)
words = st.text("aZ09.-_~ \n\u00e4\u0660+/=", max_size=8)
merchant_ids = words | st.from_regex(r"[a-z0-9][a-z0-9._~-]{0,127}", fullmatch=True) | st.just("m" * 129)
sealed_keys = (
    words
    | st.builds("sealed.v1.{}.{}".format, words | st.just("k" * 32), words | st.just("QUJDRA"))
    | st.builds(seal, st.just(SealingKey.generate().public_key), st.just("k"), st.just("m-1"), st.just("key"))
    | st.integers(-1, 1).map(lambda more: "sealed.v1.k." + "A" * (MAX_SEALED_LENGTH - 12 + more))
)
store_urls = words | st.integers(-1, 1).map(lambda more: "x" * (MAX_STORE_URL + more))


def altered(good: dict[str, st.SearchStrategy[object]], names: tuple[str, ...]) -> st.SearchStrategy[object]:
    """Objects near those that are meant: a field more or less, or of another kind."""
    fields = {name: value | json_values for name, value in good.items()}
    extra = st.dictionaries(st.sampled_from((*names, "new")), json_values, max_size=1)
    some = st.fixed_dictionaries({}, optional=fields)
    return st.builds(lambda one, two, more: {**one, **two, **more}, st.fixed_dictionaries(good), some, extra)


def taken(parse: Callable[[], object]) -> bool:
    try:
        parse()
    except RequestRefused:
        return False
    return True


def is_well_formed(request: object) -> bool:
    """What is said of a request before anything is looked up: which merchant, store or private key exists."""
    if not taken(lambda: parse_request(request)):
        return False
    assert isinstance(request, dict)
    key: str = request["application_key"]
    return key == key.strip() and key_id_of(key) is not None and len(request["store_url"]) <= MAX_STORE_URL


connects = altered(
    {"merchant_id": merchant_ids, "store_url": store_urls, "application_key": sealed_keys},
    (*GOOD, "traceparent", "request_id"),
)


@given(connects | json_values)
@example(GOOD)
@example(GOOD | {"merchant_id": "m-1\n"})
@example(GOOD | {"application_key": "sealed.v1.k.QUJD\n"})
@example(GOOD | {"application_key": "sealed.v1.k.A"})
@example(GOOD | {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
@example(GOOD | {"traceparent": ["malformed"]})
@example(GOOD | {"request_id": "signup 4711: \u00e4\n"})
@example(GOOD | {"request_id": "\U0001f600" * 128})
@example(GOOD | {"request_id": "r" * 129})
@example(GOOD | {"request_id": ""})
@example(GOOD | {"request_id": None})
@example(GOOD | {"request_id": 7})
@example(GOOD | {"store_url": "x" * (MAX_FIELD_LENGTH + 1)})
def test_a_connect_request_fits_the_schema_just_when_it_is_well_formed(request: object) -> None:
    fits = CONNECT.is_valid(request)
    event(f"fits: {fits}")
    assert fits == is_well_formed(request), problems(CONNECT, request)


@given(merchant_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", fullmatch=True), key=st.text(min_size=1))
def test_what_our_own_sealing_makes_fits_the_schema(merchant_id: str, key: str) -> None:
    pair = SealingKey.generate()
    assume(key.isprintable())
    sealed = seal(pair.public_key, pair.key_id, merchant_id, key)
    assert CONNECT.is_valid({"merchant_id": merchant_id, "store_url": "https://x", "application_key": sealed})


FOLLOW_UPS: dict[str, tuple[str, tuple[object, ...]]] = {
    "revalidate": ("repair", (True, False)),
    "disconnect": ("forget", ("now", "end")),
}


@pytest.mark.parametrize("kind", FOLLOW_UPS)
@given(data=st.data())
def test_a_wish_fits_the_schema_just_when_it_is_taken(kind: str, data: st.DataObject) -> None:
    option, choices = FOLLOW_UPS[kind]
    schema = of_file(f"{kind}.schema.json")
    good: dict[str, st.SearchStrategy[object]] = {"merchant_id": merchant_ids, option: st.sampled_from(choices)}
    request = data.draw(altered(good, ("merchant_id", option, "traceparent", "request_id", "run")) | json_values)
    fits = schema.is_valid(request)
    event(f"fits: {fits}")
    assert fits == taken(lambda: parse_follow_up(request, option, choices)), problems(schema, request)


reports = altered(
    {
        "merchant_id": merchant_ids,
        "slot": st.sampled_from(("order-submit", "", "x" * 129)),
        "at": st.none() | st.integers(-1, 4 * 10**11) | st.just("2026-11-23T15:02:00Z"),
    },
    ("merchant_id", "slot", "at", "request_id", "run"),
)


@given(reports | st.lists(reports, max_size=3) | json_values)
def test_a_report_fits_the_schema_just_when_it_is_taken(report: object) -> None:
    fits = of_file("heard.schema.json").is_valid(report)
    event(f"fits: {fits}")
    assert fits == taken(lambda: parse_reports(report)), report


def test_a_wish_needs_no_option() -> None:
    for kind in FOLLOW_UPS:
        assert of_file(f"{kind}.schema.json").is_valid({"merchant_id": "m-1"})


def test_the_fields_are_told_apart_in_json_as_it_travels() -> None:
    assert CONNECT.is_valid(json.loads(json.dumps(GOOD)))

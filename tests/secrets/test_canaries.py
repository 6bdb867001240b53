"""The search itself: whatever is done to a secret on its way, it is found."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.secrets.canaries import CLEAR, KEY, TOKEN, Search, application_key

SEARCH = Search([KEY])
WAYS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "reversed": lambda text: text[::-1],
    "lower case": str.lower,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in a message": lambda text: json.dumps({"body": base64.b64encode(json.dumps([text]).encode()).decode()}),
    "base64 twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "percent-encoded": quote,
    "percent-encoded throughout": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "JSON with escapes": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "hexadecimal": lambda text: text.encode().hex(),
    "reversed base64": lambda text: base64.b64encode(text[::-1].encode()).decode(),
}


@pytest.mark.parametrize("way", WAYS)
@given(before=st.text(max_size=7), after=st.text(max_size=7))
@settings(max_examples=examples(60))
def test_a_secret_is_found_whatever_was_done_to_it(way: str, before: str, after: str) -> None:
    assert SEARCH.hits(WAYS[way](f"{before}{KEY}{after}").encode())


@pytest.mark.parametrize("part", [0, 1])
def test_each_part_of_an_application_key_is_recognised(part: int) -> None:
    claims, signature = application_key("m-1").split(".")[1:]
    assert SEARCH.hits([claims, signature][part].encode())


def test_nothing_is_found_where_nothing_is() -> None:
    assert Search([KEY, TOKEN]).hits(application_key("m-1", CLEAR).encode()) == []
    assert SEARCH.hits(base64.b64encode(bytes(range(256)) * 100)) == []

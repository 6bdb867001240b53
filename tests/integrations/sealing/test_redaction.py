import json
from collections import OrderedDict
from pathlib import PurePosixPath
from time import thread_time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.sealing.keyring import SealingKey, seal
from integrations.sealing.redaction import names_a_secret, redact, redact_text

KEY = SealingKey.generate()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ"
CANARY = "c4nary-hunter2"


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"key={JWT}",
        JWT[:40],
        f"'{JWT[:25]}...'",
        f"Authorization: Bearer {CANARY}",
        f"authorization: {CANARY}",
        f"Cookie: a={CANARY}; b={CANARY}",
        f"sent Bearer {CANARY} to the store",
        "Basic dXNlcjpoZXJlLWlzLWl0",
        f"redis://:{CANARY}@records:6379/0",
        f"redis://:{CANARY}/with/slashes@records:6379/0",
        f"Error while reading from unix://occ:{CANARY}@/run/server.sock",
        f"redis+socket://:{quote(CANARY)}@/run/server.sock",
        f"https://user:{CANARY}@store.example.com/path",
        f"https://{CANARY}@store.example.com",
        f"GET /x?access_token={CANARY}&a=b",
        f"application_key='{CANARY}'",
        f"{{'application_key': '{CANARY}', 'merchant_id': 'm-1'}}",
        f"{{b'token': b'{CANARY}'}}",
        f'password: "{CANARY}"',
        f"OCC_SEALING_KEYS={CANARY}",
        f"OCC_SEALING_KEYS_x=1 private_key={CANARY}",
        f"client_secret='it\\'s {CANARY}'",
        json.dumps({"body": json.dumps({"access_token": CANARY})}),
        json.dumps(json.dumps(json.dumps({"access_token": CANARY}))),
    ],
)
def test_a_secret_in_a_text_is_taken_out(text: str) -> None:
    shown = redact_text(text)
    for secret in (CANARY, JWT[:12], "canary", "dXNlc"):
        assert secret not in shown
    assert "[redacted]" in shown


def test_sealing_keys_are_taken_out_and_sealed_keys_keep_their_key_id() -> None:
    private_half = KEY.export().split(":")[1]
    assert redact_text(f"keys: {KEY.export()}, {KEY.export()}") == "keys: [redacted], [redacted]"
    sealed = seal(KEY.public_key, KEY.key_id, "m-1", JWT)
    assert redact_text(f"request with {sealed} came") == f"request with sealed.v1.{KEY.key_id}.[redacted] came"
    assert private_half not in redact_text(f"x {KEY.export()}= y")


@pytest.mark.parametrize(
    "text",
    [
        "application_key: a key in the clear is refused; `./run occ seal MERCHANT` seals one",
        "the access token expired, the store wants another",
        "uses bearer credentials and basic authentication",
        "key_rejected: HTTP 401",
        "connection m-1 run 3 slot order-submit attempt 2",
        "https://store.example.com:8443/occ/m-1/order-submit?x=1",
        "Error 111 connecting to redis://records:6379. Connection refused.",
        "unix:///run/server.sock",
        "TypeError: register_slot() got an unexpected keyword argument 'application_key'",
        "8f14e45f-ceea-467f-a0e6-1d2b5c9a7e10",
        "",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        *("application_key", "Application-Key", "applicationKey", "access_token", "token", "tokens", "Authorization"),
        *("password", "passwd", "sealing_keys", "private_key", "api_key", "client_secret", "set-cookie", "jwt"),
    ],
)
def test_fields_that_hold_secrets_are_known_by_name(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize(
    "name", ["key_id", "fingerprint", "merchant_id", "token_lifetime", "key", "public_key", "redis_key"]
)
def test_fields_beside_secrets_are_shown(name: str) -> None:
    assert not names_a_secret(name)


def test_fields_are_redacted_at_any_depth() -> None:
    headers = OrderedDict([("Authorization", CANARY), ("Accept", "application/json")])
    assert redact({"event": "call", "deep": [{"headers": headers, "token": [CANARY], "body": CANARY.encode()}]}) == {
        "event": "call",
        "deep": [
            {
                "headers": {"Authorization": "[redacted]", "Accept": "application/json"},
                "token": "[redacted]",
                "body": "[14 bytes]",
            }
        ],
    }


def test_numbers_and_nothing_are_shown_under_any_name() -> None:
    assert redact({"token": None, "access_token": 300, "has_token": True}) == {
        "token": None,
        "access_token": 300,
        "has_token": True,
    }


def test_objects_become_their_text_and_are_redacted_too() -> None:
    class Careless:
        def __str__(self) -> str:
            return f"token='{CANARY}'"

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

    shown = redact({"a": Careless(), "b": Broken(), "c": PurePosixPath("/x"), "d": ValueError(f"Bearer {CANARY}")})
    assert shown == {"a": "token=[redacted]", "b": "[Broken]", "c": "/x", "d": "Bearer [redacted]"}


def test_what_nests_without_end_is_cut() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert "[...]" in json.dumps(redact({"endless": endless}))


def test_of_many_entries_the_first_hundred_are_shown() -> None:
    shown = redact({"list": list(range(250)), "fields": {str(number): number for number in range(250)}})
    assert shown == {"list": list(range(100)), "fields": {str(number): number for number in range(100)}}
    assert len(redact({str(number): number for number in range(250)})) == 100


def test_a_long_text_loses_its_middle_and_no_secret_survives_the_cut() -> None:
    for lead in range(7_900, 8_100, 7):
        shown = redact_text(f"{'a' * lead} {JWT} {'b' * 30_000} {JWT} {'c' * lead}")
        assert len(shown) < 17_000
        assert shown.startswith("aaa")
        assert shown.endswith("ccc")
        assert "canary" not in shown
        assert JWT[-10:] not in shown


@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "a:",
        "eyJ",
        "token='",
        "redis://",
        "-_",
        "password",
        "'",
        "bearer ",
        "a+",
        "api-",
        "://",
        "\\",
        "@",
        "token:",
    ],
)
def test_a_hostile_text_takes_no_longer_than_a_long_one(pattern: str) -> None:
    text = pattern * (100_000 // len(pattern))
    started = thread_time()
    redact_text(text)
    assert thread_time() - started < 2


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_is_redacted_is_plain_json(value: object) -> None:
    assert json.loads(json.dumps(redact({"value": value}), allow_nan=False)) == redact({"value": value})


@settings(deadline=None)
@given(st.text(), st.text(), st.sampled_from([JWT, f"Bearer {CANARY}", f"redis://:{CANARY}@h/0", KEY.export()]))
def test_a_secret_between_other_words_is_taken_out(before: str, after: str, secret: str) -> None:
    shown = redact_text(f"{before} {secret} {after}")
    for part in (CANARY, JWT.split(".")[2], KEY.export().split(":")[1]):
        assert part not in shown


def test_a_key_in_padded_base64_is_hidden_to_its_end() -> None:
    """Oracle writes its keys in the standard alphabet, padded: the part behind a + or / is as secret."""
    signature = "+abc/def+ghi="
    assert signature[1:4] not in redact_text(f"got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0=.{signature} here")

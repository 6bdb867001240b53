"""Signatures, held against another's implementation of Standard Webhooks. Pure."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from integrations.sealing.redaction import redact_text
from integrations.sealing.signing import SigningSecret, signature

KEYS = st.binary(min_size=24, max_size=64)
IDS = st.from_regex(r"[A-Za-z0-9._~-]{1,128}\.[0-9]{1,9}(\.[a-z-]{1,20})?", fullmatch=True)
BODIES = st.dictionaries(st.text(), st.integers() | st.text()).map(lambda value: json.dumps(value).encode())


def written(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


@given(st.lists(KEYS, min_size=1, max_size=3, unique=True), IDS, BODIES, st.data())
def test_whoever_has_one_of_the_secrets_can_verify(
    keys: list[bytes], event_id: str, body: bytes, data: st.DataObject
) -> None:
    now = int(time.time())
    signed = signature([SigningSecret.parse(written(key)) for key in keys], event_id, now, body)
    headers = {"webhook-id": event_id, "webhook-timestamp": str(now), "webhook-signature": signed}
    assert Webhook(written(data.draw(st.sampled_from(keys)))).verify(body, headers) == json.loads(body)
    assert len(signed.split(" ")) == len(keys)


@given(KEYS, KEYS, IDS, BODIES, st.data())
def test_nothing_else_passes(key: bytes, other: bytes, event_id: str, body: bytes, data: st.DataObject) -> None:
    now = int(time.time())
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": signature([SigningSecret(key)], event_id, now, body),
    }
    how = data.draw(st.sampled_from(["key", "id", "time", "body"]))
    if how == "id":
        headers["webhook-id"] += "0"
    if how == "time":
        headers["webhook-timestamp"] = str(now + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(written(other + b"!" if how == "key" else key)).verify(body + b" " * (how == "body"), headers)


@given(KEYS, IDS, BODIES)
def test_no_other_way_to_take_apart_what_is_signed_leaves_json(key: bytes, event_id: str, body: bytes) -> None:
    """The specification warns of dots in ids: somebody could move the border between id, time and body."""
    pieces = b"%s.%d.%s" % (event_id.encode(), 1_800_000_000, body)
    for at, letter in enumerate(pieces[: -len(body) - 1]):
        if letter == ord("."):
            moment, dot, rest = pieces[at + 1 :].partition(b".")
            if dot and moment.isdigit() and rest != body:
                with pytest.raises(json.JSONDecodeError):
                    json.loads(rest)


def test_the_example_of_the_specification_has_the_known_signature() -> None:
    """The test vector that the reference libraries share."""
    secret = SigningSecret.parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 200, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***", "whpk_"],
)
def test_what_is_no_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="random bytes in base64") as refused:
        SigningSecret.parse(text)
    assert text.removeprefix("whsec_") == "" or text not in str(refused.value)


@given(KEYS)
def test_a_secret_shows_itself_nowhere(key: bytes) -> None:
    text = written(key)
    assert text not in repr(SigningSecret.parse(text))
    assert text[6:] not in redact_text(f"the secret {text} and more")

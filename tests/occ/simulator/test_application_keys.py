import base64
import json

from occ.simulator.application_keys import YEAR, expiry_of_key, make_application_key


def claims_of(key: str) -> dict[str, object]:
    claims: dict[str, object] = json.loads(base64.b64decode(key.split(".")[1], validate=True))
    return claims


def test_a_key_looks_like_those_of_real_stores() -> None:
    key = make_application_key("0c6f3a52-7f5e-4b7d-9f38-2f4a1d3c5b6e", issued_at=1_700_000_000)
    header, _, signature = key.split(".")
    assert json.loads(base64.b64decode(header)) == {"typ": "JWT", "alg": "HS256"}
    assert claims_of(key) == {
        "sub": "0c6f3a52-7f5e-4b7d-9f38-2f4a1d3c5b6e",
        "iss": "applicationAuth",
        "iat": 1_700_000_000,
        "exp": 1_700_000_000 + YEAR,
    }
    assert signature.endswith("=")


def test_segments_are_padded_standard_base64() -> None:
    key = make_application_key(signature=b"\xfb\xff\xfe\x00")
    assert key.endswith(".+//+AA==")


def test_a_key_may_have_no_expiry() -> None:
    key = make_application_key(lifetime=None)
    assert "exp" not in claims_of(key)
    assert expiry_of_key(key) is None


def test_the_expiry_can_be_read_back() -> None:
    assert expiry_of_key(make_application_key(expires_at=1_900_000_000)) == 1_900_000_000
    assert expiry_of_key("no.jwt") is None
    assert expiry_of_key("") is None


def test_every_key_is_another() -> None:
    assert make_application_key() != make_application_key()

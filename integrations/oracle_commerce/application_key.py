"""The merchant's application key, as far as it can be judged without the store: its form, a fingerprint, its end.

A key is a JWT signed with a secret of the store (HS256), so its signature says nothing to us; only a login does.
"""

import base64
import binascii
import hashlib
import json
import re

from integrations.errors import RequestRefused

_BEARER = re.compile(r"\Abearer\s+", re.IGNORECASE)
# Oracle, "Register applications": the keys shown are padded base64 in its standard alphabet. JWT libraries want neither
# padding nor "+" and "/", and would refuse keys that work.
_SEGMENT = re.compile(r"[A-Za-z0-9_\-+/=]+", re.ASCII)
_SEGMENTS = 3
_LONGEST = 16 * 1024
_TO_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_LAST_MOMENT = 253_402_300_799  # the end of the year 9999: what dates can be shown for

_REMEDY = (
    "this is not an application key. Copy the whole key, three parts joined by dots, as the Oracle Commerce admin "
    "shows it when the application is registered under Settings > Web APIs > Registered Applications."
)


def check_application_key(text: str) -> str:
    """The key as it is sent: without white space around it or a leading "Bearer".

    Refuses what cannot be a key: it has three segments, of which the first two are JSON objects in base64. An expired
    one is let through, since releases differ in whether they mind. Raises RequestRefused, which never quotes the key.
    """
    key = _BEARER.sub("", text.strip(), count=1)
    segments = key.split(".")
    if (
        len(key) > _LONGEST
        or len(segments) != _SEGMENTS
        or not all(_SEGMENT.fullmatch(segment) for segment in segments)
        or any(_json_object(segment) is None for segment in segments[:2])
    ):
        raise RequestRefused("application_key", "bad_application_key", _REMEDY)
    return key


def fingerprint(application_key: str) -> str:
    """16 hexadecimal digits: different for different keys, and revealing neither."""
    return hashlib.sha256(b"occ-connect application key\x00" + application_key.encode("utf-8", "replace")).hexdigest()[
        :16
    ]


def expiry_of(application_key: str) -> float | None:
    """When the key says it ends, in epoch seconds; None if it does not say so. Only for a warning: login decides."""
    segments = application_key.split(".")
    claims = _json_object(segments[1]) if len(segments) == _SEGMENTS else None
    expiry = (claims or {}).get("exp")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or not 0 < expiry <= _LAST_MOMENT:
        return None
    return float(expiry)


def _json_object(segment: str) -> dict[str, object] | None:
    bare = segment.rstrip("=").translate(_TO_STANDARD_ALPHABET)
    try:
        value = json.loads(base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True))
    except (ValueError, RecursionError, binascii.Error):
        return None
    return value if isinstance(value, dict) else None

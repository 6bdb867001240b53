"""What a producer asks for, checked before anything is done about it. Pure.

to connect a merchant    {"merchant_id": "m-1", "store_url": "https://ccadmin-...", "application_key": "sealed.v1...."}
to re-validate it        {"merchant_id": "m-1"}, {"merchant_id": "m-1", "repair": true}
to disconnect it         {"merchant_id": "m-1"}, {"merchant_id": "m-1", "forget": "now"}

Each may carry a `traceparent`, the trace it belongs to, and a `request_id`, by which its sender finds it again.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from integrations.errors import RequestRefused

MAX_FIELD_LENGTH = 16 * 1024
"""Characters, per field."""

MAX_REQUEST_ID = 128
"""Characters."""

_TRACEPARENT = "traceparent"  # read at the doors
_REQUEST_ID = "request_id"
_ALWAYS_ALLOWED = {_TRACEPARENT, _REQUEST_ID}
_KEY_IN_THE_CLEAR = re.compile(
    r"ey[A-Za-z0-9_+/-]{6,}={0,2}\.[A-Za-z0-9_+/-]{6,}", re.ASCII
)  # a JWT, or what is left of it
_FIELDS = ("merchant_id", "store_url", "application_key")
MERCHANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The three fields, present and of the right kind; the key is still sealed."""

    merchant_id: str
    store_url: str
    application_key: str = field(repr=False)
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class FollowUpRequest:
    """Something asked of a connection that exists; `choice` is what was given beside the merchant id."""

    merchant_id: str
    choice: object = None
    request_id: str = ""


def parse_follow_up(request: object, option: str, choices: tuple[object, ...]) -> FollowUpRequest:
    """The merchant id, and one option that may be left out. Raises RequestRefused like `parse_request`."""
    if not isinstance(request, Mapping):
        raise RequestRefused(
            "request", "not_an_object", f"send one JSON object with merchant_id and, if need be, {option}"
        )
    unknown = [name for name in request if name not in {"merchant_id", option, *_ALWAYS_ALLOWED}]
    if unknown:
        raise RequestRefused(
            "request", "unknown_field", f"send only merchant_id and {option}; {len(unknown)} other field(s) came along"
        )
    request_id = checked_request_id(request)
    _check("merchant_id", request.get("merchant_id"))
    _check_merchant_id(request["merchant_id"])
    if option in request and not any(_is_the_same(request[option], choice) for choice in choices):
        offered = " or ".join(json.dumps(choice) for choice in choices)
        raise RequestRefused(option, "unknown_choice", f"send {option} as {offered}, or leave it out")
    return FollowUpRequest(request["merchant_id"], request.get(option), request_id)


def parse_request(request: object) -> ConnectRequest:
    """Raises RequestRefused naming the field and the remedy; never repeats a value."""
    if not isinstance(request, Mapping):
        raise RequestRefused(
            "request", "not_an_object", "send one JSON object with merchant_id, store_url and application_key"
        )
    unknown = sorted(str(name) for name in request if name not in {*_FIELDS, *_ALWAYS_ALLOWED})
    if unknown:
        # Not even the name is repeated: with a comma missing, a key becomes one.
        raise RequestRefused(
            "request", "unknown_field", f"send only {', '.join(_FIELDS)}; {len(unknown)} other field(s) came along"
        )
    request_id = checked_request_id(request)
    for name in _FIELDS:
        _check(name, request.get(name))
    _check_merchant_id(request["merchant_id"])
    return ConnectRequest(**{name: request[name] for name in _FIELDS}, request_id=request_id)


def request_id_of(request: object) -> str:
    """The id by which its sender can find a request again; "" if it has none, or none that can be taken."""
    try:
        return checked_request_id(request) if isinstance(request, Mapping) else ""
    except RequestRefused:
        return ""


def is_merchant_id(value: object) -> bool:
    """Whether this can be a merchant's id: it stands in keys, in callback URLs and on command lines."""
    return isinstance(value, str) and MERCHANT_ID.fullmatch(value) is not None


def checked_request_id(request: Mapping[Any, Any]) -> str:
    """The request_id, "" if there is none. Raises RequestRefused for one that cannot be taken, and never repeats it."""
    if _REQUEST_ID not in request:
        return ""
    given = request[_REQUEST_ID]
    if not isinstance(given, str) or any("\ud800" <= character <= "\udfff" for character in given):
        raise RequestRefused(_REQUEST_ID, "not_text", "send request_id as a text, or leave it out")
    if not 0 < len(given) <= MAX_REQUEST_ID:
        length = f"send 1 to {MAX_REQUEST_ID} characters of request_id, or leave it out"
        raise RequestRefused(_REQUEST_ID, "too_large" if given else "missing", length)
    if _KEY_IN_THE_CLEAR.search(given):
        raise RequestRefused(_REQUEST_ID, "looks_like_a_key", "choose a request_id that is no key: it is shown openly")
    return given


def _is_the_same(given: object, choice: object) -> bool:
    return type(given) is type(choice) and given == choice  # 1 is no true


def _check_merchant_id(value: object) -> None:
    if not is_merchant_id(value):
        raise RequestRefused(
            "merchant_id",
            "bad_merchant_id",
            "use 1 to 128 letters, digits, dots, dashes, underscores or tildes, starting with a letter or digit",
        )


def _check(name: str, value: object) -> None:
    if value is None or value == "":
        raise RequestRefused(name, "missing", f"send {name}; it was missing or empty")
    if not isinstance(value, str):
        raise RequestRefused(name, "not_text", f"send {name} as a text")
    if len(value) > MAX_FIELD_LENGTH:
        raise RequestRefused(name, "too_large", f"send at most {MAX_FIELD_LENGTH} characters of {name}")

"""What a producer asks for, checked before anything is done about it. Pure.

to connect a merchant    {"merchant_id": "m-1", "store_url": "https://ccadmin-...", "application_key": "sealed.v1...."}
to look at a connection  {"merchant_id": "m-1"}, {"merchant_id": "m-1", "repair": true}
to disconnect it         {"merchant_id": "m-1"}, {"merchant_id": "m-1", "forget": "now"}

Each may carry a `traceparent`, the trace it belongs to.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from integrations.errors import RequestRefused

MAX_FIELD_LENGTH = 16 * 1024
"""Characters, per field."""

_TRACEPARENT = "traceparent"  # read at the doors
_FIELDS = ("merchant_id", "store_url", "application_key")
MERCHANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The three fields, present and of the right kind; the key is still sealed."""

    merchant_id: str
    store_url: str
    application_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FollowUpRequest:
    """Something asked of a connection that exists; `choice` is what was given beside the merchant id."""

    merchant_id: str
    choice: object = None


def parse_follow_up(request: object, option: str, choices: tuple[object, ...]) -> FollowUpRequest:
    """The merchant id, and one option that may be left out. Raises RequestRefused like `parse_request`."""
    if not isinstance(request, Mapping):
        raise RequestRefused(
            "request", "not_an_object", f"send one JSON object with merchant_id and, if need be, {option}"
        )
    unknown = [name for name in request if name not in {"merchant_id", option, _TRACEPARENT}]
    if unknown:
        raise RequestRefused(
            "request", "unknown_field", f"send only merchant_id and {option}; {len(unknown)} other field(s) came along"
        )
    _check("merchant_id", request.get("merchant_id"))
    _check_merchant_id(request["merchant_id"])
    if option in request and not any(_is_the_same(request[option], choice) for choice in choices):
        offered = " or ".join(json.dumps(choice) for choice in choices)
        raise RequestRefused(option, "unknown_choice", f"send {option} as {offered}, or leave it out")
    return FollowUpRequest(request["merchant_id"], request.get(option))


def parse_request(request: object) -> ConnectRequest:
    """Raises RequestRefused naming the field and the remedy; never repeats a value."""
    if not isinstance(request, Mapping):
        raise RequestRefused(
            "request", "not_an_object", "send one JSON object with merchant_id, store_url and application_key"
        )
    unknown = sorted(str(name) for name in request if name not in {*_FIELDS, _TRACEPARENT})
    if unknown:
        # Not even the name is repeated: with a comma missing, a key becomes one.
        raise RequestRefused(
            "request", "unknown_field", f"send only {', '.join(_FIELDS)}; {len(unknown)} other field(s) came along"
        )
    for name in _FIELDS:
        _check(name, request.get(name))
    _check_merchant_id(request["merchant_id"])
    return ConnectRequest(**{name: request[name] for name in _FIELDS})


def is_merchant_id(value: object) -> bool:
    """Whether this can be a merchant's id: it stands in keys, in callback URLs and on command lines."""
    return isinstance(value, str) and MERCHANT_ID.fullmatch(value) is not None


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

"""What a message and a task have to look like. Pure; each check answers with the problem in words, or None.

The words never quote the message, which may hold an application key. A *message* is Kombu's JSON envelope with the body
inside; a *task* is Celery's protocol 2 (https://docs.celeryq.dev/en/stable/internals/protocol.html). Everything checked
here was seen to end a worker, to occupy one of its places for ever, or to be dropped without a trace.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import datetime

_DEEPEST = 64
_LONGEST_NAME = 255
_HIGHEST = 1_000_000_000
_ENCODINGS = ("utf-8", "utf8", "us-ascii", "ascii")
_EMBEDDED = {"callbacks", "errbacks", "chain", "chord"}
# Celery keeps headers as attributes of the request; these would hide its methods.
_SHADOWING = {"get", "update", "clear", "as_execution_options"}


def message_problem(envelope: object, text: str) -> str | None:
    """Why Kombu could not deliver this message. `envelope` is what `text` says."""
    if not isinstance(envelope, dict):
        return "the message is not an object"
    return _text_problem(envelope, text) or _properties_problem(envelope) or _body_problem(envelope)


def task_problem(headers: Mapping[str, object], body: object, text: str) -> str | None:
    """Why Celery could not run this task. `body` is what `text`, the body of the message, says."""
    return _headers_problem(headers) or _arguments_problem(body) or _text_problem(body, text)


def content_problem(content_type: object, content_encoding: object) -> str | None:
    """Why the body of this task may not be read."""
    if content_type != "application/json":
        return "the content type is not application/json"
    if content_encoding and str(content_encoding).lower() not in _ENCODINGS:
        return "the content encoding is not utf-8"
    return None


def _text_problem(value: object, text: str) -> str | None:
    """JSON can say what Redis, or the next JSON encoder, cannot repeat."""
    if text.count("[") + text.count("{") > _DEEPEST and _deeper_than(_DEEPEST, value):
        return "it is nested too deeply"
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            return "it holds half a character"
    return None


def _deeper_than(levels: int, value: object) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return not levels or any(_deeper_than(levels - 1, part) for part in inside)


def _properties_problem(envelope: dict[str, object]) -> str | None:
    properties = envelope.get("properties")
    if not isinstance(properties, dict):
        return "properties is not an object"
    if not isinstance(properties.get("delivery_info"), dict | None):
        return "properties.delivery_info is not an object"
    priority = properties.get("priority")
    if priority is not None and not _is_number(priority):
        return "properties.priority is not a number"
    return _not_text(properties, ("correlation_id", "reply_to", "body_encoding"), "properties")


def _body_problem(envelope: dict[str, object]) -> str | None:
    headers = envelope.get("headers")
    if not isinstance(headers, dict | None):
        return "headers is not an object"
    if headers and headers.get("compression"):
        return "the body is compressed"  # a small message could fill the memory
    body = envelope.get("body")
    if not isinstance(body, str):
        return "the body is not text"
    properties = envelope["properties"]
    encoding = properties.get("body_encoding") if isinstance(properties, dict) else None
    return _not_text(envelope, ("content-type", "content-encoding"), "the envelope") or _encoding_problem(
        body, encoding
    )


def _encoding_problem(body: str, encoding: str | None) -> str | None:
    if encoding is None or encoding.lower() == "utf-8":
        return None
    if encoding != "base64":
        return "properties.body_encoding is neither base64 nor utf-8"
    try:
        base64.b64decode(body)
    except ValueError:  # also what binascii raises
        return "the body is not base64"
    return None


def _headers_problem(headers: Mapping[str, object]) -> str | None:
    for name in ("task", "id"):
        value = headers.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
            return f"headers.{name} is not a name"
    problem = _not_text(
        headers, ("root_id", "parent_id", "group", "shadow", "argsrepr", "kwargsrepr", "origin"), "headers"
    )
    if problem:
        return problem
    if headers.get("retries") is not None and not _is_count(headers["retries"]):
        return "headers.retries is not a count"
    for name in ("eta", "expires"):
        if headers.get(name) is not None and not _is_time(headers[name]):
            return f"headers.{name} is not an ISO 8601 time"
    if headers.get("timelimit") is not None and not _is_pair_of_limits(headers["timelimit"]):
        return "headers.timelimit is not a pair of seconds"
    return _extras_problem(headers)


def _extras_problem(headers: Mapping[str, object]) -> str | None:
    stamped = headers.get("stamped_headers")
    if not isinstance(stamped, list | None) or not all(isinstance(name, str) for name in stamped or ()):
        return "headers.stamped_headers is not a list of names"
    if not isinstance(headers.get("stamps"), dict | None):
        return "headers.stamps is not an object"
    if any(name in _SHADOWING or name in _EMBEDDED or name.startswith("_") for name in headers):
        return "headers hold a reserved name"
    return None


def _arguments_problem(body: object) -> str | None:
    if not isinstance(body, list) or len(body) != 3:  # noqa: PLR2004 - arguments, keyword arguments, embedded
        return "the body is not [args, kwargs, embed]"
    args, kwargs, embed = body
    if not isinstance(args, list):
        return "args is not a list"
    if not isinstance(kwargs, dict):
        return "kwargs is not an object"
    if not isinstance(embed, dict | None) or not (embed or {}).keys() <= _EMBEDDED:
        return "embed is not an object of callbacks, errbacks, chain and chord"
    return _embedded_problem(embed or {})


def _embedded_problem(embed: Mapping[str, object]) -> str | None:
    for name in ("callbacks", "errbacks", "chain"):
        value = embed.get(name)
        if not isinstance(value, list | None) or not all(isinstance(part, dict) for part in value or ()):
            return f"embed.{name} is not a list of signatures"
    if not isinstance(embed.get("chord"), dict | None):
        return "embed.chord is not a signature"
    return None


def _not_text(fields: Mapping[str, object], names: Iterable[str], where: str) -> str | None:
    return next(
        (f"{name} of {where} is not text" for name in names if not isinstance(fields.get(name), str | None)), None
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _HIGHEST


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_pair_of_limits(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(part is None or _is_number(part) for part in value)  # noqa: PLR2004


def _is_time(value: object) -> bool:
    try:
        datetime.fromisoformat(value).timestamp()  # type: ignore[arg-type]  # anything else raises TypeError
    except (TypeError, ValueError, OverflowError, OSError):
        return False
    return True

"""What each fault does to an answer: the table behind faults.py."""

import functools
import json
import math
import zlib
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

from occ.simulator.faults import Fault
from occ.simulator.message import Manner, Reply, Shape, error_body, error_reply, json_reply

MESSAGES = {
    400: "The request is not valid.",
    401: "Authentication failed.",
    403: "The application is not permitted to use this endpoint.",
    404: "The requested resource was not found.",
    405: "The method is not allowed.",
    429: "Too many requests.",
    500: "An internal error occurred.",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
GUARD_MESSAGE = "The request was stopped because of performance constraints."
OWN_MANNERS: dict[str, Manner] = {
    "reset": "reset",
    "hang": "never",
    "drip_head": "drip_head",
    "drip_body": "drip_body",
    "truncated": "truncated",
    "close": "close",
    "huge": "huge",
    "endless": "endless",
    "early_hints": "early_hints",
}


def spoil(fault: Fault, healthy: Callable[[], Reply], wall: float) -> tuple[Reply, float | None]:
    """The reply a fault makes of a call, and the seconds its Retry-After asks for.

    `healthy` lets the call take effect and is called at most once, only for faults that are processed.
    """
    reply = healthy() if fault.processed else Reply(200)
    wait = None
    if fault.kind in OWN_MANNERS:
        reply.manner = OWN_MANNERS[fault.kind]
        reply.every = fault.number("every") or 0.0
        reply.chunk = int(fault.number("chunk") or 1)
        reply.size = int(fault.number("size") or 0)
        reply.of = fault.text("of") or ""
    elif fault.kind in SPOILERS:
        reply = SPOILERS[fault.kind](fault, reply)
    elif "shape" in fault.options:
        reply = _error(fault)
        wait = _ask_to_wait(fault, reply, wall)
    reply.delay += fault.delay
    return reply, wait


@functools.lru_cache(maxsize=8)
def http_date(moment: int) -> str:
    """Epoch seconds as HTTP writes them."""
    return formatdate(moment, usegmt=True)


def _error(fault: Fault) -> Reply:
    status = int(fault.number("status") or 500)
    if fault.options.get("body") is not None:
        return json_reply(status, fault.options["body"])
    message = fault.text("message") or MESSAGES.get(status, "The request could not be completed.")
    code = fault.text("error_code")
    if code == "60012":
        message = GUARD_MESSAGE
    if "body_status" in fault.options:
        return json_reply(status, error_body(str(fault.options["body_status"]), message, code))
    shape = cast("Shape", fault.text("shape"))
    return error_reply(status, message, code or str(10_000 + status), shape=shape)


def _ask_to_wait(fault: Fault, reply: Reply, wall: float) -> float | None:
    seconds = fault.options.get("retry_after")
    if isinstance(seconds, str):  # nonsense is sent as it is
        reply.headers["Retry-After"] = seconds
        return None
    if isinstance(seconds, (int, float)):
        whole = math.ceil(seconds)
        reply.headers["Retry-After"] = str(whole)
        return float(whole)
    date_in = fault.number("retry_after_date")
    if date_in is None:
        return None
    moment = math.ceil(wall + date_in)
    reply.headers["Retry-After"] = http_date(moment)
    return moment - wall


def _not_http(fault: Fault, reply: Reply) -> Reply:
    return Reply(reply.status, b"SSH-2.0-OpenSSH_9.6\r\nProtocol mismatch.\r\n\r\n", manner="raw")


def _redirect(fault: Fault, reply: Reply) -> Reply:
    return Reply(int(fault.number("status") or 302), headers={"Location": fault.text("location") or "/"})


def _without_body(fault: Fault, reply: Reply) -> Reply:
    if reply.status >= 300:  # refused on its merits
        return reply
    return Reply(int(fault.number("status") or 200))


def _broken_json(fault: Fault, reply: Reply) -> Reply:
    reply.body = reply.body[: max(1, len(reply.body) * 2 // 3)]
    return reply


def _huge_head(fault: Fault, reply: Reply) -> Reply:
    reply.headers["X-Filler"] = "x" * int(fault.number("size") or 0)
    return reply


def _gzip_bomb(fault: Fault, reply: Reply) -> Reply:
    reply.body = _bomb(int(fault.number("size") or 0))
    reply.headers["Content-Encoding"] = "gzip"
    return reply


@functools.lru_cache(maxsize=2)
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = b'"' + b" " * 999_998 + b'"'
    packed = b"".join(packer.compress(chunk) for _ in range(size // len(chunk)))
    return packed + packer.flush()


def _bare_array(fault: Fault, reply: Reply) -> Reply:
    return _reshaped(reply, lambda items: items)


def _items(fault: Fault, reply: Reply) -> Reply:
    return _reshaped(reply, lambda items: {"items": items, "links": []})


def _reshaped(reply: Reply, shape: Callable[[list[object]], object]) -> Reply:
    """Only lists have the two forms; anything else goes out as it is."""
    value = json.loads(reply.body or b"null")
    items = value.get("items") if isinstance(value, dict) else value
    if isinstance(items, list):
        reply.body = json.dumps(shape(items)).encode()
    return reply


SPOILERS: dict[str, Callable[[Fault, Reply], Reply]] = {
    "not_http": _not_http,
    "redirect": _redirect,
    "empty": _without_body,
    "no_content": _without_body,
    "broken_json": _broken_json,
    "huge_head": _huge_head,
    "gzip_bomb": _gzip_bomb,
    "bare_array": _bare_array,
    "items": _items,
}

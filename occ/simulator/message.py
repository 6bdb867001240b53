"""Requests to a simulated store and its replies, as data. How a reply goes out is part of it; sending it is not."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from occ.simulator.calls import Call

JSON_TYPE = "application/json;charset=UTF-8"
HTML_TYPE = "text/html"

Manner = Literal[
    "whole",  # as any server would
    "close",  # whole, then the connection ends without having announced it
    "reset",  # nothing, the connection is reset
    "never",  # nothing, the connection stays open
    "drip_head",  # a few bytes at a time, from the status line on
    "drip_body",  # the head at once, the body a few bytes at a time
    "truncated",  # the head, half of the announced body, the end
    "huge",  # the head, then `size` bytes of filler
    "endless",  # something else that never ends; `of` says what
    "early_hints",  # a 103, `every` seconds later the rest
    "raw",  # the body as it is, without any HTTP around it
]
Shape = Literal["errorCode", "plain", "error", "empty", "html"]

HTML_PAGE = b"<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1><p>#18.4f2c1002</p></body></html>"


@dataclass(slots=True)
class Request:
    """One HTTP request. Header names are lower case; a query parameter given twice keeps its last value."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    item: str = ""  # the id at the end of the path, set when the endpoint is known

    def json(self) -> object:
        """The body as JSON, or None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def bearer(self) -> str:
        """The credential of the Authorization header, empty without one."""
        scheme, _, credential = self.headers.get("authorization", "").partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""


@dataclass(slots=True)
class Reply:
    """What goes back, when (`delay` in seconds) and in which manner; `call` is its entry in the call log."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    manner: Manner = "whole"
    delay: float = 0.0
    every: float = 0.0
    chunk: int = 1
    size: int = 0
    of: str = ""
    call: Call | None = None


Handler = Callable[[Request], Reply]


def json_reply(status: int, value: object) -> Reply:
    """A JSON answer."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": JSON_TYPE})


def html_reply(status: int, title: str) -> Reply:
    """A page as an edge server in front of the store sends it."""
    text = title.encode()
    return Reply(status, HTML_PAGE % (text, text), {"Content-Type": HTML_TYPE})


def error_body(status: int | str, message: str, error_code: str | None = None) -> dict[str, object]:
    """Oracle's error model (error-messages.html): the status is a string, the code a string of digits."""
    body: dict[str, object] = {"message": message, "status": str(status)}
    if error_code is not None:
        body["errorCode"] = error_code
    return body


def error_reply(status: int, message: str, error_code: str | None = None, *, shape: Shape = "errorCode") -> Reply:
    """An error in one of the shapes that clients of real stores are prepared for."""
    if shape == "html":
        return html_reply(status, message)
    if shape == "empty":
        return Reply(status)
    if shape == "error":
        return json_reply(status, {"error": "invalid_client" if status == 401 else "invalid_request"})
    return json_reply(status, error_body(status, message, error_code if shape == "errorCode" else None))

"""Answers that never end: how each begins, and what is sent over and over again then."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"  # of DEFLATE: stored, nothing in it (RFC 1951, 3.2.4)
_AT_ONCE = 16 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Endless:
    """One kind of answer without an end."""

    start: bytes
    again: bytes

    @property
    def block(self) -> bytes:
        """What is sent again and again, enough of it to be worth a write."""
        return self.again * (_AT_ONCE // len(self.again) + 1)


ENDLESS: Mapping[str, Endless] = MappingProxyType(
    {
        "interim": Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "interim_headers": Endless(b"HTTP/1.1 103 Early Hints\r\n", b"Link: </a.css>; rel=preload\r\n"),
        "headers": Endless(_OK, b"X-Filler: xxxxxxxxxxxxxxxx\r\n"),
        "header": Endless(_OK + b"X-Filler: ", b"x"),
        "chunks": Endless(_CHUNKED, b"1\r\n \r\n"),
        "trailers": Endless(_CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Filler: xxxxxxxxxxxxxxxx\r\n"),
        "gzip": Endless(_OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x")[:10], _EMPTY_BLOCK),
        "body": Endless(_OK + b"\r\n", b" "),
    }
)

"""One answer as it comes over a connection, read strictly and within bounds.

`http.client` reads past `100 Continue` only, and for ever; takes any other interim answer for the answer; drops what
follows an answer unseen; and bounds neither trailers nor the headers together. Here a few interim answers are read
past; what has no end ends the call; and a connection serves again only after an answer that was whole, with nothing
behind it. Whatever else happens, the connection is closed: no call may get the answer to another.

One thing cannot be seen on the wire: an answer that nobody asked for, sent after the next request has arrived. What we
write back is therefore checked to be about the slot it was read from (`answers.slot`), wherever it came from.
"""

import re
from http.client import BadStatusLine, HTTPException, HTTPMessage, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any

from integrations.egress.allowance import (
    MOST_CHUNKS,
    MOST_HEAD_BYTES,
    MOST_HEAD_LINES,
    MOST_INTERIM_ANSWERS,
    too_large,
)
from integrations.egress.deadline import DeadlineSocket

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\x00]*?)[ \t]*\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LENGTH = re.compile(r"[0-9]{1,12}", re.ASCII)
_ENDS = (b"\r\n", b"\n")
_INTERIM = range(100, 200)
_SWITCHING_PROTOCOLS = 101
_LONGEST_CHUNK_LINE = 4096
_READ_AT_ONCE = 16 * 1024


class Source:
    """What a socket receives, buffered where we can see what is left."""

    def __init__(self, sock: DeadlineSocket) -> None:
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open for as long as this is
        self._held = bytearray()
        self.closed = False

    @property
    def left_over(self) -> int:
        """How many bytes were received and not read."""
        return len(self._held)

    def readline(self, limit: int) -> bytes:
        """Up to and including the next line end, `limit` bytes at most; less if the connection ends."""
        looked_at = 0
        while (at := self._held.find(b"\n", looked_at, limit)) < 0 and len(self._held) < limit:
            looked_at = len(self._held)
            if not self._receive():
                break
        return self._taken(limit if at < 0 else at + 1)

    def read1(self, most: int) -> bytes:
        """What is there, `most` bytes at most; empty if the connection has ended."""
        if not self._held:
            self._receive()
        return self._taken(most)

    def close(self) -> None:
        """Let go of the socket."""
        self.closed = True
        self._raw.close()

    def flush(self) -> None:
        """There is nothing to write; `http.client` asks for it."""

    def _receive(self) -> bool:
        received = self._raw.read(_READ_AT_ONCE)
        self._held += received or b""
        return bool(received)

    def _taken(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


class WireAnswer(HTTPResponse):
    """In place of `http.client`'s own, as far as urllib3 uses it: `begin`, the head, `read1`, `close`."""

    fp: Any
    _method: str | None
    _check_close: Any

    def __init__(self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = Source(sock)
        self._sock: DeadlineSocket = sock
        self._sock.reusable = False
        self._head_bytes = self._head_lines = self._chunks = 0
        self._chunk_left = 0
        self._is_plain = True  # nothing about it was unexpected

    def begin(self) -> None:
        """Read the head. Raises HTTPException for what is not HTTP, TransientError for what has no end."""
        if self.headers is not None:
            return
        version, self.status, self.reason = self._read_status()
        self.code = self.status
        self.version = 10 if version == "HTTP/1.0" else 11
        self.headers = self.msg = self._read_fields()
        self._find_end()

    def read1(self, n: int = -1) -> bytes:
        """Some of the body; empty at its end. Raises IncompleteRead if the connection ends before."""
        most = n if n >= 0 else _READ_AT_ONCE
        if self.fp is None or most == 0:
            return b""
        if self.chunked:
            return self._read_chunk(most)
        if self.length is None:
            data: bytes = self.fp.read1(most)
            if not data:
                self._end()
            return data
        data = self._within(min(most, self.length))
        self.length -= len(data)
        if not self.length:
            self._end()
        return data

    def _read_status(self) -> tuple[str, int, str]:
        """Of the answer, past the interim ones; `http.client` also asks a proxy's answer for it."""
        for _ in range(MOST_INTERIM_ANSWERS + 1):
            line = self._head_line()
            if not line:
                raise RemoteDisconnected("no answer")
            match = _STATUS_LINE.fullmatch(line)
            if match is None or int(match[2]) == _SWITCHING_PROTOCOLS:
                raise BadStatusLine("not an answer")
            if int(match[2]) not in _INTERIM:
                return f"HTTP/1.{match[1].decode()}", int(match[2]), (match[3] or b"").decode("latin-1").strip()
            self._read_fields()
        raise too_large(f"more than {MOST_INTERIM_ANSWERS} interim answers")

    def _read_fields(self) -> HTTPMessage:
        """Headers or trailers. Raises HTTPException for a line that is neither."""
        fields = HTTPMessage()
        while (line := self._head_line()) not in _ENDS:
            if not line.endswith(b"\n"):
                raise IncompleteRead(line)
            if match := _HEADER.fullmatch(line):
                fields[match[1].decode()] = match[2].decode("latin-1")
            elif line.startswith((b" ", b"\t")) and fields:
                self._is_plain = False  # a header that goes on, as once was allowed; none that we read does
            else:
                raise HTTPException("no header")
        return fields

    def _head_line(self) -> bytes:
        line: bytes = self.fp.readline(MOST_HEAD_BYTES + 1 - self._head_bytes)
        self._head_bytes += len(line)
        self._head_lines += 1
        if self._head_bytes > MOST_HEAD_BYTES or self._head_lines > MOST_HEAD_LINES:
            raise too_large(f"more than {MOST_HEAD_BYTES} bytes or {MOST_HEAD_LINES} lines of headers")
        return line

    def _find_end(self) -> None:
        """Where the body ends (RFC 9112, 6.3). Raises HTTPException where two readers could disagree about it."""
        codings = self.headers.get_all("Transfer-Encoding", [])
        lengths = {
            text.strip() for value in self.headers.get_all("Content-Length", []) for text in str(value).split(",")
        }
        if [str(coding).strip().lower() for coding in codings] not in ([], ["chunked"]):
            raise HTTPException("a transfer encoding nobody asked for")
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise HTTPException("no one length")
        without_body = self.status in {204, 304} or self._method == "HEAD"
        self.chunked = bool(codings) and not without_body
        self.length = 0 if without_body else None if self.chunked or not lengths else int(lengths.pop())
        self._is_plain = self._is_plain and not (codings and (lengths or without_body))
        self.will_close = self._check_close() or (self.length is None and not self.chunked)

    def _within(self, most: int) -> bytes:
        """Some of what must still come."""
        data: bytes = self.fp.read1(most) if most else b""
        if most and not data:
            raise IncompleteRead(b"", most)
        return data

    def _read_chunk(self, most: int) -> bytes:
        if not self._chunk_left:
            self._chunk_left = self._next_chunk()
            if not self._chunk_left:
                self._read_fields()
                self._end()
                return b""
        data = self._within(min(most, self._chunk_left))
        self._chunk_left -= len(data)
        if not self._chunk_left and (line_end := self.fp.readline(2)) not in _ENDS:
            raise HTTPException("a chunk that does not end") if line_end else IncompleteRead(data)
        return data

    def _next_chunk(self) -> int:
        self._chunks += 1
        if self._chunks > MOST_CHUNKS:
            raise too_large(f"more than {MOST_CHUNKS} chunks")
        line = self.fp.readline(_LONGEST_CHUNK_LINE)
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise (
                IncompleteRead(line)
                if len(line) < _LONGEST_CHUNK_LINE and not line.endswith(b"\n")
                else (HTTPException("no size of a chunk"))
            )
        return int(match[1], 16)

    def _end(self) -> None:
        """The answer is whole. Whether the connection may serve again is decided here, and nowhere else."""
        if self._is_plain and not self.will_close and not self.fp.left_over:
            self._sock.served()
        self.close()

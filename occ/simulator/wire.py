"""HTTP/1.1 by hand: a connection that reads requests and sends replies in every manner a broken store can.

An own server because resets, drips, hangs and half an answer need the bytes; it is also a good deal faster.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

from occ.simulator.calls import Call
from occ.simulator.endless import ENDLESS, Endless
from occ.simulator.message import Handler, Reply, Request

LONGEST_HEAD = 65_536
LONGEST_BODY = 16 * 1024 * 1024
FILLER = b"x" * 65_536
LITTLE_BUFFER = 65_536
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </occs-admin/a.css>; rel=preload\r\n\r\n"
REASONS = {status.value: status.phrase for status in HTTPStatus}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: the kernel sends RST instead of FIN
BODILESS = (204, 304)

Finish = Callable[[Call, str], None]


class BadRequestError(Exception):
    """Not a request this server can read."""


def parse_head(head: bytes) -> tuple[Request, int, bool]:
    """A request without its body, the body's length, whether the connection stays open. Raises BadRequestError."""
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
    except ValueError:
        raise BadRequestError from None
    if not version.startswith("HTTP/1.") or "transfer-encoding" in headers or not 0 <= length <= LONGEST_BODY:
        raise BadRequestError
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query)) if parts.query else {}
    path = unquote(parts.path) if "%" in parts.path else parts.path
    stays = headers.get("connection", "").lower() != "close" and version != "HTTP/1.0"
    return Request(method, path, query, headers), length, stays


def head_of(reply: Reply, length: int, *, stays: bool) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if reply.status not in BODILESS:
        lines.append(f"Content-Length: {length}")
    if not stays:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """One client's connection: one request at a time, the next one when the reply is out."""

    def __init__(self, handler: Handler, finish: Finish, live: set["Connection"]) -> None:
        self._handler = handler
        self._finish = finish
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._call: Call | None = None
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is up (with TLS: after the handshake)."""
        self._transport = cast("asyncio.Transport", transport)
        self._live.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The connection is gone; whatever was on its way to the client is given up."""
        self._live.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._done("abandoned")

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._buffer += data
        self._serve()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _serve(self) -> None:
        while not self._busy and self._transport is not None and not self._transport.is_closing():
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > LONGEST_HEAD:
                    self._refuse()
                return
            try:
                request, length, stays = parse_head(self._buffer[:end])
            except BadRequestError:
                self._refuse()
                return
            whole = end + 4 + length
            if len(self._buffer) < whole:
                return
            request.body = self._buffer[end + 4 : whole]
            self._buffer = self._buffer[whole:]
            self._reply_to(request, stays=stays)

    def _refuse(self) -> None:
        self._write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self._close()

    def _reply_to(self, request: Request, *, stays: bool) -> None:
        self._busy = True
        reply = self._handler(request)
        self._call = reply.call
        if reply.delay > 0:
            self._timer = self._loop.call_later(reply.delay, self._after_delay, reply, stays)
        else:
            self._send(reply, stays=stays)

    def _after_delay(self, reply: Reply, stays: bool) -> None:
        self._timer = None
        self._send(reply, stays=stays)
        self._serve()

    def _send(self, reply: Reply, *, stays: bool) -> None:
        if reply.manner == "whole":
            self._done("answered")  # first, so that whoever has the answer finds it counted
            self._write(head_of(reply, len(reply.body), stays=stays) + reply.body)
            self._busy = False
            if not stays:
                self._close()
        else:
            self._send_badly(reply, stays=stays)

    def _send_badly(self, reply: Reply, *, stays: bool) -> None:
        head = head_of(reply, len(reply.body), stays=stays)
        match reply.manner:
            case "never":
                pass  # until the client gives up: connection_lost
            case "reset":
                self._reset()
            case "raw":
                self._write_and_close(reply.body, "answered")
            case "close":
                self._write_and_close(head + reply.body, "answered")
            case "truncated":
                self._write_and_close(head + reply.body[: len(reply.body) // 2], "cut")
            case "drip_head":
                self._task = self._loop.create_task(self._drip(b"", head + reply.body, reply))
            case "drip_body":
                self._task = self._loop.create_task(self._drip(head, reply.body, reply))
            case "early_hints":
                self._write(EARLY_HINTS)
                reply.manner = "whole"
                self._timer = self._loop.call_later(reply.every, self._after_delay, reply, stays)
            case "endless":
                self._task = self._loop.create_task(self._never_end(ENDLESS[reply.of]))
            case _:
                self._task = self._loop.create_task(self._flood(reply))

    async def _drip(self, at_once: bytes, slowly: bytes, reply: Reply) -> None:
        self._write(at_once)
        for start in range(0, len(slowly), reply.chunk):
            await asyncio.sleep(reply.every)
            if start + reply.chunk >= len(slowly):
                self._done("answered")
            self._write(slowly[start : start + reply.chunk])
        self._task_over()

    async def _flood(self, reply: Reply) -> None:
        begin, end = b'{"filler": "', b'"}'
        left = max(0, reply.size - len(begin) - len(end))
        self._write(head_of(reply, len(begin) + left + len(end), stays=True) + begin)
        while left:
            await self._may_write.wait()
            self._write(FILLER[:left])
            left -= min(left, len(FILLER))
            await asyncio.sleep(0)
        self._done("answered")
        self._write(end)
        self._task_over()

    async def _never_end(self, answer: Endless) -> None:
        """Until the client goes, which cancels this."""
        if self._transport is None:
            return
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LITTLE_BUFFER)
        block, written = answer.block, len(answer.start)
        self._write(answer.start)
        while self._transport is not None and self._call is not None:
            await self._may_write.wait()
            self._write(block)
            written += len(block)
            self._call.sent = written - self._transport.get_write_buffer_size()
            await asyncio.sleep(0)

    def _task_over(self) -> None:
        self._task = None
        self._done("answered")
        self._busy = False
        self._serve()

    def _write_and_close(self, data: bytes, outcome: str) -> None:
        self._done(outcome)
        self._write(data)
        self._close()

    def _reset(self) -> None:
        self._done("reset")
        if self._transport is not None:
            reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _done(self, outcome: str) -> None:
        if self._call is not None:
            self._finish(self._call, outcome)
            self._call = None


def reset_on_close(sock: socket.socket) -> None:
    """From now on closing this socket is a reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

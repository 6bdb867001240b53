"""Messages that nobody could handle: kept where an operator sees them, and returnable to their queue.

The quarantine is one Redis list next to the queues (and one next to the inbox, where that is on another server), newest
first, bounded. When it is full, the oldest message of the source that has most there gives way; what came from the same
queue for the same reason is of one source. It never holds an application key in the clear: a message that may carry one
is listed without its content.

    occ:quarantine            list    what was set aside (JSON)
    occ:quarantine:sources    hash    how many there are by source
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis

from integrations.cloud_event import timestamp
from integrations.errors import RequestRefused
from integrations.lua import lua_beside

QUARANTINE = "occ:quarantine"
_SOURCES = "occ:quarantine:sources"
INBOX = "occ:inbox"
INBOX_FIELD = "request"
"""The one place to return to that is a stream, and the field it keeps a request in."""
LIMIT = 1_000
LARGEST_KEPT = 64 * 1024  # bytes of one message; a full quarantine then stays below 100 MB

_JWT = re.compile(r"ey[\w+/-]{6,}={0,2}\.[\w+/-]{6,}={0,2}\.")  # an application key has standard base64, padded
_BEARER = re.compile(r"bearer\W{1,4}[\w.-]{8,}", re.IGNORECASE)
_APPLICATION_KEY = re.compile(r"application_key[\"'\\\s:=]*([^\"'\\\s,}\])]*)")
_HARMLESS_KEYS = ("", "null", "None")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{24,}")
_ESCAPED_CHARACTER = re.compile(rb"\\u00([0-7][0-9a-fA-F])")
_LINE_BREAK = re.compile(rb"\\[nr]|[\r\n]")
_COMPRESSED = (b"\x1f\x8b", b"x\x01", b"x\x9c", b"x\xda", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, slots=True)
class QuarantinedMessage:
    """One message set aside.

    `at` is an ISO 8601 time in UTC, `size` counts bytes. `message` is the message as it came, as text or as base64
    (`encoding`), or None with `withheld` saying why: "secret" or "too_large".
    """

    id: str
    at: str
    queue: str
    reason: str
    size: int
    message: str | None
    encoding: str | None
    withheld: str | None

    def content(self) -> bytes | None:
        """The message as it came, or None if it was withheld."""
        if self.message is None:
            return None
        return base64.b64decode(self.message) if self.encoding == "base64" else self.message.encode()


def quarantine(client: Redis, *, queue: str, reason: str, message: bytes, now: float) -> None:
    """Set a message of `queue` aside; when there are more than 1,000, the oldest of the largest source gives way.

    `reason` must not quote the message. `now` is in seconds since the epoch.
    """
    text, encoding, withheld = _keepable(message)
    entry = {"at": timestamp(now), "queue": queue, "reason": reason, "size": len(message)}
    entry |= {"message": text, "encoding": encoding, "withheld": withheld}
    script = lua_beside(__file__, "set_aside")
    client.eval(script, 2, QUARANTINE, _SOURCES, json.dumps(entry), _source(queue, reason), LIMIT)


def list_quarantine(client: Redis, limit: int = LIMIT) -> list[QuarantinedMessage]:
    """What is in quarantine, newest first."""
    return [entry for _, entry in _entries(client, limit)]


def requeue(client: Redis, entry_id: str) -> QuarantinedMessage:
    """Return a message to the queue it came from, and take it out of the quarantine.

    Raises RequestRefused if there is no such message, or if its content was withheld.
    """
    stored, entry = _find(client, entry_id)
    content = entry.content()
    if content is None:
        raise RequestRefused("id", "message_withheld", "its content was not kept; ask the producer to send it again")
    field = INBOX_FIELD if entry.queue == INBOX else ""
    script, keys = lua_beside(__file__, "return_message"), (QUARANTINE, entry.queue, _SOURCES)
    if not client.eval(script, 3, *keys, stored, content, field, _source(entry.queue, entry.reason)):
        raise _unknown(entry_id)
    return entry


def discard(client: Redis, entry_id: str) -> QuarantinedMessage:
    """Take a message out of the quarantine for good. Raises RequestRefused if there is no such message."""
    stored, entry = _find(client, entry_id)
    script, source = lua_beside(__file__, "discard_message"), _source(entry.queue, entry.reason)
    if not client.eval(script, 2, QUARANTINE, _SOURCES, stored, source):
        raise _unknown(entry_id)
    return entry


def holds_clear_key(message: bytes) -> bool:
    """Whether a message may carry an application key (or a token) that is not sealed.

    Looks at the text, at the text behind JSON escapes, and into base64, two layers deep. Errs on the safe side:
    what is compressed cannot be judged and counts as carrying one.
    """
    return any(_looks_secret(layer) for layer in _layers(message, depth=2))


def _source(queue: str, reason: str) -> str:
    """What tells where a message comes from, as it stands in what is stored of it."""
    return json.dumps({"queue": queue, "reason": reason})[1:-1]


def _keepable(message: bytes) -> tuple[str | None, str | None, str | None]:
    if len(message) > LARGEST_KEPT:
        return None, None, "too_large"
    if holds_clear_key(message):
        return None, None, "secret"
    try:
        return message.decode(), "text", None
    except UnicodeDecodeError:
        return base64.b64encode(message).decode(), "base64", None


def _layers(message: bytes, depth: int) -> Iterator[bytes]:
    message = message.replace(b"\0", b"")  # UTF-16 then reads like ASCII
    yield message
    # As JSON writes it: \u0065yJ..., and base64 with PHP's \/ or with line breaks.
    plain = _ESCAPED_CHARACTER.sub(lambda match: bytes.fromhex(match[1].decode()), message).replace(b"\\/", b"/")
    plain = _LINE_BREAK.sub(b"", plain)
    if plain != message:
        yield plain
    if not depth:
        return
    for run in _BASE64_RUN.findall(plain):
        aligned = run.translate(bytes.maketrans(b"-_", b"+/"))[: len(run) // 4 * 4]
        try:
            inner = binascii.a2b_base64(aligned)
        except binascii.Error:
            continue
        yield from _layers(inner, depth - 1)


def _looks_secret(layer: bytes) -> bool:
    if layer.startswith(_COMPRESSED):
        return True
    text = layer.decode("latin-1")
    if _JWT.search(text) or _BEARER.search(text):
        return True
    values = _APPLICATION_KEY.findall(text)
    return any(value not in _HARMLESS_KEYS and not value.startswith("sealed.") for value in values)


def _entries(client: Redis, limit: int) -> Iterator[tuple[bytes, QuarantinedMessage]]:
    for stored in client.lrange(QUARANTINE, 0, limit - 1):
        text = stored.encode() if isinstance(stored, str) else stored
        yield text, _entry(text)


def _entry(stored: bytes) -> QuarantinedMessage:
    entry_id = hashlib.sha256(stored).hexdigest()[:12]
    try:
        return QuarantinedMessage(id=entry_id, **json.loads(stored))
    except (ValueError, TypeError):
        # Somebody else wrote it; it must not hide the others.
        return QuarantinedMessage(entry_id, "", "", "not an entry of the quarantine", len(stored), None, None, "secret")


def _find(client: Redis, entry_id: str) -> tuple[bytes, QuarantinedMessage]:
    for stored, entry in _entries(client, LIMIT):
        if entry.id == entry_id:
            return stored, entry
    raise _unknown(entry_id)


def _unknown(entry_id: str) -> RequestRefused:
    return RequestRefused("id", "not_in_quarantine", f"there is no message {entry_id[:12]!r}; list what there is")

"""Unpacking a compressed body piece by piece, to a size we allow and in a bounded number of steps. Pure."""

import zlib

from integrations.egress.allowance import MOST_GZIP_MEMBERS, too_large
from integrations.errors import TransientError

_CODINGS = frozenset({"gzip", "x-gzip"})
_GZIP = 31  # zlib's number for it
_MAGIC = b"\x1f\x8b"


def is_packed(content_encoding: str) -> bool:
    """Whether a body is to be unpacked. Raises TransientError for one packed several times, as only bombs are.

    What else the header may say (some say "utf-8") is passed over: the body may be JSON all the same.
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",") if coding.strip()]
    packed = [coding for coding in codings if coding in _CODINGS]
    if packed and len(codings) > 1:
        raise TransientError("unreadable_answer", "packed more than once")
    return bool(packed)


class Gunzip:
    """Unpacks one body. Raises TransientError `answer_too_large`, or `unreadable_answer` for what is no gzip."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._most = most_bytes
        self._members = 0
        self._member = zlib.decompressobj(_GZIP)
        self._before = b""  # the start of what may be a next member
        self._began = self._over = False

    def unpack(self, packed: bytes) -> bytes:
        """What one more piece holds."""
        unpacked = bytearray()
        packed = self._before + packed
        self._before = b""
        while packed and not self._over:
            if self._member.eof and not self._next_member(packed):
                break
            self._began = True
            piece = self._member_unpacks(packed)
            self._left -= len(piece)
            if self._left < 0:
                raise too_large(f"more than {self._most} bytes when unpacked")
            unpacked += piece
            packed = self._member.unused_data
        return bytes(unpacked)

    def finish(self) -> None:
        """Raises TransientError if the body ended in the middle."""
        if self._began and not self._member.eof:
            raise _broken()

    def _member_unpacks(self, packed: bytes) -> bytes:
        try:
            # One byte more than allowed is enough to know; with none to spare, zlib would take 0 for "any number".
            return self._member.decompress(packed, self._left + 1)
        except zlib.error:
            raise _broken() from None

    def _next_member(self, packed: bytes) -> bool:
        if len(packed) < len(_MAGIC) and _MAGIC.startswith(packed):
            self._before = packed
            return False
        if not packed.startswith(_MAGIC):  # padding and the like, which others ignore, too
            self._over = True
            return False
        self._members += 1
        if self._members >= MOST_GZIP_MEMBERS:
            raise too_large(f"more than {MOST_GZIP_MEMBERS} pieces of gzip")
        self._member = zlib.decompressobj(_GZIP)
        return True


def _broken() -> TransientError:
    return TransientError("unreadable_answer", "the answer cannot be decompressed")

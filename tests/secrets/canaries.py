"""Recognisable secrets, and every spelling in which they could turn up somewhere. Pure.

Each secret carries a marker of letters and digits in every part of it, so that a part is recognised as well as the
whole: an application key and an access token in the claims and in the signature.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from occ.simulator.application_keys import HEADER, segment
from occ.simulator.tokens import Token, TokenBook

KEY = "CanaryKeyQ7zx"
"""In every application key."""

TOKEN = "CanaryTokQ7zx"
"""In every access token."""

CLEAR = "CanaryClrQ7zx"
"""In application keys that a producer sends in the clear."""


class Hit(NamedTuple):
    """A secret that was found: which one, how it was spelled, and what stands around it."""

    secret: str
    spelling: str
    around: bytes


def application_key(name: str, marker: str = KEY) -> str:
    """An application key with a marker in each of its parts."""
    claims = {"sub": f"{marker}-{name}-{marker}", "iss": "applicationAuth", "exp": 4_000_000_000}
    return f"{segment(HEADER)}.{segment(claims)}.{marker * 3}{len(name):04}"


class CanaryTokens(TokenBook):
    """Issues access tokens with a marker in each part."""

    def issue(self, now: float, lifetime: float, uses: int | None, wall: float) -> Token:
        """As every book does."""
        token = super().issue(now, lifetime, uses, wall)
        del self._tokens[token.text]
        claims = {"iss": "applicationAuth", "sub": f"{TOKEN}-{token.serial}-{TOKEN}"}
        token.text = f"{segment(HEADER)}.{segment(claims)}.{TOKEN * 4}{token.serial:04}{int(now * 1000) % 10_000:04}"
        self._tokens[token.text] = token
        return token


class Search:
    """Looks for secrets in all their spellings."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._needles = [(secret, how, needle) for secret in secrets for how, needle in spellings(secret)]

    def hits(self, text: bytes) -> list[Hit]:
        """The first place of each spelling that occurs."""
        found = ((secret, how, text.find(needle)) for secret, how, needle in self._needles)
        return [Hit(secret, how, text[max(0, at - 120) : at + 60]) for secret, how, at in found if at >= 0]


def spellings(secret: str) -> Iterator[tuple[str, bytes]]:
    """What to look for so as to find a secret however it was encoded."""
    seen: set[bytes] = set()
    for how, needle in _spellings(secret):
        if needle not in seen:
            seen.add(needle)
            yield how, needle


def _spellings(secret: str) -> Iterator[tuple[str, bytes]]:
    plain = secret.encode()
    for how, needle in (("plain", plain), ("reversed", plain[::-1])):
        yield how, needle
        yield f"{how}, lower case", needle.lower()
        yield f"{how}, upper case", needle.upper()
        yield from _base64(how, needle)
    for once in list(_base64("plain", plain)):
        yield from _base64(*once)
    yield "hexadecimal", plain.hex().encode()
    yield "hexadecimal, upper case", plain.hex().upper().encode()
    yield "percent-encoded", "".join(f"%{byte:02x}" for byte in plain).encode()
    yield "percent-encoded, upper case", "".join(f"%{byte:02X}" for byte in plain).encode()
    yield "escaped as in JSON", "".join(f"\\u{byte:04x}" for byte in plain).encode()
    yield "escaped as in JSON, upper case", "".join(f"\\u{byte:04X}" for byte in plain).encode()
    yield "escaped as in C", "".join(f"\\x{byte:02x}" for byte in plain).encode()
    yield "as JSON", json.dumps(secret)[1:-1].encode()
    yield "UTF-16", secret.encode("utf-16-le")
    yield "UTF-16, the other way round", secret.encode("utf-16-be")


def _base64(how: str, plain: bytes) -> Iterator[tuple[str, bytes]]:
    """Both alphabets, at each of the three positions; without the letters that depend on what stands around."""
    for before in range(3):
        # A letter holds 6 bits: those that also hold bits of a neighbour are cut off.
        first, last = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            yield f"{how}, {name} at {before}", encode(b"\0" * before + plain)[first:last]

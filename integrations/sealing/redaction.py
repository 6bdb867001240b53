"""Takes secrets out of what is shown: log lines, events for Flower, texts of foreign exceptions. Pure functions.

The last line of defence: our own code never hands a secret to any of these. What is recognised is a field by its name
and a value by its shape. A secret without either, such as one quoted by a library in two halves, would get through.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeAlias

JsonValue: TypeAlias = "str | int | float | bool | dict[str, JsonValue] | list[JsonValue] | None"

REDACTED = "[redacted]"

_MAX_TEXT = 16_000
_MAX_LOOK = 1_000_000
_MAX_DEPTH = 6
_MAX_ENTRIES = 100
_CUT = "[...]"

_NAMES = (
    r"(?:(?:passw(?:or)?d|secret|token|authorization|cookie|bearer|jwt)s?"
    r"|(?:api|app|application|private|sealing|secret|access)[_-]?keys?)"
)
_NAME = re.compile(rf"[\w-]*{_NAMES}", re.IGNORECASE)

# All repetitions are bounded or cannot overlap with what follows: a hostile text costs no more than a long one.
_SECRET = re.compile(
    rf"""
    # a sealed key keeps its key id: that says which private key it needs
      (?P<sealed>\bsealed\.v1\.[A-Za-z0-9_-]{{1,32}}\.)[A-Za-z0-9_=-]+
    # the look-ahead lets sentences about "bearer credentials" and "basic authentication" stand
    | (?P<scheme>\b(?:Bearer|Basic)\s+)(?=\S{{0,80}}?(?-i:[0-9A-Z=_-])|\S{{20}})[A-Za-z0-9._~+/=-]{{8,}}
    # a JWT, or what truncation left of it
    | \b(?-i:eyJ)[A-Za-z0-9_+/=-]{{8,}}(?:\.[A-Za-z0-9_+/=-]*){{0,2}}
    # what we share with the receiver of events
    | \bwhsec_[A-Za-z0-9_+/=-]{{8,}}
    # a sealing key with its id
    | \b[A-Za-z0-9_-]{{1,32}}:[A-Za-z0-9_-]{{43}}(?![A-Za-z0-9_-])=?
    # users and passwords in URLs; those of servers may have a careless / in them
    | (?P<server>\b(?:rediss?(?:\+sentinel)?|unix|redis\+socket|socket|valkeys?|sentinel)://)[^\s'"]{{0,1000}}(?=@)
    | (?P<url>\b[a-z][a-z0-9+.-]{{0,20}}://)[^\s/?\#'"@]*(?=@)
    | (?P<header>\b(?:proxy-authorization|authorization|set-cookie|cookie):\s*)[^\r\n'"]+
    # name=value, 'name': 'value', name: 'value', also as JSON within JSON
    | (?P<field>{_NAMES}\\{{0,4}}['"]?(?:=|\s{{0,3}}[=:]\s{{0,3}}(?=b?\\{{0,4}}['"])))
      b?\\{{0,4}}(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s,;&(){{}}\[\]]+)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SIGNS = (":", "=", "eyj", "bearer", "basic", "sealed.", "whsec_")
"""What is recognised by its shape has one of these in it, whatever its case."""


def redact_text(text: str) -> str:
    """The text without the secrets in it; a very long one loses its middle."""
    # First redacted, then cut: half of a secret may not look like one any more.
    shown = _redacted(text[:_MAX_LOOK])
    return shown if len(shown) <= _MAX_TEXT else f"{shown[: _MAX_TEXT // 2]}{_CUT}{shown[-_MAX_TEXT // 2 :]}"


def redact(fields: Mapping[str, object]) -> dict[str, JsonValue]:
    """The fields as plain JSON without secrets: by their name at any depth, and by the content of their texts.

    Anything that is not plain data becomes its `str`, so that no object smuggles something into a line later on.
    """
    return _fields(fields, _MAX_DEPTH)


@functools.lru_cache(maxsize=1024)
def _shown_name(name: str) -> str:
    return redact_text(name)


@functools.lru_cache(maxsize=1024)
def names_a_secret(name: str) -> bool:
    """Whether a field of this name holds something that is never shown."""
    return _NAME.fullmatch(name) is not None


def _redacted(text: str) -> str:
    folded = text.casefold()
    return _SECRET.sub(_replacement, text) if any(sign in folded for sign in _SIGNS) else text


def _replacement(match: re.Match[str]) -> str:
    # Each alternative keeps at most one part: the named group that says what kind of secret stood here.
    return f"{match[match.lastgroup] if match.lastgroup else ''}{REDACTED}"


def _fields(fields: Mapping[Any, object], depth: int) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {}
    for key, value in list(fields.items())[:_MAX_ENTRIES]:
        name = str(key)
        # Numbers and truth values under such a name (a token's lifetime) are no secrets, and worth seeing.
        hidden = names_a_secret(name) and not isinstance(value, int | float | None)
        shown[_shown_name(name)] = REDACTED if hidden else _plain(value, depth)
    return shown


def _plain(value: object, depth: int) -> JsonValue:
    match value:
        case str():
            plain: JsonValue = redact_text(value)
        case None | int():
            plain = value
        case float():
            plain = value if math.isfinite(value) else str(value)
        case bytes() | bytearray() | memoryview():
            plain = f"[{len(value)} bytes]"
        case Mapping() | Sequence() | Set():
            plain = _entries(value, depth - 1) if depth else _CUT
        case _:
            plain = redact_text(_text_of(value))
    return plain


def _entries(value: Mapping[Any, object] | Sequence[object] | Set[object], depth: int) -> JsonValue:
    if isinstance(value, Mapping):
        return _fields(value, depth)
    return [_plain(entry, depth) for entry in list(value)[:_MAX_ENTRIES]]


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a foreign __str__ may do anything, and a log line must not fail for it
        return f"[{type(value).__name__}]"

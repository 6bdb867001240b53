"""Where a URL leads, however a store spells it. Pure.

Stores may show a URL other than it was sent: another case, `http`, a slash more, encoded again, escaped for HTML or
JSON, its query in another order. `same` tells what certainly leads to the same place. It never holds for two callback
URLs of ours: merchant ids and slot names consist of letters, digits and `-._~`, which none of these spellings touches.
`resembles` is wider. It is evidence only for a URL that came into a list with a write of ours.
"""

import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_QUOTED_SEMICOLON = re.compile("%3b", re.IGNORECASE)
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(/))")
_FRAGMENT = re.compile(r"(?<!&)#[^#;]*\Z")  # and no character of HTML's
_CUT_ESCAPE = re.compile(r"(?:%[0-9A-Fa-f]?|&[#A-Za-z0-9]*|\\u?[0-9A-Fa-f]{0,3}|\.{3}|\u2026)\Z")
_CUT_PERCENT = re.compile(r"%[0-9a-f]?\Z")  # within an escape, before something escaped that a store adds behind
# Masked, shortened, with spaces, or several in one: never as it was sent.
_NOT_AS_SENT = re.compile(r"\*{3}|[\u2022\u2026\s]|,\Z|[,;|](?=https?://)", re.IGNORECASE)
_USUAL_PORT = re.compile(r"(?<=[^/?#:]):(?:443|80)(?=[/?#])")
_ROUNDS = 6  # of encodings on top of each other
_LONGEST = 8192
_LONGEST_PART = 512
_LONGEST_SHOWN = 200


class Place(NamedTuple):
    """Where a URL leads, in one form for all spellings."""

    host: str
    port: int | None
    path: str
    query: tuple[str, ...]


@lru_cache(maxsize=512)
def place_of(url: str) -> Place | None:
    """None for what is no URL, or leads elsewhere than its text says: with a user in it, or by another protocol.

    What is longer than anybody reads is told by its text alone.
    """
    if len(url) > _LONGEST:
        return None
    try:
        parts = urlsplit(_decoded(url))
        default = _DEFAULT_PORTS.get(parts.scheme.lower())
        port, host = parts.port, parts.hostname
    except ValueError:
        return None
    if default is None or not host or parts.username is not None:
        return None
    path = re.sub(r"/+", "/", parts.path).rstrip("/")
    query = tuple(sorted(filter(None, parts.query.split("&"))))
    return Place(_ascii(host.rstrip(".")), None if port in {None, default} else port, path, query)


def is_plain(url: str) -> bool:
    """Whether this is a URL as it is sent: not escaped for HTML or JSON, encoded as a whole, masked or shortened."""
    try:
        parts = urlsplit(url.strip())
        is_url = parts.scheme.lower() in _DEFAULT_PORTS and bool(parts.hostname)
    except ValueError:
        return False
    for_html = _QUOTED_SEMICOLON.sub(";", url)  # its end may be quoted after that
    is_escaped = "\\" in url or _ENTITY.search(for_html)
    return is_url and not is_escaped and not _NOT_AS_SENT.search(url.strip())


def same(url: str, other: str) -> bool:
    """Whether two URLs certainly lead to the same place."""
    if comparable(url) == comparable(other):
        return True
    place = place_of(url)
    return place is not None and place == place_of(other)


def leads_on_to(url: str, other: str) -> bool:
    """Whether a URL leads where the other does, with something added to its query."""
    place, wanted = place_of(url), place_of(other)
    if place is None or wanted is None or place[:3] != wanted[:3] or place == wanted:
        return False
    return {*wanted.query} <= {*place.query}


def resembles(url: str, other: str, *, also_by_query: bool = False) -> bool:
    """Whether a URL may be what became of another: in another case, cut off, with another query, within a longer one.

    That is much less than certain. `also_by_query`: not with another query, if that has one.
    """
    wanted = place_of(other)
    if wanted is None:
        return False
    text, whole = (_USUAL_PORT.sub("", _decoded(it).casefold(), count=1) for it in (url, other))
    bare = (whole if also_by_query else whole.partition("?")[0]).rstrip("/").partition("://")[2]
    if len(bare) > len(wanted.host) and bare in text:
        return True
    left = url if wanted.query else url.partition("?")[0]  # a query that ours has not, the store has added
    return whole.partition("://")[2].startswith(_begun(left, wanted.host) or whole)


def may_have_become(url: str, other: str) -> bool:
    """Whether a URL that has come is what became of another that was sent.

    Where the query tells callback URLs apart, any URL at that host may have the same beginning: it has to be there, in
    whatever order, or cut off.
    """
    return resembles(url, other, also_by_query=True) or _leads_there_in_any_case(url, other)


def is_cut_of(url: str, other: str) -> bool:
    """Whether a URL may be what is left of another that is cut off somewhere behind its host. Far from certain."""
    wanted, whole = place_of(other), _decoded(other).casefold().partition("://")[2]
    begun = _begun(url, wanted.host) if wanted else ""
    return 0 < len(begun) < len(whole) and whole.startswith(begun)


def comes_out_alike(url: str, other: str) -> bool:
    """Whether a store that changes the case, cuts or adds a query may make this of another URL. Far from certain."""
    wanted = place_of(other)
    left = url if wanted and wanted.query else _decoded(url).partition("?")[0]
    return _leads_there_in_any_case(url, other) or is_cut_of(left, other)


def _leads_there_in_any_case(url: str, other: str) -> bool:
    """Whether a URL leads to where another leads, if capitals do not matter."""
    folded, whole = url.casefold(), other.casefold()
    return same(folded, whole) or leads_on_to(folded, whole)


def _begun(url: str, host: str) -> str:
    """What is left of a URL but scheme, usual port, fragment and what is cut within an escape; "" if only the host."""
    whole = _FRAGMENT.sub("", url.strip()).rstrip("/ ")  # what a store adds behind its cut
    rest = _decoded(_CUT_ESCAPE.sub("", whole)).casefold().partition("://")[2]
    rest = _CUT_PERCENT.sub("", _USUAL_PORT.sub("", rest.partition("#")[0], count=1).rstrip("/ "))
    return rest if len(rest) > len(f"{host}/") else ""


@lru_cache(maxsize=512)
def comparable(url: str) -> str:
    """A URL in a form in which it is equal to itself in another case of scheme and host, with or without its port.

    The rest is told apart by case.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port not in {None, 443} else ""
    except ValueError:
        return text
    if parts.hostname is None or parts.username is not None:
        return text
    return parts._replace(
        scheme=parts.scheme.lower(), netloc=f"{parts.hostname}{port}", path=parts.path or "/"
    ).geturl()


def mark_of(url: str) -> str:
    """What is remembered of a URL: enough to know it again, too little to give it away."""
    return short(comparable(url))


def short(text: str) -> str:
    """A short SHA-256."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12]


def shown(url: str) -> str:
    """A URL as a person may read it: short, printable, without what may be a secret in its user, query or fragment.

    What is escaped is shown plain: where its parts begin could not be told otherwise.
    """
    url = url if is_plain(url) else _decoded(url)
    text = "".join(character if character.isprintable() else "_" for character in url.strip())
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if separator and "@" in authority:
        rest = f"***@{authority.rpartition('@')[2]}{slash}{path}"
    text = f"{scheme}{separator}{rest}"
    head = re.split(r"[?#]", text, maxsplit=1)[0]
    text = f"{head}?..." if len(head) < len(text) else head
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


@dataclass(frozen=True, slots=True)
class Template:
    """The setting that callback URLs are made from: tells those of other merchants from any other URL."""

    text: str

    def is_anothers(self, url: str, callback_url: str) -> bool:
        """Whether a URL is, or may be, the callback URL of another merchant than the given one is.

        Also with a longer query, or with the rest of it in another case.
        """
        return not self._merchants(url) <= self._merchants(callback_url)

    def may_be_cut(self, url: str, callback_url: str) -> bool:
        """Whether what names another merchant may be what is left of the given one, cut off within the merchant's id.

        Where a store also puts a query in another order, the merchant's id may come last. To the letter as it is made,
        it is the other merchant's.
        """
        place = place_of(url)
        if place is None or self.is_as_made(url):
            return False
        ends = [it for it in self._merchants(url) if any(part.endswith(it) for part in (place.path, *place.query))]
        names = self._merchants(callback_url)
        return any(name.casefold().startswith(end.casefold()) for end in ends for name in names)

    def is_as_made(self, url: str) -> bool:
        """Whether a URL is made from the setting, to the letter: no store has made anything of it."""
        made = re.escape(self.text).replace(r"\{merchant_id\}", _NAME).replace(r"\{slot\}", _NAME)
        return re.fullmatch(made, url) is not None

    def _merchants(self, url: str) -> frozenset[str]:
        """Whose it may be. Several, where nothing stands between the merchant and the slot that neither may contain."""
        place, wanted = place_of(url), place_of(self.text.replace("{merchant_id}", _MERCHANT).replace("{slot}", _SLOT))
        if place is None or wanted is None or place[:2] != wanted[:2]:
            return frozenset()
        found = [_named([place.path], wanted.path), *(_named(place.query, piece) for piece in wanted.query)]
        return frozenset() if None in found else frozenset(it for names in found if names for it in names)


_MERCHANT, _SLOT, _NAME = "zMERCHANTz", "zSLOTz", "[A-Za-z0-9._~-]+"


def _named(parts: Iterable[str], wanted: str) -> frozenset[str] | None:
    """The merchants that may be named in those parts that are as wanted; None if there is no such part."""
    first, marker, rest = re.escape(wanted).replace(_SLOT, _NAME).partition(_MERCHANT)
    before, behind = re.compile(first, re.IGNORECASE), re.compile(rest.replace(_MERCHANT, _NAME), re.IGNORECASE)
    whole = re.compile(f"{first}{_NAME if marker else ''}{behind.pattern}", re.IGNORECASE)
    found = [part for part in parts if whole.fullmatch(part)]
    return frozenset(it for part in found for it in _between(part, before, behind) if marker) if found else None


def _between(part: str, before: re.Pattern[str], behind: re.Pattern[str]) -> Iterator[str]:
    """Every name that may stand between the two; what is longer than any callback URL is one of its own."""
    if len(part) > _LONGEST_PART:
        yield part
        return
    starts = [at for at in range(len(part)) if before.fullmatch(part, 0, at)]
    ends = [at for at in range(len(part) + 1) if behind.fullmatch(part, at)]
    yield from (it for start in starts for end in ends if re.fullmatch(_NAME, it := part[start:end]))


def _decoded(url: str) -> str:
    text = url.strip().strip("\"'<> \t\r\n")
    for _ in range(_ROUNDS):
        plain = _JSON_ESCAPE.sub(lambda it: chr(int(it[1], 16)) if it[1] else "/", text)
        plain = unquote(_ENTITY.sub(lambda it: html.unescape(it[0]), plain)).strip()
        if plain == text:
            break
        text = plain
    return text


def _ascii(host: str) -> str:
    """A host as it is looked up. One that others than Python look up elsewhere, as with a sharp s, stays as it is."""
    try:
        name = host.encode("idna")
        return name.decode().lower() if host.isascii() or name.decode("idna") == host.lower() else host.lower()
    except UnicodeError:
        return host.lower()

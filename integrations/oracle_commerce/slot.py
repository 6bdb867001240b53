"""What a slot carries, and how our callback URL gets in and out of it without removing anybody else's. Pure.

A slot holds a list of URLs, and an update replaces the list: a careless one cuts off the merchant's order management.
An update may name only some properties, and the others stay (Oracle, "updateWebHook"; list rule in "Get started with
the API"). So we send the merged list and nothing else: headers, basic authentication, resend settings and the secret,
which is shared with others, are never touched.

The API knows no condition on a write. A URL that a rival adds between our read and our write is lost, and no later
answer can show it; we keep that moment as short as one round trip. What can be seen afterwards is looked at:
`changed_meanwhile`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Literal, TypeGuard
from urllib.parse import quote, urlsplit

from integrations.errors import PermanentError, TransientError

BodyStyle = Literal["urls", "url"]
Content = Mapping[str, object]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SEPARATOR = re.compile(r"\s*,\s*(?=https?://)", re.IGNORECASE)  # as the admin's form shows them; URLs may hold commas

SETTINGS_OF_OTHERS = (
    "headers",
    "basicAuthentication",
    "maxNumberOfResendAttempts",
    "resendDelaySeconds",
    "applyResendDelayToFirstAttempt",
    "includeChangesOnly",
    "subEntityTruncationSize",
    "urlApplicationSuppressionList",
)
"""Properties of a slot that all its receivers share: looked at, never written."""
_SLOT_FIELDS = frozenset(
    {"id", "name", "serverType", "displayName", "urls", "url", "secretKey", "secretKeySHA512", *SETTINGS_OF_OTHERS}
)


def callback_url_for(template: str, merchant_id: str, slot: str) -> str:
    """The callback URL of one merchant's slot."""
    return template.replace("{merchant_id}", quote(merchant_id, safe="")).replace("{slot}", quote(slot, safe=""))


def urls_in(content: Content) -> tuple[str, ...]:
    """The URLs a slot carries, as the store spells them.

    Raises PermanentError when that cannot be told, TransientError when this is no slot: then nothing may be written.
    """
    if content and not _SLOT_FIELDS & content.keys():
        raise TransientError("unreadable_answer", "not a slot")
    held = _listed(content.get("urls"))
    held = [*held, *(url for url in _listed(content.get("url")) if url not in held)]  # with both, either may count
    if not all(url is None or isinstance(url, str) for url in held):
        raise PermanentError("slot_unreadable")
    return tuple(url for url in held if isinstance(url, str) and url.strip())


def _listed(held: object) -> list[object]:
    if held is None:
        return []
    if isinstance(held, str):
        return list(_SEPARATOR.split(held))
    return held if isinstance(held, list) else [held]


def count(urls: Collection[str], callback_url: str) -> int:
    """How often our callback URL is there, in whatever spelling."""
    return sum(_same(url, callback_url) for url in urls)


def among(urls: Collection[str], wanted: Collection[str]) -> tuple[str, ...]:
    """Those of the URLs that are one of the wanted, in whatever spelling; in the store's order and spelling."""
    compared = {comparable(url) for url in wanted}
    return tuple(url for url in urls if comparable(url) in compared)


def carries(urls: Collection[str], callback_url: str) -> bool:
    """Whether our callback URL is there, once."""
    return count(urls, callback_url) == 1


def registration_body(
    content: Content, callback_url: str, style: BodyStyle, *, stale: Collection[str] = ()
) -> dict[str, object] | None:
    """The body of the write that puts our callback URL into a slot; None if it is there already.

    `stale`: URLs in it that somebody made of ours (see `drift.changed_urls`) or that are ours from before; ours takes
    their place. Raises PermanentError when the slot has room for one URL only and somebody else's is in it.
    """
    urls = urls_in(content)
    others = [url for url in foreign(urls, callback_url) if url not in stale]
    if style == "url" and others:
        raise PermanentError("slot_occupied")
    if carries(urls, callback_url) and not stale:
        return None
    if style == "url":
        return {"url": callback_url}
    return {"urls": [*others, callback_url]}


def check_registered(content: Content, callback_url: str) -> None:
    """Look at what came back after a write: raises TransientError if our callback URL is not in it, once."""
    if not carries(urls_in(content), callback_url):
        raise TransientError("registration_not_kept")


def removal_body(
    content: Content, callback_url: str, style: BodyStyle, *, former: Collection[str] = ()
) -> dict[str, object] | None:
    """The body of the write that takes our callback URL, and `former` ones, out of a slot; None if none is there.

    A slot has no switch: without URLs it sends nothing. Raises PermanentError when the slot is written with one URL and
    shows another beside ours: which of the two a write would take away cannot be told.
    """
    urls = urls_in(content)
    ours = among(urls, {callback_url, *former})
    if not ours:
        return None
    others = [url for url in urls if url not in ours]
    if style == "url" and others:
        raise PermanentError("slot_unreadable")
    return {"url": None} if style == "url" else {"urls": others}


def check_removed(content: Content, callback_url: str, former: Collection[str] = ()) -> None:
    """Look at what came back after a write: raises TransientError if a callback URL of ours is still in it."""
    if among(urls_in(content), {callback_url, *former}):
        raise TransientError("removal_not_kept")


def says_urls(content: Content | None) -> TypeGuard[Content]:
    """Whether an answer to a write tells, so that it can be understood, what the slot now carries."""
    if content is None or not {"urls", "url"} & content.keys():
        return False
    try:
        urls_in(content)
    except PermanentError:
        return False
    return True


def changed_meanwhile(read: Content, came_back: Content, callback_url: str, *, stale: Collection[str] = ()) -> bool:
    """Whether somebody else wrote between our read and the answer to our write, as far as that can be seen.

    `stale`: what our own write replaced.
    """
    before, after = ({comparable(url) for url in foreign(urls_in(it), callback_url)} for it in (read, came_back))
    if before - {comparable(url) for url in stale} != after:
        return True
    return any(
        name in read and name in came_back and _plain(read[name]) != _plain(came_back[name])
        for name in SETTINGS_OF_OTHERS
    )


def foreign(urls: tuple[str, ...], callback_url: str) -> tuple[str, ...]:
    """The URLs that are not ours, in the store's order and spelling."""
    return tuple(url for url in urls if not _same(url, callback_url))


def lookalikes(urls: Collection[str], callback_url: str) -> tuple[str, ...]:
    """The URLs that lead where ours does, written differently: foreign, unless there is reason to know better.

    They differ from ours in scheme, a slash at the end, fragment or query only. A query of our own tells merchants and
    slots apart, and then it must be the same.
    """
    ours = _receiver(callback_url, callback_url)
    return tuple(url for url in foreign(tuple(urls), callback_url) if ours and _receiver(url, callback_url) == ours)


def _receiver(url: str, callback_url: str) -> tuple[object, ...] | None:
    try:
        parts = urlsplit(url.strip())
        default = _DEFAULT_PORTS.get(parts.scheme.lower())
        port = parts.port if parts.port is not None else default
    except ValueError:
        return None
    if default is None or parts.hostname is None or parts.username is not None:
        return None
    query = parts.query if urlsplit(callback_url).query else ""
    return parts.hostname, None if port == default else port, parts.path.rstrip("/"), query


def _same(url: str, callback_url: str) -> bool:
    return comparable(url) == comparable(callback_url)


def comparable(url: str) -> str:
    """A URL in a form in which two spellings of it are equal.

    A store may spell scheme, host and default port its own way; the rest of a URL is told apart by case.
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


def _plain(value: object) -> str:
    """Oracle's samples quote numbers; "5" and 5 are the same setting, and so are null and an empty map."""
    return "" if value in (None, {}, []) else str(value).lower()

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
from collections.abc import Mapping
from typing import Literal, TypeGuard
from urllib.parse import quote, urlsplit

from integrations.errors import PermanentError, TransientError

BodyStyle = Literal["urls", "url"]
Content = Mapping[str, object]

_SEPARATOR = re.compile(r"\s*,\s*(?=https?://)", re.IGNORECASE)  # as the admin's form shows them; URLs may hold commas

_SETTINGS_OF_OTHERS = (
    "headers",
    "basicAuthentication",
    "maxNumberOfResendAttempts",
    "resendDelaySeconds",
    "applyResendDelayToFirstAttempt",
    "includeChangesOnly",
    "subEntityTruncationSize",
    "urlApplicationSuppressionList",
)
_SLOT_FIELDS = frozenset(
    {"id", "name", "serverType", "displayName", "urls", "url", "secretKey", "secretKeySHA512", *_SETTINGS_OF_OTHERS}
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


def carries(urls: tuple[str, ...], callback_url: str) -> bool:
    """Whether our callback URL is there, once."""
    return sum(_same(url, callback_url) for url in urls) == 1


def registration_body(content: Content, callback_url: str, style: BodyStyle) -> dict[str, object] | None:
    """The body of the write that puts our callback URL into a slot; None if it is there already.

    Raises PermanentError when the slot has room for one URL only and somebody else's is in it.
    """
    urls = urls_in(content)
    others = foreign(urls, callback_url)
    if style == "url" and others:
        raise PermanentError("slot_occupied")
    if carries(urls, callback_url):
        return None
    if style == "url":
        return {"url": callback_url}
    return {"urls": [*others, callback_url]}


def check_registered(content: Content, callback_url: str) -> None:
    """Look at what came back after a write: raises TransientError if our callback URL is not in it, once."""
    if not carries(urls_in(content), callback_url):
        raise TransientError("registration_not_kept")


def says_urls(content: Content | None) -> TypeGuard[Content]:
    """Whether an answer to a write tells, so that it can be understood, what the slot now carries."""
    if content is None or not {"urls", "url"} & content.keys():
        return False
    try:
        urls_in(content)
    except PermanentError:
        return False
    return True


def changed_meanwhile(read: Content, came_back: Content, callback_url: str) -> bool:
    """Whether somebody else wrote between our read and the answer to our write, as far as that can be seen."""
    before, after = ({_comparable(url) for url in foreign(urls_in(it), callback_url)} for it in (read, came_back))
    if before != after:
        return True
    return any(
        name in read and name in came_back and _plain(read[name]) != _plain(came_back[name])
        for name in _SETTINGS_OF_OTHERS
    )


def foreign(urls: tuple[str, ...], callback_url: str) -> tuple[str, ...]:
    """The URLs that are not ours, in the store's order and spelling."""
    return tuple(url for url in urls if not _same(url, callback_url))


def _same(url: str, callback_url: str) -> bool:
    return _comparable(url) == _comparable(callback_url)


def _comparable(url: str) -> str:
    """A store may spell scheme, host and default port its own way; the rest of a URL is told apart by case."""
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

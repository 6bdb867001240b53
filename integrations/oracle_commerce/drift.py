"""The difference between what a slot should carry and what it does carry, with a name. Pure.

Only a slot that was in order before can have drifted. What is remembered of that time, `Seen`, holds names and short
hashes: enough to notice that something has gone, too little to give anything away.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import TypeGuard

from integrations.connections.drift import Drift, Seen
from integrations.oracle_commerce import slot as slots
from integrations.oracle_commerce.slot import Content

_MOST_HEADERS = 32
_LONGEST_NAME = 128
_MOST_ALIKE = 8
_SECRETS = ("secretKeySHA512", "secretKey")  # the hash since release 22d; null unless the store chooses to show it
_PRODUCTION, _PREVIEW = "production-", "publishing-"  # Oracle, "Configure webhooks": each webhook comes in both


def remember(content: Content, callback_url: str, before: Seen | None = None) -> Seen:
    """What to remember of a slot that carries our callback URL.

    Settings known from `before` stay remembered while they are lost, so that every look reports them until they are
    back; a new secret replaces the one known, so that a reset is reported once. Raises what `slots.urls_in` raises.
    """
    before = before or Seen()
    headers = _headers(content) or ()
    lost = tuple(name for name in before.headers if name.casefold() not in _folded(headers))
    alike = {_short(slots.comparable(url)) for url in slots.lookalikes(slots.urls_in(content), callback_url)}
    return Seen(
        headers=tuple(sorted((*headers, *lost)))[:_MOST_HEADERS],
        basic_authentication=before.basic_authentication or bool(_basic_authentication(content)),
        secret=_secret(content) or before.secret,
        alike=tuple(sorted(alike))[:_MOST_ALIKE],
    )


def drift_of(content: Content, callback_url: str, seen: Seen | None, former: Collection[str] = ()) -> tuple[Drift, ...]:
    """What has changed in a slot that once carried our callback URL; `seen` is None if nothing is remembered of it.

    `former`: what our callback URL was before. It explains why the one of today is missing.

    Raises what `slots.urls_in` raises when it cannot be told which URLs the slot carries.
    """
    found: list[Drift] = []
    urls = slots.urls_in(content)
    there = slots.count(urls, callback_url)
    has_former = bool(slots.among(urls, former))
    if has_former:
        found.append(Drift.FORMER_URL)
    if there > 1:
        found.append(Drift.URL_DUPLICATED)
    elif not there and not has_former:
        found.append(Drift.URL_CHANGED if changed_urls(urls, callback_url, seen) else Drift.URL_MISSING)
    if lost_settings(content, seen):
        found.append(Drift.SETTINGS_LOST)
    if _is_secret_reset(content, seen):
        found.append(Drift.SECRET_RESET)
    return tuple(found)


def changed_urls(urls: Collection[str], callback_url: str, seen: Seen | None) -> tuple[str, ...]:
    """What somebody made of our callback URL, as the store spells it; empty if that is not certain.

    A URL that resembles ours may be another deployment's. It is ours only if ours is gone, and this one has come since
    all was in order, and no other has.
    """
    if seen is None or len(seen.alike) >= _MOST_ALIKE or slots.count(urls, callback_url):
        return ()
    new = [url for url in slots.lookalikes(urls, callback_url) if _short(slots.comparable(url)) not in seen.alike]
    return tuple(new) if len({slots.comparable(url) for url in new}) == 1 else ()


def lost_settings(content: Content, seen: Seen | None) -> tuple[str, ...]:
    """The settings that were there and are gone, by name: of the header, or "basic authentication"."""
    if seen is None:
        return ()
    headers = _headers(content)
    lost = () if headers is None else tuple(name for name in seen.headers if name.casefold() not in _folded(headers))
    is_open = seen.basic_authentication and _basic_authentication(content) is False
    return (*lost, "basic authentication") if is_open else lost


def preview_of(slot_id: str) -> str | None:
    """The id of a production slot's twin on the preview server; None for a slot that has none."""
    return _PREVIEW + slot_id.removeprefix(_PRODUCTION) if slot_id.startswith(_PRODUCTION) else None


def with_preview(found: tuple[Drift, ...], preview: Content, callback_url: str) -> tuple[Drift, ...]:
    """The drift of a slot in the light of what its twin carries: a missing URL may have been put there instead."""
    if not slots.count(slots.urls_in(preview), callback_url):
        return found
    return tuple(Drift.PREVIEW_ONLY if drift is Drift.URL_MISSING else drift for drift in found)


def _is_secret_reset(content: Content, seen: Seen | None) -> bool:
    now, then = _secret(content), seen.secret if seen else ""
    # the two properties say different things of one secret: only like is compared with like
    return bool(now and then) and now != then and now.partition(":")[0] == then.partition(":")[0]


def _secret(content: Content) -> str:
    shown = ((name, content.get(name)) for name in _SECRETS)
    return next((f"{name}:{_short(value)}" for name, value in shown if isinstance(value, str) and value.strip("*")), "")


def _headers(content: Content) -> tuple[str, ...] | None:
    """The names of the headers the slot sends; None if the store does not tell."""
    held = content.get("headers")
    if not held:
        return () if _shows_settings(content) else None
    if not isinstance(held, Mapping):
        return None
    return tuple(name for name, value in held.items() if value not in (None, "") and _is_header_name(name))


def _is_header_name(name: object) -> TypeGuard[str]:
    """Whether this is something to remember: stores are not ours, and what they answer may be anything."""
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable()


def _basic_authentication(content: Content) -> bool | None:
    """Whether the slot sends credentials; None if the store does not tell."""
    held = content.get("basicAuthentication")
    if isinstance(held, Mapping):
        return any(value not in (None, "") for value in held.values())
    return bool(held) or (False if _shows_settings(content) else None)


def _shows_settings(content: Content) -> bool:
    """Whether this is more than a summary: then a setting it does not name is one the slot does not have."""
    return any(name in content for name in slots.SETTINGS_OF_OTHERS)


def _folded(names: Collection[str]) -> set[str]:
    return {name.casefold() for name in names}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12]

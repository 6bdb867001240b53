"""The difference between what a slot should carry and what it does carry, with a name. Pure.

Only a slot that was in order before can have drifted. What is remembered of that time, `Seen`, holds names and short
hashes: enough to notice that something has gone, too little to give anything away.
"""

from collections.abc import Collection, Mapping
from typing import TypeGuard

from integrations.connections.drift import Drift, Seen
from integrations.learnt import Spelling
from integrations.oracle_commerce import slot as slots
from integrations.oracle_commerce.look_back import missing_since
from integrations.oracle_commerce.slot import Content, Ours
from integrations.oracle_commerce.spelling import comparable, is_cut_of, leads_on_to, mark_of, short

_MOST_HEADERS = 32
_LONGEST_NAME = 128
_MOST_ALIKE = 8
_SECRETS = ("secretKeySHA512", "secretKey")  # the hash since release 22d; null unless the store chooses to show it
_PRODUCTION, _PREVIEW = "production-", "publishing-"  # Oracle, "Configure webhooks": each webhook comes in both


def remember(content: Content, ours: Ours, before: Seen | None = None) -> Seen:
    """What to remember of a slot that carries our callback URL.

    Settings known from `before` stay remembered while they are lost, so every re-validation reports them until they are
    back; a new secret replaces the one known, so that a reset is reported once. Raises what `slots.urls_in` raises.
    """
    others = ours.foreign(slots.urls_in(content))
    alike = {mark_of(url) for url in others if ours.may_be(url)}
    if before is not None:  # what is cut off like ours and has come since may be ours: another's is taken for it
        alike -= {mark_of(url) for url in others if is_cut_of(url, ours.callback_url)} - {*before.alike}
    before = before or Seen()
    headers = _headers(content) or ()
    lost = tuple(name for name in before.headers if name.casefold() not in _folded(headers))
    return Seen(
        headers=tuple(sorted((*headers, *lost)))[:_MOST_HEADERS],
        basic_authentication=before.basic_authentication or bool(_basic_authentication(content)),
        secret=_secret(content) or before.secret,
        alike=tuple(sorted(alike))[:_MOST_ALIKE],
        others=len(others),
    )


def drift_and_lost(content: Content, ours: Ours, seen: Seen | None) -> tuple[tuple[Drift, ...], tuple[str, ...]]:
    """The drift, and what is behind the first of it that is not ours to mend, by name. Raises as `drift_of`."""
    found = drift_of(content, ours, seen)
    if Drift.URLS_ALTERED in found:
        return found, (ours.remembered.detail,)
    return found, lost_settings(content, seen) if Drift.SETTINGS_LOST in found else ()


def drift_of(content: Content, ours: Ours, seen: Seen | None) -> tuple[Drift, ...]:
    """What has changed in a slot that once carried our callback URL; `seen` is None if nothing is remembered of it.

    Raises what `slot.urls_in` raises when the slot's URLs cannot be read.
    """
    found: list[Drift] = [Drift.URLS_ALTERED] if ours.is_altered else []
    urls = slots.urls_in(content)
    changed = changed_urls(urls, ours, seen)
    there = sum(ours.is_current(url) for url in urls)
    has_former = any(map(ours.is_former, urls))
    if has_former:
        found.append(Drift.FORMER_URL)
    if there > 1:
        found.append(Drift.URL_DUPLICATED)
    elif changed:
        found.append(Drift.URL_CHANGED)
    elif not there and not has_former:
        found.append(Drift.URL_MISSING)
    if lost_settings(content, seen):
        found.append(Drift.SETTINGS_LOST)
    if _is_secret_reset(content, seen):
        found.append(Drift.SECRET_RESET)
    return tuple(found)


def changed_urls(urls: Collection[str], ours: Ours, seen: Seen | None) -> tuple[str, ...]:
    """What somebody made of our callback URL, as the store spells it; empty if that is not certain.

    Another spelling of it is put right once: if it comes back, that is how the store spells it. A URL with a longer
    query may be another deployment's. It is ours only if ours is gone, and this one has come since all was in order,
    and no other has.
    """
    current = [url for url in urls if ours.is_current(url)]
    if current:
        known = {comparable(ours.callback_url)}
        respelt = [url for url in current if comparable(url) not in known and mark_of(url) not in ours.remembered.ours]
        return tuple(respelt) if len(current) == 1 else ()
    if seen is None or len(seen.alike) >= _MOST_ALIKE:
        return ()
    longer = [url for url in ours.foreign(urls) if leads_on_to(url, ours.callback_url)]
    new = [url for url in longer if mark_of(url) not in seen.alike]
    return tuple(new) if len({comparable(url) for url in new}) == 1 else ()


def alike_in(seen: Seen | None) -> tuple[str, ...] | None:
    """Marks of the URLs beside ours that resemble it; None if it is not known that these are all."""
    return seen.alike if seen is not None and len(seen.alike) < _MOST_ALIKE else None


def is_thin(content: Content, ours: Ours, seen: Seen | None, at_least: int) -> bool:
    """Whether a slot shows less than it did, or should: one answer out of many may be wrong.

    `at_least`: how many URLs of others there are, as far as anybody knows.
    """
    urls = slots.urls_in(content)
    fewer = len(ours.foreign(urls)) < max(at_least, seen.others if seen else 0)
    return (
        fewer
        or missing_since(content, ours) > 0
        or (not urls and (seen is not None or ours.remembered != Spelling() or slots.has_settings(content)))
    )


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


def with_preview(found: tuple[Drift, ...], preview: Content, ours: Ours) -> tuple[Drift, ...]:
    """The drift of a slot in the light of what its twin carries: a missing URL may have been put there instead."""
    if not any(map(ours.is_current, slots.urls_in(preview))):
        return found
    return tuple(Drift.PREVIEW_ONLY if drift is Drift.URL_MISSING else drift for drift in found)


def _is_secret_reset(content: Content, seen: Seen | None) -> bool:
    now, then = _secret(content), seen.secret if seen else ""
    # the two properties say different things of one secret: only like is compared with like
    return bool(now and then) and now != then and now.partition(":")[0] == then.partition(":")[0]


def _secret(content: Content) -> str:
    shown = ((name, content.get(name)) for name in _SECRETS)
    return next((f"{name}:{short(value)}" for name, value in shown if isinstance(value, str) and value.strip("*")), "")


def _headers(content: Content) -> tuple[str, ...] | None:
    """The names of the headers the slot sends; None if the store does not say."""
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
    """Whether the slot sends credentials; None if the store does not say."""
    held = content.get("basicAuthentication")
    if isinstance(held, Mapping):
        return any(value not in (None, "") for value in held.values())
    return bool(held) or (False if _shows_settings(content) else None)


def _shows_settings(content: Content) -> bool:
    """Whether this is more than a summary: then a setting it does not name is one the slot does not have."""
    return any(name in content for name in slots.SETTINGS_OF_OTHERS)


def _folded(names: Collection[str]) -> set[str]:
    return {name.casefold() for name in names}

"""Putting our callback URL into one slot of a store and taking it out again, whatever else is in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from integrations.connections.drift import MENDABLE, Drift, Seen
from integrations.errors import (
    CredentialRejected,
    IntegrationError,
    PermanentError,
    SlotNotFound,
    SlotNotReadable,
    TransientError,
)
from integrations.oracle_commerce import drift
from integrations.oracle_commerce import slot as slots


class SlotStore(Protocol):
    """The part of a store that a registration needs."""

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What a slot carries; raises SlotNotFound."""

    def list_slots(self) -> list[dict[str, object]]:
        """What all slots carry; raises PermanentError if the store offers no list."""

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Update a slot; None if the answer does not tell what it now carries."""


@dataclass(frozen=True, slots=True)
class Registration:
    """How a look at one slot ended.

    `wrote`: our callback URL was not in order, and is now. `rival`: somebody else wrote at the same moment. `drift`:
    what the look found changed, before it wrote; `lost`: the settings behind SETTINGS_LOST, by name. `seen`: what to
    remember for the next look.
    """

    wrote: bool
    rival: bool = False
    drift: tuple[Drift, ...] = ()
    seen: Seen | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """How taking our callback URL out of one slot ended: it is not in it now, unless `left`.

    `wrote`: it was there before. `rival`: somebody else wrote at the same moment. `gone`: the store says that it has no
    such slot. `left`: the slot cannot be read, so nothing was written and our callback URL may still be in it.
    """

    wrote: bool
    rival: bool = False
    gone: bool = False
    left: bool = False


@dataclass(frozen=True, slots=True)
class _Unlisted:
    """A slot that could not be read, nor found in the list of all. `has_list`: the store showed one, without it."""

    reason: PermanentError
    has_list: bool

    @property
    def is_gone(self) -> bool:
        """Whether the store says so twice; a slot that can only be written is not gone."""
        return self.has_list and not isinstance(self.reason, SlotNotReadable)


def register(
    store: SlotStore,
    slot_id: str,
    callback_url: str,
    style: slots.BodyStyle,
    *,
    former: Collection[str] = (),
    once_registered: bool = False,
    seen: Seen | None = None,
    repair: bool = True,
) -> Registration:
    """Read, merge, write, and look at what came back. Run twice, it writes once; where all is in order, it only reads.

    `former`: what our callback URL was before; ours of today takes its place. Drift is looked for where we were
    `once_registered`; `seen` is what the last look said to remember. Without `repair`
    nothing is written, and `drift` says whether our callback URL is there (see `drift.MENDABLE`).

    Raises PermanentError (SlotNotFound if a slot that was ours is gone; slot_not_offered, slot_refused,
    slot_unreadable, slot_occupied) and TransientError.
    """
    content = _read(store, slot_id)
    if isinstance(content, _Unlisted):
        if once_registered or not repair:
            return _unread(content, seen, never_read=once_registered and seen is None)
        if not isinstance(content.reason, SlotNotFound):
            raise content.reason
        return _register_unread(store, slot_id, callback_url, style)
    found = drift.drift_of(content, callback_url, seen, former) if once_registered or not repair else ()
    lost = drift.lost_settings(content, seen) if Drift.SETTINGS_LOST in found else ()
    if not repair:
        in_order = not MENDABLE & {*found}
        found = _explained(store, slot_id, callback_url, found)
        seen = drift.remember(content, callback_url, seen) if in_order else seen
        return Registration(wrote=False, drift=found, seen=seen, lost=lost)
    stale = drift.changed_urls(slots.urls_in(content), callback_url, seen) if once_registered else ()
    stale += slots.among(slots.urls_in(content), former)
    body = slots.registration_body(content, callback_url, style, stale=stale)
    if body is None:
        return Registration(wrote=False, drift=found, seen=drift.remember(content, callback_url, seen), lost=lost)
    came_back = _written(store, slot_id, body)
    slots.check_registered(came_back, callback_url)
    return Registration(
        wrote=True,
        rival=slots.changed_meanwhile(content, came_back, callback_url, stale=stale),
        drift=_explained(store, slot_id, callback_url, found),  # afterwards: nothing comes between read and write
        seen=drift.remember({**content, **came_back}, callback_url, seen),
        lost=lost,
    )


def unregister(
    store: SlotStore, slot_id: str, callback_url: str, style: slots.BodyStyle, *, former: Collection[str] = ()
) -> Removal:
    """Take our callback URL out of a slot, in every spelling, and what it was before, and nothing else.

    Where neither is, nothing is written.

    Raises PermanentError (slot_refused, slot_unreadable) and TransientError, `removal_not_kept` among them.
    """
    content = _read(store, slot_id)
    if isinstance(content, _Unlisted):
        return Removal(wrote=False, gone=content.is_gone, left=not content.is_gone)
    body = slots.removal_body(content, callback_url, style, former=former)
    if body is None:
        return Removal(wrote=False)
    came_back = _written(store, slot_id, body)
    slots.check_removed(came_back, callback_url, former)
    stale = slots.among(slots.urls_in(content), former)
    return Removal(wrote=True, rival=slots.changed_meanwhile(content, came_back, callback_url, stale=stale))


def _read(store: SlotStore, slot_id: str) -> dict[str, object] | _Unlisted:
    """The slot, from the list of all if need be: a single read that fails for a moment must cost nobody their URL."""
    try:
        return store.read_slot(slot_id)
    except PermanentError as refused:
        if refused.code != "slot_not_offered":  # which 404, 405 and 400 come to
            raise
        reason = refused
    try:
        listing = store.list_slots()
    except CredentialRejected:
        raise
    except PermanentError:
        return _Unlisted(reason, has_list=False)
    entry = _entry(listing, slot_id)
    if entry is None:
        return _Unlisted(reason, has_list=any("id" in content for content in listing))
    if not {"urls", "url"} & entry.keys():  # a summary: an empty list would be written over whatever is there
        raise PermanentError("slot_unreadable", reason.detail)
    return entry


def _entry(listing: list[dict[str, object]], slot_id: str) -> dict[str, object] | None:
    return next((content for content in listing if content.get("id") == slot_id), None)


def _written(store: SlotStore, slot_id: str, body: Mapping[str, object]) -> slots.Content:
    """Write, and what the slot then carries: as the answer tells, or else as one more read does."""
    answer = store.write_slot(slot_id, body)
    if slots.says_urls(answer):
        return answer
    content = _read(store, slot_id)
    if isinstance(content, _Unlisted):
        raise TransientError("unreadable_answer", f"written, and then {content.reason.detail}")
    return content


def _unread(unlisted: _Unlisted, seen: Seen | None, *, never_read: bool) -> Registration:
    """A slot that was ours and can be read in no way. Somebody else may be in it by now: it is not written blindly.

    `never_read`: one write registered it. That it cannot be read is no news then.
    """
    if isinstance(unlisted.reason, SlotNotReadable) or (never_read and not unlisted.has_list):
        return Registration(wrote=False, seen=seen)  # as far as anybody can tell
    raise unlisted.reason


def _register_unread(store: SlotStore, slot_id: str, callback_url: str, style: slots.BodyStyle) -> Registration:
    """A slot that can be read in no way: one write decides whether the store offers it."""
    try:
        answer = store.write_slot(slot_id, {"url": callback_url} if style == "url" else {"urls": [callback_url]})
    except PermanentError as refused:
        if refused.code == "slot_refused":  # 400 or 405 for an id the store does not know
            raise PermanentError("slot_not_offered", refused.detail) from None
        raise
    if slots.says_urls(answer):
        slots.check_registered(answer, callback_url)
    return Registration(wrote=True)


def _explained(store: SlotStore, slot_id: str, callback_url: str, found: tuple[Drift, ...]) -> tuple[Drift, ...]:
    """The drift with the preview twin looked at, where that may be the cause: at most one call, which may fail."""
    preview = drift.preview_of(slot_id)
    if preview is None or Drift.URL_MISSING not in found:
        return found
    try:
        return drift.with_preview(found, _entry(store.list_slots(), preview) or {}, callback_url)
    except IntegrationError:  # a name for the cause is not worth the outcome
        return found

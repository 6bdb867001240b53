"""Reading one slot of a store: by itself, or from the list of all, and once more before it is written over.

One answer may be wrong, old, or about something else. What is to be merged and written back has to be the slot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from integrations.errors import CredentialRejected, PermanentError, SlotNotFound, SlotNotReadable, TransientError
from integrations.oracle_commerce import slot as slots


class SlotStore(Protocol):
    """The part of a store that a registration needs."""

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What a slot carries; raises SlotNotFound."""

    def list_slots(self) -> list[dict[str, object]]:
        """What all slots carry; raises PermanentError if the store offers no list."""

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Update a slot; None if the answer does not show what it now carries."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A slot that could not be read, nor found in the list of all.

    `has_list`: the store showed one, without it. `can_be_read`: there is a way to read slots, if not this one or not
    for us.
    """

    reason: PermanentError
    has_list: bool
    can_be_read: bool

    @property
    def is_gone(self) -> bool:
        """Whether the store says so twice; a slot that can only be written is not gone."""
        return self.has_list and not isinstance(self.reason, SlotNotReadable)


def read(store: SlotStore, slot_id: str) -> dict[str, object] | Unlisted:
    """The slot, from the list of all if need be: a single read that fails for a moment must cost nobody their URL."""
    try:
        return _with_urls(store, slot_id, store.read_slot(slot_id))
    except PermanentError as refused:
        if refused.code != "slot_not_offered":  # which 404, 405 and 400 come to
            raise
        reason = refused
    try:
        listing = store.list_slots()
    except CredentialRejected:
        raise
    except PermanentError as refused:
        return Unlisted(reason, has_list=False, can_be_read=refused.code == "permission_denied")
    entry = entry_in(listing, slot_id)
    if entry is None:
        has_list = any("id" in content for content in listing)
        return Unlisted(reason, has_list, can_be_read=has_list or not listing)
    if not {"urls", "url"} & entry.keys():  # a summary: an empty list would be written over whatever is there
        raise PermanentError("slot_unreadable", reason.detail)
    return entry


def _with_urls(store: SlotStore, slot_id: str, content: dict[str, object]) -> dict[str, object]:
    """The slot, from elsewhere where it says nothing of URLs: one answer without them does not make it an empty slot.

    A slot that nothing shows URLs of has none.
    """
    if {"urls", "url"} & content.keys():
        return content
    slots.urls_in(content)  # raises where it is no slot at all
    try:
        other = entry_in(store.list_slots(), slot_id)
    except CredentialRejected:
        raise
    except PermanentError:
        other = store.read_slot(slot_id)
    return other if other is not None and {"urls", "url"} & other.keys() else content


def entry_in(listing: list[dict[str, object]], slot_id: str) -> dict[str, object] | None:
    """The slot in a list of all. Raises TransientError when the list shows it twice: either may be the true one."""
    entries = [content for content in listing if slots.names(content, slot_id)]
    if len(entries) > 1:
        raise TransientError("unreadable_answer", "the list shows the slot twice")
    return entries[0] if entries else None


def confirmed(
    store: SlotStore, slot_id: str, content: dict[str, object], *, is_thin: bool = False
) -> dict[str, object]:
    """What is about to be written over. What does not say which slot it is has to agree with the list, if there is one.

    So has what `is_thin`: it shows less than it should. Then it is read once more, so that nothing comes between that
    and the write. Raises TransientError when two answers about the slot contradict each other.
    """
    if slots.names(content, slot_id) and not is_thin:
        return content
    try:
        entry = entry_in(store.list_slots(), slot_id)
    except CredentialRejected:
        raise
    except (PermanentError, TransientError) as failed:
        if isinstance(failed, TransientError) and not is_thin:
            raise
        entry = None
    if entry is not None and not {"urls", "url"} & entry.keys():
        entry = None
    if entry is None and not is_thin:
        return content
    try:
        again = store.read_slot(slot_id)
    except SlotNotFound:  # it came from the list
        again = entry or {}
    if not all(slots.agree(content, other) for other in (entry, again) if other is not None):
        raise TransientError("unreadable_answer", "two answers about the slot contradict each other")
    return again

"""Putting our callback URL into one slot of a store, whatever else is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from integrations.errors import CredentialRejected, PermanentError, SlotNotFound, SlotNotReadable
from integrations.oracle_commerce import slots


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
    """Our callback URL is in the slot. `wrote`: it was not before. `rival`: somebody else wrote at the same moment."""

    wrote: bool
    rival: bool = False


def register(
    store: SlotStore, slot_id: str, callback_url: str, style: slots.BodyStyle, *, once_registered: bool = False
) -> Registration:
    """Read, merge, write, and look at what came back. Run twice, it writes once.

    Raises PermanentError (slot_not_offered, slot_refused, slot_unreadable, slot_occupied) and TransientError.
    """
    try:
        content = store.read_slot(slot_id)
    except SlotNotFound as unread:
        listed = _listed(store, slot_id)
        if listed is None:
            return _register_unread(store, slot_id, callback_url, style, unread if once_registered else None)
        content = listed
    body = slots.registration_body(content, callback_url, style)
    if body is None:
        return Registration(wrote=False)
    answer = store.write_slot(slot_id, body)
    came_back = answer if slots.says_urls(answer) else store.read_slot(slot_id)
    slots.check_registered(came_back, callback_url)
    return Registration(wrote=True, rival=slots.changed_meanwhile(content, came_back, callback_url))


def _listed(store: SlotStore, slot_id: str) -> dict[str, object] | None:
    """The slot as the list of all shows it. A single read that fails for a moment must cost nobody their URL."""
    try:
        return next((content for content in store.list_slots() if content.get("id") == slot_id), None)
    except CredentialRejected:
        raise
    except PermanentError:
        return None  # the store offers no list either


def _register_unread(
    store: SlotStore, slot_id: str, callback_url: str, style: slots.BodyStyle, gone: SlotNotFound | None
) -> Registration:
    """A slot that can be read in no way: one write decides whether the store offers it.

    `gone`: it was ours before, so somebody else may be in it by now, and it is not written blindly.
    """
    if isinstance(gone, SlotNotReadable):
        return Registration(wrote=False)  # as far as anybody can tell
    if gone is not None:
        raise gone
    try:
        answer = store.write_slot(slot_id, {"url": callback_url} if style == "url" else {"urls": [callback_url]})
    except PermanentError as refused:
        if refused.code == "slot_refused":  # 400 or 405 for an id the store does not know
            raise PermanentError("slot_not_offered", refused.detail) from None
        raise
    if slots.says_urls(answer):
        slots.check_registered(answer, callback_url)
    return Registration(wrote=True)

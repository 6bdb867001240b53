"""Putting our callback URL into one slot of a store, whatever else is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from integrations.errors import PermanentError, SlotNotFound
from integrations.oracle_commerce import slots


class SlotStore(Protocol):
    """The part of a store that a registration needs."""

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What a slot carries; raises SlotNotFound."""

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Update a slot; None if the answer does not tell what it now carries."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Our callback URL is in the slot. `wrote`: it was not before. `rival`: somebody else wrote at the same moment."""

    wrote: bool
    rival: bool = False


def register(store: SlotStore, slot_id: str, callback_url: str, style: slots.BodyStyle) -> Registration:
    """Read, merge, write, and look at what came back. Run twice, it writes once.

    Raises PermanentError (slot_not_offered, slot_refused, slot_unreadable, slot_occupied) and TransientError.
    """
    try:
        content = store.read_slot(slot_id)
    except SlotNotFound:
        return _register_unread(store, slot_id, callback_url, style)
    body = slots.registration_body(content, callback_url, style)
    if body is None:
        return Registration(wrote=False)
    answer = store.write_slot(slot_id, body)
    came_back = answer if answer is not None and slots.says_urls(answer) else store.read_slot(slot_id)
    slots.check_registered(came_back, callback_url)
    return Registration(wrote=True, rival=slots.changed_meanwhile(content, came_back, callback_url))


def _register_unread(store: SlotStore, slot_id: str, callback_url: str, style: slots.BodyStyle) -> Registration:
    """A store that does not let us read the slot: one write decides whether it offers it."""
    body = slots.registration_body({}, callback_url, style)
    assert body is not None  # noqa: S101 - an empty slot always lacks our callback URL
    try:
        answer = store.write_slot(slot_id, body)
    except PermanentError as refused:
        if refused.code == "slot_refused":  # 400 or 405 for an id the store does not know
            raise PermanentError("slot_not_offered", refused.detail) from None
        raise
    if answer is not None and slots.says_urls(answer):
        slots.check_registered(answer, callback_url)
    return Registration(wrote=True)

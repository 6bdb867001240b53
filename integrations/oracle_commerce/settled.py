"""A slot that was just written for another merchant of ours is read once that shows.

What a store shows may come out of a cache that is seconds old. Merged into such a list, our callback URL would cost the
other merchant theirs.
"""

from collections.abc import Mapping

from integrations.oracle_commerce import slot as slots
from integrations.oracle_commerce.one_writer import Lease, Written, being_written
from integrations.oracle_commerce.reading import SlotStore
from integrations.oracle_commerce.spelling import same


class Settled:
    """A store as the holder of a lease sees it.

    Until its own first write, each read raises TransientError `slot_being_written` while it does not show what was
    written last for somebody else of us.
    """

    def __init__(self, store: SlotStore, lease: Lease, slot_id: str, callback_url: str, *, puts_in: bool) -> None:
        """`slot_id`: of the slot that the lease is on. `puts_in`: whether the callback URL is put in, or taken out."""
        self._store, self._lease, self._slot_id = store, lease, slot_id
        self._writes = Written(callback_url, puts_in)

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What a slot carries."""
        content = self._store.read_slot(slot_id)
        self._check(content)
        return content

    def list_slots(self) -> list[dict[str, object]]:
        """What all slots carry."""
        listing = self._store.list_slots()
        for content in listing:
            if slots.names(content, self._slot_id) and slots.says_urls(content):
                self._check(content)
        return listing

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Update a slot; whatever comes of it, the next one looks for it."""
        self._lease.written = self._writes
        return self._store.write_slot(slot_id, body)

    def _check(self, content: slots.Content) -> None:
        last = self._lease.last
        if last is None or self._lease.written is not None or last.callback_url == self._writes.callback_url:
            return
        shows = any(same(url, last.callback_url) for url in slots.urls_in(content))
        if shows != last.is_in:
            raise being_written()

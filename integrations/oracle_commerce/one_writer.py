"""One writer of ours per store and slot.

A slot's list of URLs is read, merged and written back, and the API knows no condition on a write. Merchants of ours who
share a store would cut each other's callback URLs off. So whoever reads a slot to write it holds a lease on it, for
whichever merchant and in whichever process.

A store may go on showing for some seconds what was there before a write. So the lease tells what was written last, and
`settled.py` sees that it shows.

    occ:writer:<host>|<slot id>    string    until when it is held, and who does, or - -; then, if there was a write,
                                             until when that matters, + or -, the callback URL put in or taken out
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import redis

from integrations.clock import Clock
from integrations.errors import TransientError
from integrations.lua import lua_beside

_AGAIN = 0.5  # seconds; the retry policy adds its jitter
_SHOWS_WITHIN = 10.0  # seconds; a store that takes longer is read as it is


@dataclass(frozen=True, slots=True)
class Written:
    """A callback URL of ours that was put into a slot, or taken out, a few seconds ago at most."""

    callback_url: str
    is_in: bool

    def text(self, until: float) -> str:
        """As it is stored. `until`: epoch seconds, after which it tells nothing."""
        return f"{until:.3f} {'+' if self.is_in else '-'}{self.callback_url}"


@dataclass(slots=True)
class Lease:
    """`last`: what was written before. `written`: to be set by its holder who writes."""

    last: Written | None = None
    written: Written | None = None


class OneWriter:
    """Leases on slots. Safe to share between threads."""

    def __init__(self, client: redis.Redis, *, lease: float, clock: Clock | None = None) -> None:
        """`lease`: seconds; longer than any attempt, or its end would come while its holder may still write."""
        self._clock, self._seconds = clock or Clock(client), lease
        self._lease = client.register_script(lua_beside(__file__, "one_writer"))
        self._lasts = str(max(1, round(lease * 1000)))

    @contextmanager
    def of(self, store_url: str, slot_id: str) -> Iterator[Lease]:
        """While this lasts, nobody else of us reads this slot of this store in order to write it.

        Whoever holds the lease keeps it for as long as a few calls take; nobody waits for that in a thread. Raises
        TransientError `slot_being_written`, and redis.RedisError if the server cannot be asked.
        """
        now = self._clock.now()
        key, owner = lease_key(store_url, slot_id), f"{now + self._seconds:.3f} {uuid.uuid4().hex}"
        args = ["take", owner, self._lasts, f"{now:.3f}"]
        taken, last = cast("tuple[int, str | bytes]", self._lease(keys=[key], args=args))
        if not taken:
            raise being_written()
        lease = Lease(_written(last, now))
        try:
            yield lease
        finally:
            with suppress(redis.RedisError):  # what was done stands, and the lease ends by itself
                written = lease.written.text(self._clock.now() + _SHOWS_WITHIN) if lease.written else ""
                self._lease(keys=[key], args=["give_back", owner, str(round(_SHOWS_WITHIN * 1000)), written])


def being_written() -> TransientError:
    """Somebody else of us is at this slot: later."""
    return TransientError("slot_being_written", retry_after=_AGAIN)


def lease_key(store_url: str, slot_id: str) -> str:
    """Where the lease is kept. Ids that differ in case only may be one slot, and so may http and https be one store."""
    return f"occ:writer:{urlsplit(store_url).netloc.casefold()}|{slot_id.casefold()}"


def _written(stored: str | bytes, now: float) -> Written | None:
    until, _, what = (stored.decode() if isinstance(stored, bytes) else stored).partition(" ")
    return Written(what[1:], what.startswith("+")) if what and now <= float(until) else None

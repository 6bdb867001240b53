"""The sealed application keys beside the records: read, sealed anew, forgotten, while runs and connects go on.

A sealed key says which key pair it needs, so the records themselves are the progress of sealing all of them anew for
the newest sealing key, online: whoever starts again after a kill skips what is done. A key that a merchant sends
meanwhile is never overwritten by an older one.

A part of `records.py`, in a file of its own; nothing else knows their keys.

    occ:rotation    hash    under which key, and when, all of them were last sealed anew
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from integrations.connections.record import merchant_of
from integrations.connections.records import Records, connection_key, on_disk
from integrations.errors import RequestRefused
from integrations.lua import lua_beside
from integrations.sealing.keyring import Keyring, key_id_of

_ROTATION = "occ:rotation"
_PAGE = 100

_FIELDS = ("sealed_key", "sealed_candidate")


class Place(NamedTuple):
    """Where a sealed key is kept: in a record, as the current one or as the candidate."""

    record_id: str
    field: str

    @property
    def merchant_id(self) -> str:
        """Whom it is sealed for."""
        return merchant_of(self.record_id)


class SealedKeys:
    """The sealed keys of all records. Safe to share between threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._redis = records.redis
        self._replace = self._redis.register_script(lua_beside(__file__, "replace_sealed_key"))

    def pages(self, *, page: int = _PAGE) -> Iterator[dict[Place, str]]:
        """All of them, in order of merchant id, page by page."""
        after = ""
        while ids := self._records.merchant_ids(after=after, count=page):
            with self._redis.pipeline(transaction=False) as pipe:
                for merchant_id in ids:
                    pipe.hmget(connection_key(merchant_id), _FIELDS)
                found = pipe.execute()
            yield {
                Place(record_id, name): sealed
                for record_id, fields in zip(ids, found, strict=True)
                for name, sealed in zip(_FIELDS, fields, strict=True)
                if sealed
            }
            after = ids[-1]

    def replace(self, replacements: Mapping[Place, tuple[str, str]]) -> int:
        """Place -> (sealed key as it was read, the same re-sealed); returns how many were replaced.

        One that changed since it was read stays as it is.
        """
        if not replacements:
            return 0
        with self._redis.pipeline(transaction=False) as pipe:
            for place, (was, becomes) in replacements.items():
                self._replace(keys=[connection_key(place.record_id)], args=[place.field, was, becomes], client=pipe)
            return sum(pipe.execute())

    def confirm(self, key_id: str) -> None:
        """Note that all are sealed to this key now; when it returns, that is on disk where the server can confirm it.

        Raises TransientError when the server could not confirm it in time.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(_ROTATION, mapping={"key_id": key_id, "at": time.time()})
            on_disk(pipe)


# --- Sealing them anew -----------------------------------------------------------------------------------------------


_PASSES = 5
_NAMED = 20


@dataclass(slots=True)
class Progress:
    """How far a rotation is. `unreadable`: merchants whose key no active key pair opens; only they can send another."""

    looked_at: int = 0
    resealed: int = 0
    unreadable: set[str] = field(default_factory=set)

    def named(self) -> list[str]:
        """A few of the merchants in `unreadable`."""
        return sorted(self.unreadable)[:_NAMED]


class Rotation:
    """Rotates the keys that application keys are sealed to."""

    def __init__(self, sealed_keys: SealedKeys, keyring: Keyring) -> None:
        self._sealed_keys = sealed_keys
        self._keyring = keyring

    def run(self, report: Callable[[Progress], object]) -> Progress:
        """Re-seal everything to the newest key; `report` gets the progress after every page.

        Goes round again while connects under an older key keep coming in, a few times at most. Raises TransientError
        or redis.RedisError when the server does not take it; what was done stays done.
        """
        progress = Progress()
        for _ in range(_PASSES):
            progress.looked_at = 0
            left = sum(self._reseal(page, progress, report) for page in self._sealed_keys.pages())
            if not left:
                break
        self.confirm()
        return progress

    def confirm(self) -> None:
        """Wait until what was sealed anew is on disk: an older key must not be needed again after a power cut."""
        self._sealed_keys.confirm(self._keyring.newest.key_id)

    def needed(self) -> Counter[str | None]:
        """How many records need each key pair, by key id; None for what is not a sealed key."""
        return Counter(key_id_of(sealed) for page in self._sealed_keys.pages() for sealed in page.values())

    def _reseal(self, page: dict[Place, str], progress: Progress, report: Callable[[Progress], object]) -> int:
        """Returns how many were there to be sealed anew, whoever did it."""
        newest = self._keyring.newest.key_id
        replacements: dict[Place, tuple[str, str]] = {}
        for place, sealed in page.items():
            if key_id_of(sealed) == newest:
                continue
            try:
                replacements[place] = sealed, self._keyring.reseal(sealed, place.merchant_id)
            except RequestRefused:
                progress.unreadable.add(place.merchant_id)
        progress.resealed += self._sealed_keys.replace(replacements)
        progress.looked_at += len(page)
        report(progress)
        return len(replacements)

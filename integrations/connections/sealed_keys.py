"""The sealed application keys beside the records: read, sealed anew, forgotten, while runs and connects go on.

A part of `records.py`, in a file of its own; nothing else knows their keys.

    occ:rotation    hash    under which key, and when, all of them were last sealed anew
"""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from integrations.connections.record import merchant_of
from integrations.connections.records import Records, connection_key, on_disk

_ROTATION = "occ:rotation"
_PAGE = 100

# KEYS: connection. ARGV: field, sealed key as it was read, what takes its place. One that came meanwhile stays. The
# record's version stays too: a run under way need not notice, the application key inside is the same.
_REPLACE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

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
        self._replace = self._redis.register_script(_REPLACE)

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
        """Place -> (sealed key as it was read, the same sealed anew); tells how many were replaced.

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

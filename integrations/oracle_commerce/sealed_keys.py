"""The sealed application keys beside the records: read, sealed anew, forgotten, while runs and connects go on.

A part of `records.py`, in a file of its own; nothing else knows their keys.

    occ:rotation    hash    under which key, and when, all of them were last sealed anew
"""

import time
from collections.abc import Iterator, Mapping

from integrations.oracle_commerce.records import Records, connection_key, on_disk

_ROTATION = "occ:rotation"
_PAGE = 100

# KEYS: connection. ARGV: sealed key as it was read, what takes its place ("": nothing). One that came meanwhile stays.
# The record's version stays too: a run under way need not notice, the application key inside is the same.
_REPLACE = """
if redis.call('HGET', KEYS[1], 'sealed_key') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], 'sealed_key') end
redis.call('HSET', KEYS[1], 'sealed_key', ARGV[2])
return 1
"""


class SealedKeys:
    """The field `sealed_key` of all records. Safe to share between threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._redis = records.redis
        self._replace = self._redis.register_script(_REPLACE)

    def pages(self, *, page: int = _PAGE) -> Iterator[dict[str, str]]:
        """All of them by merchant id, in order of merchant id, page by page."""
        after = ""
        while ids := self._records.merchant_ids(after=after, count=page):
            with self._redis.pipeline(transaction=False) as pipe:
                for merchant_id in ids:
                    pipe.hget(connection_key(merchant_id), "sealed_key")
                found = pipe.execute()
            yield {merchant_id: sealed for merchant_id, sealed in zip(ids, found, strict=True) if sealed}
            after = ids[-1]

    def replace(self, replacements: Mapping[str, tuple[str, str]]) -> int:
        """Merchant id -> (sealed key as it was read, the same sealed anew); tells how many were replaced.

        One that changed since it was read stays as it is.
        """
        if not replacements:
            return 0
        with self._redis.pipeline(transaction=False) as pipe:
            for merchant_id, (was, becomes) in replacements.items():
                self._replace(keys=[connection_key(merchant_id)], args=[was, becomes], client=pipe)
            return sum(pipe.execute())

    def forget(self, merchant_id: str, sealed_key: str) -> bool:
        """Take a sealed key out of its record, unless another one has come meanwhile; tells whether it did.

        The append-only file holds it until the server next rewrites that file (docs/security.md).
        """
        return bool(self._replace(keys=[connection_key(merchant_id)], args=[sealed_key, ""]))

    def confirm(self, key_id: str) -> None:
        """Note that all are sealed to this key now; when it returns, that is on disk where the server can confirm it.

        Raises TransientError when the server could not confirm it in time.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(_ROTATION, mapping={"key_id": key_id, "at": time.time()})
            on_disk(pipe)

"""Which connections share a store, and that each of them says so.

Two merchants at one store each get every order of it. That may be meant (one store, several sites), or somebody has
signed up twice; only people can tell. So each of them has the finding `store_shared`, as long as it is so.

    occ:stores:<host>    zset    merchants who are, or were, connected to this store

Each re-validation puts its merchant there and compares; whoever is new or gone is written into the records of the
others at once. What is in the zset is a hint: the records decide.
"""

from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from integrations.connections.change import Change, Note, Stop
from integrations.connections.record import Connection, merchant_of
from integrations.connections.records import Records, Snapshot

MOST_NAMED = 4
"""Of the others, in one record. A store of a thousand merchants costs no more than one of five."""


class SharedStores:
    """Finds connections that share a store. Safe to share between threads."""

    def __init__(self, records: Records) -> None:
        self._records, self._redis = records, records.redis

    def review(self, connection: Connection) -> tuple[str, ...]:
        """Who else is connected to this store, as far as they are named; written down for all who are concerned."""
        key = stores_key(connection.store_url)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(key, {merchant_of(connection.merchant_id): 0})
            pipe.zrange(key, 0, MOST_NAMED)
            _, first = pipe.execute()
        together = self._connected(connection.store_url, first, known=connection)
        for one in {one.merchant_id: one for one in (connection, *together)}.values():
            self._note(one, together)
        return _others(connection, together)

    def left(self, connection: Connection) -> None:
        """A store was left: the finding of the others is over, unless there are more."""
        key = stores_key(connection.store_url)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrem(key, merchant_of(connection.merchant_id))
            pipe.zrange(key, 0, MOST_NAMED)
            _, first = pipe.execute()
        together = self._connected(connection.store_url, first)
        for one in together:
            self._note(one, together)

    def _connected(self, store_url: str, merchant_ids: list[str], known: Connection | None = None) -> list[Connection]:
        """Those of these merchants who are connected to the store; the others are no longer remembered for it."""
        if known is not None and merchant_ids == [known.merchant_id]:
            return [known]
        snapshots = self._records.load_many(merchant_ids) if merchant_ids else []
        gone = [
            merchant_id
            for merchant_id, snapshot in zip(merchant_ids, snapshots, strict=True)
            if not snapshot.unreadable and not _is_at(snapshot, store_url)
        ]
        if gone:
            self._redis.zrem(stores_key(store_url), *gone)
        return [one.connection for one in snapshots if one.connection is not None and _is_at(one, store_url)]

    def _note(self, connection: Connection, together: list[Connection]) -> None:
        others = _others(connection, together)
        if connection.shares_store_with != others:
            self._records.change(connection.merchant_id, partial(_decide, connection.store_url, others))


def stores_key(store_url: str) -> str:
    """Where the merchants of a store are remembered."""
    return f"occ:stores:{urlsplit(store_url).netloc.casefold()}"


def _is_at(snapshot: Snapshot, store_url: str) -> bool:
    connection = snapshot.connection
    if connection is None or connection.disconnected:
        return False
    return stores_key(connection.store_url) == stores_key(store_url)


def _others(connection: Connection, together: list[Connection]) -> tuple[str, ...]:
    ids = (one.merchant_id for one in together)
    return tuple(merchant_id for merchant_id in ids if merchant_id != connection.merchant_id)[:MOST_NAMED]


def _decide(store_url: str, others: tuple[str, ...], connection: Connection | None, _now: float) -> Change | Stop:
    if connection is None or connection.store_url != store_url:
        return Stop("moved")
    if connection.shares_store_with == others:
        return Stop("known")
    changed = replace(connection, shares_store_with=others)
    if bool(others) == bool(connection.shares_store_with):
        return Change(changed)
    what = "store_shared" if others else "store_shared_no_more"
    return Change(changed, (Note(what, details={"with": list(others)} if others else {}),))

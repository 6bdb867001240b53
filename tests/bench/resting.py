"""Many connections at rest on a server of its own, with its append-only file on: as records.py writes them."""

import tempfile
from pathlib import Path
from typing import Any

import redis

from integrations.connections.change import Moment
from integrations.connections.commit import due_changes
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import DAY
from integrations.connections.records import CONNECTIONS, connection_key
from integrations.connections.schedule import spread_phase
from integrations.connections.status_index import LISTING, status_key
from integrations.connections.stored_record import record_text
from integrations.oracle_commerce import drift
from integrations.oracle_commerce.slot import Ours, callback_url_for
from occ.local.server import EmbeddedServer
from tests.bench.at_rest import SLOTS, connected, looked_at
from tests.usual import PACE

AHEAD = 6 * 3600
"""Seconds: nothing is due by itself while somebody measures."""

_CALLBACK_URL = "https://hooks.example.com/occ/{merchant_id}/{slot}"
_SEALED_KEY = f"sealed.v1.k1.{'A' * 700}"  # as long as that of a usual application key
_PAGE = 1000


class Server:
    """An empty server, a client of it, and one more that asks what it costs."""

    def __enter__(self) -> tuple[redis.Redis, redis.Redis]:
        self._folder = tempfile.TemporaryDirectory(prefix="occ-bench-")
        self._server = EmbeddedServer(Path(self._folder.name))
        self._server.start()
        self._clients = [redis.Redis.from_url(self._server.url, decode_responses=True) for _ in range(2)]
        return self._clients[0], self._clients[1]

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._server.stop()
        self._folder.cleanup()


def ids_of(size: int) -> list[str]:
    """Their merchant ids, in order."""
    return [f"merchant-{number:07}" for number in range(size)]


def write_connections(client: redis.Redis, size: int) -> None:
    """Connections that were looked at and found in order, each waiting for its moment: as records.py writes them."""
    pace, (seconds, _) = PACE, client.time()
    seconds += AHEAD
    ids = ids_of(size)
    for start in range(0, size, _PAGE):
        with client.pipeline(transaction=False) as pipe:
            for number, merchant_id in enumerate(ids[start : start + _PAGE], start):
                urls = {name: callback_url_for(_CALLBACK_URL, merchant_id, name) for name in SLOTS}
                seen = {name: drift.remember({"urls": [url], "headers": {}}, Ours(url)) for name, url in urls.items()}
                desired = Desired(
                    merchant_id,
                    f"https://ccadmin-{number}.oracleoutsourcing.com",
                    _SEALED_KEY,
                    "0" * 16,
                    seconds + 300 * DAY,
                    dict.fromkeys(SLOTS, True),
                    spread_phase(number),
                )
                fresh = connected(desired, Moment(seconds - 600.0, pace), seen=seen).connection
                connection = looked_at(fresh, Moment(seconds - 290.0, pace))
                record = record_text(connection)
                fields: dict[Any, Any] = {
                    "version": "25",
                    "record": record,
                    "sealed_key": _SEALED_KEY,
                    "change": "0" * 32,
                }
                pipe.hset(connection_key(merchant_id), mapping=fields)
                pipe.zadd("occ:due", {member: float(due) for member, due in due_changes(None, connection).items()})
            for key in (CONNECTIONS, status_key(connection.status)):
                pipe.zadd(key, dict.fromkeys(ids[start : start + _PAGE], 0))
            pipe.execute()
    client.hset(LISTING, "finished_at", seconds)

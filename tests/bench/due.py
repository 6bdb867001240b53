"""What a tick costs for each connection that is due, however many connections there are: as `tasks/tick.py` does it,
without sending messages. On a server of its own, with its append-only file on.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from integrations.oracle_commerce import drift, records
from integrations.oracle_commerce.beginnings import Desired
from integrations.oracle_commerce.change import Moment
from integrations.oracle_commerce.connection import DAY
from integrations.oracle_commerce.records import Records, connection_key
from integrations.oracle_commerce.schedule import Pace, spread_phase
from integrations.oracle_commerce.slots import callback_url_for
from tasks.local.server import EmbeddedServer
from tests.bench.at_rest import SLOTS, connected, looked_at

SIZES = (1_000, 10_000, 100_000)
IN_ONE_TICK = 1000
CALLBACK_URL = "https://hooks.example.com/occ/{merchant_id}/{slot}"
SEALED_KEY = f"sealed.v1.k1.{'A' * 700}"  # as long as that of a usual application key
LONG_AGO = 1.0
_PAGE = 1000
_AHEAD = 6 * 3600  # seconds: nothing is due by itself while this measures
_EMPTY_TICKS = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one due connection, in microseconds."""

    client_cpu: float
    server_cpu: float
    wall: float

    @property
    def cpu(self) -> float:
        """Both ends together."""
        return self.client_cpu + self.server_cpu


def measure_due(*, sizes: Sequence[int] = SIZES, members: int, due: int) -> dict[str, object]:
    """The figures, by name. `members`: of the due set alone, without records; `due`: how many are taken per size."""
    figures: dict[str, object] = {}
    costs: list[Cost] = []
    for size in sizes:
        with _Server() as (client, counted):
            _write(client, size)
            tick = _Tick(Records(client), counted, due)
            costs.append(tick.cost(_ids(size), with_records=True))
            figures |= _told(f"{size}", costs[-1])
            figures[f"{size}_tick_with_nothing_due_us"] = round(tick.empty().cpu, 0)
            figures[f"{size}_server_memory_mb"] = _memory(client)
    alone: list[Cost] = []
    for size in (min(sizes), members):
        with _Server() as (client, counted):
            _write_members(client, size)
            alone.append(_Tick(Records(client), counted, due).cost(_ids(size), with_records=False))
            figures |= _told(f"{size}_members_alone", alone[-1])
            figures[f"{size}_members_alone_server_memory_mb"] = _memory(client)
    figures["most_to_fewest_connections_cpu"] = round(costs[-1].cpu / costs[0].cpu, 2)
    figures["most_to_fewest_members_alone_cpu"] = round(alone[-1].cpu / alone[0].cpu, 2)
    return figures


# --- What is there ----------------------------------------------------------------------------------------------------


class _Server:
    """An empty server, a client of it, and one more that asks what it costs."""

    def __enter__(self) -> tuple[redis.Redis, redis.Redis]:
        self._folder = tempfile.TemporaryDirectory(prefix="occ-bench-")
        self._server = EmbeddedServer(Path(self._folder.name))
        self._server.start()
        self._clients = [redis.Redis.from_url(self._server.url, decode_responses=True) for _ in range(2)]
        return self._clients[0], self._clients[1]

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._server.stop()
        self._folder.cleanup()


def _ids(size: int) -> list[str]:
    return [f"merchant-{number:07}" for number in range(size)]


def _write(client: redis.Redis, size: int) -> None:
    """Connections that were looked at and found in order, each waiting for its moment: as records.py writes them."""
    pace, (seconds, _) = Pace(), client.time()
    seconds += _AHEAD
    ids = _ids(size)
    for start in range(0, size, _PAGE):
        with client.pipeline(transaction=False) as pipe:
            for number, merchant_id in enumerate(ids[start : start + _PAGE], start):
                urls = {name: callback_url_for(CALLBACK_URL, merchant_id, name) for name in SLOTS}
                seen = {name: drift.remember({"urls": [url], "headers": {}}, url) for name, url in urls.items()}
                desired = Desired(
                    merchant_id,
                    f"https://ccadmin-{number}.oracleoutsourcing.com",
                    SEALED_KEY,
                    "0" * 16,
                    seconds + 300 * DAY,
                    dict.fromkeys(SLOTS, True),
                    spread_phase(number),
                )
                fresh = connected(desired, Moment(seconds - 600.0, pace), seen=seen).connection
                connection = looked_at(fresh, Moment(seconds - 290.0, pace))
                record = records._RECORD.dump_json(connection, exclude_defaults=True)
                fields: dict[Any, Any] = {
                    "version": "25",
                    "record": record,
                    "sealed_key": SEALED_KEY,
                    "change": "0" * 32,
                }
                pipe.hset(connection_key(merchant_id), mapping=fields)
                pipe.zadd(
                    "occ:due", {member: float(due) for member, due in records._due_changes(None, connection).items()}
                )
            pipe.zadd("occ:connections", dict.fromkeys(ids[start : start + _PAGE], 0))
            pipe.execute()


def _write_members(client: redis.Redis, size: int) -> None:
    ids, (seconds, _) = _ids(size), client.time()
    for start in range(0, size, 10 * _PAGE):
        page = ids[start : start + 10 * _PAGE]
        client.zadd("occ:due", {name: seconds + _AHEAD + DAY * spread_phase(start + n) for n, name in enumerate(page)})


def _memory(client: redis.Redis) -> float:
    return round(int(client.info("memory")["used_memory"]) / 1e6, 1)


# --- What a tick does with it -----------------------------------------------------------------------------------------


class _Tick:
    """Ticks, measured at both ends."""

    def __init__(self, store: Records, counted: redis.Redis, due: int) -> None:
        self._records = store
        self._counted = counted
        self._due = due

    def cost(self, ids: Sequence[str], *, with_records: bool) -> Cost:
        """Of one due connection; each tick takes as many as the real one does."""
        dice = random.Random(7)  # noqa: S311 - dice
        client_cpu = server_cpu = wall = 0.0
        ticks = max(1, self._due // IN_ONE_TICK)
        for number in range(ticks + 1):
            chosen = dice.sample(ids, IN_ONE_TICK)
            self._records.redis.zadd("occ:due", dict.fromkeys(chosen, LONG_AGO))
            spent = self._measured(1, with_records=with_records, expected=IN_ONE_TICK)
            if number:  # the first loads the scripts
                client_cpu, server_cpu, wall = client_cpu + spent[0], server_cpu + spent[1], wall + spent[2]
        return Cost(*(1e6 * spent / ticks / IN_ONE_TICK for spent in (client_cpu, server_cpu, wall)))

    def empty(self) -> Cost:
        """Of a tick that finds nothing."""
        spent = self._measured(_EMPTY_TICKS, with_records=True, expected=0)
        return Cost(*(1e6 * some / _EMPTY_TICKS for some in spent))

    def _measured(self, ticks: int, *, with_records: bool, expected: int) -> tuple[float, float, float]:
        server, client, began = self._server_cpu(), time.process_time(), time.perf_counter()
        for _ in range(ticks):
            self._hand_out(with_records=with_records, expected=expected)
        wall, client = time.perf_counter() - began, time.process_time() - client
        return client, self._server_cpu() - server, wall

    def _hand_out(self, *, with_records: bool, expected: int) -> None:
        taken = self._records.take_due(IN_ONE_TICK, put_off=10.0)
        if len(taken.work) != expected:
            raise RuntimeError(f"{len(taken.work)} were due instead of {expected}")
        if with_records:
            snapshots = self._records.load_many([merchant_id for merchant_id, _ in taken.work])
            for snapshot, (_, slot) in zip(snapshots, taken.work, strict=True):
                if snapshot.connection is None or slot not in snapshot.connection.due():
                    raise RuntimeError("what is due has no work behind it")
        self._records.put_off(taken, 3600.0)

    def _server_cpu(self) -> float:
        """User and system time of its threads so far, as it counts them."""
        cpu = self._counted.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _told(name: str, cost: Cost) -> dict[str, object]:
    return {
        f"{name}_client_cpu_us_per_due": round(cost.client_cpu, 1),
        f"{name}_server_cpu_us_per_due": round(cost.server_cpu, 1),
        f"{name}_wall_us_per_due": round(cost.wall, 1),
    }

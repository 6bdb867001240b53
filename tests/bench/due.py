"""What a tick costs for each connection that is due, however many connections there are: as `tasks/tick.py` does it,
without sending messages. On a server of its own, with its append-only file on.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from integrations.connections.record import DAY
from integrations.connections.records import Records
from integrations.connections.schedule import spread_phase
from tests.bench.resting import AHEAD, Server, ids_of, write_connections

SIZES = (1_000, 10_000, 100_000)
IN_ONE_TICK = 1000
LONG_AGO = 1.0
_PAGE = 1000
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
        with Server() as (client, counted):
            write_connections(client, size)
            tick = _Tick(Records(client), counted, due)
            costs.append(tick.cost(ids_of(size), with_records=True))
            figures |= _figures(f"{size}", costs[-1])
            figures[f"{size}_tick_with_nothing_due_us"] = round(tick.empty().cpu, 0)
            figures[f"{size}_server_memory_mb"] = _memory(client)
    alone: list[Cost] = []
    for size in (min(sizes), members):
        with Server() as (client, counted):
            _write_members(client, size)
            alone.append(_Tick(Records(client), counted, due).cost(ids_of(size), with_records=False))
            figures |= _figures(f"{size}_members_alone", alone[-1])
            figures[f"{size}_members_alone_server_memory_mb"] = _memory(client)
    figures["most_to_fewest_connections_cpu"] = round(costs[-1].cpu / costs[0].cpu, 2)
    figures["most_to_fewest_members_alone_cpu"] = round(alone[-1].cpu / alone[0].cpu, 2)
    return figures


# --- What is there ----------------------------------------------------------------------------------------------------


def _write_members(client: redis.Redis, size: int) -> None:
    ids, (seconds, _) = ids_of(size), client.time()
    for start in range(0, size, 10 * _PAGE):
        page = ids[start : start + 10 * _PAGE]
        client.zadd("occ:due", {name: seconds + AHEAD + DAY * spread_phase(start + n) for n, name in enumerate(page)})


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
            self._dispatch(with_records=with_records, expected=expected)
        wall, client = time.perf_counter() - began, time.process_time() - client
        return client, self._server_cpu() - server, wall

    def _dispatch(self, *, with_records: bool, expected: int) -> None:
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


def _figures(name: str, cost: Cost) -> dict[str, object]:
    return {
        f"{name}_client_cpu_us_per_due": round(cost.client_cpu, 1),
        f"{name}_server_cpu_us_per_due": round(cost.server_cpu, 1),
        f"{name}_wall_us_per_due": round(cost.wall, 1),
    }

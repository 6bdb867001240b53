"""What it costs to look at a healthy connection again, through real workers, and that it is six calls and no write."""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import DAY, Connection
from integrations.connections.schedule import spread_phase
from integrations.oracle_commerce import drift
from integrations.oracle_commerce.application_key import expiry_of, fingerprint
from integrations.oracle_commerce.slot import Ours, callback_url_for
from integrations.sealing.keyring import seal
from occ.simulator.process import SimulatorProcess
from tests.bench.at_rest import SLOTS, connected
from tests.bench.process_time import MachineTime, cpu_of, machine_time
from tests.pipeline import Pipeline
from tests.usual import PACE
from tests.waiting import wait_until

CALLS = {"login": 1, "shipping_methods": 1, "read_slot": 4}
WRITES = frozenset({"write_slot", "write_slots", "reset_secret", "resend"})
FOREIGN_URL = "https://order-management.example.net/hook"
_AT_ONCE = 250  # stores made in one request
SECOND_LOOK = 3600.0  # longer than a measurement: no connection is looked at twice in it
_PATIENCE = 1800.0  # seconds

Json = dict[str, Any]


def measure_revalidate(*, connections: int, workers: int, simulators: int, latency: float, rate: float) -> Json:
    """The figures, by name. With a `rate` so many come due a second; else all are overdue when it begins."""
    settings = {
        "OCC_CONCURRENCY": "64",
        "OCC_LEASE": "60",
        "OCC_CALL_DEADLINE": "35",
        "OCC_SECOND_LOOK": f"{SECOND_LOOK:g}",
    }
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        arguments = ["--latency", str(latency)]
        platforms = [cleanup.enter_context(SimulatorProcess(arguments)) for _ in range(simulators)]
        settings["OCC_DEV_STORES"] = ",".join(platform.dev_stores for platform in platforms)
        pipeline = cleanup.enter_context(Pipeline(folder, settings=settings))
        template = pipeline.environment["OCC_CALLBACK_URL"]
        stores = [
            store
            for number, platform in enumerate(platforms)
            for store in stores_of(platform, f"m-{number}-{{n}}", connections // simulators, template)
        ]
        pipeline_names = [pipeline.start_worker() for _ in range(workers)]
        pipeline.await_workers()
        _check_against_a_real_connect(pipeline, platforms[0], template)
        first_due = write_at_rest(pipeline, stores, template, rate=rate)
        bench = _Bench(pipeline, platforms, pipeline_names, len(stores))
        return {"connections": len(stores), "workers": workers} | bench.measure(first_due)


# --- Connections that were connected a day ago ----------------------------------------------------------------------


def stores_of(platform: SimulatorProcess, pattern: str, count: int, template: str) -> list[Json]:
    """Stores that carry our callback URL in every slot, beside another integrator's."""
    made: list[Json] = []
    for start in range(0, count, _AT_ONCE):
        names = [pattern.replace("{n}", str(number)) for number in range(start, min(start + _AT_ONCE, count))]
        made += platform.client.add_all({"name": name, "slots": _slots(name, template)} for name in names)
    return made


def _slots(merchant_id: str, template: str) -> dict[str, Json]:
    return {name: {"urls": [FOREIGN_URL, callback_url_for(template, merchant_id, name)]} for name in SLOTS}


def write_at_rest(
    pipeline: Pipeline, stores: Sequence[Json], template: str, *, rate: float = 0.0, due_in: float = 0.0
) -> float:
    """Their records, whose second look is due in so many seconds; tells from when on, by the server's clock."""
    pace = replace(PACE, second_look=SECOND_LOOK, revalidate_every=30 * DAY)
    content = {"urls": [FOREIGN_URL], **_contents_of_a_slot()}
    seconds, _ = pipeline.redis.time()
    writing = len(stores) / 200  # no more than this takes, so that with a rate nothing is due before beat starts
    first_due = float(seconds) + (writing + 5 if rate else 0.0) + due_in
    for number, store in enumerate(stores):
        due = first_due + (number / rate if rate else 0.0)
        desired = replace(_desired(pipeline, store), phase=spread_phase(number))
        # As if a worker had connected it then: what is left to do is due by itself.
        at = Moment(due - SECOND_LOOK, pace)
        seen = {
            name: drift.remember(content, Ours(callback_url_for(template, desired.merchant_id, name))) for name in SLOTS
        }
        _write(pipeline, desired.merchant_id, connected(desired, at, seen=seen))
    return first_due


def _write(pipeline: Pipeline, merchant_id: str, change: Change) -> None:
    def decide(_: Connection | None, now: float) -> Change | Stop:
        return change

    pipeline.records.change(merchant_id, decide)


def _desired(pipeline: Pipeline, store: Json) -> Desired:
    name, key = store["name"], store["application_key"]
    sealed = seal(pipeline.key.public_key, pipeline.key.key_id, name, key)
    return Desired(name, store["store_url"], sealed, fingerprint(key), expiry_of(key), dict.fromkeys(SLOTS, True))


def _contents_of_a_slot() -> Json:
    """The other properties of a slot nobody has set anything in: the store tells them."""
    return {"headers": {}, "basicAuthentication": None}


def _check_against_a_real_connect(pipeline: Pipeline, platform: SimulatorProcess, template: str) -> None:
    """A store connected by the workers has the record that we would write: else the figures are about something else.

    It also warms the workers up.
    """
    stores = [
        platform.client.add(f"warm-up-{number}", slots={name: {"urls": [FOREIGN_URL]} for name in SLOTS})
        for number in range(40)
    ]
    for store in stores:
        pipeline.send(
            {
                "merchant_id": store["name"],
                "store_url": store["store_url"],
                "application_key": _desired(pipeline, store).sealed_key,
            }
        )
    pipeline.await_end(*(store["name"] for store in stores), within=60)
    for store in stores[:3]:
        real = pipeline.connection(store["name"])
        assert real is not None
        content = {"urls": [FOREIGN_URL], **_contents_of_a_slot()}
        seen = {name: drift.remember(content, Ours(callback_url_for(template, store["name"], name))) for name in SLOTS}
        at = Moment(real.updated_at, replace(PACE, second_look=SECOND_LOOK, revalidate_every=30 * DAY))
        ours = connected(replace(_desired(pipeline, store), phase=real.phase), at, seen=seen).connection
        assert _without_times(real) == _without_times(ours), "the records written here are not what a connect leaves"
    for store in stores:
        pipeline.redis.zrem("occ:due", store["name"])  # they are not part of what is measured


def _without_times(connection: Connection) -> Connection:
    slots = {name: replace(slot, in_order_at=0.0) for name, slot in connection.slots.items()}
    return replace(connection, started_at=0.0, updated_at=0.0, work=None, slots=slots)


# --- Measuring ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    """Everything that is counted, at one moment."""

    at: float
    cpu: Mapping[str, float]
    machine: MachineTime | None
    commands: int
    by_command: Mapping[str, int]


class _Bench:
    """One measurement."""

    def __init__(
        self, pipeline: Pipeline, platforms: Sequence[SimulatorProcess], workers: Sequence[str], connections: int
    ) -> None:
        self._pipeline = pipeline
        self._platforms = platforms
        self._workers = workers
        self._connections = connections

    def measure(self, first_due: float) -> Json:
        """From the first tick until every connection is at rest again."""
        for platform in self._platforms:
            platform.client.reset_counts()
        before = self._read(None)
        beat = self._pipeline.start_beat()
        wait_until(self._done, within=_PATIENCE, what="every connection to be looked at")
        after = self._read(beat)
        return self._figures(before, after, first_due)

    def _done(self) -> bool:
        time.sleep(0.25)  # each look is two commands, which are counted
        seconds, _ = self._pipeline.redis.time()
        # Under way, a connection is due within a lease; at rest, not before its next look.
        at_rest = self._pipeline.redis.zcount("occ:due", float(seconds) + SECOND_LOOK / 2, "+inf")
        return bool(at_rest >= self._connections) and self._pipeline.redis.zcard("occ:due") == self._connections

    def _read(self, beat: str | None) -> _Reading:
        redis = self._pipeline.redis
        pids = {
            "worker": [self._pipeline.processes[name].pid for name in self._workers],
            "server": [self._pipeline.server.pid or 0],
            "simulator": [platform.pid for platform in self._platforms],
            "beat": [self._pipeline.processes[beat].pid] if beat else [],
        }
        stats = redis.info("commandstats")
        by_command = {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}
        return _Reading(
            at=time.time(),
            cpu={name: cpu_of(some) for name, some in pids.items()},
            machine=machine_time(),
            commands=int(redis.info("stats")["total_commands_processed"]),
            by_command=by_command,
        )

    def _figures(self, before: _Reading, after: _Reading, first_due: float) -> Json:
        number, wall = self._connections, after.at - max(before.at, first_due)
        cpu = {name: after.cpu[name] - before.cpu.get(name, 0.0) for name in after.cpu}
        by_command = Counter(after.by_command) - Counter(before.by_command)
        return {
            **self._calls(),
            "seconds": round(wall, 1),
            "connections_per_second": round(number / wall, 1),
            **{f"{name}_cpu_ms_per_connection": round(spent / number * 1000, 2) for name, spent in cpu.items()},
            "messages_per_connection": round(by_command["lpush"] / number, 2),
            "redis_commands_per_connection": round((after.commands - before.commands) / number, 1),
            "redis_commands_by_name": {name: round(calls / number, 2) for name, calls in by_command.most_common(24)},
            **_load(before, after, cpu, len(self._workers), len(self._platforms)),
        }

    def _calls(self) -> Json:
        calls: Counter[str] = Counter()
        off = 0
        for platform in self._platforms:
            for name, summary in platform.client.summary()["tenants"].items():
                if not name.startswith("warm-up"):
                    calls.update(summary["endpoints"])
                    off += summary["endpoints"] != CALLS
        number = self._connections
        return {
            "calls_per_connection": round(calls.total() / number, 4),
            "calls_by_name": {name: round(count / number, 4) for name, count in sorted(calls.items())},
            "connections_with_other_calls": off,
            "writes": sum(calls[name] for name in WRITES),
        }


def is_as_promised(figures: Mapping[str, object]) -> bool:
    """Whether every connection was looked at with exactly six calls, none of them a write."""
    return figures["connections_with_other_calls"] == 0 and figures["writes"] == 0


def _load(before: _Reading, after: _Reading, cpu: Mapping[str, float], workers: int, simulators: int) -> Json:
    """Who had how much of a core, and so what the limit was."""
    wall = after.at - before.at
    shares = {
        "each_worker": cpu["worker"] / wall / workers,
        "server": cpu["server"] / wall,
        "each_simulator": cpu["simulator"] / wall / simulators,
    }
    told: Json = {f"share_of_a_core_{name}": round(share, 2) for name, share in shares.items()}
    if before.machine is None or after.machine is None:
        return told
    busy = (after.machine.busy - before.machine.busy) / (after.machine.total - before.machine.total)
    ours = sum(cpu.values()) / (after.machine.total - before.machine.total)
    told |= {"machine_busy": round(busy, 2), "machine_busy_with_others": round(max(0.0, busy - ours), 2)}
    limit = max(shares, key=lambda name: shares[name])
    if busy > 0.95 and shares[limit] < 0.9:
        told["limit"] = f"the machine's cores, shared with others; of ours, {limit.replace('_', ' ')} had most"
    else:
        told["limit"] = (
            f"{limit.replace('_', ' ')}, a Python process bound to one core"
            if shares[limit] > 0.8
            else "waiting: for the stores, or for work to come due"
        )
    return told

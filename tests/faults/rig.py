"""A pipeline under faults: what ends is started again, requests keep coming, and at the end everything is counted.

All of it happens in the main thread, step by step in `go_on`: child processes belong to the thread that started them.
"""

import contextlib
import heapq
import itertools
import json
import os
import signal
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from integrations.connections.record import Connection
from integrations.connections.records import Records
from occ.simulator.store import SimulatedStore
from tasks.inbox import STREAM
from tasks.queues import QUARANTINE, REQUESTS
from tests.faults.established import FOREIGN_URL, SLOTS, Established
from tests.faults.report import Report
from tests.faults.trial import Trial
from tests.pipeline import Pipeline, ended

LEASE = 6.0
PACE = {
    "OCC_LEASE": f"{LEASE:g}",
    "OCC_REVALIDATE_EVERY": "3650d",
    "OCC_CALL_DEADLINE": "1",
    "OCC_RETRY_ATTEMPTS": "8",
    "OCC_CONCURRENCY": "8",
    "OCC_CONFIRM_REJECTION": "2",
    "OCC_OUTAGE_SHARE": "0",
}
HEALS_WITHIN = 2 * LEASE + 4  # the last two: a tick, and a worker that starts on a busy machine
PREFORK_CHILDREN = "4"
_STEP = 0.02


class Rig(Pipeline):
    """`exits` are workers and beats that ended by themselves. A fault is to be announced by `struck`.

    `established`: merchants that are asked things while the faults strike. `may_repeat`: the scenario itself makes an
    outcome come twice.
    """

    def __init__(
        self, trial: Trial, *, settings: Mapping[str, str] | None = None, latency: float = 0.03, name: str = "rig"
    ) -> None:
        folder = trial.folder / name
        folder.mkdir()
        if trial.pool == "prefork":
            latency = min(latency, 0.03)  # few processes: else the backlog, not the fault, decides when all are done
        super().__init__(folder, settings={**PACE, **(settings or {})}, latency=latency)
        self.trial = trial
        self.exits: list[str] = []
        self.expected: dict[str, str] = {}
        self.sent_at: dict[str, float] = {}
        self.last_fault = time.monotonic()
        self.is_server_away = False
        self.recorded_once = True
        self.loses_writes = False
        self.may_repeat = False
        self.established = Established(self)
        self._lane = ""
        self._roles: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {}
        self._outbox: deque[tuple[float, SimulatedStore, Callable[[object], None]]] = deque()
        self._numbers = itertools.count()
        self._requests: list[tuple[float, int, Callable[[], object]]] = []
        self._done: set[str] = set()

    def __enter__(self) -> Self:
        super().__enter__()
        self.redis.close()
        self.redis = redis.Redis.from_url(
            self.server.url, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        )
        self._cleanup.callback(self.redis.close)
        self.records = Records(self.redis)
        return self

    # --- Processes --------------------------------------------------------------------------------------------------

    def start(self, workers: int = 2, beats: int = 1, **environment: str) -> None:
        """Workers of the trial's pool that consume, one for the quarantine lane, and beat."""
        self._start_suspects(environment)
        for _ in range(workers):
            self.start_worker(environment=environment)
        for _ in range(beats):
            self.start_beat()
        self.await_workers()

    def start_worker(self, *options: str, environment: Mapping[str, str] | None = None) -> str:
        """Also remembers how, for its successors."""
        if self.trial.pool == "prefork" and "--concurrency" not in options:
            options = (*options, "--concurrency", PREFORK_CHILDREN)
        name = super().start_worker(*options, environment={"FAULTS_POOL": self.trial.pool, **(environment or {})})
        self._roles[name] = options, environment or {}
        return name

    def _start_suspects(self, environment: Mapping[str, str]) -> None:
        self._lane = self.start_worker("--queues", QUARANTINE, "--concurrency", "1", environment=environment)

    def _start(self, name: str, command: Iterable[str], environment: Mapping[str, str]) -> str:
        line = list(command)
        if name.startswith("worker"):
            line[line.index("celery")] = "tests.faults.worker"
        return super()._start(name, line, environment)

    @property
    def workers(self) -> list[str]:
        """The living ones on the ordinary queues."""
        return [name for name in self._roles if name in self.processes and name != self._lane]

    def start_again(self, name: str) -> str:
        """A successor of the same kind."""
        if name.startswith("beat"):
            return self.start_beat()
        options, environment = self._roles[name]
        successor = self.start_worker(*options, environment=environment)
        if name == self._lane:
            self._lane = successor
        return successor

    def kill_worker(self, name: str | None = None, *, again: bool = True) -> str:
        """SIGKILL; for prefork half of the time one child of it. Returns the successor's name, or its own.

        Without a name, of any worker that consumes; so the pace is the machine's.
        """
        dice = self.trial.dice
        name = name or self.consuming_worker()
        self.struck()
        children = self._children(name) if self.trial.pool == "prefork" and again and dice.random() < 0.5 else []
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(children), signal.SIGKILL)
            return name
        self.kill(name, signal.SIGKILL)
        return self.start_again(name) if again else name

    def consuming_worker(self) -> str:
        """Any of those that consume; waits for one."""
        self.until(lambda: any(map(self.is_ready, self.workers)), 30)
        return self.trial.dice.choice([name for name in self.workers if self.is_ready(name)] or self.workers)

    def is_ready(self, name: str) -> bool:
        """Whether a worker consumes."""
        return b"ready" in self.output(name)

    def _children(self, name: str) -> list[int]:
        if not self.is_ready(name):  # Celery ends by itself when a child dies while the pool is being started
            return []
        pid = self.processes[name].pid
        with contextlib.suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def _tend(self) -> None:
        """Start again what has ended: of workers that are made to kill themselves, SIGKILL is the suite's doing."""
        for name, process in list(self.processes.items()):
            status = process.poll()
            if status is None:
                continue
            del self.processes[name]
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the children of a dead parent
            if status == -signal.SIGKILL and {"FAULTS_POINTS", "FAULTS_DEADLY"} & self._environment_of(name).keys():
                self.struck()
            else:
                last = self.output(name).decode(errors="replace").splitlines()[-1:]
                self.exits.append(f"{name} {status}: {''.join(last)[:300]}")
            self.start_again(name)

    def _environment_of(self, name: str) -> Mapping[str, str]:
        return self._roles[name][1] if name in self._roles else {}

    # --- Server -----------------------------------------------------------------------------------------------------

    def kill_server(self) -> None:
        """As `kill -9` does."""
        assert self.server.pid is not None
        self.struck()
        self.is_server_away = True
        os.kill(self.server.pid, signal.SIGKILL)
        while self.server.pid is not None:
            time.sleep(0.01)

    def start_server(self) -> None:
        """On the same files."""
        self.server.start()
        self.is_server_away = False
        self.struck()

    def freeze_server(self, seconds: float) -> None:
        """Stopped, with its connections open."""
        pid = self.server.pid
        assert pid is not None
        self.struck()
        self.is_server_away = True
        os.kill(pid, signal.SIGSTOP)
        try:
            self.go_on(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.is_server_away = False
        self.struck()

    def cut_connections(self) -> None:
        """All of them, commands and subscriptions."""
        self.struck()
        for kind in ("normal", "pubsub"):
            with contextlib.suppress(redis.RedisError):
                self.redis.client_kill_filter(_type=kind, skipme=True)

    # --- Load -------------------------------------------------------------------------------------------------------

    def add_merchants(self, count: int, name: str = "m-{n}", **changes: object) -> list[SimulatedStore]:
        """Stores with a stranger's URL; every tenth does not offer one slot, so that its connection is degraded."""
        stores = []
        for number in range(1, count + 1):
            complete = number % 10 != 0
            store = self.simulator.add(
                name.replace("{n}", str(number)),
                offers=SLOTS if complete else SLOTS[:3],
                slots={SLOTS[0]: {"urls": [FOREIGN_URL]}},
            )
            store.change(**changes)
            self.expected[store.name] = "active" if complete else "degraded"
            stores.append(store)
        return stores

    def feed(
        self, stores: Sequence[SimulatedStore], *, within: float, door: Callable[[object], None] | None = None
    ) -> None:
        """Send their requests evenly from now on; by default through the inbox."""
        now = time.monotonic()
        for number, store in enumerate(stores):
            self._outbox.append((now + within * number / len(stores), store, door or self.post))

    def by_turns(self, request: object) -> None:
        """A door: the inbox, then the queue, and so on."""
        (self.send if len(self.sent_at) % 2 else self.post)(request)

    def send_later(self, what: str, asked: Mapping[str, object], *, door: str = "inbox", later: float = 0.0) -> None:
        """Send a request, named by its field in the inbox, as soon as the server takes it."""
        task = {"request": "occ.connect"}.get(what, f"occ.{what}")

        def send() -> object:
            if door == "celery":
                return self.producer.send_task(task, kwargs=dict(asked), queue="occ")
            return self.redis.xadd(STREAM, {what: json.dumps(asked)})

        heapq.heappush(self._requests, (time.monotonic() + later, next(self._numbers), send))

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._work()
            time.sleep(min(_STEP, left))

    def until(self, true: Callable[[], bool], within: float) -> float | None:
        """Let time pass until it is true; the seconds that took, or None."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < within:
            self._work()
            with contextlib.suppress(redis.RedisError):
                if true():
                    return passed
            time.sleep(_STEP)
        return None

    def catch_up(self) -> None:
        """Before the last fault: until all that was sent is done. Else a backlog decides when all is well again."""
        self._await_all(self.trial.size(60, 300))

    def struck(self) -> None:
        """A fault has just happened."""
        self.last_fault = time.monotonic()

    def calls(self) -> int:
        """How many calls all stores have received."""
        return sum(store.calls.endpoints.total() for store in self.simulator.stores.values())

    def _work(self) -> None:
        self._tend()
        if not self.is_server_away:
            with contextlib.suppress(redis.RedisError, OperationalError):  # the producer still has it
                self._serve_established()
        while self._outbox and not self.is_server_away and self._outbox[0][0] <= time.monotonic():
            _, store, door = self._outbox[0]
            try:
                door(self.request(store))
            except (redis.RedisError, OperationalError):  # the producer still has it
                return
            self._outbox.popleft()
            self.sent_at[store.name] = time.monotonic()

    def _serve_established(self) -> None:
        while self._requests and self._requests[0][0] <= time.monotonic():
            self._requests[0][2]()
            heapq.heappop(self._requests)
        self.established.go_on()

    # --- Counting ---------------------------------------------------------------------------------------------------

    def finish(
        self, report: Report, *, within: float | None = None, repeated_puts: float = 0, heals_within: float
    ) -> Report:
        """Wait until every run has ended, count, and hold the bounds that every scenario has."""
        self._await_all(within or self.trial.size(60, 300))  # in the long form, what is only late is not called lost
        healed = max(0.0, time.monotonic() - self.last_fault)
        snapshots = dict(zip(self.expected, self.records.load_many(list(self.expected)), strict=True))
        connections = {name: snapshot.connection for name, snapshot in snapshots.items()}
        terminal = {name: one for name, one in connections.items() if one is not None and ended(one, 1)}
        report.accepted = sum(one is not None for one in connections.values())
        report.terminal = len(terminal)
        unfinished = self.established.unfinished()
        report.lost = len(self.expected) - len(terminal) + len(unfinished)
        told = self._told()
        wrong = {name: str(one.status) for name, one in terminal.items() if not self._is_right(name, one)}
        wrong |= self.established.wrong(told)
        report.wrong = len(wrong)
        report.worker_exits = len(self.exits)
        report.seconds_to_heal = None if report.lost else round(healed, 1)
        stores = [self.simulator.store(name) for name in self.expected]
        report.repeated_puts = sum(map(_repeated_puts, stores)) + self.established.repeated_puts()
        stores += [store for life in self.established.lives.values() for store in life.stores]
        report.foreign_urls_lost = sum(len(store.losses.urls) for store in stores)
        known = list(self.established.lives)
        connections |= {name: one.connection for name, one in zip(known, self.records.load_many(known), strict=True)}
        disorder = [
            name
            for name, one in connections.items()
            if one is not None and not _in_order(told[name], one, corrected=self.loses_writes)
        ]
        twice = self._recorded_twice() if self.recorded_once else []
        report.own |= {"events_in_disorder": len(disorder), "outcomes_recorded_twice": len(twice), "exits": self.exits}
        names = {*wrong, *disorder, *twice, *unfinished, *(self.expected.keys() - terminal.keys())}
        report.own |= {"established": len(known), "which": sorted(names)[:8], "why": dict(list(wrong.items())[:8])}
        for what in ("wrong", "lost", "foreign_urls_lost", "worker_exits"):
            report.hold(what, getattr(report, what), 0)
        report.hold("repeated_puts", report.repeated_puts, repeated_puts)
        report.hold("seconds_to_heal", report.seconds_to_heal, heals_within)
        report.hold("events_in_disorder", len(disorder), 0)
        report.hold("outcomes_recorded_twice", len(twice), 0)
        return report

    def _await_all(self, within: float) -> None:
        self.until(lambda: not self._outbox, within)
        self.until(lambda: not self.unfinished() and not self._requests and not self.established.unfinished(), within)
        # Their last requests may still be on the way: a story that was begun again can have ended before it is heard.
        self.until(lambda: not self._has_requests_waiting() and self.established.are_still(), within)

    def _has_requests_waiting(self) -> bool:
        return bool(self.redis.xlen(STREAM) or self.redis.llen(REQUESTS))

    def unfinished(self) -> list[str]:
        """Merchants whose run has not ended. Whose has is not looked at again, unless the server forgets."""
        if self.loses_writes:
            self._done.clear()
        left = [name for name in self.expected if name not in self._done]
        for name, snapshot in zip(left, self.records.load_many(left), strict=True):
            if snapshot.connection is not None and ended(snapshot.connection, 1):
                self._done.add(name)
        return [name for name in left if name not in self._done]

    def _is_right(self, name: str, connection: Connection) -> bool:
        if connection.status != self.expected[name]:
            return False
        if self.expected[name] not in ("active", "degraded") or connection.trouble is not None:
            return True
        store = self.simulator.store(name)
        ours = {slot: f"https://hooks.example.com/occ/{name}/{slot}" for slot in store.settings.offers}
        return all(store.urls(slot).count(url) == 1 for slot, url in ours.items())

    def _told(self) -> dict[str, list[dict[str, object]]]:
        """Merchant id -> the events about it."""
        told: dict[str, list[dict[str, object]]] = defaultdict(list)
        after = ""
        while page := self.records.events(after=after, count=5000):
            after = page[-1][0]
            for _, event in page:
                told[str(event["subject"])].append(event)
        return told

    def _recorded_twice(self) -> list[str]:
        """Merchants of whom some outcome stands twice in the history of one pass."""
        return [name for name in self.merchant_ids if says_twice(self.records.timeline(name))]

    @property
    def merchant_ids(self) -> list[str]:
        """All whose records there may be."""
        return [*self.expected, *self.established.ids]


_BEGINNINGS = {
    "run_started",
    "reauthorisation_started",
    "disconnect_asked",
    "key_doubted",
    "new_key_doubted",
    "new_key_rejected",
}
_TRIED_AGAIN = {"waits", "slot_left_behind", "look_asked", "repair_asked", "former_store_left"}


def says_twice(timeline: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an outcome stands twice in one pass through the steps.

    A look begins with the exchange of the key, or without a line: what finds all in order tells nothing. Then it is one
    if its work was taken only after every slot had its outcome.
    """
    slots = {entry["slot"] for entry in timeline if entry.get("slot")}
    seen: dict[tuple[object, object], float] = {}
    runs: set[object] = set()
    for entry in timeline:
        what, slot = entry["what"], entry.get("slot")
        if what == "run_started":
            if entry["run"] in runs:
                return True
            runs.add(entry["run"])
        if what in _TRIED_AGAIN:
            continue
        if what in _BEGINNINGS or (what == "validate_key_done" and seen.keys() - {(what, None)}):
            seen.clear()
        over = slots <= {slot for _, slot in seen}
        if (what, slot) in seen and over and entry.get("started_at", 0.0) > max(seen.values()):
            seen.clear()
        if (what, slot) in seen:
            return True
        seen[what, slot] = entry.get("at", 0.0)
    return False


def _repeated_puts(store: SimulatedStore) -> int:
    """Writes into a slot beyond the first."""
    return sum(max(0, count - 1) for slot, count in store.calls.slots.items() if slot.startswith("write_slot:"))


def _in_order(events: Sequence[Mapping[str, object]], connection: Connection, *, corrected: bool = False) -> bool:
    """Whether they tell every change, each once. `corrected`: where events were lost, the status is told anew."""
    before: object = None
    sequence = ""
    for event in events:
        data = event["data"]
        assert isinstance(data, dict)
        if "previous_status" not in data:
            continue  # tells something else than a change of status
        is_correction = corrected and data["previous_status"] is None
        follows = data["previous_status"] == before and data["status"] != before
        if str(event["sequence"]) <= sequence or not (follows or is_correction):
            return False
        before, sequence = data["status"], str(event["sequence"])
    return before == connection.status

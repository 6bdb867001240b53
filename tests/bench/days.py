"""Days of many connections on a simulated clock: the real transitions and the real schedule, without server or stores.

What is simulated is what moves them: beats that tick, workers with threads, a queue, a due set, and stores that take
their time. Workers and beats come, go and die; ticks die between taking work and sending its messages. At every moment
all that may happen then does happen, in order of time; nothing depends on how fast this runs.
"""

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from integrations.connections import in_one_go
from integrations.connections.change import Change, Moment, Stop
from integrations.connections.commit import due_changes
from integrations.connections.lifecycle import claims, outcomes, requests
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Cause, Connection, Step, Target
from integrations.connections.schedule import Pace, spread_phase
from tasks.retry import RetryPolicy
from tests.bench.at_rest import SLOTS, outcome
from tests.bench.due_set import DueSet
from tests.usual import RETRY

# As in tasks/tick.py and celeryconfig.py.
WORK_PER_TICK = 1000  # and in the queue
WHILE_SENDING = 10.0
TICK_AT_MOST_EVERY = 0.5
EPOCH = 1_700_006_400.0  # a midnight


@dataclass(frozen=True, slots=True)
class Message:
    """A hint to look at a record."""

    merchant_id: str
    run: int
    target: Target


@dataclass(slots=True)
class Worker:
    """One worker process. `in_hand`: the messages its threads are busy with, by the owner of their claims."""

    threads: int
    stopping: bool = False
    in_hand: dict[str, Message] = field(default_factory=dict)

    @property
    def is_free(self) -> bool:
        """Whether it takes another message."""
        return not self.stopping and len(self.in_hand) < self.threads


@dataclass(slots=True)
class Beat:
    """Ticks once a second, at its own moment of the second."""

    offset: float
    silent_until: float = 0.0

    def next_tick(self, after: float) -> float:
        """Its first tick that is not before `after`."""
        earliest = max(after, self.silent_until)
        return earliest + (self.offset - earliest) % 1.0


@dataclass(slots=True)
class Days:
    """The world. `seconds_per_call` draws how long a store takes to answer."""

    pace: Pace
    dice: random.Random
    seconds_per_call: Callable[[random.Random], float]
    beats: list[Beat] = field(default_factory=lambda: [Beat(0.2), Beat(0.25)])
    ticks_that_die: float = 0.01
    now: float = EPOCH
    connections: dict[str, Connection] = field(default_factory=dict)
    looks: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # when each began
    calls: list[float] = field(default_factory=list)  # when each was made
    counts: Counter[str] = field(default_factory=Counter)
    unreachable: dict[str, tuple[float, float]] = field(default_factory=dict)  # stores, from when until when
    workers: dict[str, Worker] = field(default_factory=dict)
    _due: DueSet = field(default_factory=DueSet)
    _queue: deque[Message] = field(default_factory=deque)
    _events: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**12)))
    _last_tick: float = 0.0
    _retry: RetryPolicy = RETRY

    # --- What happens to the world ----------------------------------------------------------------------------------

    def at(self, moment: float, happens: Callable[[], object]) -> None:
        """Have something happen at a time."""
        heapq.heappush(self._events, (moment, next(self._numbers), happens))

    def until(self, end: float) -> None:
        """Let time pass."""
        while True:
            tick = self._next_tick()
            event = self._events[0][0] if self._events else float("inf")
            self.now = max(self.now, min(tick, event, end))
            if min(tick, event) > end:
                return
            if tick < event:
                self._tick()
            else:
                heapq.heappop(self._events)[2]()
            self._dispatch()

    def sign_up(self, merchant_id: str, *, expires_at: float | None = None) -> None:
        """A connect request is accepted, as `acceptance.py` does it."""
        phase = spread_phase(len(self.connections))
        store = f"https://ccadmin-{merchant_id}.oracleoutsourcing.com"
        desired = Desired(merchant_id, store, "sealed", "fingerprint", expires_at, dict.fromkeys(SLOTS, True), phase)
        change = requests.begin(None, desired, Moment(self.now, self.pace))
        assert isinstance(change, Change)
        self._commit(None, change)
        self._send(change.connection, change.connection.ready(self.now))

    def start_worker(self, name: str, threads: int = 64) -> None:
        """One more worker."""
        self.workers[name] = Worker(threads)

    def stop_worker(self, name: str) -> None:
        """It finishes what it has in hand."""
        self.workers.pop(name).stopping = True

    def kill_worker(self, name: str) -> None:
        """What it has in hand is lost; the broker delivers the messages again after a while."""
        worker = self.workers.pop(name)
        worker.stopping = True
        lost, worker.in_hand = worker.in_hand, {}
        for message in lost.values():
            self.at(self.now + 1.5 * self.pace.lease + 5, lambda message=message: self._queue.append(message))  # type: ignore[misc]

    # --- Tick -------------------------------------------------------------------------------------------------------

    def _next_tick(self) -> float:
        """The next that finds something: those before it change nothing."""
        due = self._due.first()
        if due is None or not self.workers:
            return float("inf")
        after = max(due, self.now, self._last_tick + TICK_AT_MOST_EVERY)
        return min(beat.next_tick(after) for beat in self.beats)

    def _tick(self) -> None:
        self._last_tick = self.now
        self.counts["ticks"] += 1
        room = max(0, WORK_PER_TICK - len(self._queue))
        until, members = self._due.take_due(self.now, room, min(WHILE_SENDING, self.pace.lease))
        taken = [(member, self.connections[member.partition("|")[0]]) for member in members]
        if self.dice.random() < self.ticks_that_die:
            self.counts["ticks that died"] += 1
            return
        self.at(self.now + self.dice.uniform(0.005, 0.3), lambda: self._sent(until, taken))

    def _sent(self, until: float, taken: list[tuple[str, Connection]]) -> None:
        for member, connection in taken:
            slot = member.partition("|")[2] or None
            if slot in connection.due():
                self._send(connection, [Target(connection.step, slot)])
            elif slot not in self.connections[connection.merchant_id].due():
                self._due.settle(member)
        self._due.put_off(until, [member for member, _ in taken], self.now, self.pace.lease)

    # --- Workers ----------------------------------------------------------------------------------------------------

    def _send(self, connection: Connection, targets: Iterable[Target]) -> None:
        for target in sorted(targets, key=str):
            self.counts["messages"] += 1
            self.counts["messages of re-validations"] += connection.is_onboarded
            self._queue.append(Message(connection.merchant_id, connection.run, target))

    def _dispatch(self) -> None:
        while self._queue and (free := [worker for worker in self.workers.values() if worker.is_free]):
            self._begin(self.dice.choice(free), self._queue.popleft())

    def _begin(self, worker: Worker, message: Message) -> None:
        before, owner = self.connections[message.merchant_id], str(next(self._numbers))
        at = Moment(self.now, self.pace)
        work = before.work_on(message.target)
        alone = work is not None and work.is_suspect
        claimed = claims.claim(before, message.run, message.target, owner, at, alone=alone)
        if isinstance(claimed, Stop):
            self.counts[f"messages: {claimed.reason}"] += 1
            return
        self._commit(before, claimed)
        after = claimed.connection
        if not claims.is_mine(after, message.run, message.target, owner):
            return
        self.calls.append(self.now)
        work = after.work_on(message.target)
        if message.target.step is Step.VALIDATE_KEY and work is not None and work.attempts == 1:
            self.looks[message.merchant_id].append(self.now)
        worker.in_hand[owner] = message
        self.at(self.now + self.seconds_per_call(self.dice), lambda: self._finish(worker, owner, before))

    def _finish(self, worker: Worker, owner: str, claimed_from: Connection) -> None:
        message = worker.in_hand.pop(owner, None)
        if message is None:
            return  # the worker was killed
        before = self.connections[message.merchant_id]
        if not claims.is_mine(before, message.run, message.target, owner):
            self.counts["outcomes dropped"] += 1
            return
        change = self._outcome(before, message.target)
        if in_one_go.may_take_all(before, message.target):
            change = self._in_one_go(change, owner)
        self._commit(before, change)
        ready = change.connection.ready(self.now) - claimed_from.ready(self.now)
        self._send(change.connection, ready)

    def _in_one_go(self, change: Change, owner: str) -> Change:
        at = Moment(self.now, self.pace)
        while (following := in_one_go.next_step(change.connection, set(), self.now)) is not None:
            self.calls.append(self.now)
            change = self._outcome(in_one_go.taken(change.connection, following, owner, self.now, at), following)
        return change

    def _outcome(self, connection: Connection, target: Target) -> Change:
        at = Moment(self.now, self.pace)
        since, to = self.unreachable.get(connection.merchant_id, (0.0, 0.0))
        if since <= self.now < to:
            work = connection.work_on(target)
            delay = self._retry.delay(work.attempts if work else 1, rng=self.dice)
            return outcomes.record(connection, target, Failed(Cause("store_unreachable"), delay), at)
        slot = connection.slots[target.slot] if target.slot else None
        return outcome(connection, target, at, wrote=slot is not None and slot.in_order_at is None)

    def _commit(self, before: Connection | None, change: Change) -> None:
        self._due.commit(due_changes(before, change.connection))
        self.connections[change.connection.merchant_id] = change.connection

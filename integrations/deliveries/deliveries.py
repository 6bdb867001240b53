"""Events on their way to the receiver: a lane for each merchant, in which one event waits until the former has arrived.

A part of `records.py`, in a file of its own. The stream of events stays the truth: a consumer group of ours holds how
far it was dealt out to the lanes, and no commit knows of any of this. A lane with events is a member of the due set, so
that ticks hand it out, put it off and find it again like any other work. Whoever delivers holds the lane for a lease,
and counts only as long as nobody else took it.

Trouble is of two kinds. What is not about one event pauses everything: nothing more comes into lanes, and one of them
finds out whether it is over. An event that is refused holds back its own lane, until it is set aside.

    occ:receiver             hash    waiting (events in lanes), held_back (those of them in lanes that wait for an event
                                     of their own); while it fails: failures, failing_since, paused_until, reason, probe
                                     (the lane that finds out), probe_until; refused_in_a_row
    occ:deliveries:<lane>    list    events that were not delivered yet, oldest first
    occ:delivering           zset    lanes that somebody delivers, by the end of the lease
    occ:delivering:<lane>    hash    owner; of an event that was refused: since, refusals, not_before
    occ:undelivered          stream  events that were set aside, bounded
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from integrations.connections.records import DUE, EVENTS
from integrations.deliveries import delivery_scripts as scripts

RECEIVER = "occ:receiver"
UNDELIVERED = "occ:undelivered"
GROUP = "deliveries"
"""Ours among the readers of the stream."""
OPERATORS = ":operators"
"""The lane of what is told to operators; no merchant id holds a colon."""
WORK = ">events"
"""Stands in the due set where the slot would; no slot is called so."""

_IN_DUE_SET = f"|{WORK}"
_BUSY = "occ:delivering"
_UNDELIVERED_KEPT = 10_000
_LONGEST_ASKED = 3600.0  # seconds. A receiver that asks for a longer pause is asked again after an hour.
_AGAIN = 5.0  # seconds until lanes are looked at again while one finds out, or all hands are full


@dataclass(frozen=True, slots=True)
class Rules:
    """How deliveries are paced; durations in seconds."""

    lease: float = 60.0
    first_wait: float = 2.0
    longest_pause: float = 300.0
    longest_wait: float = 3600.0
    """Of one event that is refused."""
    patience: float = 3 * 86400.0
    """How long such an event is tried."""
    at_once: int = 16
    """Deliveries under way: a receiver that hangs must not take all threads from the stores."""
    waiting: int = 1000
    """In lanes; the others wait in the stream."""
    lanes_a_tick: int = 200
    refused_in_a_row: int = 10
    """As many events of different merchants, and none taken in between: it is not about them."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What came from the stream into lanes. `missed`: trimmed away before that; `began_after`: set the first time."""

    events: int = 0
    set_aside: int = 0
    missed: int = 0
    began_after: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A lane that is ours: the event to be delivered, and the time by the server's clock.

    Without one, `why` says why there is nothing to do: `taken`, `empty`, `waits`, `paused`, `busy`; `overtaken` after a
    delivery that took longer than the lease; `done`; `failed`, and it is tried again `at`; `refused`, likewise.
    """

    lane: str
    owner: str
    event: str = ""
    now: float = 0.0
    why: str = ""
    at: float = 0.0
    failures: int = 0
    """How often the receiver failed in a row: 1 in the first of those who notice, 0 in the others."""
    refusals: int = 0
    """How often the event was refused."""
    set_aside: bool = False
    recovered_after: float | None = None
    """Seconds for which the receiver had been failing until this."""
    seen: str = "0"
    """How often the receiver had failed in a row when the event was taken: others may have told of it since."""

    @property
    def event_id(self) -> str:
        """Of the CloudEvent."""
        return str(json.loads(self.event)["id"])


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """How deliveries stand; times are the server's, in epoch seconds."""

    waiting: int
    failing_since: float | None
    reason: str
    undelivered: int
    now: float

    @property
    def failing_seconds(self) -> float:
        """How long the receiver has been failing; 0 if it has not."""
        return max(0.0, self.now - self.failing_since) if self.failing_since is not None else 0.0


class Deliveries:
    """The lanes. Safe to share between threads and processes.

    `clock` is the server's unless told otherwise; `dice` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        client: redis.Redis,
        rules: Rules,
        *,
        clock: Callable[[], float] = lambda: 0.0,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._redis, self._rules, self._clock, self._dice = client, rules, clock, dice
        self._move = client.register_script(scripts.MOVE)
        self._start = client.register_script(scripts.START)
        self._take = client.register_script(scripts.TAKE)
        self._delivered = client.register_script(scripts.DELIVERED)
        self._failed = client.register_script(scripts.FAILED)
        self._refused = client.register_script(scripts.REFUSED)

    # --- What ticks do ----------------------------------------------------------------------------------------------

    def move(self, at_most: int = 1000) -> Moved:
        """Deal out to the lanes what is new in the stream: what there is room for, nothing while the receiver fails.

        The very first time only notes where the stream ends: deliveries begin with what comes after.
        """
        keys = [RECEIVER, EVENTS, DUE, UNDELIVERED]
        args: list[Any] = [
            self._clock(),
            GROUP,
            at_most,
            self._rules.waiting,
            _UNDELIVERED_KEPT,
            OPERATORS,
            _IN_DUE_SET,
        ]
        answer: Any = self._move(keys=keys, args=args)
        return Moved(*answer)

    def startable(self, lanes: Sequence[str]) -> list[str]:
        """Those of these due lanes that should be delivered now; the others are put off."""
        rules = self._rules
        args: list[Any] = [self._clock(), _IN_DUE_SET, rules.at_once, rules.lanes_a_tick, rules.lease, _AGAIN, *lanes]
        started: Any = self._start(keys=[RECEIVER, _BUSY, DUE], args=args)
        return list(started)

    def shelve(self, lanes: Sequence[str], seconds: float = 3600.0) -> None:
        """There is no receiver now; what waits for one is kept, and looked at again."""
        self._redis.hdel(RECEIVER, "failures", "failing_since", "paused_until", "reason", "probe", "probe_until")
        args: list[Any] = [self._clock(), _IN_DUE_SET, 0, 0, 0, seconds, *lanes]
        self._start(keys=[RECEIVER, _BUSY, DUE], args=args)

    # --- What a worker does -----------------------------------------------------------------------------------------

    def take(self, lane: str, owner: str) -> Turn:
        """Take a lane for a lease, and with it its oldest event."""
        answer: Any = self._take(keys=_keys(lane), args=[*self._about(lane, owner), self._rules.at_once])
        why, now, event, failures = answer
        return Turn(lane, owner, event, float(now), why, seen=failures)

    def delivered(self, turn: Turn, *, go_on: bool) -> Turn:
        """The event has arrived: it leaves the lane, and the next one has its turn if we `go_on`."""
        args = [*self._about(turn.lane, turn.owner), "1" if go_on else ""]
        answer: Any = self._delivered(keys=_keys(turn.lane), args=args)
        counts, now, event, failing_since = answer
        why = "" if event else "done" if counts else "overtaken"
        recovered_after = float(now) - float(failing_since) if failing_since else None
        return Turn(turn.lane, turn.owner, event, float(now), why, recovered_after=recovered_after)

    def failed(self, turn: Turn, reason: str, retry_after: float | None) -> Turn:
        """It did not arrive, for a reason that is not about this event: all deliveries pause."""
        args = [*self._about(turn.lane, turn.owner), *self._trouble(turn, reason, retry_after)]
        answer: Any = self._failed(keys=_keys(turn.lane), args=args)
        counts, failures, at = answer
        why = "failed" if counts else "overtaken"
        return Turn(turn.lane, turn.owner, why=why, at=float(at), failures=failures)

    def refused(self, turn: Turn, reason: str, retry_after: float | None, *, go_on: bool) -> Turn:
        """The receiver turned this event down: it is tried again, at last set aside, and only its own lane waits."""
        rules = self._rules
        args = [
            *self._about(turn.lane, turn.owner),
            *self._trouble(turn, reason, retry_after),
            *(rules.patience, _UNDELIVERED_KEPT, rules.refused_in_a_row, "1" if go_on else "", rules.longest_wait),
        ]
        answer: Any = self._refused(keys=_keys(turn.lane), args=args)
        counts, refusals, at, now, event, failures, failing_since = answer
        return Turn(
            turn.lane,
            turn.owner,
            event,
            float(now),
            why="" if event else "refused" if counts else "overtaken",
            at=float(at),
            failures=failures,
            refusals=refusals,
            set_aside=bool(counts) and not refusals,
            recovered_after=float(now) - float(failing_since) if failing_since else None,
        )

    def _about(self, lane: str, owner: str) -> list[Any]:
        return [self._clock(), lane, _IN_DUE_SET, owner, self._rules.lease]

    def _trouble(self, turn: Turn, reason: str, retry_after: float | None) -> list[Any]:
        asked = min(max(retry_after or 0.0, 0.0), _LONGEST_ASKED)
        rules = self._rules
        return [turn.seen, reason, rules.first_wait, rules.longest_pause, asked, self._dice()]


def receiver_state(client: redis.Redis) -> ReceiverState:
    """How deliveries stand; only reads. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hgetall(RECEIVER)
        pipe.xlen(UNDELIVERED)
        (seconds, microseconds), known, undelivered = pipe.execute()
    since = known.get("failing_since")
    return ReceiverState(
        waiting=int(known.get("waiting", 0)),
        failing_since=float(since) if since else None,
        reason=known.get("reason", ""),
        undelivered=undelivered,
        now=seconds + microseconds / 1e6,
    )


def undelivered(client: redis.Redis, *, count: int = 100) -> list[tuple[float, dict[str, str]]]:
    """The latest events that were set aside, newest first: when, and `event`, `reason` and `lane`."""
    entries: Any = client.xrevrange(UNDELIVERED, count=count)
    return [(int(entry_id.partition("-")[0]) / 1000, fields) for entry_id, fields in entries]


def _keys(lane: str) -> list[str]:
    return [RECEIVER, _BUSY, DUE, f"occ:deliveries:{lane}", f"occ:delivering:{lane}", UNDELIVERED]

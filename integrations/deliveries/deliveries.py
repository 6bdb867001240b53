"""Events on their way to the receiver: an outbox for each merchant, in which an event waits until the former arrived.

The stream of events stays the truth: a consumer group of ours holds how far events were moved into outboxes, and no
commit knows of any of this. An outbox with events is a member of the due set, so ticks dispatch it, put it off and find
it again like any other work. Whoever delivers holds the outbox for a lease, and counts only while nobody else took it.

What a delivery changes is decided in `outbox.py` from what was read here; `write.lua` writes it if that still stands.

    occ:receiver               hash    waiting (events in outboxes), held_back (those that wait behind a refused event);
                                       refused_in_a_row; while it fails: failures, failing_since, paused_until, reason,
                                       probe (the outbox that finds out), probe_until
    occ:deliveries:<merchant>  list    events that were not delivered yet, oldest first
    occ:delivering             zset    outboxes that somebody delivers, by the end of the lease
    occ:delivering:<merchant>  hash    owner; of an event that was refused: since, refusals, not_before
    occ:undelivered            stream  events that were set aside, bounded
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from integrations.clock import CLOCK, ours_at
from integrations.connections.records import DUE, EVENTS
from integrations.deliveries import outbox as decide
from integrations.deliveries.outbox import Claim, Decision, DeliveryPace, Failing, Failure, Outbox, Refusal
from integrations.lua import lua_beside

RECEIVER = "occ:receiver"
UNDELIVERED = "occ:undelivered"
GROUP = "deliveries"
"""Ours among the readers of the stream."""
OPERATORS = ":operators"
"""The outbox of events for operators; no merchant id holds a colon."""
REFUSED_REQUESTS = ":requests"
"""The outbox of events about requests that were refused: they wait for nobody's, and nobody's for them."""
WORK = ">events"
"""Stands in the due set where the slot would; no slot is called so."""

_IN_DUE_SET = f"|{WORK}"
_BUSY = "occ:delivering"
_UNDELIVERED_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Moved:
    """What came from the stream into outboxes. `missed`: trimmed away before; `began_after`: set the first time."""

    events: int = 0
    set_aside: int = 0
    missed: int = 0
    began_after: str = ""


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """How deliveries stand; times are those of `integrations/clock.py`, in epoch seconds."""

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
    """The outboxes. Safe to share between threads and processes.

    `clock` is the server's unless another is given; `dice` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        client: redis.Redis,
        pace: DeliveryPace,
        *,
        clock: Callable[[], float] = lambda: 0.0,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._redis, self._pace, self._clock, self._dice = client, pace, clock, dice
        self._move = client.register_script(lua_beside(__file__, "move"))
        self._write_script = client.register_script(lua_beside(__file__, "write"))

    # --- What ticks do ----------------------------------------------------------------------------------------------

    def move(self, at_most: int = 1000) -> Moved:
        """Move new events into their outboxes: what there is room for, and nothing while the receiver fails.

        The very first time only notes where the stream ends: deliveries begin with what comes after.
        """
        keys = [RECEIVER, EVENTS, DUE, UNDELIVERED]
        args: list[Any] = [
            *(
                self._clock(),
                GROUP,
                at_most,
                self._pace.waiting,
                _UNDELIVERED_KEPT,
                OPERATORS,
                _IN_DUE_SET,
                REFUSED_REQUESTS,
            )
        ]
        answer: Any = self._move(keys=keys, args=args)
        return Moved(*answer)

    def startable(self, due: Sequence[str]) -> list[str]:
        """Those of these due outboxes that should be delivered now; the others are put off."""
        while True:  # until nobody else wrote in between
            known, receiver = self._read("")
            start = decide.start(due, known.failing, known.busy, known.now, self._pace)
            others = due[len(start.outboxes) :]
            after = _receiver_fields(start.failing, known.refused_in_a_row)
            write = {
                "expect": {"receiver": receiver},
                "receiver": _changed(receiver, after),
                "put_off": {f"{outbox}{_IN_DUE_SET}": _text(start.others_at) for outbox in others},
            }
            if self._write("", write):
                return list(start.outboxes)

    def shelve(self, outboxes: Sequence[str], seconds: float = 3600.0) -> None:
        """There is no receiver: what waits for one is kept, and due again in an hour."""
        known, receiver = self._read("")
        put_off = {f"{outbox}{_IN_DUE_SET}": _text(known.now + seconds) for outbox in outboxes}
        forgotten = _changed(receiver, _receiver_fields(None, known.refused_in_a_row))
        self._write("", {"expect": {}, "receiver": forgotten, "put_off": put_off})

    # --- What a worker does -----------------------------------------------------------------------------------------

    def take(self, merchant_id: str, owner: str) -> Claim:
        """Claim an outbox, and with it its oldest event, for a lease."""
        return self._decide(merchant_id, lambda outbox: decide.take(outbox, owner, self._pace))

    def delivered(self, claim: Claim, *, go_on: bool) -> Claim:
        """The event arrived; the claim goes on to the next one if we `go_on` and there is one."""
        return self._decide(claim.merchant_id, lambda outbox: decide.delivered(outbox, claim, self._pace, go_on=go_on))

    def failed(self, claim: Claim, reason: str, retry_after: float | None) -> Claim:
        """It did not arrive, for a reason that is not about this event: all deliveries pause."""
        failure = Failure(reason, retry_after, self._dice())
        return self._decide(claim.merchant_id, lambda outbox: decide.failed(outbox, claim, failure, self._pace))

    def refused(self, claim: Claim, reason: str, retry_after: float | None, *, go_on: bool) -> Claim:
        """The receiver refused this event: it is tried again, at last set aside, and only its own outbox waits."""
        failure = Failure(reason, retry_after, self._dice())
        return self._decide(
            claim.merchant_id, lambda outbox: decide.refused(outbox, claim, failure, self._pace, go_on=go_on)
        )

    # --- Reading and writing ----------------------------------------------------------------------------------------

    def _decide(self, merchant_id: str, decision_on: Callable[[Outbox], Decision | Claim]) -> Claim:
        while True:  # until nobody else wrote in between
            outbox, receiver = self._read(merchant_id)
            decision = decision_on(outbox)
            if isinstance(decision, Claim):
                return decision
            if self._write(merchant_id, _document(outbox, receiver, decision, self._pace)):
                return decision.claim

    def _read(self, merchant_id: str) -> tuple[Outbox, dict[str, str]]:
        """An outbox, and the receiver's fields as they stand there."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hgetall(RECEIVER)
            pipe.hgetall(f"occ:delivering:{merchant_id}")
            pipe.lrange(f"occ:deliveries:{merchant_id}", 0, 1)
            pipe.llen(f"occ:deliveries:{merchant_id}")
            pipe.zrange(_BUSY, 0, -1, withscores=True)
            (seconds, microseconds), receiver, delivery, events, length, busy = pipe.execute()
        now = self._clock() or seconds + microseconds / 1e6
        held = dict(busy)
        outbox = Outbox(
            merchant_id,
            now,
            events=length,
            event=events[0] if events else "",
            following=events[1] if len(events) > 1 else "",
            owner=delivery.get("owner", ""),
            held_until=held.get(merchant_id, 0.0),
            refusal=_refusal_in(delivery),
            failing=_failing_in(receiver),
            refused_in_a_row=int(receiver.get("refused_in_a_row", 0)),
            busy=sum(until > now for until in held.values()),
        )
        return outbox, {field: receiver.get(field, "") for field in _RECEIVER_FIELDS}

    def _write(self, merchant_id: str, document: Mapping[str, object]) -> bool:
        keys = [RECEIVER, _BUSY, DUE]
        keys += [f"occ:deliveries:{merchant_id}", f"occ:delivering:{merchant_id}", UNDELIVERED]
        return bool(self._write_script(keys=keys, args=[json.dumps(document)]))


def _document(before: Outbox, receiver: Mapping[str, str], decision: Decision, pace: DeliveryPace) -> dict[str, object]:
    """What `write.lua` takes."""
    after, member = decision.outbox, f"{before.merchant_id}{_IN_DUE_SET}"
    delivery = _delivery_fields(before)
    held_back = (after.events if after.refusal else 0) - (before.events if before.refusal else 0)
    add = {"waiting": -1 if decision.removes else 0, "held_back": held_back}
    document: dict[str, object] = {
        "expect": {"receiver": receiver, "delivery": delivery, "events": before.events},
        "receiver": _changed(receiver, _receiver_fields(after.failing, after.refused_in_a_row)),
        "delivery": _changed(delivery, _delivery_fields(after)),
        "due": {member: _text(decision.due_at)},
        "removes": decision.removes,
        "add": {field: number for field, number in add.items() if number},
    }
    if (after.owner, after.held_until) != (before.owner, before.held_until):
        document["busy"] = {before.merchant_id: _text(after.held_until or None)}
    if after.owner and after.owner != before.owner:
        document |= {"busy_below": pace.at_once, "now": _text(before.now)}
    if decision.set_aside:
        document["set_aside"] = {"reason": decision.set_aside, "lane": before.merchant_id, "kept": _UNDELIVERED_KEPT}
    return document


_RECEIVER_FIELDS = ("failures", "failing_since", "paused_until", "reason", "probe", "probe_until", "refused_in_a_row")


def _failing_in(fields: Mapping[str, str]) -> Failing | None:
    if "failures" not in fields:
        return None
    return Failing(
        times=int(fields["failures"]),
        since=float(fields["failing_since"]),
        paused_until=float(fields["paused_until"]),
        reason=fields.get("reason", ""),
        probe=fields.get("probe", ""),
        probe_until=float(fields.get("probe_until", 0.0)),
    )


def _receiver_fields(failing: Failing | None, refused_in_a_row: int) -> dict[str, str]:
    fields = dict.fromkeys(_RECEIVER_FIELDS, "")
    fields["refused_in_a_row"] = str(refused_in_a_row or "")
    if failing:
        fields |= {
            "failures": str(failing.times),
            "failing_since": _text(failing.since),
            "paused_until": _text(failing.paused_until),
            "reason": failing.reason,
            "probe": failing.probe,
            "probe_until": _text(failing.probe_until or None),
        }
    return fields


def _refusal_in(fields: Mapping[str, str]) -> Refusal | None:
    if "since" not in fields:
        return None
    return Refusal(float(fields["since"]), int(fields["refusals"]), float(fields["not_before"]))


def _delivery_fields(outbox: Outbox) -> dict[str, str]:
    refusal = outbox.refusal
    return {
        "owner": outbox.owner,
        "since": _text(refusal.since) if refusal else "",
        "refusals": str(refusal.times) if refusal else "",
        "not_before": _text(refusal.not_before) if refusal else "",
    }


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    return {field: value for field, value in after.items() if value != before[field]}


def _text(time: float | None) -> str:
    """With microseconds; Lua would write a number without them. "" for none."""
    return "" if time is None else f"{time:.6f}"


def receiver_state(client: redis.Redis) -> ReceiverState:
    """How deliveries stand; only reads. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.get(CLOCK)
        pipe.hgetall(RECEIVER)
        pipe.xlen(UNDELIVERED)
        (seconds, microseconds), clock, known, undelivered = pipe.execute()
    since = known.get("failing_since")
    return ReceiverState(
        waiting=int(known.get("waiting", 0)),
        failing_since=float(since) if since else None,
        reason=known.get("reason", ""),
        undelivered=undelivered,
        now=ours_at(seconds + microseconds / 1e6, clock),
    )


def undelivered(client: redis.Redis, *, count: int = 100) -> list[tuple[float, dict[str, str]]]:
    """The latest events that were set aside, newest first: when, and `event`, `reason` and `lane` (the outbox)."""
    entries: Any = client.xrevrange(UNDELIVERED, count=count)
    return [(int(entry_id.partition("-")[0]) / 1000, fields) for entry_id, fields in entries]

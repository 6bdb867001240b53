"""What becomes of an outbox and of the receiver with each delivery: pauses, backoff, giving up. Pure.

A delivery can fail in two ways. If the failure is not about the event, the receiver is failing: all deliveries pause,
and one outbox probes whether the receiver is back. If the receiver refuses the event, only its own outbox waits, until
the event is taken or set aside. Many refusals in a row, of different events, count as a failing receiver.

Times are those of the pipeline's clock, in epoch seconds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

_LONGEST_ASKED = 3600.0  # seconds. A receiver that asks for a longer pause is asked again after an hour.
_ASK_AGAIN = 5.0  # seconds until outboxes are due again while one probes, or enough are being delivered
_BUSY_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class DeliveryPace:
    """How deliveries are paced; durations in seconds."""

    lease: float
    first_wait: float
    patience: float
    """How long an event that is refused is tried again before it is set aside."""
    longest_pause: float = 300.0
    """Of all deliveries, while the receiver fails."""
    longest_wait: float = 3600.0
    """Of one event that is refused."""
    at_once: int = 16
    """Outboxes being delivered: a receiver that hangs must not take all threads from the stores."""
    waiting: int = 1000
    """Events in outboxes; the others wait in the stream."""
    outboxes_a_tick: int = 200
    refused_in_a_row: int = 10
    """So many events refused, of different merchants, and none taken in between: then it is not about them."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A failing receiver. `probe`: the merchant whose outbox finds out, until `probe_until`, whether it is back."""

    times: int
    since: float
    paused_until: float
    reason: str
    probe: str = ""
    probe_until: float = 0.0

    def blocks(self, merchant_id: str, now: float) -> float | None:
        """Until when nothing of this merchant may be delivered; None if it may probe."""
        if self.paused_until > now:
            return self.paused_until
        return self.probe_until if self.probe_until > now and self.probe != merchant_id else None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The receiver refused the oldest event of an outbox, `times` times since then."""

    since: float
    times: int
    not_before: float


@dataclass(frozen=True, slots=True)
class Outbox:
    """One merchant's events on their way, and what is known of the receiver."""

    merchant_id: str
    now: float
    events: int = 0
    event: str = ""
    """The oldest, as JSON."""
    following: str = ""
    """The one after it."""
    owner: str = ""
    held_until: float = 0.0
    """The end of the owner's lease."""
    refusal: Refusal | None = None
    failing: Failing | None = None
    refused_in_a_row: int = 0
    busy: int = 0
    """How many outboxes are being delivered."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An outbox that is ours to deliver from: its oldest event, and the time when it was claimed.

    Without an event, `why` says why there is nothing to do: `taken`, `empty`, `waits`, `paused`, `busy`; `overtaken`
    after a delivery that took longer than the lease; `done`; `failed` or `refused`, to be tried again `at`.
    """

    merchant_id: str
    owner: str
    event: str = ""
    now: float = 0.0
    why: str = ""
    at: float = 0.0
    failures: int = 0
    """How often the receiver has failed in a row: 1 for the first who notices, 0 if others noticed before."""
    refusals: int = 0
    """How often the event was refused."""
    set_aside: bool = False
    recovered_after: float | None = None
    """Seconds for which the receiver had been failing until this delivery."""
    failures_before: int = 0
    """How often it had failed when the event was taken."""

    @property
    def event_id(self) -> str:
        """Of the CloudEvent."""
        return str(json.loads(self.event)["id"])


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write: the outbox as it is to be, and when it is due (None: nothing waits in it)."""

    outbox: Outbox
    claim: Claim
    due_at: float | None
    removes: bool = False
    """The oldest event leaves the outbox."""
    set_aside: str = ""
    """Why the event that leaves is to be kept for the operator."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delivery failed, in a few words."""

    reason: str
    retry_after: float | None
    """Seconds the receiver asked us to wait."""
    dice: float
    """A random number from 0 to 1."""

    def wait(self, first: float, longest: float, failures: int) -> float:
        """Doubles with each failure, and half of it is at random; never shorter than the receiver asked for."""
        backoff = min(longest, first * 2.0 ** min(failures, 60)) * (0.5 + self.dice / 2)
        return max(backoff, min(self.retry_after or 0.0, _LONGEST_ASKED))


def take(outbox: Outbox, owner: str, pace: DeliveryPace) -> Decision | Claim:
    """Claim an outbox for a lease, if there is something to deliver and it may be delivered now."""
    now, claim = outbox.now, Claim(outbox.merchant_id, owner, now=outbox.now)
    if outbox.held_until > now:
        return replace(claim, why="taken")
    if not outbox.event:
        return Decision(replace(outbox, owner="", held_until=0.0, refusal=None), replace(claim, why="empty"), None)
    if outbox.refusal and outbox.refusal.not_before > now:
        return Decision(outbox, replace(claim, why="waits"), outbox.refusal.not_before)
    failing = outbox.failing
    blocked_until = failing.blocks(outbox.merchant_id, now) if failing else None
    if blocked_until is not None:
        return Decision(outbox, replace(claim, why="paused"), blocked_until)
    if outbox.busy >= pace.at_once:
        return Decision(outbox, replace(claim, why="busy"), now + _BUSY_AGAIN)
    if failing:
        failing = replace(failing, probe=outbox.merchant_id, probe_until=now + pace.lease)
    held = _held(replace(outbox, owner=owner, failing=failing), pace)
    return Decision(
        held, replace(claim, event=outbox.event, failures_before=failing.times if failing else 0), held.held_until
    )


def delivered(outbox: Outbox, claim: Claim, pace: DeliveryPace, *, go_on: bool) -> Decision | Claim:
    """The event arrived: it leaves the outbox, and the next one is claimed if we `go_on`."""
    if outbox.owner != claim.owner:
        return _summary(outbox, claim, "overtaken")
    recovered_after = outbox.now - outbox.failing.since if outbox.failing else None
    done = replace(_summary(outbox, claim, "done"), recovered_after=recovered_after)
    return _without_oldest(replace(outbox, failing=None, refused_in_a_row=0), done, pace, go_on=go_on)


def failed(outbox: Outbox, claim: Claim, failure: Failure, pace: DeliveryPace) -> Decision | Claim:
    """The event did not arrive, and not because of what it says: all deliveries pause."""
    if outbox.owner != claim.owner:
        return _summary(outbox, claim, "overtaken")
    paused, failures = _with_failure(outbox, claim, failure, pace)
    at = paused.failing.paused_until if paused.failing else outbox.now + pace.first_wait
    return Decision(_released(paused), replace(_summary(outbox, claim, "failed"), at=at, failures=failures), at)


def refused(outbox: Outbox, claim: Claim, failure: Failure, pace: DeliveryPace, *, go_on: bool) -> Decision | Claim:
    """The receiver refused this event: it is tried again and set aside in the end, while its outbox waits."""
    if outbox.owner != claim.owner:
        return _summary(outbox, claim, "overtaken")
    now, former = outbox.now, outbox.refusal
    in_a_row = outbox.refused_in_a_row + (former is None)
    outbox = replace(outbox, refused_in_a_row=in_a_row)
    failures, recovered_after = 0, None
    if in_a_row >= pace.refused_in_a_row:
        outbox, failures = _with_failure(outbox, claim, failure, pace)
    elif outbox.failing:  # it answers again
        recovered_after = now - outbox.failing.since
        outbox = replace(outbox, failing=None)
    summary = replace(_summary(outbox, claim, "refused"), failures=failures, recovered_after=recovered_after)
    since, times = (former.since, former.times + 1) if former else (now, 1)
    if now - since >= pace.patience:
        summary = replace(summary, set_aside=True, at=now)
        return replace(_without_oldest(outbox, summary, pace, go_on=go_on and not failures), set_aside=failure.reason)
    at = now + failure.wait(pace.first_wait, pace.longest_wait, times - 1)
    outbox = replace(outbox, refusal=Refusal(since, times, at))
    return Decision(_released(outbox), replace(summary, refusals=times, at=at), at)


@dataclass(frozen=True, slots=True)
class Start:
    """Which of the due outboxes are delivered now, and when the others are due again."""

    outboxes: Sequence[str]
    others_at: float
    failing: Failing | None


def start(due: Sequence[str], failing: Failing | None, busy: int, now: float, pace: DeliveryPace) -> Start:
    """As many as a tick may start; while the receiver fails, one that probes, once the pause is over."""
    if failing is None:
        return Start(due[: pace.outboxes_a_tick if busy < pace.at_once else 0], now + _ASK_AGAIN, None)
    if failing.paused_until > now:
        return Start((), failing.paused_until, failing)
    if failing.probe_until > now or not due:
        return Start((), now + _ASK_AGAIN, failing)
    return Start(due[:1], now + _ASK_AGAIN, replace(failing, probe=due[0], probe_until=now + pace.lease))


def _held(outbox: Outbox, pace: DeliveryPace) -> Outbox:
    return replace(outbox, held_until=outbox.now + pace.lease)


def _released(outbox: Outbox) -> Outbox:
    return replace(outbox, owner="", held_until=0.0)


def _summary(outbox: Outbox, claim: Claim, why: str) -> Claim:
    return Claim(outbox.merchant_id, claim.owner, now=outbox.now, why=why)


def _without_oldest(outbox: Outbox, summary: Claim, pace: DeliveryPace, *, go_on: bool) -> Decision:
    rest = replace(outbox, event=outbox.following, following="", events=outbox.events - 1, refusal=None)
    if rest.event and go_on:
        return Decision(
            _held(rest, pace), replace(summary, event=rest.event, why=""), outbox.now + pace.lease, removes=True
        )
    return Decision(_released(rest), summary, outbox.now if rest.event else None, removes=True)


def _with_failure(outbox: Outbox, claim: Claim, failure: Failure, pace: DeliveryPace) -> tuple[Outbox, int]:
    """Deliveries that fail together are one failure: only the first of them makes the pause longer."""
    times, since = (outbox.failing.times, outbox.failing.since) if outbox.failing else (0, outbox.now)
    if times != claim.failures_before:
        return outbox, 0
    paused_until = outbox.now + failure.wait(pace.first_wait, pace.longest_pause, times)
    return replace(outbox, failing=Failing(times + 1, since, paused_until, failure.reason)), times + 1

"""Delivering the events of one lane, one after the other: take it, post its oldest event, record how that ended.

Needs no worker. Only what begins and ends is logged: that the receiver fails, that it takes events again, that an event
is refused, that one is set aside. Each attempt is counted.
"""

import time
import uuid
from collections.abc import Callable

import structlog

from integrations.connections.status import iso
from integrations.deliveries.deliveries import Deliveries, Turn
from integrations.deliveries.receiver import Deliver, Verdict
from integrations.egress.deadline import Deadline
from integrations.observer import CallOutcome

log = structlog.get_logger(__name__)

_EVENTS_PER_TURN = 100
_HEADROOM = 2.0  # seconds of a lease kept to record the outcome in


def run_lane(
    deliveries: Deliveries, deliver: Deliver, lane: str, *, lease: float, count: Callable[[CallOutcome], None]
) -> dict[str, object]:
    """Deliver what waits in a lane, if nobody else does; tells in plain words what came of it.

    `lease`: seconds for which each event is ours. After half of one the lane is left to whoever comes next, as
    Celery gives up a message that takes longer. `count` hears how each delivery ended.
    """
    began, delivered, reason = time.monotonic(), 0, ""
    turn = deliveries.take(lane, uuid.uuid4().hex)
    while turn.event:
        more = delivered + 1 < _EVENTS_PER_TURN and time.monotonic() - began < lease / 2
        event_id = turn.event_id
        answered = deliver(event_id, turn.event, int(turn.now), Deadline.after(lease - _HEADROOM))
        reason = answered.reason
        count(answered.outcome)
        if answered.verdict is Verdict.DELIVERED:
            turn = deliveries.delivered(turn, go_on=more)
            delivered += turn.why != "overtaken"
        elif answered.verdict is Verdict.REFUSED:
            turn = deliveries.refused(turn, reason, answered.retry_after, go_on=more)
        else:
            turn = deliveries.failed(turn, reason, answered.retry_after)
        _tell(turn, event_id, reason)
    return _told(turn, delivered, reason)


def _tell(turn: Turn, event_id: str, reason: str) -> None:
    if turn.recovered_after is not None:
        log.info("receiver_takes_events", after_seconds=round(turn.recovered_after, 1))
    if turn.failures == 1:
        log.warning("receiver_fails", reason=reason)
    if turn.set_aside:
        log.error("event_set_aside", lane=turn.lane, event_id=event_id, reason=reason, remedy="occ undelivered")
    elif turn.refusals == 1:
        log.warning("event_refused", lane=turn.lane, event_id=event_id, reason=reason)


def _told(turn: Turn, delivered: int, reason: str) -> dict[str, object]:
    if turn.why in {"failed", "refused"} and not turn.set_aside:
        return {"outcome": "waits", "reason": reason, "events": delivered, "next_attempt_at": iso(turn.at)}
    if delivered or turn.set_aside:
        return {"outcome": "delivered", "events": delivered}
    return {"outcome": "nothing_to_do", "reason": turn.why}

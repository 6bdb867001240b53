"""Delivering the events of one outbox, one after the other: claim it, post its oldest event, record how that ended.

Needs no worker. Only what begins and ends is logged: the receiver starts failing or takes events again, an event is
refused or set aside. Each attempt is counted.
"""

import time
import uuid
from collections.abc import Callable

import structlog

from integrations.connections.status import iso
from integrations.deliveries.deliveries import Deliveries
from integrations.deliveries.outbox import Claim
from integrations.deliveries.receiver import Deliver, Verdict
from integrations.egress.deadline import Deadline
from integrations.observer import CallOutcome

log = structlog.get_logger(__name__)

_EVENTS_AT_A_TIME = 100
_HEADROOM = 2.0  # seconds of a lease kept to record the outcome in


def deliver_waiting(
    deliveries: Deliveries, deliver: Deliver, merchant_id: str, *, lease: float, count: Callable[[CallOutcome], None]
) -> dict[str, object]:
    """Deliver what waits in an outbox, unless somebody else does; summarises what came of it.

    `lease`: seconds for which each event is ours. After half of one the rest is left to the next message: Celery gives
    up a message that takes longer than a lease. `count` hears how each delivery ended.
    """
    began, delivered, reason = time.monotonic(), 0, ""
    claim = deliveries.take(merchant_id, uuid.uuid4().hex)
    while claim.event:
        more = delivered + 1 < _EVENTS_AT_A_TIME and time.monotonic() - began < lease / 2
        event_id = claim.event_id
        answered = deliver(event_id, claim.event, int(claim.now), Deadline.after(lease - _HEADROOM))
        reason = answered.reason
        count(answered.outcome)
        if answered.verdict is Verdict.DELIVERED:
            claim = deliveries.delivered(claim, go_on=more)
            delivered += claim.why != "overtaken"
        elif answered.verdict is Verdict.REFUSED:
            claim = deliveries.refused(claim, reason, answered.retry_after, go_on=more)
        else:
            claim = deliveries.failed(claim, reason, answered.retry_after)
        _log(claim, event_id, reason)
    return _summary(claim, delivered, reason)


def _log(claim: Claim, event_id: str, reason: str) -> None:
    if claim.recovered_after is not None:
        log.info("receiver_takes_events", after_seconds=round(claim.recovered_after, 1))
    if claim.failures == 1:
        log.warning("receiver_fails", reason=reason)
    about = {"outbox": claim.merchant_id, "event_id": event_id, "reason": reason}
    if claim.set_aside:
        log.error("event_set_aside", **about, remedy="occ undelivered")
    elif claim.refusals == 1:
        log.warning("event_refused", **about)


def _summary(claim: Claim, delivered: int, reason: str) -> dict[str, object]:
    if claim.why in {"failed", "refused"} and not claim.set_aside:
        return {"outcome": "waits", "reason": reason, "events": delivered, "next_attempt_at": iso(claim.at)}
    if delivered or claim.set_aside:
        return {"outcome": "delivered", "events": delivered}
    return {"outcome": "nothing_to_do", "reason": claim.why}

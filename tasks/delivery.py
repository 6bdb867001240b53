"""Deliveries as tasks: what a tick does about them, and `occ.deliver`, which delivers what waits of one merchant."""

from collections.abc import Iterable

import structlog
from kombu.exceptions import OperationalError

from integrations.deliveries.lane import run_lane
from tasks.celery import app
from tasks.queues import STEPS
from tasks.wiring import Wiring, wiring

log = structlog.get_logger(__name__)


@app.task(name="occ.deliver", shared=False)
def deliver(merchant_id: str) -> dict[str, object]:
    """Deliver the events of a merchant that wait, oldest first. `:operators` stands for what operators are told."""
    parts = wiring()
    if parts.receiver is None:
        return {"outcome": "nothing_to_do", "reason": "no_receiver"}
    told = run_lane(
        parts.deliveries,
        parts.receiver.deliver,
        merchant_id,
        lease=parts.pace.lease,
        count=parts.counts.delivered,
    )
    log.info("deliveries", **told)
    return told


def deal_out(parts: Wiring) -> None:
    """Have new events wait for their delivery, if there is a receiver."""
    if parts.receiver is None:
        return
    moved = parts.deliveries.move()
    if moved.began_after:
        log.warning("deliveries_begin", after_event=moved.began_after)  # what came before, nobody delivers
    if moved.missed:
        parts.counts.events_missed(moved.missed)
        log.error("events_trimmed_before_delivery", events=moved.missed, remedy="docs/events.md: OCC_MAX_EVENTS")
    if moved.set_aside:
        log.error("event_unreadable", events=moved.set_aside, remedy="occ undelivered")


def start(parts: Wiring, lanes: Iterable[str]) -> None:
    """Send a message for each of these due lanes, as far as the receiver can bear it. Best effort, as for steps."""
    due = list(lanes)
    if not due:
        return
    if parts.receiver is None:
        parts.deliveries.shelve(due)
        return
    for lane in parts.deliveries.startable(due):
        try:
            deliver.apply_async(kwargs={"merchant_id": lane}, queue=STEPS)
        except OperationalError as error:
            log.warning("message_not_sent", lane=lane, error=type(error).__name__)

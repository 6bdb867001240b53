"""Delivering events: what a tick does about it, and what `occ.deliver` does for one merchant."""

from collections.abc import Sequence

import structlog
from kombu.exceptions import OperationalError

from integrations.deliveries.delivering import deliver_waiting
from tasks.dispatch import send
from tasks.wiring import Wiring

log = structlog.get_logger(__name__)


def deliver_outbox(services: Wiring, merchant_id: str) -> dict[str, object]:
    """Deliver the events that wait in one outbox, unless another worker is doing it; summarises what came of it."""
    if services.receiver is None:
        return {"outcome": "nothing_to_do", "reason": "no_receiver"}
    summary = deliver_waiting(
        services.deliveries,
        services.receiver.deliver,
        merchant_id,
        lease=services.pace.lease,
        count=services.counts.delivered,
    )
    log.info("deliveries", **summary)
    return summary


def fill_outboxes(services: Wiring) -> None:
    """Move new events from the stream into their outboxes, if there is a receiver."""
    if services.receiver is None:
        return
    moved = services.deliveries.move()
    if moved.began_after:
        log.warning("deliveries_started", after_event=moved.began_after)  # earlier events are not delivered
    if moved.missed:
        services.counts.events_missed(moved.missed)
        log.error("events_trimmed_before_delivery", events=moved.missed, remedy="docs/events.md: OCC_MAX_EVENTS")
    if moved.set_aside:
        log.error("event_unreadable", events=moved.set_aside, remedy="occ undelivered")


def dispatch_deliveries(services: Wiring, outboxes: Sequence[str]) -> None:
    """Send a message for each of these due outboxes, as many as the receiver can bear. Best effort, as for steps."""
    if not outboxes:
        return
    if services.receiver is None:
        services.deliveries.shelve(outboxes)
        return
    for outbox in services.deliveries.startable(outboxes):
        try:
            send("occ.deliver", {"merchant_id": outbox})
        except OperationalError as error:
            log.warning("message_not_sent", outbox=outbox, error=type(error).__name__)

"""The one clock: takes requests from the inbox, starts the work that is due, and deals out events to be delivered.

Sent by celery beat about every second. Retry scheduler, rescuer and re-validation schedule at once; two of them do no
harm, and what a dying one left undone, the next one does.
"""

from collections.abc import Callable, Mapping

import structlog

from integrations.connections.record import Target
from integrations.deliveries.deliveries import WORK as DELIVERY
from integrations.oracle_commerce.accept import Door
from integrations.quarantine import INBOX_FIELD
from tasks import delivery
from tasks import tasks as onboarding
from tasks.backlog import room_for_steps
from tasks.celery import app
from tasks.inbox import Inbox
from tasks.wiring import Wiring, wiring

log = structlog.get_logger(__name__)

_REQUESTS_PER_TICK = 500
_WORK_PER_TICK = 1000  # and in the queue: less than workers do in a lease, so what waits there is not sent twice
_WHILE_SENDING = 10.0  # seconds
# By the server's clock: messages that expire would be judged by the worker's, and one that is fast would drop them all.
_TICK_AT_MOST_EVERY_MS = 500


@app.task(name="occ.tick", shared=False, send_events=False)
def tick() -> dict[str, object]:
    """Take requests from the inbox, and start the work that is due: retries, rescues and re-validations alike."""
    parts = wiring()
    if not parts.redis.set("occ:tick", "1", nx=True, px=_TICK_AT_MOST_EVERY_MS):
        return {"outcome": "not_needed"}
    try:  # none of these may keep the others from being done
        try:
            delivery.deal_out(parts)
        finally:
            due = _hand_out_due(parts)
    finally:
        try:
            requests = _drain_inbox(parts)
        finally:
            _watch_for_outages(parts)
    parts.counts.ticked(handed_out=due, taken_from_inbox=requests)
    _count_anew(parts)
    return {"requests": requests, "due": due}


def _hand_out_due(parts: Wiring) -> int:
    # For long only once the messages are sent: a tick that dies in between delays nobody by a whole lease.
    room = room_for_steps(_WORK_PER_TICK)
    if not room:
        return 0
    taken = parts.records.take_due(room, put_off=min(_WHILE_SENDING, parts.pace.lease))
    delivery.start(parts, (lane for lane, work in taken.work if work == DELIVERY))
    work_at_stores = [work for work in taken.work if work[1] != DELIVERY]
    snapshots = parts.records.load_many([merchant_id for merchant_id, _ in work_at_stores])
    for snapshot, (merchant_id, slot) in zip(snapshots, work_at_stores, strict=True):
        connection = snapshot.connection
        if snapshot.unreadable:
            log.error("record_unreadable", merchant_id=merchant_id)  # kept, and due again: a newer release may read it
        elif connection is None or slot not in connection.due():
            parts.records.settle_due(snapshot, merchant_id, slot)
        else:
            onboarding.start(connection, [Target(connection.step, slot)])
    parts.records.put_off(taken, parts.pace.lease)
    return len(taken.work)


def _drain_inbox(parts: Wiring) -> int:
    inbox = Inbox(parts.redis, take_over_after=parts.pace.lease)
    handlers: Mapping[str, Callable[[object], object]] = {
        INBOX_FIELD: lambda request: onboarding.accept(request, Door.INBOX),
        "revalidate": lambda request: onboarding.look(request, Door.INBOX),
        "disconnect": lambda request: onboarding.leave(request, Door.INBOX),
    }
    return inbox.drain(handlers, _REQUESTS_PER_TICK)


def _watch_for_outages(parts: Wiring) -> None:
    parts.outages.review()
    released = parts.held_events.release(parts.pace)
    if released.told or released.dropped or released.looked_at:
        log.info("held_events", told=released.told, dropped=released.dropped, looked_at=released.looked_at)


def _count_anew(parts: Wiring) -> None:
    wrong = parts.status_counts.go_on()
    if wrong is not None:
        log.info("connections_counted", counts_put_right=wrong)

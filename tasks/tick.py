"""The one clock: takes requests from the inbox, dispatches the work that is due, and events to be delivered.

Celery beat sends a tick about every second. It is the retry scheduler, the rescuer and the schedule of re-validations
at once. Two at a time do no harm, and what a dying tick left undone, the next one does.
"""

from collections.abc import Callable, Mapping

import structlog

from integrations.connections.record import Target
from integrations.deliveries.deliveries import WORK as DELIVERY
from integrations.oracle_commerce.accept import Door
from integrations.progress import begin_tick, tick_ended_well
from integrations.quarantine import INBOX_FIELD
from integrations.scheduled import release_due
from tasks import delivery, doors, stray_messages
from tasks.backlog import room_for_steps
from tasks.dispatch import dispatch
from tasks.inbox import Inbox, ManyAtOnce
from tasks.wiring import Wiring

log = structlog.get_logger(__name__)

_REQUESTS_PER_TICK = 500
_WORK_PER_TICK = 1000  # and in the queue: less than workers do in a lease, so what waits there is not sent twice
_WHILE_SENDING = 10.0  # seconds
_MERCHANTS_PER_TICK = 500  # to be judged for silence

_HANDLERS: Mapping[str, Callable[[object], object]] = {
    INBOX_FIELD: lambda request: doors.connect(request, Door.INBOX),
    "revalidate": lambda request: doors.revalidate(request, Door.INBOX),
    "disconnect": lambda request: doors.disconnect(request, Door.INBOX),
    "heard": lambda request: doors.heard([request], Door.INBOX),
}
_TOGETHER: ManyAtOnce = {"heard": lambda requests: doors.heard(requests, Door.INBOX)}


def run_tick(services: Wiring) -> dict[str, object]:
    """Do what is due, unless another tick just did; summarises how many requests and pieces of work there were."""
    if not begin_tick(services.redis):
        return {"outcome": "not_needed"}
    try:  # none of these may keep the others from being done
        try:
            delivery.fill_outboxes(services)
        finally:
            due = dispatch_due(services)
    finally:
        try:
            release_due(services.redis, _REQUESTS_PER_TICK)
            stray_messages.bring_in()
            inbox = Inbox(services.redis, take_over_after=services.pace.lease)
            requests = inbox.drain(_HANDLERS, _REQUESTS_PER_TICK, together=_TOGETHER)
        finally:
            try:
                _watch_for_outages(services)
            finally:
                _listen(services)
    services.counts.ticked(dispatched=due, taken_from_inbox=requests)
    _count_anew(services)
    tick_ended_well(services.redis)
    return {"requests": requests, "due": due}


def dispatch_due(services: Wiring) -> int:
    """Dispatch the work that is due, as far as the queue has room; returns how much was taken from the due set."""
    # For a lease only once the messages are sent: a tick that dies in between delays nobody by that much.
    room = room_for_steps(_WORK_PER_TICK)
    if not room:
        return 0
    taken = services.records.take_due(room, put_off=min(_WHILE_SENDING, services.pace.lease))
    delivery.dispatch_deliveries(services, [outbox for outbox, work in taken.work if work == DELIVERY])
    work_at_stores = [work for work in taken.work if work[1] != DELIVERY]
    snapshots = services.records.load_many([merchant_id for merchant_id, _ in work_at_stores])
    for snapshot, (merchant_id, slot) in zip(snapshots, work_at_stores, strict=True):
        connection = snapshot.connection
        if snapshot.unreadable:
            log.error("record_unreadable", merchant_id=merchant_id)  # kept, and due again: a newer release may read it
        elif connection is None or slot not in connection.due():
            services.records.settle_due(snapshot, merchant_id, slot)
        else:
            dispatch(connection, [Target(connection.step, slot)])
    services.records.put_off(taken, services.pace.lease)
    return len(taken.work)


def _watch_for_outages(services: Wiring) -> None:
    services.outages.review()
    released = services.held_events.release(services.pace)
    if released.reported or released.dropped or released.revalidated:
        log.info("held_events", reported=released.reported, dropped=released.dropped, revalidated=released.revalidated)


def _listen(services: Wiring) -> None:
    judged = services.silences.judge(_MERCHANTS_PER_TICK)
    if judged.silent:
        log.warning("slots_silent", slots=judged.silent)


def _count_anew(services: Wiring) -> None:
    wrong = services.status_counts.go_on()
    if wrong is not None:
        log.info("connections_counted", counts_put_right=wrong)

"""The one clock: takes requests from the inbox, dispatches the work that is due, and events to be delivered.

Celery beat sends a tick about every second. It is the retry scheduler, the rescuer and the schedule of re-validations
at once. Two at a time do no harm, and what a dying tick left undone, the next one does.
"""

from collections.abc import Callable, Mapping

import structlog

from integrations.connections.record import Target
from integrations.deliveries.deliveries import WORK as DELIVERY
from integrations.messages.progress import begin_tick, tick_ended_well
from integrations.messages.quarantine import INBOX_FIELD
from integrations.messages.scheduled import release_due
from integrations.oracle_commerce.accept import Door
from tasks import delivery, doors, stray_messages
from tasks.dispatch import dispatch
from tasks.doors import Origin
from tasks.inbox import Handlers, ManyAtOnce
from tasks.inbox_pages import InboxPages, inbox_pages
from tasks.waiting import note_oldest_messages, room_for_steps
from tasks.wiring import Wiring

log = structlog.get_logger(__name__)

_REQUESTS_PER_TICK = 500
_STEPS_BEFORE_RUNS = 40  # waiting, and the inbox begins no more runs: each will bring six
_WORK_PER_TICK = 1000  # and in the queue: less than workers do in a lease, so what waits there is not sent twice
_WHILE_SENDING = 10.0  # seconds
_MERCHANTS_PER_TICK = 500  # to be judged for silence

_DOORS: Mapping[str, Callable[[object, Origin], doors.Summary]] = {
    INBOX_FIELD: doors.connect,
    "revalidate": doors.revalidate,
    "disconnect": doors.disconnect,
}
_TOGETHER: ManyAtOnce = {"heard": lambda requests, entry_ids: doors.heard(requests, Door.INBOX, entry_ids)}


def run_tick(services: Wiring, worker: str | None = None) -> dict[str, object]:
    """Do what is due, unless another tick just did; summarises how many requests and pieces of work there were.

    `worker`: the name of the worker that does it, for the pages of requests from the inbox.
    """
    if not begin_tick(services.redis):
        return {"outcome": "not_needed"}
    services.records.clock.keep()
    try:  # none of these may keep the others from being done
        try:
            delivery.fill_outboxes(services)
        finally:
            due = dispatch_due(services)
    finally:
        try:
            release_due(services.redis, services.records.clock, _REQUESTS_PER_TICK)
            stray_messages.bring_in()
            with inbox_pages(worker) as pages:
                requests = services.inbox.drain(
                    _handlers(pages),
                    _REQUESTS_PER_TICK,
                    room=lambda: room_for_steps(_STEPS_BEFORE_RUNS),
                    together=_TOGETHER,
                )
        finally:
            try:
                _watch_for_outages(services)
            finally:
                _listen(services)
    note_oldest_messages(services)
    services.counts.ticked(dispatched=due, taken_from_inbox=requests)
    _list_by_status(services)
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


def _handlers(pages: InboxPages) -> Handlers:
    def through(door: Callable[[object, Origin], doors.Summary]) -> Callable[[object, str], bool]:
        def handle(request: object, entry_id: str) -> bool:
            with pages.page(entry_id, f"occ.{door.__name__}", request) as answer:
                summary = door(request, Origin(Door.INBOX, reference=entry_id))
                answer(summary)
            return summary["outcome"] == "accepted"

        return handle

    def report(request: object, entry_id: str) -> bool:
        doors.heard([request], Door.INBOX, [entry_id])
        return False

    return {**{field: through(door) for field, door in _DOORS.items()}, "heard": report}


def _watch_for_outages(services: Wiring) -> None:
    services.outages.review()
    released = services.held_events.release(services.pace)
    if released.reported or released.dropped or released.revalidated:
        log.info("held_events", reported=released.reported, dropped=released.dropped, revalidated=released.revalidated)


def _listen(services: Wiring) -> None:
    judged = services.silences.judge(_MERCHANTS_PER_TICK)
    if judged.silent:
        log.warning("slots_silent", slots=judged.silent)


def _list_by_status(services: Wiring) -> None:
    corrected = services.status_index.go_on()
    if corrected is not None:
        log.info("connections_listed", corrected=corrected)
    forgotten = services.former_stores.forget_some()
    if forgotten:
        log.info("former_stores_forgotten", stores=forgotten)

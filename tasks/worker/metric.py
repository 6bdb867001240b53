"""All metrics by name: what dashboards and alerts are written against. Names and labels are stable."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from integrations.connections.record import Step
from integrations.observer import CallOutcome, TokenSource
from integrations.oracle_commerce.client import Endpoint


class Kind(StrEnum):
    """As Prometheus calls them."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `values`: for each label all it may say, where a counter is to be there before it first counts."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()


CALL_SECONDS_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 35.0)
"""Upper bounds, seconds; the last is the deadline of a call unless set otherwise."""

# --- Read from the server when asked for ------------------------------------------------------------------------------

UP = Metric("occ_up", Kind.GAUGE, "1 if the server with the records answered; if not, this is all there is")
CONNECTIONS = Metric("occ_connections", Kind.GAUGE, "Connections by status", ("status",))
STORES_LEFT = Metric("occ_stores_left", Kind.GAUGE, "Records of stores that merchants have moved away from")
UNREADABLE = Metric("occ_records_unreadable", Kind.GAUGE, "Records that this release cannot read, at the last listing")
DUE = Metric("occ_due", Kind.GAUGE, "Unfinished work with a due time: waits, claims, re-validations to come")
OVERDUE = Metric("occ_overdue", Kind.GAUGE, "Work whose due time has passed; some, between two ticks, is normal")
OVERDUE_AGE = Metric(
    "occ_overdue_oldest_seconds", Kind.GAUGE, "Age of the oldest overdue work: grows when nobody works"
)
QUEUE = Metric("occ_queue_messages", Kind.GAUGE, "Messages that wait in a queue", ("queue",))
UNACKNOWLEDGED = Metric("occ_queue_unacknowledged", Kind.GAUGE, "Messages in workers' hands, of all queues")
QUARANTINED = Metric("occ_quarantined_messages", Kind.GAUGE, "Messages set aside that nobody could handle, up to 1,000")
LAST_TICK = Metric("occ_last_tick_seconds", Kind.GAUGE, "How long ago a tick last ended well; absent if none ever did")
OLDEST = Metric(
    "occ_oldest_message_seconds",
    Kind.GAUGE,
    "How long nobody has taken the oldest message of a queue, or request of the inbox; 0 if there is none",
    ("queue",),
)
UNREAD = Metric("occ_unread_messages", Kind.GAUGE, "Messages where no worker of ours reads, at the last tick")
REFUSED = Metric("occ_refused_requests", Kind.GAUGE, "Requests refused, about the last 10,000")
INBOX = Metric("occ_inbox_requests", Kind.GAUGE, "Requests in the inbox, those just being taken included")
INBOX_PENDING = Metric("occ_inbox_pending", Kind.GAUGE, "Requests a tick has taken from the inbox and not finished")
EVENTS = Metric("occ_events", Kind.GAUGE, "Events kept for other systems")
EVENTS_LAG = Metric(
    "occ_events_lag",
    Kind.GAUGE,
    "Events a group was not given yet; absent if the server lost count",
    ("group",),
)
EVENTS_PENDING = Metric("occ_events_pending", Kind.GAUGE, "Events given to a group that it did not confirm", ("group",))
EVENTS_UNREAD_AGE = Metric(
    "occ_events_oldest_unread_seconds", Kind.GAUGE, "Age of the next event a group will be given; 0 if none", ("group",)
)
WAITING = Metric("occ_deliveries_waiting", Kind.GAUGE, "Events dispatched to be delivered that have not arrived yet")
UNDELIVERED = Metric("occ_events_undelivered", Kind.GAUGE, "Events set aside because the receiver refused them")
RECEIVER_FAILING = Metric(
    "occ_receiver_failing_seconds", Kind.GAUGE, "How long the receiver of events has been failing; 0 if it has not"
)
HELD = Metric("occ_events_held", Kind.GAUGE, "Merchants whose news of trouble an outage holds back")
OUTAGE = Metric("occ_outage", Kind.GAUGE, "1 while an outage of this kind is on", ("kind",))
SILENT = Metric("occ_merchants_silent", Kind.GAUGE, "Merchants with a slot that has fallen silent")

# --- Counted by workers -----------------------------------------------------------------------------------------------

CALLS = Metric(
    "occ_calls_total",
    Kind.COUNTER,
    "Calls to stores, by the HTTP status or what kept it from coming",
    ("endpoint", "outcome"),
    (tuple(Endpoint), tuple(CallOutcome)),
)
CALL_SECONDS = Metric("occ_call_seconds", Kind.HISTOGRAM, "How long calls took, however they ended", ("endpoint",))
TOKENS = Metric(
    "occ_access_tokens_total",
    Kind.COUNTER,
    "Access tokens needed, and where they came from",
    ("source",),
    (tuple(TokenSource),),
)
STEPS = Metric(
    "occ_steps_total",
    Kind.COUNTER,
    "Steps, by what came of them: nothing_to_do, stood_back, waits, or the outcome",
    ("step", "result"),
)
CAUSES = Metric(
    "occ_causes_total",
    Kind.COUNTER,
    "Outcomes that report something wrong, by the code of the cause",
    ("cause",),
)
RETRIES = Metric("occ_retries_total", Kind.COUNTER, "Attempts that were not the first", ("step",), (tuple(Step),))
REPAIRS = Metric("occ_repairs_total", Kind.COUNTER, "Times our callback URL was put back into a slot")
SHARED = Metric(
    "occ_stores_shared_total", Kind.COUNTER, "Times a connection was found to lead to another merchant's store"
)
TICKS = Metric("occ_ticks_total", Kind.COUNTER, "Ticks that ran")
DISPATCHED = Metric(
    "occ_dispatched_total", Kind.COUNTER, "Due work that ticks started: retries, rescues, re-validations"
)
INBOX_TAKEN = Metric("occ_inbox_taken_total", Kind.COUNTER, "Requests that ticks took from the inbox")
DELIVERIES = Metric(
    "occ_deliveries_total",
    Kind.COUNTER,
    "Deliveries of events to the receiver, by the HTTP status or what kept it from coming",
    ("outcome",),
    (tuple(CallOutcome),),
)
EVENTS_MISSED = Metric(
    "occ_events_missed_total", Kind.COUNTER, "Events trimmed from the stream before they could be delivered"
)

GIVEN_UP = Metric(
    "occ_deliveries_given_up_total",
    Kind.COUNTER,
    "Deliveries to our callback URLs that stores gave up, as found in their logs",
)
HEARD = Metric(
    "occ_heard_total",
    Kind.COUNTER,
    "Reports of slots that were heard from: taken, of merchants or slots unknown here, or refused",
    ("result",),
    (("taken", "unknown", "refused"),),
)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            UP, CONNECTIONS, STORES_LEFT, UNREADABLE, DUE, OVERDUE, OVERDUE_AGE, QUEUE, UNACKNOWLEDGED, QUARANTINED,
            LAST_TICK, OLDEST, UNREAD,
            REFUSED, INBOX, INBOX_PENDING, EVENTS, EVENTS_LAG, EVENTS_PENDING, EVENTS_UNREAD_AGE, WAITING, UNDELIVERED,
            RECEIVER_FAILING, HELD, OUTAGE, SILENT,
            CALLS, CALL_SECONDS, TOKENS, STEPS, CAUSES, RETRIES, REPAIRS, SHARED, TICKS, DISPATCHED, INBOX_TAKEN,
            DELIVERIES, EVENTS_MISSED, GIVEN_UP, HEARD,
        )
    }
)  # fmt: skip

"""The real parts, built once per process, on demand: nothing connects when a module is imported.

Worker children of the prefork pool must not share their parent's sockets, so a forked process builds its own.
"""

import os
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import redis
import structlog
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from integrations.connections.former_stores import FormerStores
from integrations.connections.record import Connection, merchant_of
from integrations.connections.records import Records, Snapshot
from integrations.connections.schedule import Pace
from integrations.connections.shared_stores import SharedStores
from integrations.connections.status_index import StatusIndex
from integrations.deliveries.deliveries import Deliveries
from integrations.deliveries.outbox import DeliveryPace
from integrations.deliveries.receiver import Receiver, receiver_of
from integrations.egress.deadline import Deadline
from integrations.egress.patience import Bulkhead
from integrations.egress.session import GuardedSession
from integrations.errors import PermanentError, RequestRefused
from integrations.observer import ObservedCall, TokenSource
from integrations.oracle_commerce.accept import Acceptance, Door
from integrations.oracle_commerce.access_token import AccessTokens
from integrations.oracle_commerce.client import CommerceCloud
from integrations.oracle_commerce.one_writer import OneWriter
from integrations.oracle_commerce.steps import Wanted
from integrations.oracle_commerce.store import Store
from integrations.oracle_commerce.store_url import normalise_store_url
from integrations.outages.held_events import HeldEvents
from integrations.outages.outage import Rules
from integrations.outages.outages import Outages
from integrations.sealing.keyring import Keyring
from integrations.server.client import client_of
from integrations.server.url import ServerUrl, server_url
from integrations.settings import Settings, load_settings
from integrations.silence.heard import HeardSlots
from integrations.silence.many import Rule
from integrations.silence.silences import Silences
from tasks.inbox import Inbox
from tasks.retry import RetryPolicy
from tasks.worker.counting import Counts
from tasks.worker.lost_events import LostEventsWatch

if TYPE_CHECKING:
    from tasks.worker.traces import Traces

log = structlog.get_logger(__name__)

CLAIM_HEADROOM = 2.0  # seconds of a claim's lease kept to record the outcome in
_TOKEN_LOCK_HEADROOM = 5.0  # seconds that the lock outlives what is done under it: a login and one more call


class _Observers:
    """Lets the metrics and the traces hear of each call."""

    def __init__(self, counts: Counts, traces: "Traces") -> None:
        self._counts, self._traces = counts, traces

    def called(self, call: ObservedCall) -> None:
        """A call has ended."""
        self._counts.called(call)
        self._traces.called(call)

    def token_taken(self, source: TokenSource) -> None:
        """An access token was needed."""
        self._counts.token_taken(source)


class Wiring:
    """Everything the tasks work with."""

    def __init__(self, settings: Settings, *, counting: bool = False) -> None:
        """`counting`: for metrics and traces, which threads send on. Of commands, only calls to stores count."""
        self.settings = settings
        self._counting = counting
        self.pace = Pace(
            lease=settings.lease,
            retry_attempts=settings.retry_attempts,
            confirm_rejection=settings.confirm_rejection,
            second_look=settings.second_look,
            recheck_degraded=settings.recheck_degraded,
            patience=max(settings.recheck_degraded, settings.retry_max),
            revalidate_every=settings.revalidate_every,
            repairs_per_day=settings.repairs_per_day,
            clean_up_for=settings.clean_up_for,
        )
        self.retry = RetryPolicy(settings.retry_first, settings.retry_max)
        self.wanted = Wanted(
            settings.callback_url,
            settings.slots,
            settings.webhook_body,
            settings.repairs_per_day,
            settings.former_callback_urls,
            delivery_check_after(settings.delivery_check_every, settings.revalidate_every),
            settings.blind_writes,
        )

    @cached_property
    def redis(self) -> redis.Redis:
        """The server with the records."""
        return connect(self.settings.redis_url)

    @cached_property
    def records(self) -> Records:
        """The records of all connections."""
        return Records(
            self.redis,
            timeline_length=self.settings.timeline_length,
            events_kept=self.settings.max_events,
            event_source=self.settings.event_source,
            on_status_event=LostEventsWatch(self.redis).note if self._counting else lambda _: None,
        )

    @cached_property
    def keyring(self) -> Keyring:
        """Opens sealed application keys."""
        return Keyring(self.settings.sealing_keys)

    @cached_property
    def tokens(self) -> AccessTokens:
        """The access tokens of all merchants."""
        lock_lease = 2 * self.settings.call_deadline + _TOKEN_LOCK_HEADROOM
        return AccessTokens(self.redis, self.keyring, lock_lease=lock_lease, observer=self.counts)

    @cached_property
    def writers(self) -> OneWriter:
        """Keeps merchants who share a store from writing over each other."""
        # Over before the claim of a worker that died is, so that whoever does its work anew finds the slot free.
        return OneWriter(self.redis, lease=self.settings.lease - CLAIM_HEADROOM / 2, clock=self.records.clock)

    @cached_property
    def shared_stores(self) -> SharedStores:
        """Finds connections that share a store."""
        return SharedStores(self.records)

    @cached_property
    def outages(self) -> Outages:
        """Notices when it is not the stores that fail."""
        settings = self.settings
        rules = Rules(settings.outage_share, settings.outage_merchants, settings.outage_window)
        return Outages(self.records, rules, report=lambda event: log.error("operator_event", **event))

    @cached_property
    def held_events(self) -> HeldEvents:
        """What an outage keeps from being told."""
        return HeldEvents(self.records)

    @cached_property
    def heard(self) -> HeardSlots:
        """What the receiver of deliveries reports."""
        return HeardSlots(self.records, self.settings.slots)

    @cached_property
    def silences(self) -> Silences:
        """Notices slots that fall silent."""
        rule = Rule(self.settings.outage_share, self.settings.outage_merchants)
        return Silences(self.records, self.heard, rule, report=lambda event: log.error("operator_event", **event))

    @cached_property
    def inbox(self) -> Inbox:
        """The door that is a stream."""
        return Inbox(self.redis, take_over_after=self.pace.lease, on_set_aside=self._note_set_aside)

    def _note_set_aside(self, field: str, request: object, entry_id: str, reason: str) -> None:
        kind = field if field in {"revalidate", "disconnect", "heard"} else "connect"
        self.acceptance.note_set_aside(kind, request, Door.INBOX, reason, reference=entry_id)

    @cached_property
    def deliveries(self) -> Deliveries:
        """Events on their way to the receiver."""
        settings = self.settings
        pace = DeliveryPace(lease=settings.lease, first_wait=settings.retry_first, patience=settings.receiver_patience)
        pace = replace(
            pace,
            longest_pause=min(settings.retry_max, pace.longest_pause),
            longest_wait=min(6 * settings.retry_max, pace.longest_wait),
        )
        return Deliveries(self.redis, pace, clock=self.records.clock.now)

    @cached_property
    def receiver(self) -> Receiver | None:
        """To whom events are delivered, if to anybody."""
        return receiver_of(self.settings)

    @cached_property
    def former_stores(self) -> FormerStores:
        """Forgets the stores that merchants have left."""
        return FormerStores(self.records)

    @cached_property
    def status_index(self) -> StatusIndex:
        """Which connections have which status."""
        return StatusIndex(self.records)

    @cached_property
    def counts(self) -> Counts:
        """What this process counts for the metrics."""
        return Counts(self.settings.redis_url, counts=self._counting)

    @cached_property
    def traces(self) -> "Traces":
        """The spans of this process. Raises SettingsError if what OCC_TRACES asks for is not installed."""
        from tasks.worker.traces import Traces, traces_of  # noqa: PLC0415 - a tenth of a second, of each command

        return traces_of(self.settings) if self._counting else Traces()

    @cached_property
    def session(self) -> GuardedSession:
        """The one way out to the stores."""
        return GuardedSession(
            dev_stores=self.settings.dev_stores,
            connect_timeout=self.settings.connect_timeout,
            call_deadline=self.settings.call_deadline,
            keep_alive=self.settings.keep_alive,
            ca_bundle=self.settings.ca_bundle,
            proxy=self.settings.egress_proxy,
        )

    @cached_property
    def bulkhead(self) -> Bulkhead:
        """Keeps stores that are slow from taking all threads."""
        return Bulkhead(self.settings.concurrency, self.settings.call_deadline)

    @cached_property
    def acceptance(self) -> Acceptance:
        """Takes requests on."""
        return Acceptance(self.records, self.keyring, self.settings, self.pace)

    def store(self, snapshot: Snapshot, connection: Connection, deadline: Deadline) -> Store:
        """The store of a connection, for one attempt. Raises PermanentError if its host is not one to be called.

        While a new key has to prove itself, it is that one which is used: nothing else is being done then.
        """
        sealed_key = (snapshot.sealed_candidate if connection.candidate else snapshot.sealed_key) or ""
        credential = connection.candidate or connection.credential
        merchant_id = merchant_of(connection.merchant_id)
        try:
            # Once more: the settings may be others than when it was accepted, and whoever can write to the server can
            # change a record, but must not be able to have a key sent elsewhere.
            store_url = normalise_store_url(
                connection.store_url, allowed_hosts=self.settings.allowed_hosts, dev_stores=self.settings.dev_stores
            )
        except RequestRefused as refused:
            raise PermanentError("egress_blocked", refused.code) from None
        path = self.settings.shipping_methods_path
        api = CommerceCloud(
            self.session, store_url, shipping_methods_path=path, observer=_Observers(self.counts, self.traces)
        )
        return Store(
            api,
            self.tokens,
            merchant_id=connection.merchant_id,
            fingerprint=credential.fingerprint,
            open_key=lambda: self.keyring.open(sealed_key, merchant_id),
            deadline=deadline,
            now=snapshot.now,
        )


def delivery_check_after(every: float, revalidate_every: float) -> float:
    """How long after a look into the log of failed deliveries a re-validation takes the next; 0 for never.

    Somewhat less than `every`: of the re-validations around that moment it is to be the nearest.
    """
    return every - min(every, revalidate_every) / 2


def connect(server: ServerUrl | str) -> redis.Redis:
    """A client that notices a dead connection and rides out a restart of the server, or another one at its address.

    A master that was demoted keeps its connections and answers READONLY on them: that is a reason to dial anew.
    """
    server = server_url(server) if isinstance(server, str) else server
    return client_of(
        server,
        decode_responses=True,
        encoding_errors="replace",  # a producer may write anything into the inbox; it must not stop those behind it
        socket_timeout=10,
        max_connections=4096,  # threads that wait for a lock of their own; the library allows a hundred by itself
        socket_connect_timeout=3,
        health_check_interval=10,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), 8),
        retry_on_error=[
            redis.ConnectionError,
            redis.TimeoutError,
            redis.exceptions.BusyLoadingError,
            redis.exceptions.ReadOnlyError,
        ],
    )


_lock = Lock()
_of_process: tuple[int, Wiring] | None = None


def wiring() -> Wiring:
    """The parts of this process, from its environment. Raises SettingsError."""
    global _of_process  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _of_process is None or _of_process[0] != os.getpid():
            _of_process = os.getpid(), Wiring(load_settings(), counting=True)
        return _of_process[1]

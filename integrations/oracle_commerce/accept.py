"""Taking a request on: from here on, the record sees to it that the connection gets where it should.

Both doors, the Celery task and the inbox, and the command line lead here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import cast

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.known_request import SCHEDULED, KnownRequest, digest_of
from integrations.connections.lifecycle.disconnection import disconnect
from integrations.connections.lifecycle.requests import Desired, begin, is_at_rest, revalidate_now
from integrations.connections.record import Chain, Connection
from integrations.connections.records import Committed, Records, Snapshot
from integrations.connections.schedule import Pace, spread_phase
from integrations.errors import RequestRefused
from integrations.oracle_commerce.application_key import check_application_key, expiry_of, fingerprint
from integrations.oracle_commerce.request import (
    FollowUpRequest,
    is_merchant_id,
    parse_follow_up,
    parse_request,
    request_id_of,
)
from integrations.oracle_commerce.store_url import normalise_store_url
from integrations.sealing.keyring import Keyring
from integrations.settings import Settings

REPEATED = "repeated"
"""What is answered to a request that was taken before, by its id."""

_REMEMBERED = 4  # entries of the inbox for each merchant; one comes again within a lease, or not at all
_OVERTAKEN_WITHIN = 600_000  # milliseconds between two entries

_OPTIONS: Mapping[str, tuple[str, tuple[object, ...]]] = MappingProxyType(
    {"revalidate": ("repair", (True, False)), "disconnect": ("forget", ("now", "end"))}
)


class Door(StrEnum):
    """Where a request came in."""

    CELERY = "celery"
    INBOX = "inbox"
    COMMAND_LINE = "command_line"


NOT_ANSWERED = frozenset({Door.CELERY, Door.INBOX})
"""Whoever sends a request here hears of a refusal by an event."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The connection of an accepted request. `started`: a new run began; else it asked for what is already so.

    `repeated`: the request was taken before, by its id, and is not taken again.
    """

    connection: Connection
    started: bool
    former: Connection | None = None  # the store that is being left
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a request: `accepted`, `repeated` (it was taken before, by its id), or why there was nothing to do;
    and what changed, to start its work.
    """

    merchant_id: str
    outcome: str
    committed: Committed | None = None


class Acceptance:
    """Checks what producers ask for, and takes it on."""

    def __init__(self, records: Records, keyring: Keyring, settings: Settings, pace: Pace) -> None:
        self._records = records
        self._keyring = keyring
        self._settings = settings
        self._pace = pace

    def accept(self, request: object, door: Door, *, traceparent: str = "", reference: str = "") -> Accepted:
        """Begin a run, durably. The same request again begins nothing.

        `traceparent`: the trace the request belongs to, as W3C Trace Context writes it; "" for none. `reference`: the
        id of the inbox entry or Celery message it came in: the root of the chain of messages it begins.

        Raises RequestRefused, also if its `request_id` was another request's; this is kept, and reported. Raises
        TransientError or redis.RedisError when the server could not take it: then the producer still has it.
        """
        with self.noting_refusals("connect", request, door, reference) as sent:
            desired = self.check(request)
            content = (desired.merchant_id, desired.store_url, desired.fingerprint)
            read = _with_content(sent, desired.merchant_id, *content)
            if self._was_taken(read):
                return Accepted(self._connection_of(desired.merchant_id), started=False, repeated=True)
            desired = replace(
                desired, traceparent=traceparent, chain=Chain(reference, reference), request_id=read.request_id
            )
            accepted = self._begun(desired, read)
            outcome = "accepted" if accepted.started else "unchanged"
            self._settle(replace(read, outcome=outcome, run=accepted.connection.run))
            return accepted

    def _begun(self, desired: Desired, sent: KnownRequest) -> Accepted:
        known = self._records.load(desired.merchant_id)
        if known.connection is None:
            desired = replace(desired, phase=spread_phase(self._records.next_number()))
        decide = partial(_once, sent, partial(self._begin, desired, replace_key=self._cannot_open(known)))
        committed = self._records.change(desired.merchant_id, decide, known=known, durably=True)
        if isinstance(committed, Stop):
            return Accepted(self._connection_of(desired.merchant_id), started=False)
        was = committed.before
        started = was is None or was.run != committed.after.run or was.candidate != committed.after.candidate
        return Accepted(committed.after, started, committed.former)

    def _connection_of(self, merchant_id: str) -> Connection:
        """Of a merchant of whom it is known that there is one."""
        connection = self._records.load(merchant_id).connection
        if connection is None:
            raise RequestRefused("merchant_id", "unknown_connection", "connect the merchant with a new request_id")
        return connection

    def revalidate(self, request: object, door: Door, *, traceparent: str = "", reference: str = "") -> Asked:
        """Re-validate a connection now; with `repair`, put back even what somebody keeps undoing.

        Raises like `accept`, RequestRefused also for a merchant nobody has connected.
        """
        with self.noting_refusals("revalidate", request, door, reference) as sent:
            parsed = _parsed("revalidate", request)
            return self._ask(
                parsed,
                sent,
                lambda it, now: revalidate_now(it, Moment(now, self._pace), repair=parsed.choice is True),
                traceparent,
            )

    def disconnect(self, request: object, door: Door, *, traceparent: str = "", reference: str = "") -> Asked:
        """Take our callback URL out of the store; with `forget: "now"`, leave it and forget the key.

        Raises like `revalidate`.
        """
        with self.noting_refusals("disconnect", request, door, reference) as sent:
            parsed = _parsed("disconnect", request)
            return self._ask(
                parsed,
                sent,
                lambda it, now: disconnect(it, Moment(now, self._pace), forget_now=parsed.choice == "now"),
                traceparent,
            )

    def keep_for_later(
        self,
        kind: str,
        request: object,
        door: Door,
        keep: Callable[[Mapping[str, object]], float],
        *,
        reference: str = "",
    ) -> str:
        """Let `keep` have the fields of a request that is to be taken up later; it tells when that is. The merchant.

        Raises RequestRefused like `accept`, also what `keep` refuses.
        """
        with self.noting_refusals(kind, request, door, reference) as sent:
            parsed: Desired | FollowUpRequest
            if kind == "connect":
                parsed = self.check(request)
                content: tuple[object, ...] = (parsed.merchant_id, parsed.store_url, parsed.fingerprint)
            else:
                parsed = _parsed(kind, request)
                content = (parsed.merchant_id, parsed.choice)
            read = _with_content(sent, parsed.merchant_id, *content)
            if not self._was_taken(read):
                due_at = keep(cast("Mapping[str, object]", request))
                self._settle(replace(read, outcome=SCHEDULED, due_at=due_at))
            return parsed.merchant_id

    def note_set_aside(self, kind: str, request: object, door: Door, reason: str, *, reference: str = "") -> None:
        """A request is in the quarantine now: whoever sent it hears of it as of a refusal. `reason` quotes nothing."""
        with suppress(RequestRefused), self.noting_refusals(kind, request, door, reference):
            raise RequestRefused("request", "set_aside", f"nothing was done about it, it is in quarantine: {reason}")

    @contextmanager
    def noting_refusals(self, kind: str, request: object, door: Door, reference: str = "") -> Iterator[KnownRequest]:
        """A refusal within is kept for the operator, and reported to who sent the request; then it goes on."""
        merchant_id = request.get("merchant_id") if isinstance(request, Mapping) else None
        sent = KnownRequest(
            request=kind,
            door=door,
            request_id=request_id_of(request),
            reference=reference,
            merchant_id=str(merchant_id) if is_merchant_id(merchant_id) else None,
        )
        try:
            yield sent
        except RequestRefused as refusal:
            self._records.note_refusal(sent.refused(refusal), reported=door in NOT_ANSWERED)
            raise

    def _ask(
        self,
        parsed: FollowUpRequest,
        sent: KnownRequest,
        decide: Callable[[Connection | None, float], Change | Stop],
        traceparent: str,
    ) -> Asked:
        merchant_id = parsed.merchant_id
        sent = _with_content(sent, merchant_id, merchant_id, parsed.choice)
        if self._was_taken(sent):
            return Asked(merchant_id, REPEATED)
        placed = partial(_once, sent, partial(_placed, decide, traceparent, sent))
        decided = self._records.change(merchant_id, placed, durably=True)
        if isinstance(decided, Stop) and decided.reason == "unknown_connection":
            raise RequestRefused("merchant_id", "unknown_connection", "connect the merchant first")
        asked = (
            Asked(merchant_id, decided.reason) if isinstance(decided, Stop) else Asked(merchant_id, "accepted", decided)
        )
        self._settle(replace(sent, outcome=asked.outcome, run=asked.committed.after.run if asked.committed else None))
        return asked

    def _was_taken(self, sent: KnownRequest) -> bool:
        """Whether this very request was taken before, by its id. Raises RequestRefused if another one was."""
        return bool(sent.request_id) and self._records.request_ids.claim(sent) is not None

    def _settle(self, answered: KnownRequest) -> None:
        if answered.request_id:
            self._records.request_ids.settle(answered)

    def check(self, request: object) -> Desired:
        """What a request asks for. The key is opened to see whose it is, and not kept open."""
        parsed = parse_request(request)
        store_url = normalise_store_url(
            parsed.store_url, allowed_hosts=self._settings.allowed_hosts, dev_stores=self._settings.dev_stores
        )
        key = check_application_key(self._keyring.open(parsed.application_key.strip(), parsed.merchant_id))
        return Desired(
            merchant_id=parsed.merchant_id,
            store_url=store_url,
            sealed_key=parsed.application_key.strip(),
            fingerprint=fingerprint(key),
            expires_at=expiry_of(key),
            slots={name: spec.required for name, spec in self._settings.slots.items()},
        )

    def _cannot_open(self, known: Snapshot) -> bool:
        """Whether the key we have was sealed for a private key that is gone."""
        return known.sealed_key is not None and not self._keyring.knows(known.sealed_key)

    def _begin(
        self, desired: Desired, connection: Connection | None, now: float, *, replace_key: bool
    ) -> Change | Stop:
        at = Moment(now, self._pace)
        return begin(connection, desired, at, replace_key=replace_key)


def _parsed(kind: str, request: object) -> FollowUpRequest:
    option, choices = _OPTIONS[kind]
    return parse_follow_up(request, option, choices)


def _with_content(sent: KnownRequest, merchant_id: str, *content: object) -> KnownRequest:
    return replace(sent, merchant_id=merchant_id, digest=digest_of(sent.request, *content))


def _once(
    sent: KnownRequest,
    decide: Callable[[Connection | None, float], Change | Stop],
    connection: Connection | None,
    now: float,
) -> Change | Stop:
    """What an entry of the inbox asks for, unless it was carried out before or a later one was: then it is over.

    One comes again if its tick could not take it out, and two are carried out in the wrong order where ticks overlap.
    The last that was sent stands: a merchant who has come back is not disconnected after that.
    """
    is_entry = sent.door == Door.INBOX and sent.reference.replace("-", "").isdigit()
    if not is_entry or sent.request not in {"connect", "disconnect"}:
        return decide(connection, now)
    taken = connection.taken if connection is not None else ()
    if _is_over(sent.reference, taken):
        return Stop(REPEATED)
    decided = decide(connection, now)
    if isinstance(decided, Stop):
        if connection is None or sent.request != "connect":
            return decided
        decided = Change(connection)  # it asks for what is so already, and a disconnect from before it is over
    remembered = (*taken, sent.reference)[-_REMEMBERED:]
    return replace(decided, connection=replace(decided.connection, taken=remembered))


def _is_over(entry_id: str, taken: Sequence[str]) -> bool:
    """Whether this entry was taken, or one that was added soon after it: if not soon, a clock may be to blame."""
    place = _place_of(entry_id)
    return any(place <= other and other[0] - place[0] < _OVERTAKEN_WITHIN for other in map(_place_of, taken))


def _place_of(entry_id: str) -> tuple[int, int]:
    """Of an entry in its stream: milliseconds, and its number within them."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _placed(
    decide: Callable[[Connection | None, float], Change | Stop],
    traceparent: str,
    sent: KnownRequest,
    connection: Connection | None,
    now: float,
) -> Change | Stop:
    """What begins with a request belongs to its trace and chain; what was under way before stays in its own.

    The record, and the lines that the request leaves in the timeline, name its id.
    """
    decided = decide(connection, now)
    if isinstance(decided, Stop) or connection is None:
        return decided
    after = replace(decided.connection, request_id=sent.request_id)
    if after.run != connection.run or is_at_rest(connection):
        after = replace(after, traceparent=traceparent, chain=Chain(sent.reference, sent.reference))
    named = {"request_id": sent.request_id} if sent.request_id else {}
    notes = tuple(replace(note, details={**note.details, **named}) for note in decided.notes)
    return replace(decided, connection=after, notes=notes)

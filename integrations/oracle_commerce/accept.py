"""Taking a request on: from here on, the record sees to it that the connection gets where it should.

Both doors, the Celery task and the inbox, and the command line lead here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import cast

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle.disconnection import disconnect
from integrations.connections.lifecycle.requests import Desired, begin, is_at_rest, revalidate_now
from integrations.connections.record import Connection
from integrations.connections.records import Committed, Records, Snapshot
from integrations.connections.schedule import Pace, spread_phase
from integrations.errors import RequestRefused
from integrations.oracle_commerce.application_key import check_application_key, expiry_of, fingerprint
from integrations.oracle_commerce.request import FollowUpRequest, is_merchant_id, parse_follow_up, parse_request
from integrations.oracle_commerce.store_url import normalise_store_url
from integrations.sealing.keyring import Keyring
from integrations.settings import Settings


class Door(StrEnum):
    """Where a request came in."""

    CELERY = "celery"
    INBOX = "inbox"
    COMMAND_LINE = "command_line"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The connection of an accepted request. `started`: a new run began; else it asked for what is already so."""

    connection: Connection
    started: bool
    former: Connection | None = None  # the store that is being left


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a request: `accepted`, or why there was nothing to do; and what changed, to start its work."""

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

    def accept(self, request: object, door: Door, *, traceparent: str = "") -> Accepted:
        """Begin a run, durably. The same request again begins nothing.

        `traceparent`: the trace the request belongs to, as W3C Trace Context writes it; "" for none.

        Raises RequestRefused, which is also kept for the operator, and TransientError or redis.RedisError when the
        server could not take it: then the producer still has it.
        """
        try:
            desired = self.check(request)
        except RequestRefused as refusal:
            self._note(refusal, request, door)
            raise
        desired = replace(desired, traceparent=traceparent)
        known = self._records.load(desired.merchant_id)
        if known.connection is None:
            desired = replace(desired, phase=spread_phase(self._records.next_number()))
        decide = partial(self._begin, desired, replace_key=self._cannot_open(known))
        committed = self._records.change(desired.merchant_id, decide, known=known, durably=True)
        if isinstance(committed, Stop):
            connection = self._records.load(desired.merchant_id).connection
            assert connection is not None  # noqa: S101 - "unchanged" was said of it
            return Accepted(connection, started=False)
        was = committed.before
        started = was is None or was.run != committed.after.run or was.candidate != committed.after.candidate
        return Accepted(committed.after, started, committed.former)

    def revalidate(self, request: object, door: Door, *, traceparent: str = "") -> Asked:
        """Re-validate a connection now; with `repair`, put back even what somebody keeps undoing.

        Raises like `accept`, RequestRefused also for a merchant nobody has connected.
        """
        parsed = self._follow_up(request, door, "repair", (True, False))
        return self._ask(
            parsed,
            door,
            lambda it, now: revalidate_now(it, Moment(now, self._pace), repair=parsed.choice is True),
            traceparent,
        )

    def disconnect(self, request: object, door: Door, *, traceparent: str = "") -> Asked:
        """Take our callback URL out of the store; with `forget: "now"`, leave it and forget the key.

        Raises like `look`.
        """
        parsed = self._follow_up(request, door, "forget", ("now", "end"))
        return self._ask(
            parsed,
            door,
            lambda it, now: disconnect(it, Moment(now, self._pace), forget_now=parsed.choice == "now"),
            traceparent,
        )

    def check_for_later(self, kind: str, request: object, door: Door) -> dict[str, object]:
        """The fields of a request to be taken up later. Raises RequestRefused, which is also kept for the operator."""
        try:
            if kind == "connect":
                self.check(request)
            elif kind == "revalidate":
                parse_follow_up(request, "repair", (True, False))
            else:
                parse_follow_up(request, "forget", ("now", "end"))
        except RequestRefused as refusal:
            self._note(refusal, request, door)
            raise
        return dict(cast("Mapping[str, object]", request))

    def _follow_up(self, request: object, door: Door, option: str, choices: tuple[object, ...]) -> FollowUpRequest:
        try:
            return parse_follow_up(request, option, choices)
        except RequestRefused as refusal:
            self._note(refusal, request, door)
            raise

    def _ask(
        self,
        parsed: FollowUpRequest,
        door: Door,
        decide: Callable[[Connection | None, float], Change | Stop],
        traceparent: str,
    ) -> Asked:
        decided = self._records.change(parsed.merchant_id, partial(_traced, decide, traceparent), durably=True)
        if isinstance(decided, Stop) and decided.reason == "unknown_connection":
            refusal = RequestRefused("merchant_id", "unknown_connection", "connect the merchant first")
            self._note(refusal, {"merchant_id": parsed.merchant_id}, door)
            raise refusal
        if isinstance(decided, Stop):
            return Asked(parsed.merchant_id, decided.reason)
        return Asked(parsed.merchant_id, "accepted", decided)

    def _note(self, refusal: RequestRefused, request: object, door: Door) -> None:
        merchant_id = request.get("merchant_id") if isinstance(request, dict) else None
        known = merchant_id if is_merchant_id(merchant_id) else None
        self._records.note_refusal(refusal, merchant_id=known, door=door)

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


def _traced(
    decide: Callable[[Connection | None, float], Change | Stop],
    traceparent: str,
    connection: Connection | None,
    now: float,
) -> Change | Stop:
    """What begins with a request belongs to its trace; what was under way before stays in its own."""
    decided = decide(connection, now)
    if isinstance(decided, Stop) or connection is None:
        return decided
    if decided.connection.run == connection.run and not is_at_rest(connection):
        return decided
    return replace(decided, connection=replace(decided.connection, traceparent=traceparent))

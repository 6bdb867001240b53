"""Taking a request on: from here on, the record sees to it that the connection gets where it should.

Both doors, the Celery task and the inbox, and the command line lead here.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from integrations.errors import RequestRefused
from integrations.oracle_commerce import transitions
from integrations.oracle_commerce.application_key import check_application_key, expiry_of, fingerprint
from integrations.oracle_commerce.connection import Connection, Step
from integrations.oracle_commerce.records import Records, Snapshot
from integrations.oracle_commerce.request import is_merchant_id, parse_request
from integrations.oracle_commerce.schedule import Pace
from integrations.oracle_commerce.store_url import normalise_store_url
from integrations.oracle_commerce.transitions import Desired, Moment, Stop
from integrations.sealing import Keyring
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


class Acceptance:
    """Checks requests and begins runs."""

    def __init__(self, records: Records, keyring: Keyring, settings: Settings, pace: Pace, first: Step) -> None:
        self._records = records
        self._keyring = keyring
        self._settings = settings
        self._pace = pace
        self._first = first

    def accept(self, request: object, door: Door) -> Accepted:
        """Begin a run, durably. The same request again begins nothing.

        Raises RequestRefused, which is also kept for the operator, and TransientError or redis.RedisError when the
        server could not take it: then the producer still has it.
        """
        try:
            desired = self.check(request)
        except RequestRefused as refusal:
            merchant_id = request.get("merchant_id") if isinstance(request, dict) else None
            known = merchant_id if is_merchant_id(merchant_id) else None
            self._records.note_refusal(refusal, merchant_id=known, door=door)
            raise
        known = self._records.load(desired.merchant_id)
        begin = partial(self._begin, desired, replace_key=self._cannot_open(known))
        committed = self._records.change(desired.merchant_id, begin, known=known, durably=True)
        if isinstance(committed, Stop):
            connection = self._records.load(desired.merchant_id).connection
            assert connection is not None  # noqa: S101 - "unchanged" was said of it
            return Accepted(connection, started=False)
        started = committed.before is None or committed.before.run != committed.after.run
        return Accepted(committed.after, started=started)

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
    ) -> transitions.Change | Stop:
        at = Moment(now, self._pace)
        return transitions.begin(connection, desired, self._first, at, replace_key=replace_key)

"""One merchant's store, called with an access token that renews itself."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Protocol, TypeVar

from integrations.egress.deadline import Deadline
from integrations.errors import AccessTokenRefused, PermanentError, TransientError
from integrations.oracle_commerce.access_token import AccessToken, AccessTokens
from integrations.oracle_commerce.client import FailedMessages, Login, ShippingMethod

T = TypeVar("T")


class Api(Protocol):
    """What a store offers; `client.CommerceCloud` over HTTP."""

    def login(self, application_key: str, deadline: Deadline) -> Login:
        """Exchange the application key for an access token."""

    def shipping_methods(self, access_token: str, deadline: Deadline) -> list[ShippingMethod]:
        """All shipping methods that the store lists."""

    def read_slot(self, access_token: str, slot_id: str, deadline: Deadline) -> dict[str, object]:
        """What a slot carries."""

    def list_slots(self, access_token: str, deadline: Deadline) -> list[dict[str, object]]:
        """What all slots carry."""

    def write_slot(
        self, access_token: str, slot_id: str, body: Mapping[str, object], deadline: Deadline
    ) -> dict[str, object] | None:
        """Update a slot; None if the answer does not show what it now carries."""

    def failed_messages(self, access_token: str, deadline: Deadline, *, limit: int, offset: int) -> FailedMessages:
        """One page of the messages the store has given up delivering."""

    def resend_failed_message(self, access_token: str, message_id: str, deadline: Deadline) -> None:
        """Have one message queued for another delivery."""


class Store:
    """The calls of one piece of work at one store, all within its deadline.

    A 401 on a call means that the token has ended, sooner than it should: log in once, repeat once. A 401 with a token
    that was just bought, and that nobody else has, is not about the token: the application may not make this call. If
    another worker has bought a token meanwhile, that one is tried first.

    Whether a token is fresh is decided anew before each call.
    """

    def __init__(
        self,
        api: Api,
        tokens: AccessTokens,
        *,
        merchant_id: str,
        fingerprint: str,
        open_key: Callable[[], str],
        deadline: Deadline,
        now: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now`: the time."""
        self._api = api
        self._tokens = tokens
        self._merchant_id = merchant_id
        self._fingerprint = fingerprint
        self._open_key = open_key
        self._deadline = deadline
        self._now = now
        self._clock = clock
        self._began = clock()
        self._at_store = 0.0  # seconds
        self.key_accepted = False
        """Whether the store has exchanged the application key for a token, here and now."""

    def exchange_key(self, *, since: float) -> None:
        """Prove that the application key is alive, by an exchange after `since` (seconds, the pipeline's clock).

        Raises CredentialRejected if the store says no.
        """
        self._token(newer_than=since)

    def shipping_methods(self) -> list[ShippingMethod]:
        """All shipping methods that the store lists."""
        return self._call(lambda token: self._api.shipping_methods(token, self._deadline))

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What a slot carries. Raises SlotNotFound if there is none to read."""
        return self._call(lambda token: self._api.read_slot(token, slot_id, self._deadline))

    def list_slots(self) -> list[dict[str, object]]:
        """What all slots carry."""
        return self._call(lambda token: self._api.list_slots(token, self._deadline))

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Update the named properties of a slot; None if the answer does not show what it now carries."""
        return self._call(lambda token: self._api.write_slot(token, slot_id, body, self._deadline))

    def failed_messages(self, *, limit: int, offset: int) -> FailedMessages:
        """One page of the messages the store has given up delivering, to whomever."""
        return self._call(lambda token: self._api.failed_messages(token, self._deadline, limit=limit, offset=offset))

    def resend_failed_message(self, message_id: str) -> None:
        """Have one message queued for another delivery, to the URLs that have not received it."""
        self._call(lambda token: self._api.resend_failed_message(token, message_id, self._deadline))

    def _call(self, call: Callable[[str], T]) -> T:
        token = self._token()
        with suppress(AccessTokenRefused):
            return self._asked(lambda: call(token.text))
        for newer_than in (token.issued_at, math.inf):
            with self._fresh(newer_than) as (replacement, is_ours_alone):
                try:
                    return self._asked(partial(call, replacement.text))
                except AccessTokenRefused as refused:
                    if is_ours_alone:
                        raise PermanentError("permission_denied", refused.detail) from None
        raise AssertionError("a token newer than any there is was just bought")

    def _token(self, *, newer_than: float = 0.0) -> AccessToken:
        with self._fresh(newer_than) as (token, _):
            return token

    def _fresh(self, newer_than: float) -> AbstractContextManager[tuple[AccessToken, bool]]:
        return self._tokens.fresh(
            self._merchant_id, self._fingerprint, self._login, self._deadline, now=self._now, newer_than=newer_than
        )

    def _login(self) -> Login:
        application_key = self._open_key()
        self.key_accepted = False
        login = self._asked(lambda: self._api.login(application_key, self._deadline))
        self.key_accepted = True
        return login

    def _asked(self, call: Callable[[], T]) -> T:
        """Make one call. That the work ran out of time is not the store's doing if we spent most of it ourselves."""
        before = self._clock()
        ours = before - self._began - self._at_store
        try:
            return call()
        except TransientError as error:
            theirs = self._at_store + self._clock() - before
            if error.code != "store_timeout" or self._deadline.remaining() > 0 or theirs >= ours:
                raise
        finally:
            self._at_store += self._clock() - before
        raise TransientError("internal_error", "our own side used up the time")

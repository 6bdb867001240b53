"""The calls to Oracle Commerce Cloud: which method, path and body, and whose authority."""

import re
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import quote, urlencode

from integrations.egress.answer import Answer
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import AccessTokenRefused, CredentialRejected, PermanentError
from integrations.observer import NOBODY, Observer, observed
from integrations.oracle_commerce import answers
from integrations.oracle_commerce.answers import FailedMessages, Login, ShippingMethod

__all__ = ["CommerceCloud", "Endpoint", "FailedMessages", "Login", "ShippingMethod"]

_SENDABLE = re.compile(r"[!-~]+", re.ASCII)
_MESSAGE_ID = re.compile(r"(?!\.+\Z)[!-~]{1,100}", re.ASCII)
# A message holds the whole order, also as raw bytes: of no use to us, not ours to see, and too much for one answer.
_OF_A_MESSAGE = ("id", "remainingTargetUrls", "savedTime", "resend", "lastErrorMessage")
_FIELDS = ",".join([*(f"items.{name}" for name in _OF_A_MESSAGE), "totalResults"])
_FAILED_MESSAGES = "/ccadmin/v1/webhookFailedMessages"


class Endpoint(StrEnum):
    """The calls by name, as they are counted."""

    LOGIN = "login"
    SHIPPING_METHODS = "shipping_methods"
    READ_SLOT = "read_slot"
    LIST_SLOTS = "list_slots"
    WRITE_SLOT = "write_slot"
    FAILED_MESSAGES = "failed_messages"
    RESEND = "resend_failed_message"


class CommerceCloud:
    """One store's Admin API at `store_url` ("https://host", as `normalise_store_url` gives it).

    Each method is one HTTP call, made once. All raise TransientError and PermanentError as `answers` and `session` say.
    """

    def __init__(
        self,
        session: GuardedSession,
        store_url: str,
        *,
        shipping_methods_path: str = "/ccadmin/v1/shippingMethods",
        observer: Observer = NOBODY,
    ) -> None:
        self._session = session
        self._observer = observer
        self._store_url = store_url
        self._shipping_methods_path = shipping_methods_path

    def login(self, application_key: str, deadline: Deadline) -> Login:
        """Exchange the application key for an access token. Raises CredentialRejected if the store says no to it."""
        if not _SENDABLE.fullmatch(application_key):
            raise CredentialRejected("not sent: no header can carry it")
        # Oracle REST reference, "op-ccadmin-v1-login-post": a form, the key as bearer
        form = {"grant_type": "client_credentials"}
        return answers.login(
            self._request(Endpoint.LOGIN, "POST", "/ccadmin/v1/login", application_key, deadline, form=form)
        )

    def shipping_methods(self, access_token: str, deadline: Deadline) -> list[ShippingMethod]:
        """The shipping methods that the store lists: by default the enabled ones only."""
        # Oracle REST reference, "op-ccadmin-v1-shippingmethods-get": not paged
        return answers.shipping_methods(
            self._call(Endpoint.SHIPPING_METHODS, "GET", self._shipping_methods_path, access_token, deadline)
        )

    def read_slot(self, access_token: str, slot_id: str, deadline: Deadline) -> dict[str, object]:
        """What a slot carries, with all fields as they came. Raises SlotNotFound if there is none to read."""
        # Oracle REST reference, "op-ccadmin-v1-webhooks-id-get"
        return answers.slot(self._call(Endpoint.READ_SLOT, "GET", _slot_path(slot_id), access_token, deadline), slot_id)

    def list_slots(self, access_token: str, deadline: Deadline) -> list[dict[str, object]]:
        """What all slots carry, with all fields as they came."""
        # Oracle REST reference, "op-ccadmin-v1-webhooks-get"
        return answers.slots(self._call(Endpoint.LIST_SLOTS, "GET", "/ccadmin/v1/webhooks", access_token, deadline))

    def write_slot(
        self, access_token: str, slot_id: str, body: Mapping[str, object], deadline: Deadline
    ) -> dict[str, object] | None:
        """Update the fields in `body`: a list or map in it replaces the one the slot has.

        Answers the slot as it then is; None when the store accepted without telling.
        """
        # Oracle REST reference, "op-ccadmin-v1-webhooks-id-put": no field is mandatory, there is no locking
        path = _slot_path(slot_id)
        return answers.written_slot(
            self._call(Endpoint.WRITE_SLOT, "PUT", path, access_token, deadline, json=dict(body)), slot_id
        )

    def failed_messages(self, access_token: str, deadline: Deadline, *, limit: int, offset: int) -> FailedMessages:
        """One page of the messages the store has given up delivering, to whomever."""
        # Oracle REST reference, "op-ccadmin-v1-webhookfailedmessages-get"; `fields`: "REST API query parameters"
        query = urlencode({"limit": limit, "offset": offset, "fields": _FIELDS}, safe=",")
        path = f"{_FAILED_MESSAGES}?{query}"
        return answers.failed_messages(self._call(Endpoint.FAILED_MESSAGES, "GET", path, access_token, deadline))

    def resend_failed_message(self, access_token: str, message_id: str, deadline: Deadline) -> None:
        """Have one message queued for another delivery, to the URLs that have not received it."""
        # Oracle REST reference, "op-ccadmin-v1-webhookfailedmessages-id-put": only `resend` can be updated
        if not _MESSAGE_ID.fullmatch(message_id):  # without an id the call would mean all messages of everybody
            raise PermanentError("request_refused", "not sent: no message has such an id")
        path = f"{_FAILED_MESSAGES}/{quote(message_id, safe='')}"
        answers.resent(self._call(Endpoint.RESEND, "PUT", path, access_token, deadline, json={"resend": True}))

    def _call(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        access_token: str,
        deadline: Deadline,
        *,
        json: object | None = None,
    ) -> Answer:
        if not _SENDABLE.fullmatch(access_token):
            # A fresh token mends it, which is what callers do about a refused one.
            raise AccessTokenRefused("not sent: no header can carry it")
        return self._request(endpoint, method, path, access_token, deadline, json=json)

    def _request(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        bearer: str,
        deadline: Deadline,
        *,
        form: Mapping[str, str] | None = None,
        json: object | None = None,
    ) -> Answer:
        headers = {"Authorization": f"Bearer {bearer}"}
        host = self._store_url.rpartition("/")[2]
        with observed(self._observer, endpoint, method, host) as observation:
            url = self._store_url + path
            answer = self._session.request(method, url, headers=headers, form=form, json=json, deadline=deadline)
            observation.answered(answer.status)
        return answer


def _slot_path(slot_id: str) -> str:
    return f"/ccadmin/v1/webhooks/{quote(slot_id, safe='')}"

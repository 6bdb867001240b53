"""What a store's answers mean: a value, or one of our errors. Pure: statuses, headers and bodies in, meaning out.

Oracle documents one error model for all endpoints (Oracle, "Error messages": message, status, errorCode, errors) and
hardly any statuses; the rest is what public clients of real stores had to cope with. So the status decides, bodies may
be JSON, empty or a page of the network's edge, numbers may be quoted, and texts are never matched, being localised.

JSON is read as leniently as it is written: raw control characters and bad bytes in a text, NaN, Infinity, and fields
that are there twice do no harm where nobody looks. What is acted on is read strictly.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from types import MappingProxyType

from integrations.egress.answer import SECONDS, Answer, retry_after
from integrations.errors import (
    AccessTokenRefused,
    CredentialRejected,
    IntegrationError,
    PermanentError,
    SlotNotFound,
    SlotNotReadable,
    TransientError,
)

APPLICATION_KEY_TOKEN_LIFETIME = 300.0
"""Seconds; Oracle, "Refresh an access token": five minutes for a token bought with an application key."""

_LONGEST_LIFETIME = 366 * 86400
# The access tokens seen are about 2 KB. What could not travel in a header was damaged on its way to us.
_ACCESS_TOKEN = re.compile(r"[!-~]{1,16384}", re.ASCII)
_PERFORMANCE_GUARD = "60012"  # with 403, since release 19A: the call took over 30 s or asked for too much
_GOOD = range(200, 300)
_ERROR_STATUS = re.compile(r"[45][0-9]{2}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,12}", re.ASCII)
_NO_URL_HOLDS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST_NUMBER = 300  # digits; more take long to read, and nobody counts that far
_READ_STRICTLY = frozenset({"id", "urls", "url", "access_token", "items"})
_UNCLEAR = object()
"""In place of a value that is there several times, where it matters: neither text, number nor list."""


@dataclass(frozen=True, slots=True)
class Login:
    """An access token, and for how many seconds the store says it lives."""

    access_token: str = field(repr=False)
    lifetime: float


@dataclass(frozen=True, slots=True)
class ShippingMethod:
    """A shipping method as far as it matters here."""

    id: str | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class FailedMessages:
    """One page of a store's failed-message log: the messages as they came, and how many the store says it has."""

    items: list[dict[str, object]] = field(repr=False)  # what could not be read is there as an empty one
    total: int | None = None


class Call(Enum):
    """The calls whose answers we read; the same status can mean different things."""

    LOGIN = auto()
    SHIPPING_METHODS = auto()
    READ_SLOT = auto()
    WRITE_SLOT = auto()
    FAILED_MESSAGES = auto()
    RESEND = auto()


class _Kind(Enum):
    JSON = auto()
    EMPTY = auto()
    MARKUP = auto()  # an HTML page: not from the store's API but from something in front of it
    OTHER = auto()


def login(answer: Answer) -> Login:
    """The access token of `POST /ccadmin/v1/login`.

    Raises CredentialRejected when the store says no to the key; PermanentError `not_an_admin_host`; TransientError.
    """
    value = _accepted(Call.LOGIN, answer).value
    fields = value if isinstance(value, dict) else {}
    token = fields.get("access_token")
    if not isinstance(token, str) or not _ACCESS_TOKEN.fullmatch(token):
        raise _unreadable(answer, "an access token")
    return Login(token, _lifetime(fields.get("expires_in")))


def shipping_methods(answer: Answer) -> list[ShippingMethod]:
    """The shipping methods of the list endpoint: under `items`, or a bare array in older releases.

    Raises AccessTokenRefused; PermanentError `permission_denied` or `shipping_methods_not_found`; TransientError.
    """
    value = _accepted(Call.SHIPPING_METHODS, answer).value
    items = value.get("items", value) if isinstance(value, dict) else value
    if items is None and value is not None:  # any field may be null, also the list
        return []
    if not isinstance(items, list):
        raise _unreadable(answer, "a list")
    return [ShippingMethod(_identifier(item), _is_enabled(item)) for item in items if isinstance(item, dict)]


def slot(answer: Answer, slot_id: str) -> dict[str, object]:
    """The slot `GET /ccadmin/v1/webhooks/{id}` was asked for, as it came.

    An object that names another slot is no answer, whoever mixed them up: what we write back is made from it.

    Raises AccessTokenRefused; SlotNotFound; PermanentError `permission_denied`, `slot_not_offered` or
    `slot_unreadable`; TransientError.
    """
    found = _single(_accepted(Call.READ_SLOT, answer).value)
    if found is None or not _is_about(found, slot_id):
        raise _unreadable(answer, "the webhook asked for")
    if _is_damaged(found):
        raise PermanentError("slot_unreadable", "control characters in a URL, or its list is there twice")
    return found


def slots(answer: Answer) -> list[dict[str, object]]:
    """All slots `GET /ccadmin/v1/webhooks` tells of, as they came: a bare array in the samples, or under `items`.

    Raises AccessTokenRefused; PermanentError when the store offers no list; TransientError.
    """
    value = _accepted(Call.READ_SLOT, answer).value
    items = value.get("items") if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise _unreadable(answer, "a list")
    # A damaged entry stays, but no URL can be read from it: what is missing from a list could be written over.
    return [{**item, "urls": _UNCLEAR} if _is_damaged(item) else item for item in items if isinstance(item, dict)]


def written_slot(answer: Answer, slot_id: str) -> dict[str, object] | None:
    """The slot as `PUT /ccadmin/v1/webhooks/{id}` says it now is; None when a good answer does not tell.

    Raises AccessTokenRefused; PermanentError `permission_denied`, `slot_not_offered` or `slot_refused`; TransientError.
    """
    found = _single(_accepted(Call.WRITE_SLOT, answer).value)
    return found if found is not None and _is_about(found, slot_id) and not _is_damaged(found) else None


def failed_messages(answer: Answer) -> FailedMessages:
    """One page of `GET /ccadmin/v1/webhookFailedMessages`.

    Raises AccessTokenRefused; PermanentError `permission_denied` or, from a store without the log, `request_refused`;
    TransientError.
    """
    value = _accepted(Call.FAILED_MESSAGES, answer).value
    fields = value if isinstance(value, dict) else {"items": value}
    items = fields.get("items")
    if not isinstance(items, list):
        raise _unreadable(answer, "a list")
    total = fields.get("totalResults", fields.get("total"))  # the latter in older releases
    text = str(total) if isinstance(total, int | str) else ""
    messages = [item if isinstance(item, dict) else {} for item in items]
    return FailedMessages(messages, int(text) if _DIGITS.fullmatch(text) else None)


def resent(answer: Answer) -> None:
    """Look at the answer of `PUT /ccadmin/v1/webhookFailedMessages/{id}`.

    Raises AccessTokenRefused; PermanentError `permission_denied` or `request_refused`; TransientError.
    """
    _accepted(Call.RESEND, answer)


@dataclass(frozen=True, slots=True)
class _Content:
    """A body, and what it is."""

    kind: _Kind
    value: object = None

    @classmethod
    def of(cls, answer: Answer) -> "_Content":
        text = _text(answer)
        if not text.strip():
            return cls(_Kind.EMPTY)
        try:
            return cls(_Kind.JSON, json.loads(text, strict=False, parse_int=_number, object_pairs_hook=_fields))
        except (ValueError, RecursionError):
            content_type = answer.headers.get("Content-Type", "").lower()
            is_markup = text.lstrip().startswith("<") or "html" in content_type
            return cls(_Kind.MARKUP if is_markup else _Kind.OTHER)

    @property
    def reported(self) -> Mapping[str, object] | None:
        """The error this body reports, in Oracle's form (errorCode, or a list of errors) or OAuth's (error)."""
        if not isinstance(self.value, dict):
            return None
        if self.value.get("errorCode") or self.value.get("error"):
            return self.value
        errors = self.value.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        if not isinstance(first, dict):
            return None
        return {**first, **{name: value for name, value in self.value.items() if value is not None}}

    @property
    def reported_status(self) -> int | None:
        """The HTTP status the error names, as a number or quoted; None if that is no status of an error."""
        text = str((self.reported or {}).get("status", ""))
        return int(text) if _ERROR_STATUS.fullmatch(text) else None

    @property
    def error_code(self) -> str | None:
        """Oracle's code of the error, the same in all languages."""
        text = str((self.reported or {}).get("errorCode", ""))
        return text if _DIGITS.fullmatch(text) else None


def _accepted(call: Call, answer: Answer) -> _Content:
    """The content of a good answer to `call`; raises what any other means."""
    content = _Content.of(answer)
    if answer.status in _GOOD and content.reported is None:
        if content.kind is _Kind.JSON or (call is Call.WRITE_SLOT and content.kind is not _Kind.MARKUP):
            return content
        if call is Call.RESEND and content.kind is _Kind.EMPTY:
            return content
        if call is Call.LOGIN and content.kind is _Kind.MARKUP:
            raise PermanentError("not_an_admin_host", f"HTTP {answer.status} with a web page")
        raise _unreadable(answer, "JSON")
    raise _refusal(call, answer, content)


def _unreadable(answer: Answer, missing: str) -> TransientError:
    wait = retry_after(answer.headers, answer.received_at)
    return TransientError("unreadable_answer", f"HTTP {answer.status} without {missing}", retry_after=wait)


def _refusal(call: Call, answer: Answer, content: _Content) -> IntegrationError:
    status = answer.status
    detail = f"HTTP {status}"
    if status in _GOOD:
        # An error can arrive as a success (seen in Oracle's own Design Code Utility); then its own status counts.
        status = content.reported_status or _status_of_oauth(call, content)
        detail += f", status {content.reported_status}" if content.reported_status else ""
    detail += f", errorCode {content.error_code}" if content.error_code else ""
    if transient := _transient_code(call, status, content):
        return TransientError(transient, detail, retry_after=retry_after(answer.headers, answer.received_at))
    if status == HTTPStatus.UNAUTHORIZED:
        return CredentialRejected(detail) if call is Call.LOGIN else AccessTokenRefused(detail)
    if status == HTTPStatus.FORBIDDEN:
        return PermanentError("permission_denied", detail)
    refused = _REFUSALS[call]
    return refused.get(status, refused[None])(detail)


def _status_of_oauth(call: Call, content: _Content) -> int:
    """RFC 6749, 5.2: these say no to whoever logs in; any other error is the store's own."""
    refused = call is Call.LOGIN and (content.reported or {}).get("error") in _KEY_REFUSED
    return HTTPStatus.UNAUTHORIZED if refused else HTTPStatus.INTERNAL_SERVER_ERROR


def _transient_code(call: Call, status: int, content: _Content) -> str | None:
    """The code of trouble that may pass; None if the status is a verdict."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _COME_AGAIN:
        return "store_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "store_busy"
    if status < HTTPStatus.BAD_REQUEST:
        return "unreadable_answer"
    if status == HTTPStatus.FORBIDDEN and content.error_code == _PERFORMANCE_GUARD:
        return "store_overloaded"
    if _is_from_the_edge(call, status, content):
        return "edge_refused"
    return None


def _is_from_the_edge(call: Call, status: int, content: _Content) -> bool:
    """Whether something in front of the store refused, such as a firewall: no verdict on a key or a role."""
    if status == HTTPStatus.FORBIDDEN:
        return call is Call.LOGIN or content.kind is _Kind.MARKUP
    return status == HTTPStatus.BAD_REQUEST and call is Call.LOGIN and content.kind in {_Kind.MARKUP, _Kind.OTHER}


def _permanent(code: str) -> Callable[[str], PermanentError]:
    return lambda detail: PermanentError(code, detail)


_KEY_REFUSED = ("invalid_client", "invalid_grant", "unauthorized_client")
_COME_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
# What a status from 400 to 499 means for a call, beyond what it means for all of them; None stands for all others.
_REFUSALS: Mapping[Call, Mapping[int | None, Callable[[str], PermanentError]]] = MappingProxyType(
    {
        Call.LOGIN: {
            400: CredentialRejected,
            404: _permanent("not_an_admin_host"),
            405: _permanent("not_an_admin_host"),
            410: _permanent("not_an_admin_host"),
            None: _permanent("request_refused"),
        },
        Call.SHIPPING_METHODS: {
            404: _permanent("shipping_methods_not_found"),
            None: _permanent("request_refused"),
        },
        Call.READ_SLOT: {
            400: _permanent("slot_not_offered"),
            404: SlotNotFound,
            405: SlotNotReadable,
            None: _permanent("request_refused"),
        },
        Call.WRITE_SLOT: {
            404: _permanent("slot_not_offered"),
            None: _permanent("slot_refused"),
        },
        Call.FAILED_MESSAGES: {None: _permanent("request_refused")},
        Call.RESEND: {None: _permanent("request_refused")},
    }
)


def _text(answer: Answer) -> str:
    body = answer.body
    try:
        return body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        charset = answer.headers.get("Content-Type", "").lower()
        if "8859-1" in charset or "1252" in charset or "latin" in charset:
            return body.decode("latin-1")
        # A bad byte in a text that nobody reads does no harm; where it matters, the surrogate it becomes is seen.
        return body.decode("utf-8", "surrogateescape")


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float(digits)


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The last of several fields of one name counts, as for most; not where we would act on it."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        fields.update({name: _UNCLEAR for name in _READ_STRICTLY & fields.keys() if names.count(name) > 1})
    return fields


def _is_about(content: Mapping[str, object], slot_id: str) -> bool:
    """Whether an object that names a slot names this one; stores do not tell ids apart by case."""
    named = content.get("id")
    if named is None:
        return True
    return isinstance(named, str | int) and str(named).strip().casefold() == slot_id.strip().casefold()


def _is_damaged(content: Mapping[str, object]) -> bool:
    """Whether a URL holds what no URL can, or there are several lists of them: a write would put the damage back."""
    for held in (content.get("urls"), content.get("url")):
        urls = held if isinstance(held, list) else [held]
        if any(url is _UNCLEAR or (isinstance(url, str) and _NO_URL_HOLDS.search(url.strip())) for url in urls):
            return True
    return False


def _single(value: object) -> dict[str, object] | None:
    """One object, also as the only one of a list."""
    items = value.get("items", value) if isinstance(value, dict) else value
    if isinstance(items, list) and len(items) == 1:
        items = items[0]
    return items if isinstance(items, dict) else None


def _lifetime(value: object) -> float:
    """Seconds; some clients parse the number out of a text, older samples have none at all."""
    text = str(value).strip() if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    seconds = float(text) if SECONDS.fullmatch(text) else 0.0
    return seconds if 0 < seconds <= _LONGEST_LIFETIME else APPLICATION_KEY_TOKEN_LIFETIME


def _identifier(item: Mapping[str, object]) -> str | None:
    found = item.get("repositoryId") or item.get("id")
    return str(found) if isinstance(found, str | int) else None


def _is_enabled(item: Mapping[str, object]) -> bool:
    """Whether a shipping method is offered to shoppers; a list of enabled ones need not say so."""
    return str(item.get("enabled")).strip().lower() not in {"false", "0"}

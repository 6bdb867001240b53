"""The events a store gave up delivering to our callback URL: how many there are, and asking for them once more.

After the last attempt (five, an hour apart, unless changed) a store keeps the message with the URLs that have not
received it, and can be asked to send it to those again (Oracle, "Manage failed webhook calls"). Only what remains for
us alone is asked for: whether another receiver wants an old event again is not ours to decide.

The log knows what the store tried to deliver. While our URL was not in the slot it tried nothing, and of that time
nothing can be found here.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from integrations.errors import CredentialRejected, IntegrationError, PermanentError, TransientError
from integrations.oracle_commerce import slot as slots
from integrations.oracle_commerce.answers import FailedMessages
from integrations.oracle_commerce.slot import Ours

Message = Mapping[str, object]

_PAGES = 20
_LIMIT = 250  # Oracle, "REST API query parameters": also what a store answers with unless told
_SMALL_LIMIT = 25  # for a store that sends whole orders along although it was not asked to
_EPOCH = re.compile(r"[0-9]{9,13}", re.ASCII)
_DIGITS_OF_SECONDS = 11


class FailedMessageLog(Protocol):
    """The part of a store that this needs."""

    def failed_messages(self, *, limit: int, offset: int) -> FailedMessages:
        """One page of the messages the store has given up delivering, to whomever."""

    def resend_failed_message(self, message_id: str) -> None:
        """Have one message queued for another delivery."""


@dataclass(frozen=True, slots=True)
class Missed:
    """The messages of a time that have not reached our callback URL.

    `for_us_alone`: the ids of those that remain for nobody else and can be asked for. `for_others_too`: how many remain
    for somebody else as well. `queued`: how many the store is about to send again anyway. `truncated`: the log was too
    long to read all of it, so there may be more.
    """

    total: int
    for_us_alone: tuple[str, ...]
    for_others_too: int = 0
    queued: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay. `left_over`: for us alone, but the store did not accept it now; a later replay asks again.

    `truncated` as in Missed.
    """

    asked: int
    left_to_others: int
    left_over: int = 0
    truncated: bool = False


def missed(log: FailedMessageLog, ours: Ours, since: float) -> Missed | None:
    """What has not reached our callback URL since a time (epoch seconds, the store's clock).

    None when the store does not say, for whatever reason: this is asked after a repair, which it must never spoil.
    """
    try:
        return _missed(log, ours, since)
    except IntegrationError:
        return None


def replay(log: FailedMessageLog, ours: Ours, since: float) -> Replayed | None:
    """Ask the store to resend what remains for our callback URL alone since a time, each message once.

    What is queued already is not asked for again, so a replay can be repeated. None when the store has no log for us.
    Raises CredentialRejected and TransientError when the log cannot be read at the moment.
    """
    try:
        found = _missed(log, ours, since)
    except IntegrationError as error:
        if _has_no_log(error):
            return None
        raise
    asked = 0
    for message_id in found.for_us_alone:
        try:
            log.resend_failed_message(message_id)
            asked += 1
        except IntegrationError as error:
            if _would_meet_all(error):
                break
    for_us = found.total - found.for_others_too - found.queued
    return Replayed(asked, found.for_others_too, for_us - asked, found.truncated)


def _has_no_log(error: IntegrationError) -> bool:
    if isinstance(error, TransientError):
        return error.code in {"unreadable_answer", "answer_too_large"}
    return not isinstance(error, CredentialRejected)


def _would_meet_all(error: IntegrationError) -> bool:
    """Whether an error is not about the one message: going on would only press a store that has said no, or wait."""
    if isinstance(error, TransientError):
        return error.code == "store_busy" or error.retry_after is not None
    return error.code in {"key_rejected", "permission_denied"}


def _missed(log: FailedMessageLog, ours: Ours, since: float) -> Missed:
    messages, truncated = messages_of(log)
    total = for_others_too = queued = 0
    for_us_alone: list[str] = []
    for message in messages:
        targets = _remaining_targets(message)
        others = ours.foreign(targets)
        if len(others) == len(targets) or not _is_since(message, since):
            continue
        total += 1
        message_id = _id(message)
        if message.get("resend") is True or message.get("resend") == "true":
            queued += 1
        elif others:
            for_others_too += 1
        elif message_id is not None:
            for_us_alone.append(message_id)
    return Missed(total, tuple(for_us_alone), for_others_too, queued, truncated)


def messages_of(log: FailedMessageLog, *, pages: int = _PAGES, limit: int = _LIMIT) -> tuple[list[Message], bool]:
    """The messages of the log, each once, and whether there are more than were read. Raises IntegrationError."""
    try:
        messages, truncated = _paged(log, limit, pages)
    except TransientError as error:
        if error.code == "answer_too_large" and limit > _SMALL_LIMIT:
            return messages_of(log, pages=pages, limit=_SMALL_LIMIT)
        raise
    if messages and not any("remainingTargetUrls" in message for message in messages):
        raise TransientError("unreadable_answer", "failed messages without targets")
    return messages, truncated


def _paged(log: FailedMessageLog, limit: int, pages: int) -> tuple[list[Message], bool]:
    """Of a log that is too long the end is read: the samples are sorted by id, so that is where the newest are."""
    found: dict[object, Message] = {}
    offset, skipped = 0, False
    for number in range(pages):
        page = log.failed_messages(limit=limit, offset=offset)
        known = len(found)
        for message in page.items:
            found.setdefault(_id(message) or object(), message)
        got = len(page.items)
        offset += got
        has_more = got >= limit if page.total is None else offset < page.total
        if not has_more:
            return list(found.values()), skipped
        if len(found) == known:
            break  # more is said to be there, but paging does not bring it
        if number == 0 and page.total is not None and page.total > pages * got:
            offset, skipped = page.total - (pages - 1) * got, True
    return list(found.values()), True


def _id(message: Message) -> str | None:
    found = message.get("id")
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) and found != "" else None


def _remaining_targets(message: Message) -> tuple[str, ...]:
    """The URLs that have not received a message; none if that is unknown."""
    try:
        return slots.urls_in({"urls": message.get("remainingTargetUrls")})
    except PermanentError:
        return ()


def _is_since(message: Message, since: float) -> bool:
    """Whether a message was saved since a time. One without a readable time counts: it has not reached us either."""
    moment = saved_at(message)
    return moment is None or moment >= math.floor(since)  # the store tells whole seconds


def saved_at(message: Message) -> float | None:
    """When the store gave up on a message, epoch seconds by its clock; None where that cannot be read."""
    return _epoch_seconds(message.get("savedTime"))


def is_for(message: Message, ours: Ours) -> bool:
    """Whether our callback URL is among those that have not received a message."""
    targets = _remaining_targets(message)
    return len(ours.foreign(targets)) < len(targets)


def _epoch_seconds(value: object) -> float | None:
    """In the samples "2016-11-14T18:37:27.000Z"; without a zone it is GMT, as in requests to requeue."""
    try:
        text = value.strip() if isinstance(value, str) else str(int(value)) if isinstance(value, int | float) else ""
        if _EPOCH.fullmatch(text):
            return int(text) / (1 if len(text) <= _DIGITS_OF_SECONDS else 1000)
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None

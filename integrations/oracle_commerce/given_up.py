"""What a store gave up delivering to our callback URLs, slot by slot: whether what receives its deliveries fails.

Read from the log of failed messages, as `missed_events.py` does; here in a few pages at most, since it is asked of
stores that are in order.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from integrations.connections.record import GivenUp
from integrations.errors import IntegrationError
from integrations.oracle_commerce.missed_events import FailedMessageLog, Message, is_for, messages_of, saved_at
from integrations.oracle_commerce.slot import Ours

PAGES = 4
"""Of up to 250 messages each, the newest."""

_STATUS = re.compile(r"(?<![0-9A-Za-z.:/-])([1-5][0-9]{2})(?![0-9A-Za-z.:/-])", re.ASCII)
_WORDS = (
    ("timed out", "timeout"),
    ("timeout", "timeout"),
    ("refused", "connection refused"),
    ("reset", "connection reset"),
    ("certif", "TLS"),
    ("handshake", "TLS"),
    ("ssl", "TLS"),
    ("unknownhost", "name not resolved"),
    ("unknown host", "name not resolved"),
    ("disabled", "target disabled"),
)
OTHER = "another error"


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What is ours in one slot, and since when to look (epoch seconds)."""

    ours: Ours
    since: float


@dataclass(slots=True)
class _Found:
    count: int = 0
    first: float | None = None
    last: float | None = None
    errors: list[str] = field(default_factory=list)


def given_up(log: FailedMessageLog, slots: Mapping[str, AskedFor], now: float) -> Mapping[str, GivenUp] | None:
    """What was given up for each slot, where there is something; what is queued to be sent again is not counted.

    None when the store does not say, for whatever reason: this is asked of a connection that is in order, and must not
    make it look as if it were not.
    """
    try:
        messages, _ = messages_of(log, pages=PAGES)
    except IntegrationError:
        return None
    found = {slot: _found(messages, asked) for slot, asked in slots.items()}
    return {slot: _given_up(one, now) for slot, one in found.items() if one.count}


def _found(messages: Iterable[Message], asked: AskedFor) -> _Found:
    found = _Found()
    for message in messages:
        at = saved_at(message)
        if message.get("resend") in {True, "true"} or not is_for(message, asked.ours):
            continue
        if at is not None and at < asked.since:
            continue
        found.count += 1
        if at is not None:
            found.first = min(at, found.first if found.first is not None else at)
            found.last = max(at, found.last if found.last is not None else at)
        if found.last is None or at == found.last:
            found.errors.append(error_in(message.get("lastErrorMessage")))
    return found


def _given_up(found: _Found, now: float) -> GivenUp:
    last = found.last if found.last is not None else now
    return GivenUp(found.count, found.first if found.first is not None else now, last, found.errors[-1])


def error_in(text: object) -> str:
    """What went wrong with a delivery, in words of ours: what a store writes there may hold anything."""
    if not isinstance(text, str):
        return OTHER
    status = _STATUS.search(text[:1000])
    if status is not None:
        return f"HTTP {status[1]}"
    return next((ours for word, ours in _WORDS if word in text[:1000].lower()), OTHER)

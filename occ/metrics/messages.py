"""How many messages wait: in the queues, in workers' hands, in quarantine, in the inbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from integrations.quarantine import INBOX
from integrations.quarantine import QUARANTINE as SET_ASIDE
from integrations.settings import KeylessSettings
from tasks.queues import QUARANTINE, QUEUES

_UNACKNOWLEDGED = "unacked"  # kombu's hash of the messages in workers' hands
_INBOX_GROUP = "occ"


@dataclass(frozen=True, slots=True)
class Messages:
    """Lengths. `queues` is None when the broker is none we can ask."""

    queues: Mapping[str, int] | None
    unacknowledged: int
    quarantined: int
    inbox: int
    inbox_pending: int


def broker_of(settings: KeylessSettings) -> str | None:
    """A URL to ask the broker by; None if it is not on a Redis, or named in a way only Celery understands."""
    if settings.broker_url == settings.redis_url or settings.redis_url.startswith("unix:"):
        return settings.redis_url
    return settings.broker_url if settings.broker_url.startswith(("redis://", "rediss://")) else None


def messages(records: redis.Redis, broker: redis.Redis | None) -> Messages:
    """Ask for all of them; the broker may be the server with the records. Raises redis.RedisError."""
    with records.pipeline(transaction=False) as pipe:
        pipe.llen(SET_ASIDE)
        pipe.xlen(INBOX)
        pipe.xpending(INBOX, _INBOX_GROUP)
        set_aside, inbox, pending = pipe.execute(raise_on_error=False)
    queues, unacknowledged = None, 0
    if broker is not None:
        with broker.pipeline(transaction=False) as pipe:
            for queue in (*QUEUES, QUARANTINE):
                pipe.llen(queue)
            pipe.hlen(_UNACKNOWLEDGED)
            pipe.llen(SET_ASIDE)
            *lengths, unacknowledged, beside_the_queues = pipe.execute()
        queues = dict(zip((*QUEUES, QUARANTINE), lengths, strict=True))
        set_aside = beside_the_queues if broker is records else _known(set_aside) + beside_the_queues
    return Messages(queues, unacknowledged, _known(set_aside), _known(inbox), _pending(pending))


def _known(answer: Any) -> int:
    if isinstance(answer, Exception):
        raise answer
    return int(answer)


def _pending(answer: Any) -> int:
    """None are pending where nobody has asked for any: there is no group before the first tick."""
    if isinstance(answer, ResponseError) and "NOGROUP" in str(answer):
        return 0
    if isinstance(answer, Exception):
        raise answer
    return int(answer["pending"])

"""Whose keys the stores accept and refuse, and who is looked at to find out whether it is everybody's.

    occ:keys:accepted    zset    merchants whose key a login accepted the last time, by when
    occ:keys:refused     zset    merchants whose key was refused the last time, though it had worked before
    occ:keys:witnesses   text    there while others have just been asked

Both sets hold the latest thousand of a day; `outages.py` notes them.
"""

from dataclasses import replace
from typing import Any, cast

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle.requests import revalidate_now
from integrations.connections.record import Connection, ConnectionStatus, KeyVerdict, merchant_of
from integrations.connections.records import CONNECTIONS, Records, Snapshot
from integrations.connections.schedule import Pace
from integrations.errors import TransientError
from integrations.lua import lua_beside
from integrations.outages.key_service import WITNESSES, Tried

ACCEPTED, REFUSED = "occ:keys:accepted", "occ:keys:refused"
MOST = 1000
"""Merchants in each of the two."""

_ASKED_LATELY = "occ:keys:witnesses"
_CANDIDATES = 50
_ONE_ROUND_IN = 10.0  # seconds


class Refusals:
    """What logins have said of keys, and others who are looked at. Safe to share between threads."""

    def __init__(self, records: Records) -> None:
        self._records, self._redis = records, records.redis
        self._tried = self._redis.register_script(lua_beside(__file__, "keys_tried"))

    def tried(self, since: float, *, besides: str = "") -> Tried:
        """Whose keys were tried since then (seconds, the server's clock), without one merchant's."""
        args = [f"{since:.6f}", besides]
        accepted, refused = cast("list[Any]", self._tried(keys=[ACCEPTED, REFUSED], args=args))
        return Tried(int(accepted), int(refused))

    def forget(self, merchant_id: str) -> None:
        """The refusal of this merchant's key was a verdict: it says nothing of others."""
        self._redis.zrem(REFUSED, merchant_id)

    def ask_witnesses(self, pace: Pace, *, besides: str, count: int = WITNESSES, every: float = _ONE_ROUND_IN) -> int:
        """Have a few others looked at soon, whose keys work as far as is known; how many are being looked at.

        At most one round in so many seconds: who comes meanwhile hears what that one finds.
        """
        if not self._redis.set(_ASKED_LATELY, besides, nx=True, px=round(every * 1000)):
            return count
        ids = cast("list[str]", self._redis.zrandmember(CONNECTIONS, _CANDIDATES))
        asked = 0
        for merchant_id, snapshot in zip(ids, self._records.load_many(ids), strict=True):
            if asked == count:
                break
            connection = snapshot.connection
            if connection is None or merchant_id == besides or not _may_be_asked(connection):
                continue
            under_way = connection.work is None or connection.work.not_before <= snapshot.now()
            asked += under_way or revalidate_soon(self._records, merchant_id, snapshot, pace)
        if not asked:
            self._redis.delete(_ASKED_LATELY)
        return asked


def revalidate_soon(records: Records, merchant_id: str, snapshot: Snapshot, pace: Pace) -> bool:
    """Have the next tick look at a connection, unless it is being looked at."""

    def decide(connection: Connection | None, now: float) -> Change | Stop:
        change = revalidate_now(connection, Moment(now, pace))
        if isinstance(change, Stop) or change.connection.work is None:
            return change
        due_now = replace(change.connection.work, due_at=change.connection.work.not_before)  # no message is sent
        return replace(change, connection=replace(change.connection, work=due_now))

    try:
        return not isinstance(records.change(merchant_id, decide, known=snapshot), Stop)
    except TransientError:
        return False  # it is looked at again anyway, when its time has come


def _may_be_asked(connection: Connection) -> bool:
    return (
        connection.status in {ConnectionStatus.ACTIVE, ConnectionStatus.DEGRADED}
        and connection.credential.verdict is KeyVerdict.VALID
        and connection.candidate is None
        and connection.trouble is None
        and connection.cause is None
        and connection.disconnection is None
        and merchant_of(connection.merchant_id) == connection.merchant_id
    )

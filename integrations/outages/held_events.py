"""The news of merchants that an outage held: reported or dropped, merchant by merchant, once it is known which.

A part of `records.py`, in a file of its own. A commit holds the news; here it is let go. Whatever is held stays so
until one atomic script has reported or dropped it, so that any tick can go on where another died.

    occ:held    zset    merchants whose news is held, by when to look; 0: now, even while the outage is on
"""

import uuid
from dataclasses import dataclass
from typing import Any, cast

from integrations.cloud_event import event_text
from integrations.connections.events import status_event_since
from integrations.connections.lost_events import UNKNOWN
from integrations.connections.record import ConnectionStatus
from integrations.connections.records import EVENTS, HELD, OUTAGE, Records, Snapshot, connection_key
from integrations.connections.schedule import Pace
from integrations.lua import lua_beside
from integrations.outages.outage import Next, next_for_held
from integrations.outages.refusals import revalidate_soon

_PAGE = 250
_AGAIN_WHILE_ON = 60.0  # seconds
_AGAIN_AFTERWARDS = 10.0
_PROBE_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Released:
    """Of how many merchants the news was reported or dropped, and how many are re-validated first."""

    reported: int = 0
    dropped: int = 0
    revalidated: int = 0


class HeldEvents:
    """Lets held news go. Safe to share between threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._redis = records.redis
        self._take = self._redis.register_script(lua_beside(__file__, "take_held"))
        self._let_go = self._redis.register_script(lua_beside(__file__, "let_go"))

    def release(self, pace: Pace, *, count: int = _PAGE) -> Released:
        """See to the next `count` merchants whose news is held: good news at once, trouble after the outage.

        After it each of them is re-validated before its trouble is reported. While it is on, one is now and then: where
        everybody is held, nobody else would notice that it is over.
        """
        args: list[Any] = [count, _AGAIN_WHILE_ON, _AGAIN_AFTERWARDS, _PROBE_EVERY]
        args.append(f"{self._records.clock.now():.6f}")
        on, ended_at, probe, members = cast("list[Any]", self._take(keys=[HELD, OUTAGE], args=args))
        if not members:
            return Released()
        revalidations_left = count if not on else probe
        going: list[tuple[str, Snapshot, str | None, Next]] = []
        revalidated = 0
        for merchant_id, snapshot, heard in zip(members, *self._read(members), strict=True):
            if snapshot.unreadable:
                continue  # kept: a newer release may read it
            following = next_for_held(
                snapshot.connection,
                heard,
                snapshot.now(),
                outage_is_on=bool(on),
                ended_at=float(ended_at),
                patience=pace.revalidate_every / 4,
            )
            if following in {Next.REPORT, Next.DROP}:
                going.append((merchant_id, snapshot, heard, following))
            elif following is Next.REVALIDATE and revalidated < revalidations_left:
                revalidated += revalidate_soon(self._records, merchant_id, snapshot, pace)
        reported, dropped = self._settle(going)
        return Released(reported, dropped, revalidated)

    def _read(self, members: list[str]) -> tuple[list[Snapshot], list[str | None]]:
        """The records, and what was heard of them. If one changes in between, its version tells."""
        snapshots = self._records.load_many(members)
        with self._redis.pipeline(transaction=False) as pipe:
            for merchant_id in members:
                pipe.hget(connection_key(merchant_id), "heard")
            return snapshots, pipe.execute()

    def _settle(self, going: list[tuple[str, Snapshot, str | None, Next]]) -> tuple[int, int]:
        if not going:
            return 0, 0
        with self._redis.pipeline(transaction=False) as pipe:
            for merchant_id, snapshot, heard, following in going:
                event = _event(snapshot, heard) if following is Next.REPORT else None
                reported = event_text(event, self._records.event_source) if event else ""
                args: list[str | int] = [
                    str(snapshot.version),
                    heard or "",
                    merchant_id,
                    reported,
                    self._records.events_kept,
                ]
                self._let_go(keys=[connection_key(merchant_id), HELD, EVENTS], args=args, client=pipe)
            done = pipe.execute()
        reported_of = sum(gone for gone, (*_, following) in zip(done, going, strict=True) if following is Next.REPORT)
        return reported_of, sum(done) - reported_of


def _event(snapshot: Snapshot, heard: str | None) -> dict[str, object] | None:
    """From what other systems know to what is. No event has this version yet: all since then were held."""
    if snapshot.connection is None:
        return None
    was = ConnectionStatus(heard) if heard and heard != UNKNOWN else None
    return status_event_since(
        was, snapshot.connection, version=snapshot.version, now=snapshot.now(), change_id=uuid.uuid4().hex
    )

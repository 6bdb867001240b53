"""What can be asked of a connection that exists: to look at it now, to repair it, to disconnect it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle.disconnection import disconnect
from integrations.connections.lifecycle.requests import look_now
from integrations.connections.record import Connection
from integrations.errors import TransientError
from integrations.oracle_commerce.accept import Asked, Door
from occ.cli.installation import Installation
from occ.cli.plain_text import lasting
from occ.cli.result import Result, failed, result
from occ.cli.selection import Chosen

_PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class Wish:
    """One kind of wish: how it is decided and asked for, what it leaves in the timeline, and how it is told."""

    decide: Callable[[Connection, Moment], Change | Stop]
    ask: Callable[[Installation, str], Asked]
    note: str
    accepted: str
    planned: str
    stopped: Mapping[str, str]


def looking(*, repair: bool) -> Wish:
    """A look at the store now; with `repair` after what people have decided."""
    more: dict[str, object] = {"repair": True} if repair else {}
    return Wish(
        decide=lambda connection, at: look_now(connection, at, repair=repair),
        ask=lambda installation, merchant_id: installation.parts.acceptance.look(
            {"merchant_id": merchant_id, **more}, Door.COMMAND_LINE
        ),
        note="repair_asked" if repair else "look_asked",
        accepted="being looked at, and repaired" if repair else "being looked at",
        planned="would be looked at and repaired" if repair else "would be looked at",
        stopped={
            "under_way": "work on it is under way already",
            "disconnected": "disconnected, so there is nothing to look at",
        },
    )


def leaving(forget: str) -> Wish:
    """To take our callback URL out of the store; `forget` the key "now" or at the "end"."""
    with_key = " without its store being called" if forget == "now" else ""
    return Wish(
        decide=lambda connection, at: disconnect(connection, at, forget_now=forget == "now"),
        ask=lambda installation, merchant_id: installation.parts.acceptance.disconnect(
            {"merchant_id": merchant_id, "forget": forget}, Door.COMMAND_LINE
        ),
        note="disconnect_asked",
        accepted="key forgotten, disconnected" if forget == "now" else "being disconnected",
        planned=f"would be disconnected{with_key}",
        stopped={"under_way": "being disconnected already", "disconnected": "disconnected already"},
    )


class Wishing:
    """The deed of asking for one kind of wish."""

    def __init__(self, installation: Installation, wish: Wish) -> None:
        self._installation = installation
        self._wish = wish

    def plan(self, chosen: Chosen) -> Result:
        """Decided as it would be, from the record as it was read."""
        now = chosen.snapshot.now()
        decided = self._wish.decide(chosen.connection, Moment(now, self._installation.parts.pace))
        if isinstance(decided, Stop):
            return self._stopped(chosen.merchant_id, decided.reason)
        return result(chosen.merchant_id, _PLANNED, self._wish.planned + _when(decided.connection, now))

    def prepare(self) -> None:
        """Messages are going to be sent."""
        self._installation.prepare_to_send()

    def do(self, chosen: Chosen) -> Result:
        """Durably in the record; the work is started by message."""
        try:
            asked = self._wish.ask(self._installation, chosen.merchant_id)
        except TransientError as error:
            return failed(error, chosen.merchant_id)
        if asked.committed is None:
            return self._stopped(chosen.merchant_id, asked.outcome)
        self._installation.start(asked)
        when = _when(asked.committed.after, asked.committed.snapshot.now())
        return result(chosen.merchant_id, asked.outcome, self._wish.accepted + when)

    def was_done(self, chosen: Chosen, since: float) -> bool:
        """Whether the timeline has the wish since then."""
        timeline = self._installation.parts.records.timeline(chosen.merchant_id)
        # The line's time was read after `since` was, and is rounded.
        return any(line.get("what") == self._wish.note and line["at"] >= since - _ROUNDING for line in timeline)

    def _stopped(self, merchant_id: str, reason: str) -> Result:
        return result(merchant_id, reason, self._wish.stopped.get(reason, reason.replace("_", " ")))


_ROUNDING = 0.05


def _when(connection: Connection, now: float) -> str:
    """Only what does not begin at once needs a word: the store has asked to wait."""
    starts = [work.not_before for _, work in connection.unfinished()]
    wait = min(starts, default=now) - now
    return f" in {lasting(wait)}, for the store asked to wait" if wait >= 1 else ""

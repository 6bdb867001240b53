"""Asking stores to send again what they gave up delivering to us."""

from collections.abc import Iterator
from dataclasses import asdict, replace

from integrations.connections.status import iso
from integrations.egress.deadline import Deadline
from integrations.errors import CredentialRejected, IntegrationError, PermanentError, RequestRefused
from integrations.oracle_commerce.missed_events import Replayed, replay
from integrations.oracle_commerce.slot import callback_url_for
from occ.cli.installation import Installation
from occ.cli.plain_text import date_and_clock
from occ.cli.result import Result, failed_at_store, result
from occ.cli.selection import Chosen
from occ.cli.slot_history import repairs_of

_NO_LOG = "the store keeps no such log"


class Replaying:
    """The deed of a replay. `since`: how many seconds back; None goes back to when each slot was last in order."""

    def __init__(self, installation: Installation, since: float | None) -> None:
        self._parts = installation.parts
        self._since = since

    def prepare(self) -> None:
        """Nothing: no message is sent."""

    def was_done(self, chosen: Chosen, since: float) -> bool:  # noqa: ARG002 - as every deed is asked
        """Nobody can tell, and it does no harm twice: what is queued already is not asked for again."""
        return False

    def plan(self, chosen: Chosen) -> Result:
        """Since when each slot would be asked about. The store is not called."""
        if left := _left(chosen):
            return left
        times = self._times(chosen)
        if not times:
            return _never_registered(chosen)
        told = "; ".join(f"{slot} since {date_and_clock(since)}" for slot, since in times.items())
        slots = {slot: {"since": iso(since)} for slot, since in times.items()}
        return result(chosen.merchant_id, "planned", f"would ask again for what is missing of {told}", slots=slots)

    def do(self, chosen: Chosen) -> Result:
        """Ask the store, slot by slot."""
        if left := _left(chosen):
            return left
        times = self._times(chosen)
        if not times:
            return _never_registered(chosen)
        replays: dict[str, Replayed] = {}
        try:
            for slot, since in times.items():
                replayed = self._replay(chosen, slot, since)
                if replayed is None:
                    return result(chosen.merchant_id, "no_log", _NO_LOG)
                replays[slot] = replayed
        except RequestRefused as refused:  # its sealing key was retired, or the key was forgotten
            return failed_at_store(PermanentError("credential_unusable", refused.code), chosen.merchant_id)
        except IntegrationError as error:
            if isinstance(error, CredentialRejected):  # once; what that means is found out by a look, not here
                error = PermanentError("key_doubted", f"{error.detail}; `occ recheck {chosen.merchant_id}` asks again")
            return failed_at_store(error, chosen.merchant_id, slots=_objects(replays, times))
        asked = sum(replayed.asked for replayed in replays.values())
        told = "; ".join(_told(replays)) or "nothing is missing"
        return result(chosen.merchant_id, "asked" if asked else "nothing_to_ask", told, slots=_objects(replays, times))

    def _replay(self, chosen: Chosen, slot: str, since: float) -> Replayed | None:
        # Each slot has its own time: one with much to ask for leaves the others theirs. A new key that has yet to prove
        # itself is not tried out here.
        working = replace(chosen.connection, candidate=None)
        deadline = Deadline.after(self._parts.settings.lease)
        store = self._parts.store(chosen.snapshot, working, deadline)
        callback_url = callback_url_for(self._parts.wanted.callback_url, chosen.merchant_id, slot)
        return replay(store, callback_url, since)

    def _times(self, chosen: Chosen) -> dict[str, float]:
        """Since when to ask for each slot that ever carried our callback URL."""
        ours = {name: slot.in_order_at for name, slot in chosen.connection.slots.items() if slot.in_order_at}
        if self._since is not None:
            return dict.fromkeys(ours, chosen.snapshot.now() - self._since)
        timeline = self._parts.records.timeline(chosen.merchant_id)
        times: dict[str, float] = {}
        for name, in_order_at in ours.items():
            # The last repair made it "in order"; what was missed was missed before that.
            repairs = repairs_of(name, timeline)
            before = repairs[-1].in_order_before or chosen.connection.started_at if repairs else in_order_at
            times[name] = min(before, in_order_at)
        return times


def _left(chosen: Chosen) -> Result | None:
    if chosen.connection.departure is None:
        return None
    return result(chosen.merchant_id, "disconnected", "disconnected, so nothing is asked for")


def _never_registered(chosen: Chosen) -> Result:
    return result(chosen.merchant_id, "never_registered", "our callback URL has not been in any slot yet")


def _told(replays: dict[str, Replayed]) -> Iterator[str]:
    for slot, replayed in replays.items():
        parts = [
            f"{count} {what}"
            for count, what in (
                (replayed.asked, "asked for again"),
                (replayed.left_to_others, "left to others, who miss them too"),
                (replayed.left_over, "left over for another replay"),
            )
            if count
        ]
        parts += ["its log is too long to be read to the end"] if replayed.truncated else []
        if parts:
            yield f"{slot}: {', '.join(parts)}"


def _objects(replays: dict[str, Replayed], times: dict[str, float]) -> dict[str, object]:
    return {slot: {"since": iso(times[slot]), **asdict(replayed)} for slot, replayed in replays.items()}

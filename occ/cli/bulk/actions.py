"""What a bulk command does for each merchant: request something of the connection, or a replay of its store."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from integrations.connections.change import Change, Moment, Note, Stop
from integrations.connections.lifecycle.disconnection import disconnect
from integrations.connections.lifecycle.requests import revalidate_now
from integrations.connections.record import Connection
from integrations.connections.status import iso
from integrations.egress.deadline import Deadline
from integrations.errors import CredentialRejected, IntegrationError, PermanentError, RequestRefused, TransientError
from integrations.oracle_commerce.accept import Asked, Door
from integrations.oracle_commerce.missed_events import Replayed, replay
from integrations.oracle_commerce.steps import ours_in
from occ.cli.bulk.results import Result, failed, failed_at_store, result
from occ.cli.bulk.selection import Chosen
from occ.cli.explanation import REPLAYED, repairs_of
from occ.cli.plain_text import date_and_clock, lasting
from occ.cli.set_up import Installation

_PLANNED = "planned"
_ROUNDING = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """A kind of request: how it is decided and submitted, its line in the timeline, and how its outcome reads."""

    decide: Callable[[Connection, Moment], Change | Stop]
    submit: Callable[[Installation, str], Asked]
    note: str
    accepted: str
    planned: str
    stopped: Mapping[str, str]


def revalidation(*, repair: bool) -> Request:
    """A re-validation now; with `repair`, also of what people have decided about."""
    more: dict[str, object] = {"repair": True} if repair else {}
    return Request(
        decide=lambda connection, at: revalidate_now(connection, at, repair=repair),
        submit=lambda installation, merchant_id: installation.services.acceptance.revalidate(
            {"merchant_id": merchant_id, **more}, Door.COMMAND_LINE
        ),
        note="repair_asked" if repair else "look_asked",
        accepted="re-validation with repair requested" if repair else "re-validation requested",
        planned="would be re-validated and repaired" if repair else "would be re-validated",
        stopped={
            "under_way": "work on it is already in progress",
            "disconnected": "disconnected, so there is nothing to re-validate",
        },
    )


def disconnection(forget: str) -> Request:
    """Removal of our callback URL from the store; `forget` the key "now" or at the "end"."""
    without_store = " without calling its store" if forget == "now" else ""
    return Request(
        decide=lambda connection, at: disconnect(connection, at, forget_now=forget == "now"),
        submit=lambda installation, merchant_id: installation.services.acceptance.disconnect(
            {"merchant_id": merchant_id, "forget": forget}, Door.COMMAND_LINE
        ),
        note="disconnect_asked",
        accepted="key forgotten, disconnected" if forget == "now" else "disconnection requested",
        planned=f"would be disconnected{without_store}",
        stopped={"under_way": "already being disconnected", "disconnected": "already disconnected"},
    )


class Requesting:
    """Submits one kind of request."""

    def __init__(self, installation: Installation, request: Request) -> None:
        self._installation = installation
        self._request = request

    def plan(self, chosen: Chosen) -> Result:
        """Decided as it would be, from the record as it was read."""
        now = chosen.snapshot.now()
        decided = self._request.decide(chosen.connection, Moment(now, self._installation.services.pace))
        if isinstance(decided, Stop):
            return self._stopped(chosen.merchant_id, decided.reason)
        return result(chosen.merchant_id, _PLANNED, self._request.planned + _wait(decided.connection, now))

    def prepare(self) -> None:
        """Messages will be sent."""
        self._installation.prepare_to_send()

    def do(self, chosen: Chosen) -> Result:
        """Durably in the record; a message starts the work."""
        try:
            asked = self._request.submit(self._installation, chosen.merchant_id)
        except TransientError as error:
            return failed(error, chosen.merchant_id)
        if asked.committed is None:
            return self._stopped(chosen.merchant_id, asked.outcome)
        self._installation.start(asked)
        wait = _wait(asked.committed.after, asked.committed.snapshot.now())
        return result(chosen.merchant_id, asked.outcome, self._request.accepted + wait)

    def was_done(self, chosen: Chosen, since: float) -> bool:
        """Whether the timeline has the request since then."""
        timeline = self._installation.services.records.timeline(chosen.merchant_id)
        # The line's time was read after `since` was, and is rounded.
        return any(line.get("what") == self._request.note and line["at"] >= since - _ROUNDING for line in timeline)

    def _stopped(self, merchant_id: str, reason: str) -> Result:
        return result(merchant_id, reason, self._request.stopped.get(reason, reason.replace("_", " ")))


class Replaying:
    """Requests missed events from stores. `since`: seconds back; None: since each slot was last in order."""

    def __init__(self, installation: Installation, since: float | None) -> None:
        self._services = installation.services
        self._since = since

    def prepare(self) -> None:
        """Nothing: no message is sent."""

    def was_done(self, chosen: Chosen, since: float) -> bool:  # noqa: ARG002 - the signature of every action
        """Unknown, and harmless to repeat: an event that is already queued is not requested again."""
        return False

    def plan(self, chosen: Chosen) -> Result:
        """Since when the events of each slot would be requested. The store is not called."""
        times = self._times(chosen)
        if (nothing := _nothing_to_do(chosen, times)) is not None:
            return nothing
        since = "; ".join(f"{slot} since {date_and_clock(since)}" for slot, since in times.items())
        slots = {slot: {"since": iso(since)} for slot, since in times.items()}
        return result(chosen.merchant_id, _PLANNED, f"would request missed events for {since}", slots=slots)

    def do(self, chosen: Chosen) -> Result:
        """Ask the store, slot by slot."""
        times = self._times(chosen)
        if (nothing := _nothing_to_do(chosen, times)) is not None:
            return nothing
        replays: dict[str, Replayed] = {}
        try:
            for slot, since in times.items():
                replayed = self._replay(chosen, slot, since)
                if replayed is None:
                    return result(chosen.merchant_id, "no_log", "no failed-delivery log available")
                replays[slot] = replayed
        except RequestRefused as refused:  # its sealing key was retired, or the key was forgotten
            return failed_at_store(PermanentError("credential_unusable", refused.code), chosen.merchant_id)
        except IntegrationError as error:
            if isinstance(error, CredentialRejected):  # once; what that means, a re-validation finds out
                error = PermanentError("key_doubted", f"{error.detail}; run `occ revalidate {chosen.merchant_id}`")
            return failed_at_store(error, chosen.merchant_id, slots=_objects(replays, times))
        requested = sum(replayed.asked for replayed in replays.values())
        self._note(chosen.merchant_id, requested)
        outcome = "asked" if requested else "nothing_to_ask"
        summary = "; ".join(_summaries(replays)) or "no missed events"
        return result(chosen.merchant_id, outcome, summary, slots=_objects(replays, times))

    def _note(self, merchant_id: str, requested: int) -> None:
        """In the timeline: explanations must not advise what was done."""
        line = Note(REPLAYED, details={"requested": requested})
        self._services.records.change(
            merchant_id,
            lambda connection, _: Change(connection, (line,)) if connection is not None else Stop("unknown_connection"),
        )

    def _replay(self, chosen: Chosen, slot: str, since: float) -> Replayed | None:
        # Each slot has its own deadline: one with much to request leaves the others theirs. A new key that has yet to
        # prove itself is not tried out here.
        working = replace(chosen.connection, candidate=None)
        deadline = Deadline.after(self._services.settings.lease)
        store = self._services.store(chosen.snapshot, working, deadline)
        return replay(store, ours_in(self._services.wanted, chosen.connection, slot), since)

    def _times(self, chosen: Chosen) -> dict[str, float]:
        """Since when to request the events of each slot that ever had our callback URL."""
        ours = {name: slot.in_order_at for name, slot in chosen.connection.slots.items() if slot.in_order_at}
        if self._since is not None:
            return dict.fromkeys(ours, chosen.snapshot.now() - self._since)
        timeline = self._services.records.timeline(chosen.merchant_id)
        times: dict[str, float] = {}
        for name, in_order_at in ours.items():
            # The last repair made it "in order"; what was missed was missed before that.
            repairs = repairs_of(name, timeline)
            before = repairs[-1].in_order_before or chosen.connection.started_at if repairs else in_order_at
            given_up = chosen.connection.slots[name].given_up
            times[name] = min(before, in_order_at, given_up.first if given_up is not None else in_order_at)
        return times


def _wait(connection: Connection, now: float) -> str:
    """Mentioned only if the work does not begin at once, because the store asked for a pause."""
    starts = [work.not_before for _, work in connection.unfinished()]
    wait = min(starts, default=now) - now
    return f"; starts in {lasting(wait)}, because the store asked us to wait" if wait >= 1 else ""


def _nothing_to_do(chosen: Chosen, times: Mapping[str, float]) -> Result | None:
    if chosen.connection.disconnection is not None:
        return result(chosen.merchant_id, "disconnected", "disconnected, so nothing is requested")
    if not times:
        return result(chosen.merchant_id, "never_registered", "our callback URL has not been in any slot yet")
    return None


def _summaries(replays: dict[str, Replayed]) -> Iterator[str]:
    for slot, replayed in replays.items():
        others, missed = replayed.left_to_others, "missed it" if replayed.left_to_others == 1 else "missed them"
        phrases = [f"{replayed.asked} requested"] if replayed.asked else []
        phrases += [f"{others} not requested: another receiver {missed} too"] if others else []
        phrases += [f"{replayed.left_over} left for another replay"] if replayed.left_over else []
        phrases += ["its log is too long to be read to the end"] if replayed.truncated else []
        if phrases:
            yield f"{slot}: {', '.join(phrases)}"


def _objects(replays: dict[str, Replayed], times: dict[str, float]) -> dict[str, object]:
    return {slot: {"since": iso(times[slot]), **asdict(replayed)} for slot, replayed in replays.items()}

"""What `occ explain` says of a connection's key, drift, repairs and end. Pure: real transitions, the test's time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from integrations.connections.change import Change, Moment
from integrations.connections.drift import Drift
from integrations.connections.lifecycle import claims, disconnection, outcomes
from integrations.connections.lifecycle.outcomes import (
    Failed,
    KeyProven,
    NewKeyTurnedDown,
    ShippingMethodsChecked,
    SlotContested,
    SlotRegistered,
    SlotRemoved,
)
from integrations.connections.lifecycle.requests import Desired, begin, revalidate_now
from integrations.connections.record import Cause, Connection, GivenUp, Silence, Step, Target
from integrations.connections.timeline import timeline_entry
from occ.cli.explanation import explained, repairs_of
from occ.cli.facts import KEY, attention, facts
from occ.simulator.clocks import StoppedClock
from tests.integrations.oracle_commerce.by_hand import RecordsInMemory
from tests.integrations.oracle_commerce.fakes import SLOTS, VALIDATE, slot
from tests.integrations.oracle_commerce.recorded import Worker
from tests.usual import PACE

NOON = 1_795_435_200.0
HOUR, DAY = 3600.0, 86400.0


class History:
    """A connection with its timeline, as the records keep both."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.timeline: list[dict[str, Any]] = []

    def at(self) -> Moment:
        return Moment(self.now, PACE)

    def take(self, change: object) -> None:
        assert isinstance(change, Change)
        self.connection = change.connection
        self.timeline += [timeline_entry(note, change.connection, self.now) for note in change.notes]

    def step(self, target: Target, outcome: object) -> None:
        """Claim the work, and have its outcome."""
        self.take(claims.claim(self.connection, self.connection.run, target, "w", self.at()))
        assert callable(outcome)
        self.take(outcome(self.connection, target))

    def begin_revalidation(self) -> None:
        """Now, if it is not due already."""
        sooner = revalidate_now(self.connection, self.at())
        if isinstance(sooner, Change):
            self.take(sooner)

    def look(self, found: Mapping[str, SlotRegistered]) -> None:
        """A whole look at the store."""
        self.begin_revalidation()
        shipping = Target(Step.CHECK_SHIPPING_METHODS)
        self.step(VALIDATE, lambda it, target: outcomes.record(it, target, KeyProven(), self.at()))
        self.step(shipping, lambda it, to: outcomes.record(it, to, ShippingMethodsChecked(2), self.at()))
        for name in SLOTS:
            registered = found.get(name, SlotRegistered(wrote=False))
            self.step(slot(name), lambda it, to, how=registered: outcomes.record(it, to, how, self.at()))

    def told(self) -> str:
        return "\n".join(explained(self.connection, self.now, self.timeline))


@pytest.fixture
def history() -> History:
    """A connection that has worked since noon."""
    records = RecordsInMemory(StoppedClock(NOON))
    Worker(records).connect()
    history = History(records.connection, NOON + HOUR)
    history.look({})
    history.now += HOUR
    return history


def with_key(connection: Connection, **changes: Any) -> Connection:
    return replace(connection, credential=replace(connection.credential, **changes))


@pytest.mark.parametrize(
    ("expires_at", "sentence", "remark"),
    [
        (None, "The key has no readable expiry date.", ""),
        (NOON + 12 * DAY, "The key expires in 12 d, 2026-12-05 12:00:00 UTC.", "expires in 12 d"),
        (NOON + 300 * DAY, "The key expires in 300 d, ", ""),
        (NOON - 3 * DAY, "The key expired 3 d ago, ", "expired 3 d ago"),
    ],
)
def test_the_end_of_the_key_is_told(expires_at: float | None, sentence: str, remark: str, history: History) -> None:
    connection = with_key(history.connection, expires_at=expires_at)
    assert sentence in "\n".join(explained(connection, NOON))
    (fact,) = (fact for fact in facts(connection, NOON) if fact.subject == KEY)
    assert fact.remark == remark


def test_a_new_key_that_is_being_tried_is_told(history: History) -> None:
    wanted = Desired("m-1", history.connection.store_url, "sealed", "ab" * 8, None, dict.fromkeys(SLOTS, True))
    history.take(begin(history.connection, wanted, history.at()))
    told = history.told()
    assert f"A new application key ({'ab' * 8}) is being tried; the current one stays in use until" in told
    assert told.startswith("m-1 is connected (active).")
    assert list(attention(history.connection)) == ["new key being tried"]
    history.take(claims.claim(history.connection, 1, VALIDATE, "w", history.at()))
    history.take(outcomes.record(history.connection, VALIDATE, NewKeyTurnedDown(Cause("key_rejected")), history.at()))
    assert "The last new application key did not work; the one before stays in use." in history.told()
    assert "[new_key_rejected, key_rejected] The merchant must act." in history.told()


def test_a_repair_is_told_with_what_was_missed(history: History) -> None:
    back = SlotRegistered(wrote=True, drift=(Drift.URL_MISSING,), missed=37)
    history.look({"order-submit": back})
    history.now += 2 * HOUR
    sentence = "order-submit: our callback URL was missing; repaired 2 h ago; the store gave up on 37 deliveries."
    assert sentence in history.told()
    assert "A store tries no deliveries while our callback URL is missing" in history.told()
    assert "`occ replay m-1` requests them again" in history.told()
    (fact,) = (fact for fact in facts(history.connection, history.now) if fact.subject == "order-submit")
    assert fact.remark == "repaired: url_missing, 37 deliveries given up"
    history.look({})
    assert sentence in history.told()  # the next look finds nothing amiss, and people still ask what happened
    history.timeline.append({"at": history.now, "what": "replayed", "requested": 37})
    assert "37 missed events were requested from the store 0 s ago." in history.told()
    assert "`occ replay" not in history.told()
    history.now += HOUR
    history.look({"order-submit": back})
    assert "`occ replay m-1` requests them again" in history.told()  # that was before this repair


def test_several_repairs_are_counted(history: History) -> None:
    for _ in range(2):
        history.look({"order-submit": SlotRegistered(wrote=True, drift=(Drift.URL_CHANGED,))})
        history.now += HOUR
    told = history.told()
    assert "order-submit: our callback URL had been changed; repaired 2 times within a day, last 60 min ago; " in told
    assert "no failed-delivery log available." in told
    assert "A store tries no deliveries" not in history.told()


def test_a_contested_slot_is_told_to_be_left_alone(history: History) -> None:
    history.begin_revalidation()
    shipping = Target(Step.CHECK_SHIPPING_METHODS)
    history.step(VALIDATE, lambda it, to: outcomes.record(it, to, KeyProven(), history.at()))
    history.step(shipping, lambda it, to: outcomes.record(it, to, ShippingMethodsChecked(2), history.at()))
    found = SlotContested((Drift.URL_MISSING,), history.connection.slots["order-submit"])
    history.step(slot("order-submit"), lambda it, to: outcomes.record(it, to, found, history.at()))
    assert "order-submit: our callback URL was missing. We no longer repair it." in history.told()
    assert "[slot_contested" in history.told()
    assert history.told().endswith(
        "Once you have settled who manages the slot, run `occ repair m-1` to write it again."
    )


def test_a_disconnection_is_told_from_its_beginning_to_its_end(history: History) -> None:
    history.take(disconnection.disconnect(history.connection, history.at()))
    history.now += 1
    assert history.told().startswith("m-1 is being disconnected.")
    assert "Disconnection was requested 1 s ago" in history.told()
    assert list(attention(history.connection)) == ["being disconnected"]
    for name in SLOTS[1:]:
        leaving = Target(Step.DISCONNECT, name)
        history.step(leaving, lambda it, to: outcomes.record(it, to, SlotRemoved(wrote=True), history.at()))
    refused = Cause("permission_denied", "HTTP 403")
    leaving = Target(Step.DISCONNECT, SLOTS[0])
    history.step(leaving, lambda it, to: outcomes.record(it, to, Failed(refused), history.at()))
    told = history.told()
    assert told.startswith("m-1 has been disconnected.")
    assert "The last run began 2026-11-23 12:00:00 UTC" in told
    assert "Run 2" not in told  # the time is run 1's
    assert "If the store refuses, we keep trying until 2026-11-30 14:00:00 UTC" in told
    assert "Slots left behind: order-submit." in told
    assert "The next attempt is in 60 min" in told
    history.now += HOUR + 1
    history.step(leaving, lambda it, to: outcomes.record(it, to, SlotRemoved(wrote=True), history.at()))
    assert "The application key has been forgotten." in history.told()
    assert "Nothing, until somebody connects it again." in history.told()


def test_a_store_that_was_left_is_named(history: History) -> None:
    wanted = Desired("m-1", "https://ccadmin-z9.example", "sealed", "cd" * 8, None, dict.fromkeys(SLOTS, True))
    change = begin(history.connection, wanted, history.at())
    assert isinstance(change, Change)
    assert change.former is not None
    told = "\n".join(explained(change.connection, history.now, (), [change.former]))
    assert (
        f"The former store {history.connection.store_url} is being disconnected. `occ explain m-1@1` shows the details."
        in told
    )


def line(what: str, at: float, **more: object) -> dict[str, object]:
    return {"at": at, "what": what, "slot": "order-submit", **more}


def test_repairs_are_those_of_the_slot_and_an_older_line_does_not_tell_when_all_was_well() -> None:
    timeline = [
        line("slot_registered", 1.0),
        line("slot_repaired", 2.0),
        {**line("slot_repaired", 2.5, in_order_before=1.5), "slot": "order-update"},
        line("slot_repaired", 3.0, in_order_before=2.0),
    ]
    assert [(repair.at, repair.in_order_before) for repair in repairs_of("order-submit", timeline)] == [
        (2.0, None),
        (3.0, 2.0),
    ]


def test_no_fact_of_a_newer_release_breaks_the_explanation(history: History) -> None:
    history.timeline.append(line("slot_repaired", history.now, drift=["eaten_by_mice"], missed_events=1))
    assert "order-submit: eaten_by_mice; repaired 0 s ago; the store gave up on 1 delivery." in history.told()


def test_who_has_mended_something_is_told_how_not_to_wait(history: History) -> None:
    assert "Once fixed" not in history.told()
    history.begin_revalidation()
    no_shipping = Target(Step.CHECK_SHIPPING_METHODS)
    history.step(VALIDATE, lambda it, to: outcomes.record(it, to, KeyProven(), history.at()))
    refused = Cause("permission_denied", "HTTP 403")
    history.step(no_shipping, lambda it, to: outcomes.record(it, to, Failed(refused), history.at()))
    assert history.told().endswith("Once fixed, run `occ revalidate m-1` to check right away.")


def test_what_fails_to_be_received_is_sent_again_and_a_silence_ends_by_itself(history: History) -> None:
    slots = history.connection.slots
    failing = replace(slots["order-submit"], given_up=GivenUp(2, NOON, NOON + 60, "HTTP 502"))
    history.connection = replace(history.connection, slots={**slots, "order-submit": failing})
    assert "2 given up from 2026-11-23T12:00:00.000+00:00" in history.told()
    assert "run `occ replay m-1`: the store sends them again." in history.told()
    silent = replace(slots["order-submit"], silence=Silence(NOON, 2 * HOUR))
    history.connection = replace(history.connection, slots={**slots, "order-submit": silent})
    assert "longest pause before: 2.0 hours" in history.told()
    assert "Once fixed" not in history.told()

"""The end of an application key is told at 30, 14, 7 and 1 days, each once, and not at all where a key has no end."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.connections.change import Moment, at_time
from integrations.connections.events import other_events
from integrations.connections.findings import findings_of
from integrations.connections.lifecycle import claims
from integrations.connections.record import DAY, Connection
from integrations.connections.schedule import EXPIRY_WARNINGS, days_left_to_report
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.by_hand import SECOND, Desk
from tests.integrations.oracle_commerce.fakes import NOON, VALIDATE, changed
from tests.usual import PACE


def key_for(days: float) -> str:
    return make_application_key(expires_at=NOON + days * DAY)


def connected(days: float | None, **changes: object) -> tuple[Desk, SimulatedStore]:
    """An active connection whose key ends in so many days; None: it does not say."""
    desk = Desk()
    key = make_application_key(lifetime=None) if days is None else key_for(days)
    store = desk.store(application_key=key, **changes)
    desk.connect(store)
    desk.at_once()
    assert desk.status == "active"
    return desk, store


def told(desk: Desk) -> list[int]:
    """The days that were told since this was asked last."""
    assert set(desk.events()) <= {"key_expiring", "onboarding", "active", "reauthorised"}
    return [event["data"]["days"] for event in desk.last_events if event["type"] == "occ.connection.key_expiring"]


def test_each_step_towards_the_end_is_told_once_at_its_very_moment() -> None:
    desk, _ = connected(40)
    assert told(desk) == []
    moments: list[tuple[int, float]] = []
    while desk.now < NOON + 39.9 * DAY:
        desk.next_revalidation()
        moments += [(days, desk.now) for days in told(desk)]
    assert moments == [(days, NOON + (40 - days) * DAY) for days in EXPIRY_WARNINGS]
    assert desk.status == "active"


def test_the_event_names_the_end_and_the_steps_left() -> None:
    desk, _ = connected(6)
    desk.events()
    (event,) = [event for event in desk.last_events if event["type"] == "occ.connection.key_expiring"]
    assert (event["subject"], event["data"]["days"]) == ("m-1", 7)
    assert event["data"]["expires_at"].startswith("2023-11-20T")
    assert desk.findings() == [("key_expiring", None)]


@pytest.mark.parametrize(
    ("days", "first"), [(30.5, None), (30, 30), (29, 30), (14, 14), (13, 14), (7, 7), (6, 7), (1, 1), (0.01, 1)]
)
def test_of_several_steps_that_have_passed_only_the_most_urgent_is_told(days: float, first: int | None) -> None:
    desk, _ = connected(days)
    assert told(desk) == ([first] if first else [])


def test_a_stopped_clock_duplicates_and_restarts_add_nothing() -> None:
    desk, _ = connected(13)
    assert told(desk) == [14]
    desk.twice = True
    for _ in range(20):
        assert desk.revalidate().outcome in {"accepted", "under_way"}
        desk.at_once()
        desk.restart()
        assert told(desk) == []
    desk.wait(5 * DAY)
    assert told(desk) == []
    desk.wait(1 * DAY)
    assert told(desk) == [7]


def test_a_lease_that_ends_and_is_claimed_again_tells_nothing_twice() -> None:
    """The warning goes with the claim: one that comes to nothing has been told all the same."""
    expiring = replace(healthy(), credential=replace(healthy().credential, expires_at=NOON + 5 * DAY))
    told = 0
    connection: Connection = expiring
    for number in range(3):
        at = Moment(NOON + 60 + number * PACE.lease, PACE)
        result = claims.claim(connection, 1, VALIDATE, f"worker-{number}", at, alone=True)
        told += len(other_events(connection, changed(result), version=number, now=at.now))
        connection = changed(result)
    assert told == 1
    assert connection.credential.expiry_reported == 7


def test_a_key_that_does_not_end_is_never_told_of() -> None:
    desk, _ = connected(None)
    desk.wait(10 * DAY)
    assert told(desk) == []
    assert desk.connection.credential.expires_at is None
    assert desk.findings() == []


def test_a_new_key_clears_the_warning_and_is_told_of_in_its_own_time() -> None:
    desk, store = connected(6)
    assert told(desk) == [7]
    new = key_for(20)
    store.change(accept_keys=[new])
    desk.connect(store, new)
    desk.at_once()
    assert desk.connection.run == 2
    assert told(desk) == [30], "the new one ends in 20 days"
    another = key_for(300)
    store.change(accept_keys=[another])
    desk.connect(store, another)
    desk.at_once()
    assert told(desk) == []
    assert desk.findings() == []
    desk.wait(9 * DAY)
    assert told(desk) == [], "nobody hears of the end of a key that is no longer used"


def test_a_new_key_that_is_turned_down_leaves_the_warning_as_it_was() -> None:
    desk, store = connected(6)
    told(desk)
    desk.connect(store, key_for(300))
    desk.wait(600)
    assert desk.events() == ["reauthorisation_failed"]
    assert ("key_expiring", None) in desk.findings()


def test_a_connection_that_is_being_left_warns_nobody() -> None:
    desk, store = connected(7.2)
    told(desk)
    store.fail("write_slot", {"fault": "bad_request", "times": "always"})
    desk.disconnect()
    desk.wait(DAY)
    assert desk.events() == ["disconnected"]


def test_a_store_that_was_moved_away_from_warns_nobody() -> None:
    desk, store = connected(7.2)
    told(desk)
    store.fail("write_slot", {"fault": "bad_request", "times": "always"})
    desk.connect(desk.store(SECOND))
    desk.wait(DAY)
    assert told(desk) == []


def test_a_key_that_has_expired_is_not_announced_as_expiring() -> None:
    """Releases differ in whether they refuse it; one that does is reported as such."""
    desk, _ = connected(-3, enforce_key_expiry=False)
    assert desk.findings() == []
    desk.wait(3 * DAY)
    assert told(desk) == []


def test_a_key_that_ends_is_rejected_and_asked_for_once() -> None:
    desk, _ = connected(2)
    told(desk)
    desk.wait(3 * DAY)
    assert desk.events() == ["key_expiring", "needs_reauthorisation"]


@given(st.floats(min_value=-10, max_value=100), st.lists(st.floats(min_value=0, max_value=20 * DAY), max_size=12))
def test_whenever_one_looks_the_steps_told_only_go_down(days: float, waits: list[float]) -> None:
    connection = replace(healthy(), credential=replace(healthy().credential, expires_at=NOON + days * DAY))
    now, events = NOON + 60, []
    for wait in waits:
        now += wait + PACE.lease
        after = changed(claims.claim(connection, 1, VALIDATE, "worker", Moment(now, PACE)))
        events += [event["data"]["days"] for event in other_events(connection, after, version=1, now=now)]  # type: ignore[index]
        if (due := days_left_to_report(after.credential.expires_at, now)) is not None:
            assert after.credential.expiry_reported == due
        connection = replace(after, work=connection.work)
    assert all(earlier > later for earlier, later in pairwise(events))
    assert set(events) <= set(EXPIRY_WARNINGS)
    assert len([it for it in findings_of(connection) if it.code == "key_expiring"]) == bool(events)


@given(st.floats(min_value=31.1, max_value=400), st.floats(min_value=0, max_value=1, exclude_max=True))
def test_a_look_is_due_no_later_than_any_warning(days: float, phase: float) -> None:
    expires_at = NOON + round(days * DAY)
    connection = replace(healthy(phase=phase), credential=replace(healthy().credential, expires_at=expires_at))
    for warning in EXPIRY_WARNINGS:
        moment = expires_at - warning * DAY
        for before in (PACE.second_look, 3600.0, DAY / 2):
            assert PACE.next_revalidation(connection, moment - before) <= moment


def test_a_clock_that_is_put_back_a_little_tells_nothing_again() -> None:
    """As after the server moved to another machine."""
    expiring = replace(healthy(), credential=replace(healthy().credential, expires_at=NOON + 60 + 14 * DAY))
    claimed = changed(claims.claim(expiring, 1, VALIDATE, "worker", Moment(NOON + 60, PACE)))
    assert claimed.credential.expiry_reported == 14
    earlier = replace(claimed, work=replace(expiring.work or at_time(NOON), not_before=NOON))
    again = changed(claims.claim(earlier, 1, VALIDATE, "worker", Moment(NOON + 59, PACE)))
    assert again.credential.expiry_reported == 14
    assert other_events(earlier, again, version=2, now=NOON + 59) == []

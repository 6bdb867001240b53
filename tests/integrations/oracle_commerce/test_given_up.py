"""What a store gave up delivering to us is found with a re-validation, now and then, and changes nothing but that."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.connections.record import GivenUp, SlotStatus
from integrations.oracle_commerce.given_up import OTHER, AskedFor, error_in, given_up
from integrations.oracle_commerce.missed_events import replay
from integrations.oracle_commerce.slot import Ours
from occ.simulator.store import SimulatedStore
from tasks.wiring import delivery_check_after
from tests.integrations.oracle_commerce.by_hand import THEIRS, Desk, connected, ours
from tests.integrations.oracle_commerce.fakes import SLOTS
from tests.integrations.oracle_commerce.test_missed_events import Listed, Log, message

DAY = 86400.0
HOUR = 3600.0
SLOT, OTHER_SLOT = "order-submit", "shipment-create"
SIX_CALLS = {"login": 1, "shipping_methods": 1, "read_slot": 4}


def calls_of_revalidations(desk: Desk, store: SimulatedStore, days: int) -> list[dict[str, int]]:
    """What each re-validation of these days asked the store for."""
    looks = []
    for _ in range(days):
        store.reset_counts()
        desk.wait(DAY)
        looks.append(dict(store.calls.endpoints))
    return looks


def asks(looks: list[dict[str, int]]) -> list[int]:
    return [revalidate.get("failed_messages", 0) for revalidate in looks]


# --- When it is asked -------------------------------------------------------------------------------------------------


def test_a_look_without_the_check_is_exactly_six_calls() -> None:
    desk, store = connected(delivery_check_every=0)
    desk.wait(DAY)
    assert calls_of_revalidations(desk, store, 3) == [SIX_CALLS] * 3


@pytest.mark.parametrize(
    ("every", "revalidate_every", "asked"),
    [
        (DAY, DAY, [1, 1, 1, 1, 1, 1]),
        (3 * DAY, DAY, [0, 0, 1, 0, 0, 1]),
        (DAY, 6 * HOUR, [1, 1, 1, 1, 1, 1]),
    ],
)
def test_it_is_asked_once_per_period_and_with_no_call_of_its_own_besides(
    every: float, revalidate_every: float, asked: list[int]
) -> None:
    desk, store = connected(delivery_check_every=every, revalidate_every=revalidate_every)
    desk.wait(DAY)
    looks = calls_of_revalidations(desk, store, 8)
    assert any(asks(looks)[start : start + 6] == asked for start in range(3)), asks(looks)
    for revalidate in looks:
        number = revalidate["login"]
        assert {**revalidate, "failed_messages": 0} == {
            "login": number,
            "shipping_methods": number,
            "read_slot": 4 * number,
            "failed_messages": 0,
        }


def test_a_long_log_costs_four_calls() -> None:
    log = Listed([message(number, savedTime="2027-01-15T08:00:00Z") for number in range(5000)])
    found = given_up(log, {SLOT: AskedFor(Ours(ours(SLOT)), 0.0)}, 0.0)
    assert found is not None
    assert len(log.calls) == 4
    assert found[SLOT].count >= 750


@given(st.floats(1, 1e7), st.floats(1, 1e7))
def test_the_nearest_re_validation_takes_it(every: float, revalidate_every: float) -> None:
    after = delivery_check_after(every, revalidate_every)
    assert 0 < after < every
    assert every - after <= revalidate_every / 2 * 1.001


def test_never_means_never() -> None:
    assert delivery_check_after(0, DAY) == 0


# --- What comes of it -------------------------------------------------------------------------------------------------


def failing(desk: Desk, store: SimulatedStore) -> None:
    """Three deliveries of one slot are given up, and found."""
    desk.wait(DAY)
    for _ in range(3):
        store.give_up_delivery(SLOT, [ours(SLOT)])
    store.give_up_delivery(SLOT, [THEIRS])
    desk.events()
    desk.wait(2 * DAY)


def test_what_was_given_up_is_found_and_told_once_slot_by_slot() -> None:
    desk, store = connected()
    failing(desk, store)
    assert desk.findings() == [("deliveries_failing", SLOT)]
    assert desk.events() == ["occ.slot.deliveries_failing"]
    told = desk.last_events[0]
    assert told["type"] == "occ.slot.deliveries_failing"
    assert told["data"].items() >= {"slot": SLOT, "given_up": 3, "error": "HTTP 502"}.items()
    desk.wait(3 * DAY)
    assert desk.events() == []
    assert desk.findings() == [("deliveries_failing", SLOT)]


def test_it_is_no_verdict() -> None:
    desk, store = connected()
    failing(desk, store)
    assert desk.status == "active"
    assert desk.connection.slots[SLOT].verdict is SlotStatus.REGISTERED
    assert store.calls.endpoints["write_slot"] == 0
    looks = [(one.what, one.target and one.target.slot) for _, _, one in desk.records.lines]
    assert looks.count(("deliveries_failing", SLOT)) == 1
    assert not [pair for pair in pairwise(looks) if pair[0] == pair[1]], "no lines for looks that find nothing new"


def test_once_it_was_sent_again_the_finding_goes_with_the_next_look() -> None:
    desk, store = connected()
    failing(desk, store)
    desk.events()
    replay(Log(store), Ours(ours(SLOT)), 0.0)
    desk.revalidate()
    desk.wait(30)
    assert desk.findings() == []
    assert desk.events() == ["occ.slot.deliveries_cleared"]


def test_what_nobody_sent_again_is_forgotten_after_a_week() -> None:
    desk, store = connected()
    failing(desk, store)
    desk.wait(8 * DAY)
    assert desk.findings() == []


@pytest.mark.parametrize("fault", ["forbidden_role", "not_found", "server_error", "html_in_200", "huge"])
def test_a_store_that_does_not_tell_is_as_well_as_before(fault: str) -> None:
    desk, store = connected()
    store.fail("failed_messages", {"fault": fault, "times": "always"})
    desk.wait(5 * DAY)
    assert (desk.status, desk.findings(), desk.events()) == ("active", [], [])


def test_what_is_known_stays_while_the_store_does_not_tell() -> None:
    desk, store = connected()
    failing(desk, store)
    store.fail("failed_messages", {"fault": "server_error", "times": "always"})
    desk.wait(2 * DAY)
    assert desk.findings() == [("deliveries_failing", SLOT)]


def test_a_connection_that_is_left_is_not_asked_about() -> None:
    desk, store = connected()
    failing(desk, store)
    desk.disconnect()
    desk.wait(DAY)
    assert desk.findings() == []


# --- What is read from it ---------------------------------------------------------------------------------------------


def test_each_slot_has_its_own() -> None:
    items = [
        message(1, ours(SLOT), savedTime="2027-01-15T08:00:00Z", lastErrorMessage="Response code 500 received"),
        message(2, ours(SLOT), THEIRS, savedTime="2027-01-15T09:00:00Z", lastErrorMessage="Read timed out"),
        message(3, ours(OTHER_SLOT), savedTime="2027-01-15T10:00:00Z"),
        message(4, ours(OTHER_SLOT), savedTime="2027-01-15T10:00:00Z", resend=True),
        message(5, ours(SLOT, "m-2"), savedTime="2027-01-15T10:00:00Z"),
        message(6, THEIRS),
    ]
    for item in items:
        item.setdefault("resend", False)
    found = given_up(Listed(items), {slot: AskedFor(Ours(ours(slot)), 0.0) for slot in SLOTS}, 0.0)
    eight = 1_800_000_000.0
    assert found == {
        SLOT: GivenUp(2, eight, eight + HOUR, "timeout"),
        OTHER_SLOT: GivenUp(1, eight + 2 * HOUR, eight + 2 * HOUR, OTHER),
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Response code 502 received for webhook submitOrder", "HTTP 502"),
        ("Received HTTP 404", "HTTP 404"),
        ("connect timed out", "timeout"),
        ("java.net.ConnectException: Connection refused", "connection refused"),
        ("sun.security.validator.ValidatorException: PKIX path building failed: certificate", "TLS"),
        ("javax.net.ssl.SSLHandshakeException", "TLS"),
        ("java.net.UnknownHostException: hooks", "name not resolved"),
        ("", OTHER),
        (None, OTHER),
        ({"code": 500}, OTHER),
    ],
)
def test_errors_are_told_in_words_of_ours(text: object, error: str) -> None:
    assert error_in(text) == error


@given(st.text())
def test_nothing_of_what_a_store_writes_is_repeated(secret: str) -> None:
    told = error_in(f"https://user:{secret}@hooks.example.com/ answered Bearer {secret}")
    known = {OTHER, "timeout", "connection refused", "connection reset", "TLS", "name not resolved", "target disabled"}
    assert told in known or json.dumps(told)[1:6] == "HTTP "

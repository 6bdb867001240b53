"""Whole runs, hand-driven: a healthy one, outages, four slots with four fates, and waits that stores ask for."""

from dataclasses import replace
from itertools import pairwise, product

import pytest

from integrations.connections.findings import findings_of
from integrations.connections.lifecycle import outcomes
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.record import (
    Cause,
    ConnectionStatus,
    SlotStatus,
    Target,
)
from integrations.errors import IntegrationError, PermanentError, TransientError
from tests.integrations.connections.test_outcomes import active, at, drive, registering
from tests.integrations.oracle_commerce.fakes import (
    NOON,
    SHIPPING,
    SLOTS,
    VALIDATE,
    Drive,
    all_is_well,
    claimed,
    says,
    slot,
    success,
)
from tests.usual import PACE

BUSY = Cause("store_busy", "HTTP 429")
REFUSED = Cause("key_rejected", "HTTP 401")


# --- The run ---------------------------------------------------------------------------------------------------------


def test_a_healthy_run_does_each_step_once_in_order_and_is_active() -> None:
    run = drive(all_is_well)
    run.at_once()
    assert [target for _, target in run.attempts] == [VALIDATE, SHIPPING, *map(slot, sorted(SLOTS))]
    assert {time for time, _ in run.attempts} == {NOON}, "nothing waits"
    assert run.connection.status is ConnectionStatus.ACTIVE
    assert run.connection.due() == {None: NOON + PACE.second_look}


# --- Four slots, four fates ------------------------------------------------------------------------------------------

SUBSETS = [frozenset(n for n, f in zip(SLOTS, flags, strict=True) if f) for flags in product((False, True), repeat=4)]


def named(faulty: frozenset[str]) -> str:
    return "+".join(sorted(faulty)) or "none"


@pytest.mark.parametrize("faulty", SUBSETS, ids=named)
@pytest.mark.parametrize(
    "error",
    [
        PermanentError("slot_refused", "HTTP 400"),
        PermanentError("slot_not_offered", "HTTP 404"),
        TransientError("store_error", "HTTP 503"),
    ],
    ids=lambda error: error.code,
)
def test_exactly_the_faulty_slots_fail_and_the_others_are_registered_at_once(
    error: IntegrationError, faulty: frozenset[str]
) -> None:

    def script(target: Target, attempt: int, now: float) -> IntegrationError | None:
        return error if target.slot in faulty else None

    run = drive(script)
    run.at_once()
    transient = isinstance(error, TransientError)
    for name in set(SLOTS) - faulty:
        assert run.connection.slots[name].status is SlotStatus.REGISTERED
        assert (NOON, slot(name)) in run.attempts, "not later than without faults"
    if transient:
        assert set(run.connection.due()) == (faulty or {None})
        run.until(NOON + 2.0 * PACE.retry_attempts)
    not_offered = error.code == "slot_not_offered"
    for name in faulty:
        record = run.connection.slots[name]
        assert record.status is (SlotStatus.NOT_OFFERED if not_offered else SlotStatus.FAILED)
        assert record.cause == Cause(error.code, error.detail)
        assert record.attempts == (PACE.retry_attempts if transient else 1)
    for name in set(SLOTS) - faulty:
        assert run.connection.slots[name].attempts == 1
    assert run.connection.status is (ConnectionStatus.DEGRADED if faulty else ConnectionStatus.ACTIVE)
    assert {finding.slot for finding in findings_of(run.connection)} == set(faulty)
    assert set(run.connection.due()) == {None}, "left to the next look"


@pytest.mark.parametrize("faulty", SUBSETS, ids=named)
def test_slots_that_recover_are_registered_each_in_its_own_time(faulty: frozenset[str]) -> None:
    heals = {name: 2 + number for number, name in enumerate(sorted(faulty))}

    def script(target: Target, attempt: int, now: float) -> IntegrationError | None:
        return TransientError("store_error") if target.slot in heals and attempt < heals[target.slot] else None

    run = drive(script)
    run.until(NOON + 20)
    assert run.connection.status is ConnectionStatus.ACTIVE
    assert findings_of(run.connection) == ()
    for name in SLOTS:
        assert run.connection.slots[name].attempts == heals.get(name, 1)
        last = max(time for time, target in run.attempts if target.slot == name)
        assert last == NOON + 2.0 * (heals.get(name, 1) - 1), "no slot waits for another"


def test_an_optional_slot_that_is_not_offered_leaves_the_connection_active() -> None:
    connection = registering()
    optional = replace(connection.slots["shipment-create"], required=False)
    connection = replace(connection, slots={**connection.slots, "shipment-create": optional})
    for name in SLOTS:
        connection = claimed(connection, slot(name), at())
        cause = Cause("slot_not_offered", "HTTP 404")
        if name == "shipment-create":
            connection = outcomes.record(connection, slot(name), Failed(cause), at()).connection
        else:
            connection = success(connection, slot(name), at()).connection
    assert connection.status is ConnectionStatus.ACTIVE


def test_a_registered_slot_stays_registered_while_its_check_is_retried() -> None:
    run = Drive(active(), PACE, all_is_well, now=NOON + PACE.second_look)

    def slots_are_slow(target: Target, attempt: int, now: float) -> IntegrationError | None:
        return TransientError("store_timeout") if target.slot and attempt < 3 else None

    run.script = slots_are_slow
    run.at_once()
    assert run.connection.status is ConnectionStatus.ACTIVE
    assert {record.status for record in run.connection.slots.values()} == {SlotStatus.REGISTERED}
    assert len(findings_of(run.connection)) == len(SLOTS)
    run.until(run.now + 10)
    assert findings_of(run.connection) == ()


# --- Retry-After -----------------------------------------------------------------------------------------------------


def test_what_a_store_asks_for_is_the_least_we_wait() -> None:
    waits = {"order-submit": 600.0, "order-update": 90.0}

    def script(target: Target, attempt: int, now: float) -> IntegrationError | None:
        asked = waits.get(target.slot or "")
        return TransientError("store_busy", retry_after=asked) if asked and attempt < 3 else None

    run = drive(script)
    run.until(NOON + 1200)
    assert run.connection.status is ConnectionStatus.ACTIVE
    for name, asked in waits.items():
        times = [time for time, target in run.attempts if target.slot == name]
        assert all(later - earlier >= asked for earlier, later in pairwise(times))


@pytest.mark.parametrize("target", [VALIDATE, slot("order-submit")])
def test_what_a_store_asks_for_is_waited_for_after_the_last_attempt_too(target: Target) -> None:
    asked = 6 * 3600.0
    pace = replace(PACE, retry_attempts=1)
    run = drive(says(TransientError("store_busy", retry_after=asked), only=target), pace)
    run.until(NOON + asked + 3600)
    times = [time for time, tried in run.attempts if tried == target]
    assert len(times) > 1
    assert all(later - earlier >= asked for earlier, later in pairwise(times))


def test_what_a_store_asks_for_is_waited_for_through_a_doubt_of_the_key() -> None:
    connection = claimed(registering(), slot("order-submit"), at(), "a")
    connection = claimed(connection, slot("order-update"), at(), "b")
    connection = outcomes.record(connection, slot("order-submit"), Failed(BUSY, 3600), at()).connection
    connection = outcomes.record(connection, slot("order-update"), Failed(REFUSED), at()).connection
    run = Drive(connection, PACE, all_is_well)
    run.until(NOON + 3599)
    assert slot("order-submit") not in {target for _, target in run.attempts}


# --- Settling --------------------------------------------------------------------------------------------------------


def test_a_connection_at_rest_is_checked_from_the_first_step_on() -> None:
    run = Drive(active(), PACE, all_is_well)
    run.until(NOON + PACE.second_look)
    assert [target for _, target in run.attempts] == [VALIDATE, SHIPPING, *map(slot, sorted(SLOTS))]

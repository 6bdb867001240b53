"""What may happen to a connection, case by case: requests, claims, and what the store says to the key.

Whole runs are in test_runs.py, laws over any sequence in test_transition_laws.py.
"""

from dataclasses import replace

import pytest

from integrations.connections import change
from integrations.connections.change import Moment, Stop
from integrations.connections.lifecycle import claims, outcomes, requests
from integrations.connections.lifecycle.outcomes import Failed, SlotRegistered
from integrations.connections.record import (
    Candidate,
    Cause,
    Connection,
    ConnectionStatus,
    KeyVerdict,
    SlotStatus,
    Step,
    Target,
    Trouble,
    Work,
)
from integrations.connections.schedule import Pace
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.fakes import (
    NOON,
    SHIPPING,
    SLOTS,
    VALIDATE,
    Drive,
    Script,
    all_is_well,
    changed,
    claimed,
    desired,
    disconnected_one,
    slot,
    started,
    success,
)
from tests.usual import PACE

BUSY = Cause("store_busy", "HTTP 429")
REFUSED = Cause("key_rejected", "HTTP 401")


def at(seconds: float = 0.0, pace: Pace = PACE) -> Moment:
    return Moment(NOON + seconds, pace)


def done(connection: Connection, target: Target, moment: Moment) -> Connection:
    return success(claimed(connection, target, moment), target, moment).connection


def registering(moment: Moment | None = None) -> Connection:
    """A run that has come to its slots."""
    moment = moment or at()
    return done(done(started(moment), VALIDATE, moment), SHIPPING, moment)


def active(moment: Moment | None = None) -> Connection:
    """A connection with all slots registered."""
    connection = registering(moment)
    for name in SLOTS:
        connection = done(connection, slot(name), moment or at())
    assert connection.status is ConnectionStatus.ACTIVE
    return connection


def drive(script: Script, pace: Pace = PACE, wait: float = 2.0) -> Drive:
    return Drive(started(Moment(NOON, pace)), pace, script, wait=wait)


# --- Beginning -------------------------------------------------------------------------------------------------------


def test_the_same_request_again_begins_nothing() -> None:
    for connection in (started(at()), registering(), active()):
        assert requests.begin(connection, desired(), at(9)) == Stop("unchanged")


def test_a_changed_key_makes_the_run_of_a_key_that_was_never_proven_void() -> None:
    old = claimed(started(at()), VALIDATE, at())
    wanted = desired(key="key-2")
    new = requests.begin(old, wanted, at(1))
    assert isinstance(new, change.Change)
    assert new.keys.current == wanted.sealed_key
    assert (new.connection.run, new.connection.status) == (2, ConnectionStatus.ONBOARDING)
    assert set(new.connection.due()) == {None}
    for target in (VALIDATE, SHIPPING, *map(slot, SLOTS)):
        assert claims.claim(new.connection, 1, target, "late", at(1)) == Stop("superseded")
        assert not claims.is_mine(new.connection, 1, target, "worker")


def test_a_disconnected_connection_may_be_connected_again_with_the_same_key() -> None:
    again = changed(requests.begin(disconnected_one(active()), desired(), at(9)))
    assert (again.run, again.disconnected) == (2, False)


# --- Claiming --------------------------------------------------------------------------------------------------------


def test_a_claim_excludes_others_until_its_lease_ends() -> None:
    connection = claimed(started(at()), VALIDATE, at(), "first")
    assert connection.due() == {None: NOON + PACE.lease}
    assert claims.claim(connection, 1, VALIDATE, "second", at(59.9)) == Stop("held_by_another")
    taken_over = claimed(connection, VALIDATE, at(60), "second")
    assert not claims.is_mine(taken_over, 1, VALIDATE, "first")
    work = taken_over.work
    assert work is not None
    assert (work.attempts, work.deaths) == (2, 1)


def test_an_outcome_after_the_lease_counts_while_nobody_has_taken_over() -> None:
    connection = claimed(started(at()), VALIDATE, at(), "slow")
    assert claims.is_mine(connection, 1, VALIDATE, "slow")


def test_a_message_that_comes_before_the_wait_is_over_stops() -> None:
    """A duplicate, or one that was sent before the store asked us to wait."""
    connection = claimed(registering(), slot("order-submit"), at())
    waiting = changed(outcomes.record(connection, slot("order-submit"), Failed(BUSY, 3600 - 1), at(1)))
    for seconds in (1.0, 59.0, 61.0, 3599.9):
        assert claims.claim(waiting, 1, slot("order-submit"), "twin", at(seconds)) == Stop("not_yet")
    assert isinstance(claims.claim(waiting, 1, slot("order-submit"), "next", at(3600)), change.Change)


@pytest.mark.parametrize("target", [SHIPPING, slot("order-submit"), slot("no-such-slot")])
def test_work_of_a_later_stage_cannot_be_claimed(target: Target) -> None:
    assert claims.claim(started(at()), 1, target, "early", at()) == Stop("already_done")


@pytest.mark.parametrize("target", [VALIDATE, slot("order-submit")])
def test_work_that_takes_its_workers_down_runs_alone_and_is_then_given_up(target: Target) -> None:
    """Two deaths make a suspect, which may be a neighbour's fault; three more with nobody beside it are its own."""
    connection = started(at()) if target.slot is None else registering()
    lanes = []
    for number in range(20):
        moment = at(number * PACE.lease)
        work = connection.work_on(target)
        assert work is not None
        if work.is_suspect and number < 5:
            assert claims.claim(connection, 1, target, "beside others", moment) == Stop("quarantined")
        alone = work.is_suspect
        connection = changed(claims.claim(connection, 1, target, f"worker-{number}", moment, alone=alone))
        if not claims.is_mine(connection, 1, target, f"worker-{number}"):
            break
        lanes.append(alone)
    assert lanes == [False, False, True, True, True]
    if target.slot is None:
        assert connection.trouble == Trouble(Cause("worker_lost"), passing=False)
    else:
        assert connection.slots[target.slot].status is SlotStatus.FAILED
        assert connection.slots[target.slot].cause == Cause("worker_lost")
        assert set(connection.due()) == set(SLOTS) - {target.slot}


def test_a_neighbour_of_what_takes_workers_down_is_not_blamed() -> None:
    """It was there at two deaths; alone it does its work."""
    connection = registering()
    target = slot("order-update")
    for number in range(2):
        connection = claimed(connection, target, at(number * PACE.lease), f"worker-{number}")
    moment = at(2 * PACE.lease)
    connection = changed(claims.claim(connection, 1, target, "alone", moment, alone=True))
    connection = changed(outcomes.record(connection, target, SlotRegistered(wrote=True), moment))
    assert connection.slots["order-update"].status is SlotStatus.REGISTERED


def test_deaths_and_failures_together_are_bounded_by_the_attempts() -> None:
    connection, seconds = started(at()), 0.0
    for number in range(3 * PACE.retry_attempts):
        result = claims.claim(connection, 1, VALIDATE, f"worker-{number}", at(seconds))
        connection = changed(result)
        if not claims.is_mine(connection, 1, VALIDATE, f"worker-{number}"):
            break
        assert connection.work is not None
        assert connection.work.attempts <= PACE.retry_attempts
        if number < PACE.retry_attempts - 1:
            connection = changed(outcomes.record(connection, VALIDATE, Failed(BUSY, seconds - seconds), at(seconds)))
        seconds += PACE.lease


# --- The key ---------------------------------------------------------------------------------------------------------


def test_four_slots_that_meet_a_rejection_at_once_are_one_doubt() -> None:
    connection = registering()
    for name in SLOTS:
        connection = claimed(connection, slot(name), at(1), f"worker-{name}")
    for number, name in enumerate(SLOTS):
        connection = outcomes.record(connection, slot(name), Failed(REFUSED), at(2 + number)).connection
    assert connection.credential.verdict is KeyVerdict.DOUBTED
    assert connection.due() == {None: NOON + 2 + PACE.confirm_rejection}
    run = Drive(connection, PACE, all_is_well, now=NOON + 5)
    run.until(NOON + 2 + PACE.confirm_rejection)
    assert run.connection.status is ConnectionStatus.ACTIVE


def test_a_slot_that_was_under_way_when_the_key_was_doubted_keeps_its_outcome() -> None:
    connection = claimed(registering(), slot("order-submit"), at(), "a")
    connection = claimed(connection, slot("order-update"), at(), "b")
    connection = outcomes.record(connection, slot("order-submit"), Failed(REFUSED), at(1)).connection
    assert claims.is_mine(connection, 1, slot("order-update"), "b")
    connection = outcomes.record(connection, slot("order-update"), SlotRegistered(wrote=True), at(2)).connection
    assert connection.slots["order-update"].status is SlotStatus.REGISTERED
    assert connection.step is Step.VALIDATE_KEY
    assert connection.due() == {None: NOON + 1 + PACE.confirm_rejection}


def test_a_slot_that_is_still_under_way_when_the_key_is_proven_is_not_started_twice() -> None:
    pace = replace(PACE, lease=60, confirm_rejection=10)
    connection = registering(at(0, pace))
    connection = claimed(connection, slot("order-submit"), at(0, pace), "a")
    connection = claimed(connection, slot("order-update"), at(0, pace), "b")
    connection = outcomes.record(connection, slot("order-submit"), Failed(REFUSED), at(0, pace)).connection
    connection = done(done(connection, VALIDATE, at(10, pace)), SHIPPING, at(10, pace))
    assert claims.claim(connection, 1, slot("order-update"), "c", at(11, pace)) == Stop("held_by_another")
    assert claims.is_mine(connection, 1, slot("order-update"), "b")
    assert connection.due()["order-update"] == NOON + 60


def test_a_slot_that_waits_for_the_key_does_not_announce_an_attempt_in_the_past() -> None:
    connection = claimed(registering(), slot("order-submit"), at(100))
    doubted = outcomes.record(connection, slot("order-submit"), Failed(REFUSED), at(101)).connection
    announced = doubted.slots["order-submit"].next_attempt_at
    assert announced is None or announced >= NOON + 101


def test_an_exchange_before_the_doubt_does_not_confirm_it() -> None:
    pace = replace(PACE, lease=60, confirm_rejection=10)
    connection = registering(at(0, pace))
    connection = claimed(connection, slot("order-submit"), at(0, pace), "a")
    connection = claimed(connection, slot("order-update"), at(0, pace), "b")  # its login hangs, and then says no
    connection = outcomes.record(connection, slot("order-submit"), Failed(REFUSED), at(1, pace)).connection
    connection = outcomes.record(connection, slot("order-update"), Failed(REFUSED), at(30, pace)).connection
    assert connection.status is not ConnectionStatus.NEEDS_REAUTHORISATION


def test_a_late_refusal_does_not_take_the_check_of_the_key_from_the_worker_that_has_it() -> None:
    pace = replace(PACE, lease=60, confirm_rejection=10)
    connection = registering(at(0, pace))
    connection = claimed(connection, slot("order-submit"), at(0, pace), "a")
    connection = claimed(connection, slot("order-update"), at(0, pace), "b")
    connection = outcomes.record(connection, slot("order-submit"), Failed(REFUSED), at(1, pace)).connection
    connection = claimed(connection, VALIDATE, at(11, pace), "checks the key")
    connection = outcomes.record(connection, slot("order-update"), Failed(REFUSED), at(12, pace)).connection
    assert claims.is_mine(connection, 1, VALIDATE, "checks the key")


# --- Patience --------------------------------------------------------------------------------------------------------


def test_a_slot_the_store_wants_left_alone_for_a_day_is_told_of_at_once_and_looked_at_when_it_allows() -> None:
    connection = claimed(registering(), slot("order-submit"), at())
    cause = Cause("store_busy", "HTTP 429")
    told = outcomes.record(connection, slot("order-submit"), Failed(cause, 86400), at()).connection
    assert told.slots["order-submit"].status is SlotStatus.FAILED
    assert told.slots["order-submit"].not_before == NOON + 86400
    soon = outcomes.record(connection, slot("order-submit"), Failed(cause, 600), at()).connection
    assert soon.slots["order-submit"].status is SlotStatus.RETRYING


def test_who_has_made_way_stands_back_without_an_attempt_until_a_place_is_free() -> None:
    mine = claimed(started(at()), VALIDATE, at())
    connection = outcomes.record(mine, VALIDATE, Failed(Cause("made_way"), 1), at()).connection
    for number in range(1, 12):
        moment = at(100.0 * number)
        connection = claims.stand_back(connection, VALIDATE, 1.0, moment).connection
        work = connection.work_on(VALIDATE)
        assert work is not None
        assert (work.attempts, work.deaths, work.stood_back) == (0, 0, number + 1)
        assert work.not_before == work.due_at == moment.now + min(60, 2**number)
        assert connection.status is ConnectionStatus.ONBOARDING
    failed = outcomes.record(
        claimed(connection, VALIDATE, at(5000)), VALIDATE, Failed(Cause("store_timeout"), 1), at(5000)
    )
    work = failed.connection.work_on(VALIDATE)
    assert work is not None
    assert (work.attempts, work.stood_back) == (1, 1)  # it still needs a place, and begins with short waits


@pytest.mark.parametrize("code", ["token_renewal_pending", "out_of_resources", "made_way"])
def test_an_attempt_that_did_not_get_as_far_as_the_store_is_none(code: str) -> None:
    connection = started(at())
    for number in range(3 * PACE.retry_attempts):
        moment = at(10.0 * number)
        mine = claimed(connection, VALIDATE, moment)
        connection = outcomes.record(mine, VALIDATE, Failed(Cause(code), 1), moment).connection
    work = connection.work_on(VALIDATE)
    assert work is not None
    assert work.attempts == 0


def test_a_new_key_too_waits_while_it_may_be_everybodys_that_is_refused_but_a_day_at_most() -> None:
    connection = healthy(candidate=Candidate("new", doubted_since=NOON), work=Work(NOON, NOON))
    no = Failed(Cause("key_rejected", "HTTP 401"), verdict_waits=True)
    now, asked = NOON + PACE.confirm_rejection, 0
    while connection.candidate is not None:
        connection = outcomes.record(
            claimed(connection, VALIDATE, Moment(now, PACE)), VALIDATE, no, Moment(now, PACE)
        ).connection
        asked += 1
        if connection.candidate is not None:
            assert connection.due_at is not None
            assert now < connection.due_at <= now + PACE.recheck_degraded
            now = connection.due_at
    assert 86400 <= now - NOON <= 86400 + PACE.recheck_degraded
    assert asked < 60


def test_waiting_for_a_slot_that_another_of_ours_writes_spends_no_attempt_and_leaves_one_line() -> None:
    connection, target, lines = registering(), slot("order-submit"), 0
    for number in range(3 * PACE.retry_attempts):
        moment = at(10.0 * number)
        mine = claimed(connection, target, moment)
        change = outcomes.record(mine, target, Failed(Cause("slot_being_written"), 1), moment)
        connection, lines = change.connection, lines + len(change.notes)
    work = connection.work_on(target)
    assert work is not None
    assert (work.attempts, lines) == (0, 1)
    assert connection.slots["order-submit"].status is SlotStatus.RETRYING

"""The rules of deliveries: who may deliver when, how long pauses and waits are, and when an event is given up."""

from dataclasses import replace
from itertools import pairwise

import pytest

from integrations.deliveries import outbox as decide
from integrations.deliveries.outbox import Claim, Decision, DeliveryPace, Failing, Failure, Outbox, Refusal

NOON = 1_800_000_000.0
HOUR = 3600.0
PACE = DeliveryPace(lease=60, first_wait=2, patience=3 * 24 * HOUR)
WAITING = Outbox("m-1", NOON, events=2, event='{"id": "m-1.1"}', following='{"id": "m-1.2"}')
REFUSED = Failure("HTTP 422", None, 1.0)
DOWN = Failure("HTTP 503", None, 1.0)


def taken(outbox: Outbox, owner: str = "worker") -> tuple[Outbox, Claim]:
    decision = decide.take(outbox, owner, PACE)
    assert isinstance(decision, Decision)
    assert decision.claim.event, decision.claim.why
    return decision.outbox, decision.claim


def decided(decision: Decision | Claim) -> Decision:
    assert isinstance(decision, Decision)
    return decision


def after(outbox: Outbox, seconds: float) -> Outbox:
    return replace(outbox, now=outbox.now + seconds)


def refused(outbox: Outbox, failure: Failure = REFUSED) -> Decision:
    held, claim = taken(outbox)
    return decided(decide.refused(held, claim, failure, PACE, go_on=True))


def failed(outbox: Outbox, failure: Failure = DOWN) -> Decision:
    held, claim = taken(outbox)
    return decided(decide.failed(held, claim, failure, PACE))


@pytest.mark.parametrize(
    ("outbox", "why", "due_at"),
    [
        (replace(WAITING, event="", events=0), "empty", None),
        (replace(WAITING, refusal=Refusal(NOON - 9, 1, NOON + 7)), "waits", NOON + 7),
        (replace(WAITING, failing=Failing(1, NOON, NOON + 5, "HTTP 503")), "paused", NOON + 5),
        (replace(WAITING, failing=Failing(1, NOON, NOON - 5, "HTTP 503", "m-2", NOON + 40)), "paused", NOON + 40),
        (replace(WAITING, busy=16), "busy", NOON + 1),
    ],
)
def test_what_may_not_be_delivered_now_is_due_when_it_may_be(outbox: Outbox, why: str, due_at: float | None) -> None:
    decision = decided(decide.take(outbox, "worker", PACE))
    assert (decision.claim.why, decision.claim.event, decision.due_at) == (why, "", due_at)
    assert decision.outbox.owner == ""


def test_an_outbox_belongs_to_one_worker_for_a_lease() -> None:
    held, claim = taken(WAITING)
    assert (claim.event_id, held.held_until) == ("m-1.1", NOON + PACE.lease)
    assert decide.take(after(held, 59), "other", PACE) == Claim("m-1", "other", now=NOON + 59, why="taken")
    overtaken, _ = taken(after(held, 61), "other")
    for decision in (
        decide.delivered(overtaken, claim, PACE, go_on=True),
        decide.refused(overtaken, claim, REFUSED, PACE, go_on=True),
        decide.failed(overtaken, claim, DOWN, PACE),
    ):
        assert isinstance(decision, Claim)
        assert (decision.why, decision.event) == ("overtaken", "")


def test_an_event_that_arrived_leaves_and_the_next_is_claimed() -> None:
    held, claim = taken(WAITING)
    onwards = decided(decide.delivered(held, claim, PACE, go_on=True))
    assert (onwards.removes, onwards.claim.event_id, onwards.outbox.events) == (True, "m-1.2", 1)
    assert onwards.due_at == NOON + PACE.lease
    left = decided(decide.delivered(held, claim, PACE, go_on=False))
    assert (left.outbox.owner, left.due_at, left.claim.event) == ("", NOON, "")
    last = decided(decide.delivered(onwards.outbox, onwards.claim, PACE, go_on=True))
    assert (last.outbox.events, last.outbox.owner, last.due_at) == (0, "", None)


def test_pauses_double_up_to_the_longest_and_are_half_at_random() -> None:
    outbox, pauses = WAITING, []
    for _ in range(12):
        decision = failed(outbox)
        pauses.append(decision.claim.at - decision.outbox.now)
        outbox = after(decision.outbox, pauses[-1])
    assert pauses[0] == PACE.first_wait
    assert pauses[-1] == PACE.longest_pause
    assert all(later == min(2 * earlier, PACE.longest_pause) for earlier, later in pairwise(pauses))
    assert failed(WAITING, replace(DOWN, dice=0.0)).claim.at == NOON + PACE.first_wait / 2
    assert decision.claim.failures == 12


@pytest.mark.parametrize(("asked", "kept"), [(600.0, 600.0), (999_999.0, HOUR), (-5.0, 2.0), (None, 2.0)])
def test_a_wait_the_receiver_asks_for_is_kept_for_up_to_an_hour(asked: float | None, kept: float) -> None:
    assert failed(WAITING, replace(DOWN, retry_after=asked)).due_at == NOON + kept
    assert refused(WAITING, replace(REFUSED, retry_after=asked)).due_at == NOON + kept


def test_deliveries_that_fail_together_are_one_failure() -> None:
    first = failed(WAITING)
    held, claim = taken(replace(WAITING, merchant_id="m-2"))
    second = decided(decide.failed(replace(held, failing=first.outbox.failing), claim, DOWN, PACE))
    assert (first.claim.failures, second.claim.failures) == (1, 0)
    assert second.outbox.failing == first.outbox.failing
    assert second.due_at == first.due_at


def test_one_outbox_probes_and_its_success_ends_the_pause() -> None:
    failing = failed(WAITING).outbox.failing
    assert failing is not None
    due = ["m-1", "m-2", "m-3"]
    assert decide.start(due, failing, 0, NOON + 1, PACE) == decide.Start((), NOON + 2, failing)
    start = decide.start(due, failing, 0, NOON + 3, PACE)
    assert list(start.outboxes) == ["m-1"]
    assert start.failing is not None
    assert start.failing.probe == "m-1"
    assert not decide.start(due, start.failing, 0, NOON + 4, PACE).outboxes
    held, claim = taken(replace(after(WAITING, 4), failing=start.failing))
    back = decided(decide.delivered(held, claim, PACE, go_on=True))
    assert back.outbox.failing is None
    assert back.claim.recovered_after == 4


def test_no_more_are_started_than_a_tick_may_and_none_while_enough_are_delivered() -> None:
    due = [f"m-{number}" for number in range(300)]
    assert decide.start(due, None, 15, NOON, PACE).outboxes == due[:200]
    assert decide.start(due, None, 16, NOON, PACE) == decide.Start([], NOON + 5, None)


def test_an_event_that_is_refused_waits_longer_each_time_and_is_set_aside_in_the_end() -> None:
    outbox, waits = WAITING, []
    while True:
        decision = refused(outbox)
        if decision.set_aside:
            break
        assert decision.due_at is not None
        waits.append(decision.due_at - decision.outbox.now)
        assert decision.claim.refusals == len(waits)
        outbox = replace(decision.outbox, now=decision.due_at, refused_in_a_row=0)
    assert waits[:4] == [2, 4, 8, 16]
    assert max(waits) == PACE.longest_wait
    assert sum(waits) >= PACE.patience > sum(waits[:-1])
    assert (decision.set_aside, decision.removes, decision.claim.event_id) == ("HTTP 422", True, "m-1.2")


def test_a_receiver_that_refuses_one_event_is_not_failing() -> None:
    failing = Failing(3, NOON - 100, NOON - 1, "HTTP 503")
    decision = refused(replace(WAITING, failing=failing))
    assert decision.outbox.failing is None
    assert decision.claim.recovered_after == 100


def test_many_events_refused_in_a_row_are_a_receiver_that_fails_and_the_same_one_again_is_not() -> None:
    outbox = replace(WAITING, refused_in_a_row=PACE.refused_in_a_row - 1)
    assert refused(outbox).outbox.failing is not None
    same_again = replace(outbox, refusal=Refusal(NOON - 9, 4, NOON))
    assert refused(same_again).outbox.failing is None
    held, claim = taken(outbox)
    assert decided(decide.delivered(held, claim, PACE, go_on=True)).outbox.refused_in_a_row == 0

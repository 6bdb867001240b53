"""When many failing alike is an outage, and what then becomes of the news that was held: decided without a server."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from integrations.connections.causes import Evidence, OutageKind
from integrations.connections.events import TROUBLED
from integrations.connections.record import (
    Candidate,
    Cause,
    Claim,
    Connection,
    ConnectionStatus,
    Disconnection,
    KeyVerdict,
    Slot,
    SlotStatus,
    Trouble,
    Work,
)
from integrations.outages.outage import (
    DAY,
    Next,
    Outage,
    Rules,
    Tally,
    beginning,
    ended_event,
    evidence,
    goes_on,
    next_for_held,
    started_event,
)
from tests.integrations.connections.test_record import FAILED, REGISTERED, UNREACHED, healthy, key
from tests.integrations.oracle_commerce.fakes import NOON
from tests.usual import OUTAGE_RULES

NEW = healthy(slots={"order-submit": Slot()}, credential=key(KeyVerdict.PENDING))
GONE = healthy(disconnection=Disconnection(NOON, NOON + 100))
DEGRADED = healthy(slots={**healthy().slots, "order-update": FAILED})


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    asked = draw(st.integers(0, 2000))
    return Tally(asked, {kind: draw(st.integers(0, asked)) for kind in draw(st.sets(st.sampled_from(OutageKind)))})


rules = st.builds(Rules, share=st.floats(0, 1), merchants=st.integers(1, 100), window=st.just(OUTAGE_RULES.window))
spans = st.lists(tallies(), min_size=1, max_size=2)


# --- What counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connection", "code", "told"),
    [
        (healthy(), None, Evidence.ANSWERED),
        (healthy(), "permission_denied", Evidence.ANSWERED),
        (healthy(), "slot_refused", Evidence.ANSWERED),
        (healthy(), "store_unreachable", OutageKind.NETWORK),
        (healthy(), "tls_failed", OutageKind.NETWORK),
        (healthy(), "store_error", OutageKind.STORE),
        (healthy(), "edge_refused", OutageKind.EDGE),
        (healthy(), "key_rejected", OutageKind.KEY),
        (healthy(), "worker_lost", Evidence.NOTHING),
        (healthy(), "token_renewal_pending", Evidence.NOTHING),
        (healthy(), "out_of_resources", Evidence.NOTHING),
        (NEW, "store_unreachable", OutageKind.NETWORK),
        (NEW, "key_rejected", Evidence.NOTHING),
        (NEW, "not_an_admin_host", Evidence.NOTHING),
        (healthy(candidate=Candidate("f")), "key_rejected", Evidence.NOTHING),
        (GONE, "store_unreachable", Evidence.NOTHING),
        (healthy(trouble=UNREACHED), "store_unreachable", Evidence.NOTHING),
        (healthy(trouble=UNREACHED), None, Evidence.ANSWERED),
        (healthy(credential=key(KeyVerdict.REJECTED)), "key_rejected", Evidence.NOTHING),
        (DEGRADED, "store_unreachable", OutageKind.NETWORK),
        (replace(DEGRADED, cause=Cause("store_timeout")), "store_unreachable", Evidence.NOTHING),
    ],
)
def test_only_news_of_what_may_be_everybodys_counts(
    connection: Connection, code: str | None, told: OutageKind | Evidence
) -> None:
    assert evidence(connection, code) is told


# --- When it begins and ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "failing", "begins"),
    [(1000, 1000, True), (1000, 300, True), (1000, 299, False), (1000, 10, False), (19, 19, False), (20, 20, True)],
)
def test_a_large_share_of_enough_merchants_is_an_outage(asked: int, failing: int, begins: bool) -> None:
    begun = beginning(OUTAGE_RULES, [Tally(asked, {OutageKind.NETWORK: failing})], NOON)
    assert begun == (Outage(OutageKind.NETWORK, NOON, failing / asked, failing, asked) if begins else None)


def test_failing_in_different_ways_is_not_failing_alike() -> None:
    assert beginning(OUTAGE_RULES, [Tally(100, dict.fromkeys(OutageKind, 25))], NOON) is None


def test_the_latest_minute_is_enough() -> None:
    whole, latest = Tally(1000, {OutageKind.EDGE: 25}), Tally(50, {OutageKind.EDGE: 25})
    begun = beginning(OUTAGE_RULES, [whole, latest], NOON)
    assert begun is not None
    assert (begun.share, begun.asked) == (0.5, 50)


@given(rules, spans)
@example(replace(OUTAGE_RULES, share=0.0, merchants=1), [Tally(5, {OutageKind.KEY: 5})])
def test_an_outage_has_enough_merchants_and_a_large_enough_share(rule: Rules, looks: list[Tally]) -> None:
    begun = beginning(rule, looks, NOON)
    enough = [
        kind
        for look in looks
        for kind, failing in look.failing.items()
        if rule.share and look.asked and failing >= rule.merchants and failing / look.asked >= rule.share
    ]
    assert (begun is not None) == bool(enough)
    if begun is not None:
        assert begun.kind in enough
        assert rule.share <= begun.share <= 1


@given(rules, spans, st.integers(0, 5))
def test_what_begins_an_outage_never_ends_one(rule: Rules, looks: list[Tally], held: int) -> None:
    begun = beginning(rule, looks, NOON)
    if begun is not None:
        assert goes_on(rule, looks, begun, NOON, held=held)


@given(rules, spans, st.sampled_from(OutageKind), st.integers(0, 50))
def test_more_failures_never_end_one(rule: Rules, looks: list[Tally], kind: OutageKind, more: int) -> None:
    outage = Outage(kind, NOON, 1.0, 100, 100)
    worse = [replace(look, failing={**look.failing, kind: look.failing.get(kind, 0) + more}) for look in looks]
    assert goes_on(rule, worse, outage, NOON, held=1) >= goes_on(rule, looks, outage, NOON, held=1)


@pytest.mark.parametrize(("failing", "on"), [(150, True), (149, False), (0, False)])
def test_it_ends_under_half_the_share_it_takes(failing: int, on: bool) -> None:
    outage = Outage(OutageKind.NETWORK, NOON, 0.5, 500, 1000)
    assert goes_on(OUTAGE_RULES, [Tally(1000, {OutageKind.NETWORK: failing})], outage, NOON, held=9) is on


def test_silence_is_no_end_while_anybodys_news_is_held_but_not_for_ever() -> None:
    outage, silence = Outage(OutageKind.NETWORK, NOON, 0.5, 500, 1000), [Tally(0), Tally(0)]
    assert goes_on(OUTAGE_RULES, silence, outage, NOON + 3600, held=1)
    assert not goes_on(OUTAGE_RULES, silence, outage, NOON + 3600, held=0)
    assert not goes_on(OUTAGE_RULES, silence, outage, NOON + DAY, held=1)


def test_with_a_share_of_zero_nothing_is_an_outage() -> None:
    off, all_fail = replace(OUTAGE_RULES, share=0), [Tally(100, {OutageKind.NETWORK: 100})]
    assert beginning(off, all_fail, NOON) is None
    assert not goes_on(off, all_fail, Outage(OutageKind.NETWORK, NOON, 1, 100, 100), NOON, held=5)


# --- What becomes of held news ---------------------------------------------------------------------------------------

ENDED_AT = NOON + 1000
NOW = ENDED_AT + 60
RESTING = Work(NOW + 500, NOW + 500)
UNREACHABLE = healthy(trouble=UNREACHED, work=RESTING)
AFTER = replace(UNREACHABLE, updated_at=ENDED_AT + 1)
TRYING = replace(AFTER, work=replace(RESTING, attempts=2))
ASKING = replace(AFTER, work=Work(NOON, NOW + 60, attempts=1, claim=Claim("w", NOW + 60, NOW)))


@pytest.mark.parametrize(
    ("connection", "heard", "while_on", "afterwards"),
    [
        (None, None, Next.DROP, Next.DROP),
        (healthy(), "active", Next.DROP, Next.DROP),
        (healthy(), "onboarding", Next.REPORT, Next.REPORT),
        (UNREACHABLE, "unreachable", Next.DROP, Next.DROP),
        (UNREACHABLE, "active", Next.REVALIDATE, Next.REVALIDATE),
        (AFTER, "active", Next.REVALIDATE, Next.REPORT),
        (TRYING, "active", Next.WAIT, Next.WAIT),
        (ASKING, "active", Next.WAIT, Next.WAIT),
        (replace(UNREACHABLE, work=Work(NOW, NOW)), "active", Next.WAIT, Next.WAIT),
    ],
)
def test_trouble_is_told_once_somebody_has_looked_again(
    connection: Connection | None, heard: str | None, while_on: Next, afterwards: Next
) -> None:
    on = next_for_held(connection, heard, NOW, outage_is_on=True, ended_at=0.0, patience=100)
    off = next_for_held(connection, heard, NOW, outage_is_on=False, ended_at=ENDED_AT, patience=100)
    assert (on, off) == (while_on, afterwards)


def test_what_is_tried_for_too_long_is_told_as_it_is() -> None:
    assert next_for_held(TRYING, "active", NOW, outage_is_on=False, ended_at=ENDED_AT, patience=59) is Next.REPORT


STATES = [
    healthy(),
    UNREACHABLE,
    AFTER,
    TRYING,
    ASKING,
    DEGRADED,
    NEW,
    GONE,
    healthy(trouble=Trouble(Cause("redirected"), passing=False)),
    healthy(credential=key(KeyVerdict.REJECTED), work=RESTING),
    healthy(disconnection=Disconnection(NOON, NOON), slots={"s": replace(REGISTERED, verdict=SlotStatus.REMOVED)}),
]


@given(st.sampled_from(STATES), st.sampled_from(ConnectionStatus), st.floats(NOON, NOON + 10 * DAY), st.booleans())
def test_no_trouble_is_told_while_an_outage_is_on_and_nothing_is_told_that_is_known(
    connection: Connection, heard: ConnectionStatus, now: float, on: bool
) -> None:
    following = next_for_held(connection, heard, now, outage_is_on=on, ended_at=ENDED_AT, patience=3600)
    assert (following is Next.DROP) == (connection.status is heard)
    if following is Next.REPORT:
        assert not (on and connection.status in TROUBLED)


# --- What operators are told -----------------------------------------------------------------------------------------


def test_operators_are_told_of_both_ends_in_order_and_under_ids_no_merchant_can_have() -> None:
    outage = Outage(OutageKind.NETWORK, NOON, 0.98765, 987, 1000)
    begun, over = started_event(outage, 1), ended_event(outage, 2, NOON + 60, held=31)
    assert begun["type"] == "occ.operator.outage_started"
    assert over["type"] == "occ.operator.outage_ended"
    assert begun["subject"] == over["subject"] == "operator"
    assert begun["id"] != over["id"]
    assert ":" in str(begun["id"])
    assert str(begun["sequence"]) < str(over["sequence"])
    assert begun["data"] == {
        "kind": "network",
        "share": 0.988,
        "failing": 987,
        "asked": 1000,
        "since": "2023-11-14T22:13:20.000+00:00",
    }
    assert over["data"] == {**begun["data"], "ended_at": "2023-11-14T22:14:20.000+00:00", "held": 31}

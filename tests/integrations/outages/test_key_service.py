"""Whose key it is: laws of a simulated fleet, from one merchant to 6,000, that is looked at once a day."""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import takewhile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from integrations.connections.causes import OutageKind
from integrations.connections.change import Moment
from integrations.connections.lifecycle import claims, outcomes
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.record import Cause, Connection, KeyVerdict
from integrations.connections.schedule import spread_phase
from integrations.outages import key_service, outage
from integrations.outages.key_service import PROBE_EVERY, WITNESSES, Tried, Verdict, goes_on, verdict
from integrations.outages.outage import DAY, Outage, Rules, Tally
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.fakes import NOON, VALIDATE, changed
from tests.integrations.outages.test_outage import rules, spans
from tests.usual import OUTAGE_RULES, PACE

NO = Cause("key_rejected", "HTTP 401")


@dataclass
class Fleet:
    """Merchants whose keys are tried once a day, and what the product makes of the answers."""

    size: int
    refuses_all: tuple[float, float] = (0.0, 0.0)
    revoked: frozenset[int] = frozenset()
    connections: dict[int, Connection] = field(default_factory=dict)
    accepted: dict[int, float] = field(default_factory=dict)
    refused: dict[int, float] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    rejected_at: dict[int, float] = field(default_factory=dict)
    outage: Outage | None = None
    begun: int = 0
    _next_round: float = 0.0
    _looks: list[tuple[float, int]] = field(default_factory=list)
    _next: dict[int, float] = field(default_factory=dict)

    def run(self, days: float = 1.0) -> "Fleet":
        """Let time pass."""
        for merchant in range(self.size):
            self.plan(merchant, spread_phase(merchant) * DAY)
        return self.carry_on(days)

    def carry_on(self, days: float) -> "Fleet":
        """Let time pass; every merchant has a time."""
        while self._looks and self._looks[0][0] < days * DAY:
            now, merchant = heapq.heappop(self._looks)
            if self._next.get(merchant) == now:
                self._try(merchant, now)
        return self

    def plan(self, merchant: int, at: float) -> None:
        """When a merchant is looked at next."""
        self._next[merchant] = at
        heapq.heappush(self._looks, (at, merchant))

    def _try(self, merchant: int, now: float) -> None:
        self.tries[merchant] += 1
        if merchant not in self.revoked and not self.refuses_all[0] <= now < self.refuses_all[1]:
            self.accepted.pop(merchant, None)
            self.accepted[merchant] = now
            self.refused.pop(merchant, None)
            self.connections.pop(merchant, None)
            self._judge(now)
            self.plan(merchant, now + DAY)
            return
        before = self.connections.get(merchant) or healthy()
        is_news = before.credential.verdict is not KeyVerdict.REJECTED
        if is_news:
            self.refused.pop(merchant, None)
            self.refused[merchant] = now
            self.accepted.pop(merchant, None)
        self._judge(now)
        waits = self._verdict_waits(before, merchant, now)
        at = Moment(now, PACE)
        ready = replace(before, work=replace(before.work, not_before=now, due_at=now)) if before.work else before
        claimed = changed(claims.claim(ready, 1, VALIDATE, "worker", at))
        after = outcomes.record(claimed, VALIDATE, Failed(NO, verdict_waits=waits), at).connection
        self.connections[merchant] = after
        if is_news and after.credential.verdict is KeyVerdict.REJECTED:
            self.rejected_at[merchant] = now
        assert after.work is not None
        self.plan(merchant, after.work.due_at + 0.1)  # a tick later

    def _verdict_waits(self, connection: Connection, merchant: int, now: float) -> bool:
        since = connection.credential.doubted_since
        if since is None:
            if self._tried(now - OUTAGE_RULES.window).accepted < WITNESSES:
                self._ask(merchant, now)
            return False
        if self.outage is not None:
            self._ask(merchant, now, number=1, every=PROBE_EVERY)
        others = self._tried(since, besides=merchant)
        decided = verdict(others, outage_is_on=self.outage is not None, witnesses=WITNESSES)
        if decided is Verdict.ASKS:
            asked = self._ask(merchant, now)
            decided = verdict(others, outage_is_on=self.outage is not None, witnesses=asked)
        if decided is Verdict.STANDS:
            self.refused.pop(merchant, None)
        return decided is not Verdict.STANDS

    def _tried(self, since: float, besides: int | None = None) -> Tried:
        def count(times: dict[int, float]) -> int:  # the latest are last
            latest = takewhile(lambda entry: entry[1] > since, reversed(times.items()))
            return sum(other != besides for other, _ in latest)

        return Tried(count(self.accepted), count(self.refused))

    def _ask(self, besides: int, now: float, number: int = WITNESSES, every: float = 10.0) -> int:
        if now < self._next_round:
            return number
        drawn = random.Random(now).sample(range(self.size), min(50, self.size))  # noqa: S311 - a fleet of a test
        witnesses = [other for other in drawn if other != besides and other not in self.connections][:number]
        for witness in witnesses:
            self.plan(witness, now + 1)
        self._next_round = now + every if witnesses else self._next_round
        return len(witnesses)

    def _judge(self, now: float) -> None:
        tried = self._tried(now - OUTAGE_RULES.window)
        if self.outage is None:
            self.outage = key_service.beginning(tried, self.size, now)
            self.begun += self.outage is not None
            return
        tally = Tally(tried.accepted + tried.refused, {OutageKind.KEY: tried.refused})
        if not goes_on(OUTAGE_RULES, tried, [tally], self.outage, now, waiting=len(self.refused)):
            self.outage = None


LAST = 2.0
"""Seconds. The witnesses are asked a second after the first refusal."""

SIZES = st.integers(1, 12) | st.integers(13, 200)


@given(SIZES.filter(lambda size: size > 1), st.floats(0, DAY / 2), st.floats(45, 3600) | st.just(DAY / 8))
@example(12, 3600.0, 45.0)
@example(2, 0.0, DAY / 2)
@example(3, 0.0, DAY / 2)
@example(1_500, 3600.0, 45.0)
@example(3, 16797.0, 3600.0)
def test_no_merchant_loses_a_key_to_an_outage_of_the_login_and_operators_hear_of_it_once(
    size: int, begins: float, lasts: float
) -> None:
    fleet = Fleet(size, refuses_all=(begins, begins + lasts)).run(days=(begins + lasts) / DAY + 0.1)
    assert fleet.rejected_at == {}
    assert fleet.begun <= 1
    assert fleet.outage is None
    assert not fleet.connections, "every key is known to work again"
    # Whoever meets it in its last moments hears from the others when it is over.
    times = [spread_phase(merchant) * DAY for merchant in range(size)]
    if lasts > 60 and any(begins <= at < begins + lasts - LAST for at in times):
        assert fleet.begun == 1


@given(SIZES, st.integers(0, 10**6))
@example(1, 0)
@example(2, 0)
@example(12, 7)
@example(6_000, 77)
def test_a_key_that_was_revoked_is_known_as_such_within_some_minutes(size: int, which: int) -> None:
    merchant = which % size
    fleet = Fleet(size, revoked=frozenset({merchant})).run(days=1.1)
    met = spread_phase(merchant) * DAY
    assert set(fleet.rejected_at) == {merchant}
    assert fleet.rejected_at[merchant] <= met + 1.3 * PACE.confirm_rejection
    assert fleet.begun == 0
    assert sum(fleet.tries.values()) <= 1.2 * size + 2 * WITNESSES + 4


@given(SIZES.filter(lambda size: size >= 5), st.integers(0, 10**6))
def test_two_keys_that_are_revoked_are_no_outage(size: int, which: int) -> None:
    revoked = frozenset({which % size, (which + 1) % size})
    fleet = Fleet(size, revoked=revoked).run(days=1.5)
    assert set(fleet.rejected_at) == revoked
    assert fleet.begun == 0


@given(st.integers(8, 60), st.floats(0, DAY))
def test_some_keys_that_are_revoked_at_once_have_their_verdicts_soon_though_they_look_like_an_outage(
    size: int, at: float
) -> None:
    """Three of a fleet that was looked at some minutes before: nobody is asked but they."""
    revoked = frozenset({0, 1, 2})
    fleet = Fleet(size, revoked=revoked)
    for merchant in range(3, size):
        fleet.accepted[merchant] = 0.0
    for merchant in range(size):
        fleet.plan(merchant, 301.0 if merchant in revoked else DAY)
    fleet.carry_on(at / DAY + 1.0)
    assert set(fleet.rejected_at) == revoked
    assert max(fleet.rejected_at.values()) <= 301 + 3600
    assert fleet.outage is None


@pytest.mark.parametrize("size", [2, 3, 12, 40])
def test_keys_that_are_refused_for_ever_are_verdicts_after_a_day_and_cost_few_exchanges(size: int) -> None:
    fleet = Fleet(size, revoked=frozenset(range(size))).run(days=4)
    assert set(fleet.rejected_at) == set(range(size))
    for merchant, at in fleet.rejected_at.items():
        assert at - spread_phase(merchant) * DAY <= 1.1 * DAY
        assert fleet.tries[merchant] <= 60
    assert fleet.outage is None or size > 2


@given(st.integers(0, 50), st.integers(0, 50), st.booleans(), st.integers(0, WITNESSES))
def test_a_verdict_needs_others_who_are_accepted_or_nobody_to_ask(
    accepted: int, refused: int, on: bool, witnesses: int
) -> None:
    decided = verdict(Tried(accepted, refused), outage_is_on=on, witnesses=witnesses)
    if decided is Verdict.STANDS:
        assert not on
        assert accepted > refused or not (refused or witnesses)
    if accepted and not refused:
        assert (decided is Verdict.STANDS) is not on


TRIED = st.builds(Tried, st.integers(0, 50), st.integers(0, 50))


@given(rules, TRIED, spans, st.integers(0, 50), st.integers(0, 5))
@example(OUTAGE_RULES, Tried(0, 0), [Tally(24, {OutageKind.KEY: 24})], 24, 0)
def test_what_begins_an_outage_of_the_login_never_ends_one(
    rule: Rules, tried: Tried, looks: list[Tally], fleet: int, waiting: int
) -> None:
    for begun in (outage.beginning(rule, looks, NOON), key_service.beginning(tried, fleet, NOON)):
        if begun is not None and begun.kind == OutageKind.KEY:
            assert goes_on(rule, tried, looks, begun, NOON, waiting=waiting)

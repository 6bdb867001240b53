"""Laws that hold for a connection whatever happens to it, in whatever order."""

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from integrations.oracle_commerce import beginnings, refusals, transitions
from integrations.oracle_commerce.change import Change, Moment, Stop, any_work
from integrations.oracle_commerce.connection import (
    Cause,
    Connection,
    ConnectionStatus,
    KeyVerdict,
    Step,
    Target,
)
from integrations.oracle_commerce.findings import findings_of
from integrations.oracle_commerce.records import _RECORD
from integrations.oracle_commerce.schedule import Pace
from integrations.oracle_commerce.status import status_object
from tests.integrations.oracle_commerce.fakes import (
    FOLLOWING,
    NOON,
    SHIPPING,
    SLOTS,
    VALIDATE,
    Drive,
    all_is_well,
    changed,
    desired,
    slot,
    success,
)

PACE = Pace(lease=10, retry_attempts=3, confirm_rejection=30, second_look=40, recheck_degraded=60, revalidate_every=200)
TARGETS = (VALIDATE, SHIPPING, *map(slot, SLOTS))
CAUSE = Cause("store_error", "HTTP 503")


@dataclass(frozen=True)
class Held:
    """A worker that was granted a claim and has not told its outcome yet, dead or alive."""

    owner: str
    run: int
    target: Target
    until: float


class ConnectionMachine(RuleBasedStateMachine):
    """Requests, workers, deaths, outcomes and time, in any order."""

    @initialize()
    def begin(self) -> None:
        self.now = NOON
        self.key = 1
        self.owners = 0
        self.held: list[Held] = []
        self.refusals: list[float] = []
        self.connection = changed(beginnings.begin(None, desired(), Step.VALIDATE_KEY, self.at))

    @property
    def at(self) -> Moment:
        return Moment(self.now, PACE)

    # --- What may happen

    @rule(changed_key=st.booleans())
    def request_again(self, changed_key: bool) -> None:
        self.key += changed_key
        result = beginnings.begin(self.connection, desired(key=f"key-{self.key}"), Step.VALIDATE_KEY, self.at)
        assert isinstance(result, Change) == changed_key
        if isinstance(result, Change):
            assert result.connection.run == self.connection.run + 1
            self.connection = result.connection
            self.refusals = []

    @rule(seconds=st.sampled_from((0.5, 5.0, 11.0, 31.0, 61.0, 201.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def time_passes_until_something_is_due(self) -> None:
        due = self.connection.due_at
        assert due is not None
        self.now = max(self.now, due)

    @rule(meant=st.sampled_from(TARGETS), of_an_old_run=st.booleans())
    def a_message_arrives(self, meant: Target, of_an_old_run: bool) -> None:
        self._claim(meant, self.connection.run - of_an_old_run)

    @rule(dice=st.randoms(use_true_random=False))
    def what_is_ready_is_started(self, dice: random.Random) -> None:
        ready = sorted(self.connection.ready(self.now), key=str)
        if ready:
            self._claim(dice.choice(ready), self.connection.run)

    @precondition(lambda self: self.held)
    @rule(
        dice=st.randoms(use_true_random=False),
        what=st.sampled_from(("succeeds", "succeeds", "waits", "ends", "refused", "nothing there")),
        wait=st.sampled_from((0.0, 3.0, 100.0)),
    )
    def a_worker_tells_its_outcome(self, dice: random.Random, what: str, wait: float) -> None:
        held = self.held.pop(dice.randrange(len(self.held)))
        before = self.connection
        if not transitions.is_mine(before, held.run, held.target, held.owner):
            return  # superseded: by contract nothing is applied, so nothing can change
        assert held.run == before.run
        after = self._outcome(held, what, wait).connection
        if held.target.slot is not None:
            for name in set(SLOTS) - {held.target.slot}:
                assert after.slots[name] == before.slots[name], "slots are independent of each other"
        if what in {"waits", "ends"}:
            assert after.credential == before.credential, "an outage is no verdict"
        assert not transitions.is_mine(after, held.run, held.target, held.owner), "an outcome counts once"
        self.connection = after

    @precondition(lambda self: self.held)
    @rule(dice=st.randoms(use_true_random=False))
    def a_worker_dies(self, dice: random.Random) -> None:
        self.held.pop(dice.randrange(len(self.held)))

    # --- How

    def _claim(self, target: Target, run: int) -> None:
        self.owners += 1
        owner = f"worker-{self.owners}"
        before = self.connection
        work = before.work_on(target) if run == before.run else None
        alone = work is not None and work.is_suspect
        result = transitions.claim(before, run, target, owner, self.at, alone=alone)
        busy = [h for h in self.held if h.target == target and h.run == run and h.until > self.now]
        counting = [h for h in busy if transitions.is_mine(before, h.run, h.target, h.owner)]
        if work is None or self.now < work.not_before or counting:
            assert isinstance(result, Stop)
            return
        if isinstance(result, Stop):
            assert work.claim is not None, "work that nobody holds is there to be claimed"
            assert work.claim.until > self.now, "held by a worker that died: until its lease ends"
            return
        self.connection = result.connection
        if transitions.is_mine(self.connection, run, target, owner):
            after = self.connection.work_on(target)
            assert after is not None
            assert after.attempts == work.attempts + 1, "counted before anything is done"
            assert after.due_at == self.now + PACE.lease
            self.held.append(Held(owner, run, target, self.now + PACE.lease))
            others = [h for h in self.held[:-1] if transitions.is_mine(self.connection, h.run, h.target, h.owner)]
            assert all(h.target != target for h in others), "claims exclude each other"

    def _outcome(self, held: Held, what: str, wait: float) -> Change:
        at, connection, target = self.at, self.connection, held.target
        if what == "refused":
            self.refusals.append(self.now)
            return refusals.key_refused(connection, target, Cause("key_rejected", "HTTP 401"), at)
        if what == "waits":
            work = any_work(connection, target)
            assert work is not None
            change = transitions.waits(connection, target, CAUSE, self.now + wait, at)
            left = any_work(change.connection, target)
            if work.attempts < PACE.retry_attempts:
                assert left is not None
                assert left.not_before == left.due_at == self.now + wait
            return change
        if what == "ends":
            return transitions.ended(connection, target, Cause("permission_denied"), at)
        if what == "nothing there" and target.step is Step.CHECK_SHIPPING_METHODS:
            return transitions.shipping_checked(connection, target, 0, FOLLOWING[target.step], at)
        if target.step is Step.VALIDATE_KEY:
            self.refusals = []
        return success(connection, target, at)

    # --- What always holds

    @invariant()
    def nothing_is_lost(self) -> None:
        due = self.connection.due()
        assert due, "there is always a due time"
        unfinished = list(self.connection.unfinished())
        assert len(due) == len(unfinished), "one due time for each piece of unfinished work"
        for target, work in unfinished:
            assert due[target.slot] == work.due_at
            assert work.due_at >= work.not_before
            if work.claim is not None:
                assert work.due_at >= work.claim.until, "a claim is not handed out before its lease ends"

    @invariant()
    def either_the_connection_has_work_or_its_slots(self) -> None:
        connection = self.connection
        if connection.step is Step.REGISTER_SLOT:
            assert connection.work is None
            assert any(record.work for record in connection.slots.values())
        else:
            assert connection.work is not None

    @invariant()
    def attempts_and_deaths_are_bounded(self) -> None:
        for _, work in self.connection.unfinished():
            assert work.deaths <= PACE.retry_attempts
            assert work.attempts - work.deaths <= PACE.retry_attempts

    @invariant()
    def only_two_rejections_far_apart_ask_for_a_new_key(self) -> None:
        rejected = self.connection.credential.verdict is KeyVerdict.REJECTED
        assert rejected == (self.connection.status is ConnectionStatus.NEEDS_REAUTHORISATION)
        far_apart = len(self.refusals) > 1 and self.refusals[-1] - self.refusals[0] >= PACE.confirm_rejection
        assert rejected == far_apart

    @invariant()
    def the_record_is_all_there_is(self) -> None:
        """Written and read again it is the same connection, with the same status, findings and due times."""
        again: Connection = _RECORD.validate_json(_RECORD.dump_json(self.connection, exclude_defaults=True))
        assert again == self.connection
        assert status_object(again) == status_object(self.connection)
        assert again.due() == self.connection.due()

    def teardown(self) -> None:
        """From wherever it has come to, a connection at a healthy store is active soon."""
        if not hasattr(self, "connection"):
            return
        drive = Drive(self.connection, PACE, all_is_well, now=self.now)
        horizon = self.now + PACE.lease + PACE.revalidate_every + PACE.second_look + 100
        drive.until(horizon)
        assert drive.connection.status is ConnectionStatus.ACTIVE
        assert findings_of(drive.connection) == ()


TestAnySequenceOfEvents = ConnectionMachine.TestCase
TestAnySequenceOfEvents.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)

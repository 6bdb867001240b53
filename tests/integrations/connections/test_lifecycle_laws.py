"""Laws that hold for a connection whatever happens to it, in whatever order."""

import random
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from integrations.connections.change import Change, Keys, Moment, Stop, any_work
from integrations.connections.drift import Drift
from integrations.connections.events import other_events, status_event
from integrations.connections.findings import findings_of
from integrations.connections.lifecycle import claims, disconnection, outcomes, requests
from integrations.connections.lifecycle.outcomes import Failed, NewKeyTurnedDown, ShippingMethodsChecked, SlotContested
from integrations.connections.record import (
    Cause,
    Connection,
    ConnectionStatus,
    KeyVerdict,
    SlotStatus,
    Step,
    Target,
)
from integrations.connections.schedule import Pace
from integrations.connections.status import status_object
from integrations.connections.stored_record import record_in, record_text
from integrations.learnt import Learnt
from tests.examples import examples
from tests.integrations.oracle_commerce.fakes import (
    NOON,
    SHIPPING,
    SLOTS,
    VALIDATE,
    Drive,
    all_is_well,
    changed,
    desired,
    removal,
    slot,
    success,
)

PACE = Pace(
    lease=10,
    retry_attempts=3,
    confirm_rejection=30,
    second_look=40,
    recheck_degraded=60,
    revalidate_every=200,
    repairs_per_day=2,
    patience=60,
    clean_up_for=500,
)
TARGETS = (VALIDATE, SHIPPING, *map(slot, SLOTS), *map(removal, SLOTS))
CAUSE = Cause("store_error", "HTTP 503")
REFUSED = Cause("key_rejected", "HTTP 401")
STORES = ("https://ccadmin-z1.oracleoutsourcing.com", "https://ccadmin-z2.oracleoutsourcing.com")
OUTCOMES = ("succeeds", "succeeds", "succeeds", "waits", "ends", "refused", "too narrow", "nothing there", "undone")


@dataclass(frozen=True)
class Held:
    """A worker that was granted a claim and has not told its outcome yet, dead or alive."""

    owner: str
    run: int
    target: Target
    since: float
    until: float


class ConnectionMachine(RuleBasedStateMachine):
    """Requests, wishes, workers, deaths, outcomes and time, in any order."""

    @initialize(life=st.sampled_from(("new", "active", "fought over")))
    def begin(self, life: str) -> None:
        self.now = NOON
        self.key = 1
        self.store = STORES[0]
        self.owners = 0
        self.held: list[Held] = []
        self.has_key = self.has_candidate = False
        self.formers: list[Connection] = []
        self._forget_refusals()
        change = requests.begin(None, self._desired(), self.at)
        assert isinstance(change, Change)
        self.connection = change.connection
        self._keep(change.keys)
        if life != "new":
            drive = Drive(self.connection, PACE, all_is_well, now=self.now)
            drive.until(self.now + PACE.second_look)
            self.connection, self.now = drive.connection, drive.now
        if life == "fought over":
            first, cause = self.connection.slots[SLOTS[0]], Cause("slot_contested")
            contested = replace(first, verdict=SlotStatus.CONTESTED, cause=cause)
            self.connection = replace(self.connection, slots={**self.connection.slots, SLOTS[0]: contested})

    @property
    def at(self) -> Moment:
        return Moment(self.now, PACE)

    # --- What may be asked for

    @rule(changed_key=st.booleans())
    def request_again(self, changed_key: bool) -> None:
        self.key += changed_key
        before = self.connection
        result = requests.begin(before, self._desired(), self.at)
        known = {before.credential.fingerprint, before.candidate.fingerprint if before.candidate else ""}
        assert isinstance(result, Change) == (before.disconnection is not None or f"key-{self.key}" not in known)
        if not isinstance(result, Change):
            return
        works = before.credential.verdict in {KeyVerdict.VALID, KeyVerdict.DOUBTED} and before.disconnection is None
        assert result.connection.run == before.run + (not works)
        if works:
            assert result.connection.credential == before.credential, "the old key stays until the new one is proven"
            assert result.connection.status == before.status, "a wish is no news"
        else:
            self._forget_refusals()
        self._take(result)

    @rule()
    def another_store(self) -> None:
        self.store = STORES[self.store == STORES[0]]
        before, there = self.connection, self._is_there(self.connection)
        self.key += 1
        result = requests.begin(before, self._desired(), self.at)
        assert isinstance(result, Change)
        if there:
            assert result.former is not None, "where we are, we leave"
        if result.former is not None:
            assert self.has_key
            assert result.former.due_at is not None
            assert result.connection.ready(self.now) == set(), "not before the former store was dealt with"
            self.formers.append(result.former)
        self._forget_refusals()
        self._take(result)

    @rule(repair=st.booleans())
    def somebody_asks_for_a_look(self, repair: bool) -> None:
        result = requests.revalidate_now(self.connection, self.at, repair=repair)
        assert isinstance(result, Stop) or self.connection.disconnection is None
        if isinstance(result, Change):
            assert result.connection.credential == self.connection.credential
            self._take(result)

    @rule(forget_now=st.sampled_from((False, False, True)))
    def somebody_asks_to_disconnect(self, forget_now: bool) -> None:
        before = self.connection
        result = disconnection.disconnect(before, self.at, forget_now=forget_now)
        if isinstance(result, Stop):
            assert before.disconnection is not None
            return
        self._take(result)
        assert not self.has_candidate
        assert self.has_key == (not forget_now)

    # --- What may happen

    @rule(seconds=st.sampled_from((0.5, 5.0, 11.0, 31.0, 61.0, 201.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.connection.due_at is not None)
    @rule()
    def time_passes_until_something_is_due(self) -> None:
        assert self.connection.due_at is not None
        self.now = max(self.now, self.connection.due_at)

    @rule(meant=st.sampled_from(TARGETS), of_an_old_run=st.booleans())
    def a_message_arrives(self, meant: Target, of_an_old_run: bool) -> None:
        self._claim(meant, self.connection.run - of_an_old_run)

    @rule(dice=st.randoms(use_true_random=False))
    def what_is_ready_is_started(self, dice: random.Random) -> None:
        ready = sorted(self.connection.ready(self.now), key=str)
        if ready:
            self._claim(dice.choice(ready), self.connection.run)

    @rule(dice=st.randoms(use_true_random=False))
    def what_is_ready_succeeds(self, dice: random.Random) -> None:
        """The usual case, so that long lives come to their later chapters."""
        self.what_is_ready_is_started(dice)
        if self.held:
            self._tell(self.held.pop(), "succeeds", 0.0)

    @rule(
        exchange=st.sampled_from(("succeeds", "refused")), look=st.sampled_from(("succeeds", "refused", "too narrow"))
    )
    def a_new_key_is_sent_and_tried(self, exchange: str, look: str) -> None:
        """What is too rare if everything happens by chance."""
        self.request_again(changed_key=True)
        for target, what in ((VALIDATE, exchange), (SHIPPING, look)):
            if target in self.connection.ready(self.now):
                self._claim(target, self.connection.run)
                if self.held:
                    self._tell(self.held.pop(), what, 0.0)

    @precondition(lambda self: self.held)
    @rule(
        dice=st.randoms(use_true_random=False),
        what=st.sampled_from(OUTCOMES),
        wait=st.sampled_from((0.0, 3.0, 100.0)),
    )
    def a_worker_tells_its_outcome(self, dice: random.Random, what: str, wait: float) -> None:
        self._tell(self.held.pop(dice.randrange(len(self.held))), what, wait)

    @precondition(lambda self: self.held)
    @rule(dice=st.randoms(use_true_random=False))
    def a_worker_dies(self, dice: random.Random) -> None:
        self.held.pop(dice.randrange(len(self.held)))

    # --- How

    def _desired(self) -> requests.Desired:
        return desired(key=f"key-{self.key}", store=self.store)

    def _forget_refusals(self) -> None:
        self.doubted_since: float | None = None
        self.confirmed = False

    def _keep(self, keys: Keys) -> None:
        if keys.promote:
            assert self.has_candidate
            self._forget_refusals()
        self.has_key = (self.has_key or bool(keys.current) or keys.promote) and not keys.forget_current
        self.has_candidate = bool(keys.candidate) or (
            self.has_candidate and not keys.promote and not keys.forget_candidate
        )

    def _take(self, change: Change) -> None:
        before, self.connection = self.connection, change.connection
        self._keep(change.keys)
        event = status_event(before, self.connection, version=1, now=self.now)
        if before.disconnection is not None and self.connection.disconnection is not None and event is not None:
            assert event["type"] == "occ.connection.disconnected", "leaving is told of when it is done"
        told = [it["type"] for it in other_events(before, self.connection, version=1, now=self.now)]
        assert told.count("occ.connection.reauthorised") == change.keys.promote

    @staticmethod
    def _is_there(connection: Connection) -> bool:
        """Whether our callback URL is in a slot as far as the record knows."""
        return any(
            it.in_order_at is not None
            and it.verdict is not SlotStatus.REMOVED
            and (it.work is not None or connection.disconnection is None)
            for it in connection.slots.values()
        )

    def _tell(self, held: Held, what: str, wait: float) -> None:
        before = self.connection
        if not claims.is_mine(before, held.run, held.target, held.owner):
            return  # superseded: by contract nothing is applied, so nothing can change
        assert held.run == before.run
        change = self._outcome(held, what, wait)
        after = change.connection
        if held.target.slot is not None:
            for name in set(SLOTS) - {held.target.slot}:
                assert after.slots[name] == before.slots[name], "slots are independent of each other"
        if what in {"waits", "ends"} or (what == "undone" and held.target.slot is not None):
            assert after.credential == before.credential, "an outage is no verdict"
        if before.candidate is not None and what in {"refused", "too narrow"}:
            assert after.credential == before.credential, "what is said to a new key is not said to the old one"
            assert after.status == before.status
            assert {it.status for it in after.slots.values()} == {it.status for it in before.slots.values()}
        assert not claims.is_mine(after, held.run, held.target, held.owner), "an outcome counts once"
        self._take(change)

    def _claim(self, target: Target, run: int) -> None:
        self.owners += 1
        owner = f"worker-{self.owners}"
        before = self.connection
        work = before.work_on(target) if run == before.run else None
        alone = work is not None and work.is_suspect
        result = claims.claim(before, run, target, owner, self.at, alone=alone)
        busy = [h for h in self.held if h.target == target and h.run == run and h.until > self.now]
        counting = [h for h in busy if claims.is_mine(before, h.run, h.target, h.owner)]
        if work is None or self.now < work.not_before or counting:
            assert isinstance(result, Stop)
            return
        if isinstance(result, Stop):
            assert work.claim is not None, "work that nobody holds is there to be claimed"
            assert work.claim.until > self.now, "held by a worker that died: until its lease ends"
            return
        self._take(result)
        if claims.is_mine(self.connection, run, target, owner):
            after = self.connection.work_on(target)
            assert after is not None
            assert after.attempts == work.attempts + 1, "counted before anything is done"
            assert after.due_at == self.now + PACE.lease
            self.held.append(Held(owner, run, target, self.now, self.now + PACE.lease))
            others = [h for h in self.held[:-1] if claims.is_mine(self.connection, h.run, h.target, h.owner)]
            assert all(h.target != target for h in others), "claims exclude each other"

    def _outcome(self, held: Held, what: str, wait: float) -> Change:  # noqa: PLR0911 - one for each outcome
        at, connection, target = self.at, self.connection, held.target
        if target.step is Step.DISCONNECT:
            return self._outcome_of_removal(target, what, wait)
        if what == "refused":
            return self._refused(held)
        if what == "too narrow" and target == SHIPPING and connection.candidate is not None:
            return outcomes.record(connection, target, NewKeyTurnedDown(Cause("permission_denied")), at)
        if what == "waits":
            return self._waits(target, wait)
        if what == "ends" or (what == "too narrow" and target.step is not Step.VALIDATE_KEY):
            return outcomes.record(connection, target, Failed(Cause("permission_denied")), at)
        if what == "nothing there" and target == SHIPPING:
            return outcomes.record(connection, target, ShippingMethodsChecked(0), at)
        if what == "undone" and target.slot is not None:
            return self._undone(target, wait)
        if target.step is Step.VALIDATE_KEY and connection.candidate is None:
            self._forget_refusals()
        return success(connection, target, at)

    def _outcome_of_removal(self, target: Target, what: str, wait: float) -> Change:
        if what == "succeeds":
            return success(self.connection, target, self.at)
        cause = CAUSE if what in {"waits", "undone"} else Cause("permission_denied")
        return outcomes.record(self.connection, target, Failed(cause, wait), self.at)

    def _refused(self, held: Held) -> Change:
        """A second refusal counts if it was asked for long enough after the first was told."""
        if self.connection.candidate is None:
            if self.doubted_since is None:
                self.doubted_since = self.now
            elif held.since - self.doubted_since >= PACE.confirm_rejection:
                self.confirmed = True
        return outcomes.record(self.connection, held.target, Failed(REFUSED), self.at)

    def _waits(self, target: Target, wait: float) -> Change:
        work = any_work(self.connection, target)
        assert work is not None
        change = outcomes.record(self.connection, target, Failed(CAUSE, wait), self.at)
        left = any_work(change.connection, target)
        if work.attempts < PACE.retry_attempts and wait <= PACE.patience:  # longer waits are left to a re-validation
            assert left is not None
            assert left.not_before == left.due_at == self.now + wait
        return change

    def _undone(self, target: Target, wait: float) -> Change:
        """Somebody takes our URL out as soon as we have put it in; what is not to be written is only looked at."""
        record = self.connection.slots[target.slot or ""]
        repairs = len(record.recent_repairs(self.now))
        if record.verdict is SlotStatus.CONTESTED or repairs >= PACE.repairs_per_day:
            return outcomes.record(self.connection, target, SlotContested((Drift.URL_MISSING,), record), self.at)
        undone = Failed(Cause("registration_not_kept"), wait, learnt=Learnt(writes=1))
        change = outcomes.record(self.connection, target, undone, self.at)
        after = change.connection.slots[target.slot or ""]
        assert len(after.recent_repairs(self.now)) == repairs + 1
        return change

    # --- What always holds

    @invariant()
    def nothing_is_lost(self) -> None:
        due = self.connection.due()
        assert due or not self.has_key, "as long as there is a key, there is something to do with it"
        unfinished = list(self.connection.unfinished())
        assert len(due) == len(unfinished), "one due time for each piece of unfinished work"
        for target, work in unfinished:
            assert due[target.slot] == work.due_at
            assert work.due_at >= work.not_before
            if work.claim is not None:
                assert work.due_at >= work.claim.until, "a claim is not handed out before its lease ends"

    @invariant()
    def a_key_is_kept_as_long_as_it_is_needed_and_no_longer(self) -> None:
        assert self.has_candidate == (self.connection.candidate is not None)
        if self.connection.disconnection is None:
            assert self.has_key
        else:
            assert self.has_key == bool(self.connection.due())
        if not self.has_key:
            assert self.connection.disconnected

    @invariant()
    def either_the_connection_has_work_or_its_slots(self) -> None:
        connection = self.connection
        assert (connection.step is Step.DISCONNECT) == (connection.disconnection is not None)
        if connection.step is Step.DISCONNECT:
            assert connection.work is None
        elif connection.step is Step.REGISTER_SLOT:
            assert connection.work is None
            assert any(record.work for record in connection.slots.values())
        else:
            assert connection.work is not None

    @invariant()
    def attempts_and_deaths_are_bounded(self) -> None:
        for target, work in self.connection.unfinished():
            assert work.deaths <= PACE.retry_attempts
            if target.step is not Step.DISCONNECT:
                assert work.attempts - work.deaths <= PACE.retry_attempts

    @invariant()
    def only_two_rejections_far_apart_ask_for_a_new_key(self) -> None:
        connection = self.connection
        if connection.disconnection is None:
            rejected = connection.credential.verdict is KeyVerdict.REJECTED
            assert rejected == (connection.status is ConnectionStatus.NEEDS_REAUTHORISATION)
            assert rejected == self.confirmed

    @invariant()
    def repairs_are_bounded(self) -> None:
        for record in self.connection.slots.values():
            assert len(record.recent_repairs(self.now)) <= len(record.repairs)

    @invariant()
    def the_record_is_all_there_is(self) -> None:
        """Written and read again it is the same connection, with the same status, findings and due times."""
        again = record_in(record_text(self.connection))
        assert again == self.connection
        assert status_object(again) == status_object(self.connection)
        assert again.due() == self.connection.due()

    def teardown(self) -> None:
        """From wherever it has come to, a connection at a healthy store is active soon, or gone."""
        if not hasattr(self, "connection"):
            return
        for former in self.formers:
            _is_left(former, self.now)
        if self.connection.disconnection is not None:
            if self.has_key:
                _is_left(self.connection, self.now)
            again = requests.begin(self.connection, self._desired(), self.at)
            self.connection = changed(again)
        drive = Drive(self.connection, PACE, all_is_well, now=self.now)
        horizon = self.now + PACE.lease + PACE.revalidate_every + PACE.second_look + 100
        drive.until(horizon)
        assert drive.connection.status is ConnectionStatus.ACTIVE
        assert {finding.code for finding in findings_of(drive.connection)} <= {"new_key_rejected"}
        assert drive.connection.candidate is None


def _is_left(connection: Connection, now: float) -> None:
    drive = Drive(connection, PACE, all_is_well, now=now)
    drive.until(now + PACE.lease + PACE.clean_up_for)
    assert drive.connection.disconnected
    assert drive.connection.due_at is None
    assert not drive.has_key
    assert findings_of(drive.connection) == ()


TestAnySequenceOfEvents = ConnectionMachine.TestCase
TestAnySequenceOfEvents.settings = settings(max_examples=examples(100), stateful_step_count=40)

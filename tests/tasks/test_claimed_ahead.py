"""What is ready at once is claimed for free threads by the change that makes it ready; nothing else comes of it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from integrations.connections.change import Moment
from integrations.connections.lifecycle.claims import claim_ahead
from integrations.connections.record import Connection, Target
from occ.simulator.application_keys import make_application_key
from tasks.claimed_step import ClaimedAhead
from tasks.step import run_step
from tests.integrations.oracle_commerce.by_hand import Desk

FAULTS = ("login", "shipping_methods", "read_slot:order-submit", "write_slot:order-update")


class FreeThreads(Desk):
    """A desk with a worker's free threads; `free` of them at any moment."""

    def __init__(self, free: int = 8, **settings: object) -> None:
        self.free, self.begins = free, True
        self.handed_on: list[tuple[Target, ClaimedAhead, Callable[[], object]]] = []
        self.sent: list[Target] = []
        super().__init__(**settings)

    def message(
        self, merchant_id: str, run: int, target: Target, ahead: ClaimedAhead | None = None
    ) -> dict[str, object]:
        done = run_step(self.services, self._send, merchant_id, run, target, threads=self, ahead=ahead)
        while self.begins and self.handed_on:
            following, claimed, _ = self.handed_on.pop(0)
            self.message(merchant_id, run, following, claimed)
        return done

    def room(self) -> int:
        return self.free

    def take(self, connection: Connection, target: Target, *, claimed: object, give_back: Callable[[], object]) -> bool:
        assert isinstance(claimed, ClaimedAhead)
        assert connection.work_on(target) is not None
        self.handed_on.append((target, claimed, give_back))
        return True

    def _send(self, _: Connection, targets: Iterable[Target]) -> None:
        self.sent += targets


class ThreadsTaken(FreeThreads):
    """Others were faster."""

    def take(self, *_: object, **__: object) -> bool:
        return False


def begun(desk: FreeThreads) -> FreeThreads:
    """A connect whose first step is done; nobody begins what was handed on."""
    desk.begins = False
    desk.connect(desk.store())
    desk.one()
    return desk


def test_a_run_is_claimed_step_by_step_and_no_message_is_sent() -> None:
    desk = FreeThreads()
    store = desk.store()
    desk.connect(store)
    desk.one()
    assert desk.status == "active"
    assert desk.sent == []
    assert dict(store.calls.endpoints) == {"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4}


@pytest.mark.parametrize("failing", [None, *FAULTS])
@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_the_record_is_what_it_would_be_without(failing: str | None, status: int) -> None:
    ended, key = [], make_application_key()
    for desk in (FreeThreads(), Desk()):
        store = desk.store(application_key=key, shows_secrets=False)  # each store has others
        if failing:
            store.fail(failing, status)
        desk.connect(store)
        desk.at_once()
        ended.append((desk.connection, desk.events(), dict(store.calls.endpoints)))
        desk.wait(3600)
        ended.append((desk.connection, desk.events(), dict(store.calls.endpoints)))
    assert ended[:2] == ended[2:]


def test_what_no_thread_takes_after_all_is_sent_as_it_was() -> None:
    desk = begun(ThreadsTaken())
    (target,) = desk.sent
    work = desk.connection.work_on(target)
    assert work is not None
    assert (work.attempts, work.deaths, work.claim) == (0, 0, None)
    assert desk.connection.ready(desk.now) == {target}


def test_what_is_never_begun_is_given_back() -> None:
    desk = begun(FreeThreads())
    ((target, _, give_back),) = desk.handed_on
    assert desk.connection.ready(desk.now) == set()
    give_back()
    work = desk.connection.work_on(target)
    assert work is not None
    assert (work.attempts, work.deaths, work.claim) == (0, 0, None)
    desk.handed_on.clear()
    desk.begins = True
    desk.at_once()
    assert desk.status == "active"


def test_what_was_begun_meanwhile_is_not_given_back() -> None:
    desk = begun(FreeThreads())
    ((target, claimed, give_back),) = desk.handed_on
    desk.message("m-1", 1, target, claimed)
    after = desk.connection
    give_back()
    assert desk.connection == after


def test_a_worker_that_dies_with_it_costs_a_lease() -> None:
    desk = begun(FreeThreads())
    desk.handed_on.clear()
    desk.begins = True
    desk.wait(desk.pace.lease + 1)
    assert desk.status == "active"


def test_what_is_claimed_twice_is_done_once() -> None:
    """Its lease is over when its thread begins, and somebody else has done it."""
    desk = begun(FreeThreads())
    ((target, claimed, _),) = desk.handed_on
    desk.handed_on.clear()
    desk.begins = True
    desk.wait(desk.pace.lease + 1)
    after = desk.connection
    assert desk.message("m-1", 1, target, claimed)["outcome"] == "nothing_to_do"
    assert desk.connection == after


def test_only_as_much_is_claimed_as_threads_are_free() -> None:
    desk = FreeThreads(free=2)
    desk.connect(desk.store())
    desk.one()
    assert len(desk.sent) == 2  # once each, though two slots were done meanwhile
    assert set(map(str, desk.connection.ready(desk.now))) == set(map(str, desk.sent))


@pytest.mark.parametrize("past", [{"attempts": 1}, {"deaths": 1}, {"deaths_alone": 1}, {"stood_back": 1}])
def test_work_with_a_past_is_left_to_whoever_begins_it(past: dict[str, Any]) -> None:
    desk = Desk()
    desk.connect(desk.store())
    connection, at = desk.connection, Moment(desk.now, desk.pace)
    (target,) = connection.ready(desk.now)
    assert claim_ahead(connection, target, "us", at) is not None
    assert connection.work is not None
    assert claim_ahead(replace(connection, work=replace(connection.work, **past)), target, "us", at) is None

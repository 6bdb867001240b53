"""One chain for all work of a run and one for each re-validation: a root that stays, and parents that were there."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.connections.record import NO_CHAIN, Target
from integrations.connections.stored_record import record_text
from integrations.oracle_commerce.accept import Door
from integrations.sealing.keyring import seal
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tasks.step import run_step
from tests.examples import examples
from tests.integrations.oracle_commerce.by_hand import OURS, SECOND, Desk

REQUEST, ANOTHER = "1795446120000-0", "72e0c2f5-6c3c-4a2e-9a54-8f6f1b1c8f11"


@dataclass(frozen=True)
class Sent:
    """A message about a step, as Flower would show it."""

    task_id: str
    what: str
    root: str
    parent: str | None


class ChainedDesk(Desk):
    """A desk whose messages have ids."""

    def __init__(self, **settings: object) -> None:
        self.sent: list[Sent] = []
        super().__init__(**settings)

    def ask(self, store: SimulatedStore, request_id: str = REQUEST, key: str | None = None) -> None:
        sealed = seal(OURS.public_key, OURS.key_id, "m-1", key or store.application_key)
        request = {"merchant_id": "m-1", "store_url": store.url, "application_key": sealed}
        self.services.acceptance.accept(request, Door.INBOX, reference=request_id)

    def message(self, merchant_id: str, run: int, target: Target) -> dict[str, object]:
        connection = self.records.load(merchant_id).connection
        assert connection is not None
        task_id, chain = f"task-{len(self.sent)}", connection.chain
        self.sent.append(Sent(task_id, str(target), chain.root or task_id, chain.parent or None))
        work = connection.work_on(target)
        alone = work is not None and work.is_suspect
        return run_step(self.services, lambda *_: None, merchant_id, run, target, alone=alone, task_id=task_id)

    def chain(self) -> list[Sent]:
        """What was sent since this was asked last."""
        sent, self.sent = self.sent, []
        return sent


def by_what(sent: list[Sent]) -> dict[str, list[Sent]]:
    found: dict[str, list[Sent]] = {}
    for one in sent:
        found.setdefault(one.what, []).append(one)
    return found


def test_every_step_leads_up_to_the_request_and_slots_are_siblings() -> None:
    desk = ChainedDesk()
    desk.ask(desk.store())
    desk.wait(60)
    sent = desk.chain()
    assert {one.root for one in sent} == {REQUEST}
    steps = by_what(sent)
    assert len(sent) == 6
    ((key,), (shipping,)) = steps.pop("validate_key"), steps.pop("check_shipping_methods")
    assert (key.parent, shipping.parent) == (REQUEST, key.task_id)
    assert {one.parent for slots in steps.values() for one in slots} == {shipping.task_id}
    assert desk.connection.chain == NO_CHAIN  # nothing is kept where nothing is under way
    assert "chain" not in record_text(desk.connection)


@pytest.mark.parametrize("failing", ["login", "shipping_methods", "read_slot:order-submit", "write_slot:order-submit"])
def test_a_step_that_is_sent_again_is_a_sibling_of_its_first_attempt(failing: str) -> None:
    desk = ChainedDesk()
    store = desk.store()
    store.fail(failing, 503)
    desk.ask(store)
    desk.wait(60)
    sent = desk.chain()
    assert desk.status == "active"
    assert {one.root for one in sent} == {REQUEST}
    ((first, again),) = [found for found in by_what(sent).values() if len(found) == 2]
    assert first.parent == again.parent


def test_the_work_of_a_dead_worker_stays_in_the_chain() -> None:
    desk = ChainedDesk()
    desk.ask(desk.store())
    desk.one()
    desk.one()
    desk.hold(Target(desk.connection.step, "order-submit"))
    desk.wait(300)
    sent = desk.chain()
    assert {one.root for one in sent} == {REQUEST}
    assert {one.parent for one in sent if "/" in one.what} == {sent[1].task_id}


def test_a_scheduled_revalidation_begins_a_chain_with_its_first_task() -> None:
    desk = ChainedDesk()
    store = desk.store()
    desk.ask(store)
    desk.wait(60)
    desk.chain()
    store.fail("login", 503)
    desk.next_revalidation()
    desk.wait(60)
    sent = desk.chain()
    first, again, *rest = sent
    assert (first.root, first.parent) == (first.task_id, None)
    assert (again.root, again.parent) == (first.task_id, first.task_id)
    assert {one.root for one in rest} == {first.task_id}


def test_a_run_that_nobody_named_begins_with_its_first_task() -> None:
    desk = ChainedDesk()
    desk.connect(desk.store())  # as the command line does
    desk.wait(60)
    sent = desk.chain()
    assert {one.root for one in sent} == {sent[0].task_id}
    assert sent[0].parent is None
    assert all(one.parent for one in sent[1:])


def test_a_move_to_another_store_has_one_chain_for_both() -> None:
    desk = ChainedDesk()
    first = desk.store()
    desk.ask(first)
    desk.wait(60)
    desk.chain()
    desk.ask(desk.store(SECOND, application_key=make_application_key(issued_at=1.0, lifetime=None)), ANOTHER)
    desk.wait(120)  # a second look at what was written has a chain of its own
    sent = desk.chain()
    assert sum(one.what.startswith("disconnect/") for one in sent) == 4
    assert {one.root for one in sent} == {ANOTHER}
    assert {one.parent for one in sent if one.what.startswith("disconnect/")} == {ANOTHER}


@pytest.mark.parametrize("asked", ["revalidate", "disconnect"])
def test_what_a_request_begins_belongs_to_it(asked: str) -> None:
    desk = ChainedDesk()
    desk.ask(desk.store())
    desk.wait(60)
    desk.chain()
    take = {"revalidate": desk.services.acceptance.revalidate, "disconnect": desk.services.acceptance.disconnect}
    take[asked]({"merchant_id": "m-1"}, Door.INBOX, reference=ANOTHER)
    desk.wait(60)
    sent = desk.chain()
    assert {one.root for one in sent} == {ANOTHER}
    assert sent[0].parent == ANOTHER


def test_a_repair_in_the_midst_of_a_run_leaves_it_in_its_chain() -> None:
    desk = ChainedDesk()
    desk.ask(desk.store())
    desk.one()
    desk.services.acceptance.revalidate({"merchant_id": "m-1", "repair": True}, Door.INBOX, reference=ANOTHER)
    desk.wait(60)
    assert {one.root for one in desk.chain()} == {REQUEST}


CALLS = ("login", "shipping_methods", "read_slot:order-submit", "write_slot:order-submit", "read_slot:order-update")
TROUBLE = st.tuples(st.sampled_from(CALLS), st.sampled_from([401, 404, 429, 503]), st.integers(1, 3))


@settings(max_examples=examples(40))
@given(st.lists(TROUBLE, max_size=4), st.booleans())
def test_whatever_a_store_does_a_parent_is_the_request_or_a_task_that_ran(
    trouble: list[tuple[str, int, int]], twice: bool
) -> None:
    desk = ChainedDesk()
    store = desk.store()
    for call, status, times in trouble:
        store.fail(call, *[status] * times)
    desk.twice = twice
    desk.ask(store)
    desk.wait(86400)
    known = {REQUEST}
    for one in desk.chain():
        assert one.parent is None or one.parent in known
        assert one.root in {*known, one.task_id}
        assert (one.root == one.task_id) == (one.parent is None)
        known.add(one.task_id)

"""Several merchants of ours at one store: everybody's callback URLs are there, and nobody else's is lost."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from occ.simulator.store import SimulatedStore
from tasks.worker.counting import TOTALS, field
from tasks.worker.metric import SHARED
from tests.end_to_end.requests import SLOTS, THEIRS, ask, findings, history, ours
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

NewStore = Callable[..., SimulatedStore]
TOGETHER = 6


def test_six_merchants_connect_to_one_store_at_once_and_three_of_them_leave_it(
    shared: Pipeline, new_store: NewStore
) -> None:
    store = new_store(slots={slot: {"urls": [THEIRS]} for slot in SLOTS}, latency=0.05)
    merchants = [f"{store.name}-m{number}" for number in range(TOGETHER)]
    before = int(shared.redis.hget(TOTALS, field(SHARED)) or 0)
    for merchant in merchants:
        shared.send(shared.request(store, merchant))
    shared.await_end(*merchants)
    assert {shared.status(merchant)["status"] for merchant in merchants} == {"active"}
    assert all(findings(shared.status(merchant)) == [("store_shared", None)] for merchant in merchants)
    wait_until(lambda: int(shared.redis.hget(TOTALS, field(SHARED)) or 0) > before, what="that to be counted")
    for slot in SLOTS:
        assert store.urls(slot)[0] == THEIRS
        assert sorted(store.urls(slot)[1:]) == sorted(ours(merchant, slot) for merchant in merchants)
    for merchant in merchants:  # nobody had to try twice, and nobody's history is full of waiting
        slots = shared.status(merchant)["slots"].values()
        assert {slot["attempts"] for slot in slots} == {1}
        assert len(history(shared, merchant, "waits")) <= len(SLOTS)
    leaving, staying = merchants[::2], merchants[1::2]
    for merchant in leaving:
        ask(shared, "occ.disconnect", merchant_id=merchant)
    wait_until(
        lambda: {shared.status(merchant)["status"] for merchant in leaving} == {"disconnected"},
        what="the disconnections",
    )
    for slot in SLOTS:
        assert store.urls(slot)[0] == THEIRS
        assert sorted(store.urls(slot)[1:]) == sorted(ours(merchant, slot) for merchant in staying)
    (alone, *others) = staying
    for merchant in others:
        ask(shared, "occ.disconnect", merchant_id=merchant)
    wait_until(lambda: findings(shared.status(alone)) == [], what="the store to be one merchant's")
    assert len(history(shared, alone, "store_shared")) == len(history(shared, alone, "store_shared_no_more")) == 1


def test_a_store_that_shows_late_what_was_written_costs_nobody_their_url(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots={slot: {"urls": [THEIRS]} for slot in SLOTS}, shows_writes_after=0.7)
    merchants = [f"{store.name}-m{number}" for number in range(2)]
    for merchant in merchants:
        shared.send(shared.request(store, merchant))
    shared.await_end(*merchants)
    assert {shared.status(merchant)["status"] for merchant in merchants} == {"active"}
    for slot in SLOTS:
        assert store.urls(slot)[0] == THEIRS
        assert sorted(store.urls(slot)[1:]) == sorted(ours(merchant, slot) for merchant in merchants)
        lists = [set(call.body["urls"]) for call in store.calls.entries if call.slot == slot and call.body]  # type: ignore[index]
        assert all(earlier <= later for earlier, later in pairwise(lists)), "what one has written, none leaves out"

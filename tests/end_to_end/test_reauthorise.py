"""A new application key, or another store, for a connection that exists: what works goes on until the new has proven
itself."""

from collections.abc import Callable

import pytest

from integrations.oracle_commerce.application_key import fingerprint
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.end_to_end.requests import (
    A_REVALIDATION,
    CARRYING_THEIRS,
    SLOTS,
    THEIRS,
    ask,
    assert_both_are_in,
    assert_nothing_foreign_was_lost,
    assert_only_theirs_are_in,
    await_forgotten,
    await_second_revalidation,
    await_true,
    calls,
    connect,
    disconnect,
    events,
    findings,
    history,
    is_at_rest,
    ours,
    revalidate,
    slot_statuses,
    told,
    where,
)
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

NewStore = Callable[..., SimulatedStore]
ALWAYS = {"times": "always"}


def send_key(pipeline: Pipeline, store: SimulatedStore, key: str) -> str:
    """The merchant supplies another key, which the store may or may not know; how it was sealed."""
    right, store.application_key = store.application_key, key
    try:
        request = pipeline.request(store)
    finally:
        store.application_key = right
    pipeline.send(request)
    return str(request["application_key"])


def await_run(pipeline: Pipeline, store: SimulatedStore, run: int) -> None:
    """Until this run has reached its end."""

    def over() -> bool:
        connection = pipeline.connection(store.name)
        return connection is not None and connection.run == run and is_at_rest(connection)

    await_true(over, f"run {run} to end")


def await_refusal(pipeline: Pipeline, store: SimulatedStore) -> None:
    """Until the new key was turned down, and the old one has gone on."""

    def over() -> bool:
        connection = pipeline.connection(store.name)
        return connection is not None and connection.key_refusal is not None and is_at_rest(connection)

    await_true(over, "the new key to be turned down")


def assert_unharmed(pipeline: Pipeline, store: SimulatedStore) -> None:
    """Connected as before, with the key from before; only the finding and its event tell of the attempt."""
    status = pipeline.status(store.name)
    assert (status["status"], status["run"]) == ("active", 1)
    assert status["credential"]["fingerprint"] == fingerprint(store.application_key)
    assert status["credential"]["verdict"] == "valid"
    assert set(slot_statuses(status).values()) == {"registered"}
    assert findings(status) == [("new_key_rejected", None)]
    assert told(pipeline, store.name) == ["onboarding", "active", "reauthorisation_failed"]
    assert_both_are_in(store)
    assert calls(store)["write_slot"] == 4
    assert_nothing_foreign_was_lost([store])


def test_a_wrong_new_key_does_not_harm_a_working_connection(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    sealed = send_key(shared, store, make_application_key(subject="of another store"))
    await_true(lambda: findings(shared.status(store.name)) == [("new_key_doubted", None)], "the doubt")
    assert shared.status(store.name)["status"] == "active"
    await_refusal(shared, store)
    assert_unharmed(shared, store)
    assert store.calls.statuses["login 401"] == 2, "a second exchange decides"
    await_true(lambda: not where(shared, sealed), "the new key to be forgotten")
    (refused,) = history(shared, store.name, "new_key_rejected")
    followed = history(shared, store.name, "validate_key_done")[-1]
    assert followed["started_at"] - refused["at"] < float(shared.environment["OCC_LEASE"]), (
        "the old key goes on at once"
    )
    store.reset_counts()
    revalidate(shared, store)
    assert calls(store) == A_REVALIDATION


TOO_NARROW = {
    "shipping methods": {"shipping_methods": [{"fault": "forbidden_role"}]},
    "slots": {"read_slot": [{"fault": "forbidden_role"}]},
}


def test_a_new_key_that_may_do_less_does_not_harm_a_working_connection(shared: Pipeline, new_store: NewStore) -> None:
    stores = {name: new_store(slots=CARRYING_THEIRS) for name in TOO_NARROW}
    connect(shared, *stores.values())
    for name, store in stores.items():
        narrow = make_application_key(subject=f"may not read {name}")
        store.change(accept_keys=[narrow], faults=TOO_NARROW[name])
        send_key(shared, store, narrow)
    for store in stores.values():
        await_refusal(shared, store)
        assert_unharmed(shared, store)
        refused = [event["data"] for event in events(shared, store.name) if event["type"].endswith("_failed")]
        assert [data["code"] for data in refused] == ["permission_denied"]


def test_a_good_new_key_takes_over_and_the_old_one_is_never_used_again(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    old_request = shared.request(store)
    shared.send(old_request)
    shared.await_end(store.name)
    old, new = store.application_key, make_application_key(subject="renewed")
    store.change(application_key=new)
    store.reset_counts()
    new_sealed = send_key(shared, store, new)
    await_run(shared, store, 2)
    store.change(revoke_keys=[old])
    assert {call.token for call in store.calls.entries if call.endpoint != "login"} == {2}, "bought with the new key"
    store.kill_tokens()
    revalidate(shared, store)
    assert store.calls.statuses["login 401"] == 0
    assert calls(store) == {"login": 2, "shipping_methods": 2, "read_slot": 9}  # one to see that the new key may
    status = shared.status(store.name)
    assert (status["status"], status["findings"]) == ("active", [])
    assert status["credential"]["fingerprint"] == fingerprint(new)
    assert told(shared, store.name) == ["onboarding", "active", "reauthorised"]
    await_true(lambda: not where(shared, str(old_request["application_key"])), "the old key to be forgotten")
    assert where(shared, new_sealed) == [f"occ:connection:{store.name}"]


def test_a_refused_new_key_is_forgiven_by_a_good_one(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    connect(shared, store)
    send_key(shared, store, make_application_key(subject="mistyped"))
    await_refusal(shared, store)
    new = make_application_key(subject="right")
    store.change(application_key=new)
    send_key(shared, store, new)
    await_run(shared, store, 2)
    assert findings(shared.status(store.name)) == []
    assert told(shared, store.name)[2:] == ["reauthorisation_failed", "reauthorised"]


def test_a_new_key_after_a_verdict_makes_the_connection_active_again(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    store.change(revoke_keys=True, kill_tokens=True)
    revalidate(shared, store)
    await_true(lambda: shared.status(store.name)["status"] == "needs_reauthorisation", "the verdict")
    new = make_application_key(subject="renewed")
    store.change(application_key=new)
    send_key(shared, store, new)
    await_run(shared, store, 2)
    assert shared.status(store.name)["status"] == "active"
    assert_both_are_in(store)
    assert calls(store)["write_slot"] == 4, "our callback URLs were there all the time"


def test_a_new_key_is_no_recovery_before_the_store_has_said_so(shared: Pipeline, new_store: NewStore) -> None:
    away, forbidding = new_store(), new_store()
    connect(shared, away, forbidding)
    away.change(reachable=False)
    forbidding.fail("shipping_methods", {"fault": "forbidden_role", **ALWAYS})
    revalidate(shared, away, forbidding)
    await_true(lambda: shared.status(away.name)["status"] == "unreachable", "one to be unreachable")
    assert shared.status(forbidding.name)["status"] == "degraded"
    for store in (away, forbidding):
        new = make_application_key(subject="renewed")
        store.change(accept_keys=[new])
        send_key(shared, store, new)
    await_refusal(shared, forbidding)
    assert shared.status(forbidding.name)["status"] == "degraded"
    assert told(shared, forbidding.name) == ["onboarding", "active", "degraded", "reauthorisation_failed"]
    assert told(shared, away.name) == ["onboarding", "active", "unreachable"]
    assert shared.status(away.name)["status"] == "unreachable"
    away.change(reachable=True)
    await_run(shared, away, 2)
    assert told(shared, away.name)[3:] in (["recovered", "reauthorised"], ["reauthorised", "recovered"])


# --- In the middle of things ------------------------------------------------------------------------------------------


def test_a_disconnection_while_a_new_key_is_doubted_forgets_both(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    request = shared.request(store)
    shared.send(request)
    shared.await_end(store.name)
    sealed = send_key(shared, store, make_application_key(subject="of another store"))
    await_true(lambda: findings(shared.status(store.name)) == [("new_key_doubted", None)], "the doubt")
    disconnect(shared, store)
    assert_only_theirs_are_in(store)
    await_forgotten(shared, store.name, sealed, str(request["application_key"]))
    assert told(shared, store.name) == ["onboarding", "active", "disconnected"]


def test_a_write_under_way_outlasts_neither_a_move_nor_a_new_key_and_a_disconnection(
    shared: Pipeline, new_store: NewStore
) -> None:
    # What it has read is old when it writes: that is when a removal that did not wait would come too early.
    leaving, moving, new = new_store(slots=CARRYING_THEIRS), new_store(slots=CARRYING_THEIRS), new_store()
    connect(shared, leaving)
    leaving.rival_writes("order-submit", THEIRS, how="replace")
    for store in (leaving, moving):
        store.reset_counts()
        store.fail("read_slot:order-submit", {"fault": "slow", "delay": 1.5})
    ask(shared, "occ.revalidate", merchant_id=leaving.name)
    shared.send(shared.request(moving))
    for store in (leaving, moving):
        await_true(lambda store=store: bool(store.calls.slots["read_slot:order-submit"]), "it to be read")  # type: ignore[misc]
    shared.send(shared.request(new, moving.name))
    send_key(shared, leaving, make_application_key(subject="of another store"))
    await_true(lambda: bool((it := shared.connection(leaving.name)) and it.candidate), "the new key to be tried")
    disconnect(shared, leaving)
    shared.await_end(moving.name, run=2)
    for store, record_id in ((leaving, leaving.name), (moving, f"{moving.name}@1")):
        await_true(lambda of=record_id: all_removed(shared, of), f"{record_id} to be left")  # type: ignore[misc]
        await_true(lambda store=store: store.calls.in_flight.now == 0, "all calls to be over")  # type: ignore[misc]
        assert store.calls.slots["write_slot:order-submit"] == 2, "put in, and taken out"
        assert_only_theirs_are_in(store)
    for slot in SLOTS:
        assert new.urls(slot) == [ours(moving.name, slot)]
    assert_nothing_foreign_was_lost([leaving, moving])


def all_removed(pipeline: Pipeline, record_id: str) -> bool:
    """Whether our callback URL is recorded as out of every slot."""
    return set(slot_statuses(pipeline.status(record_id)).values()) == {"removed"}


# --- Another store ----------------------------------------------------------------------------------------------------


def test_a_merchant_who_moves_leaves_nothing_of_ours_in_the_old_store(shared: Pipeline, new_store: NewStore) -> None:
    old, new = new_store(slots=CARRYING_THEIRS), new_store(slots=CARRYING_THEIRS)
    merchant = old.name
    request = shared.request(old)
    shared.send(request)
    shared.await_end(merchant)
    shared.send(shared.request(new, merchant))
    shared.await_end(merchant, run=2)
    assert_only_theirs_are_in(old)
    for slot in SLOTS:
        assert new.urls(slot) == [THEIRS, ours(merchant, slot)]
    status = shared.status(merchant)
    assert (status["status"], status["run"], status["store_url"]) == ("active", 2, new.url)
    assert old.calls.statuses["login 401"] == new.calls.statuses["login 401"] == 0, "each store saw its own key only"
    assert max(call.arrived for call in old.calls.entries) < min(call.arrived for call in new.calls.entries)
    former = shared.status(f"{merchant}@1")
    assert (former["status"], former["store_url"]) == ("disconnected", old.url)
    assert set(slot_statuses(former).values()) == {"removed"}
    assert_nothing_foreign_was_lost([old, new])
    await_forgotten(shared, f"{merchant}@1", str(request["application_key"]))
    assert told(shared, merchant) == ["onboarding", "active", "onboarding", "active"], "the old store is nobody's news"
    look_at = calls(new)
    shared.send(shared.request(new, merchant))
    connect(shared, new_store())
    assert calls(new) == look_at, "the same again is nothing new"


def test_a_move_from_a_store_that_is_gone_does_not_wait_for_it(shared: Pipeline, new_store: NewStore) -> None:
    old, new = new_store(slots=CARRYING_THEIRS), new_store()
    merchant = old.name
    connect(shared, old)
    old.change(reachable=False)
    shared.send(shared.request(new, merchant))
    shared.await_end(merchant, run=2)
    assert shared.status(merchant)["status"] == "active"
    await_true(
        lambda: set(slot_statuses(shared.status(f"{merchant}@1")).values()) == {"left_behind"}, "what is left to show"
    )
    old.change(reachable=True)
    await_true(lambda: not any(ours(merchant, slot) in old.urls(slot) for slot in SLOTS), "the old store to be clean")
    assert_nothing_foreign_was_lost([old])


def test_what_was_left_behind_stays_in_a_store_the_merchant_has_come_back_to(
    brisk: Pipeline, new_brisk_store: NewStore
) -> None:
    first, second = new_brisk_store(), new_brisk_store()
    merchant = first.name
    connect(brisk, first)
    await_second_revalidation(brisk, first)
    first.fail("write_slot", {"fault": "forbidden_role", **ALWAYS})
    brisk.send(brisk.request(second, merchant))
    brisk.await_end(merchant, run=2)
    assert set(slot_statuses(brisk.status(f"{merchant}@1")).values()) == {"left_behind"}
    brisk.send(brisk.request(first, merchant))
    brisk.await_end(merchant, run=3)
    first.heal()
    await_true(lambda: all_removed(brisk, f"{merchant}@1"), "the former record to have nothing more to do")
    await_true(lambda: all_removed(brisk, f"{merchant}@2"), "the second store to be left")
    for slot in SLOTS[1:]:
        assert first.urls(slot) == [ours(merchant, slot)]
        assert second.urls(slot) == []
    status = brisk.status(merchant)
    assert (status["status"], status["store_url"]) == ("active", first.url)
    assert calls(first)["write_slot"] - first.calls.statuses["write_slot 403"] == 4, "nothing was taken out in between"

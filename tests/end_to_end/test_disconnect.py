"""Leaving a store: our callback URL comes out of every slot, the key is forgotten, and nobody else loses anything."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from integrations.connections.change import Moment
from integrations.connections.lifecycle.disconnection import disconnect as depart
from occ.simulator.store import SimulatedStore
from tests.end_to_end.requests import (
    CARRYING_THEIRS,
    SLOTS,
    THEIRS,
    Log,
    ask,
    assert_both_are_in,
    assert_nothing_foreign_was_lost,
    assert_only_theirs_are_in,
    await_forgotten,
    await_true,
    calls,
    connect,
    disconnect,
    findings,
    history,
    ours,
    slot_statuses,
    told,
)
from tests.pipeline import Pipeline, running
from tests.usual import PACE

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

NewStore = Callable[..., SimulatedStore]
ALWAYS = {"times": "always"}


def connected(pipeline: Pipeline, *stores: SimulatedStore) -> list[str]:
    """Connect these; how their keys were sealed."""
    requests = [pipeline.request(store) for store in stores]
    for request in requests:
        pipeline.send(request)
    pipeline.await_end(*(store.name for store in stores))
    return [str(request["application_key"]) for request in requests]


def test_a_disconnected_store_has_nothing_of_ours_and_we_nothing_of_its_key(
    shared: Pipeline, new_store: NewStore
) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    (sealed,) = connected(shared, store)
    store.reset_counts()
    disconnect(shared, store)
    assert_only_theirs_are_in(store)
    assert_nothing_foreign_was_lost([store])
    assert calls(store)["write_slot"] == calls(store)["read_slot"] == 4
    await_forgotten(shared, store.name, sealed)
    status = shared.status(store.name)
    assert set(slot_statuses(status).values()) == {"removed"}
    assert (status["findings"], status["due_at"]) == ([], None)
    assert told(shared, store.name) == ["onboarding", "active", "disconnected"]
    assert len(history(shared, store.name, "slot_removed")) == 4
    assert len(history(shared, store.name, "key_forgotten")) == 1


def test_a_second_wish_to_disconnect_and_a_late_wish_to_look_change_nothing(
    shared: Pipeline, new_store: NewStore
) -> None:
    store, probe = new_store(slots=CARRYING_THEIRS), new_store()
    connect(shared, store)
    for _ in range(2):
        ask(shared, "occ.disconnect", merchant_id=store.name)
    await_true(lambda: shared.status(store.name)["status"] == "disconnected", "the disconnection")
    assert len(history(shared, store.name, "disconnect_asked")) == 1
    before = calls(store), shared.status(store.name)
    ask(shared, "occ.disconnect", merchant_id=store.name)
    ask(shared, "occ.disconnect", merchant_id=store.name, forget="now")
    ask(shared, "occ.revalidate", merchant_id=store.name)
    ask(shared, "occ.revalidate", merchant_id=store.name, repair=True)
    connect(shared, probe)  # the queue has been worked off by now
    assert (calls(store), shared.status(store.name)) == before
    assert_only_theirs_are_in(store)


def test_a_disconnected_merchant_may_come_back(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    disconnect(shared, store)
    run = shared.status(store.name)["run"] + 1
    shared.send(shared.request(store))
    shared.await_end(store.name, run=run)
    assert shared.status(store.name)["status"] == "active"
    assert_both_are_in(store)
    assert told(shared, store.name)[-2:] == ["onboarding", "active"]


# --- What the store refuses -------------------------------------------------------------------------------------------

REFUSALS = {"permanently": ("forbidden_role", "permission_denied"), "for now": ("unavailable", "store_error")}


@pytest.mark.parametrize("kind", REFUSALS)
def test_slots_that_refuse_are_left_behind_alone_and_cleared_when_the_store_lets_us(
    brisk: Pipeline, request: pytest.FixtureRequest, kind: str
) -> None:
    fault, cause = REFUSALS[kind]
    ids = {"order-submit": "production-submitOrder"} | {slot: slot for slot in SLOTS[1:]}
    filled = {slot_id: {"urls": [THEIRS]} for slot_id in ids.values()}
    stores = [
        brisk.simulator.add(f"refusing-{kind.replace(' ', '-')}-{refusing}", slots=filled)
        for refusing in range(len(SLOTS) + 1)
    ]
    sealed = connected(brisk, *stores)
    refusing = {store.name: set(SLOTS[:number]) for number, store in enumerate(stores)}
    for store in stores:
        store.change(faults={f"write_slot:{ids[slot]}": [{"fault": fault, **ALWAYS}] for slot in refusing[store.name]})
    disconnect(brisk, *stores)
    for store in stores:
        status = brisk.status(store.name)
        left = refusing[store.name]
        assert {slot for slot, found in slot_statuses(status).items() if found == "left_behind"} == left
        assert {(finding["code"], finding["slot"], finding["detail"]) for finding in status["findings"]} == {
            ("left_behind", slot, cause) for slot in left
        }
        for slot in SLOTS:
            assert store.urls(ids[slot]) == [THEIRS, *([ours(store.name, slot)] if slot in left else [])]
    for store in stores:
        store.heal()
    await_true(
        lambda: all(set(slot_statuses(brisk.status(store.name)).values()) == {"removed"} for store in stores),
        "what was left to be cleared",
    )
    for store, key in zip(stores, sealed, strict=True):
        for slot_id in ids.values():
            assert store.urls(slot_id) == [THEIRS]
        await_forgotten(brisk, store.name, key)
        assert told(brisk, store.name) == ["onboarding", "active", "disconnected"]
        assert findings(brisk.status(store.name)) == []
    assert_nothing_foreign_was_lost(stores)


def test_a_store_that_is_gone_is_left_and_its_key_forgotten_when_the_time_for_it_is_over(
    brisk: Pipeline, new_brisk_store: NewStore
) -> None:
    store = new_brisk_store()
    (sealed,) = connected(brisk, store)
    store.change(reachable=False)
    # The wish as its door takes it on, but for the week that is given to a store by the settings.
    at_once = replace(PACE, lease=0.1, clean_up_for=2.0)
    brisk.records.change(store.name, lambda connection, now: depart(connection, Moment(now, at_once)))
    await_true(lambda: brisk.status(store.name)["status"] == "disconnected", "the disconnection")
    await_forgotten(brisk, store.name, sealed)
    status = brisk.status(store.name)
    assert set(slot_statuses(status).values()) == {"left_behind"}
    assert {detail for finding in status["findings"] for detail in [finding["detail"]]} == {"store_unreachable"}
    assert status["due_at"] is None
    assert len(history(brisk, store.name, "key_forgotten")) == 1


# --- Forgotten at once ------------------------------------------------------------------------------------------------


def test_a_key_is_forgotten_at_once_on_request(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    (sealed,) = connected(shared, store)
    store.reset_counts()
    disconnect(shared, store, forget="now")
    await_forgotten(shared, store.name, sealed)
    assert calls(store) == {}, "without the key there is nothing to be done"
    status = shared.status(store.name)
    assert set(slot_statuses(status).values()) == {"left_behind"}
    assert findings(status) == [("left_behind", slot) for slot in SLOTS]
    assert status["due_at"] is None
    assert_both_are_in(store)


def test_a_key_is_forgotten_at_once_while_slots_refuse(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    (sealed,) = connected(shared, store)
    store.fail("write_slot:order-update", {"fault": "forbidden_role", **ALWAYS})
    disconnect(shared, store)
    assert shared.status(store.name)["due_at"] is not None
    ask(shared, "occ.disconnect", merchant_id=store.name, forget="now")
    await_forgotten(shared, store.name, sealed)
    statuses = slot_statuses(shared.status(store.name))
    assert statuses == dict.fromkeys(SLOTS, "removed") | {"order-update": "left_behind"}
    assert shared.status(store.name)["due_at"] is None


# --- In the middle of things ------------------------------------------------------------------------------------------


def test_a_write_under_way_in_a_run_or_a_look_does_not_put_our_url_back(shared: Pipeline, new_store: NewStore) -> None:
    # What it has read is old when it writes: that is when a removal that did not wait would come too early.
    slow = {f"read_slot:{slot}": [{"fault": "slow", "delay": 1.5}] for slot in SLOTS[:2]}
    connecting, looked_at = stores = new_store(slots=CARRYING_THEIRS), new_store(slots=CARRYING_THEIRS)
    sealed = connected(shared, looked_at)
    for slot in SLOTS[:2]:
        looked_at.rival_writes(slot, THEIRS, how="replace")
    request = shared.request(connecting)
    for store in stores:
        store.reset_counts()
        store.change(faults=slow)
    shared.send(request)
    ask(shared, "occ.revalidate", merchant_id=looked_at.name)
    await_true(lambda: all(store.calls.slots[target] for store in stores for target in slow), "the slots to be read")
    disconnect(shared, *stores)
    await_true(lambda: not any(store.calls.in_flight.now for store in stores), "all calls to be over")
    for store, key in zip(stores, (str(request["application_key"]), *sealed), strict=True):
        assert_only_theirs_are_in(store)
        for slot in SLOTS[:2]:
            assert store.calls.slots[f"write_slot:{slot}"] == 2, "put in, and taken out"
        assert set(slot_statuses(shared.status(store.name)).values()) == {"removed"}
        await_forgotten(shared, store.name, key)
    assert_nothing_foreign_was_lost(stores)


def test_forgetting_at_once_in_the_middle_says_where_our_url_may_be(shared: Pipeline, new_store: NewStore) -> None:
    slow = {"write_slot:order-submit": [{"fault": "slow", "delay": 1.5}]}
    store = new_store(slots=CARRYING_THEIRS, faults=slow)
    request = shared.request(store)
    shared.send(request)
    await_true(lambda: store.calls.slots["write_slot:order-submit"] == 1, "the write")
    disconnect(shared, store, forget="now")
    await_true(lambda: store.calls.in_flight.now == 0, "all calls to be over")
    await_forgotten(shared, store.name, str(request["application_key"]))
    assert slot_statuses(shared.status(store.name))["order-submit"] == "left_behind"
    assert ours(store.name, "order-submit") in store.urls("order-submit")


def test_a_login_under_way_does_not_leave_an_access_token(shared: Pipeline, new_store: NewStore) -> None:
    stores = {asked: new_store(faults={"login": [{"fault": "slow", "delay": 1.2}]}) for asked in ("now", "end")}
    requests = [shared.request(store) for store in stores.values()]
    for request in requests:
        shared.send(request)
    await_true(lambda: all(calls(store).get("login") for store in stores.values()), "the logins")
    for asked, store in stores.items():
        disconnect(shared, store, forget=asked)
    for store, request in zip(stores.values(), requests, strict=True):
        await_true(lambda store=store: store.calls.in_flight.now == 0, "all calls to be over")  # type: ignore[misc]
        await_forgotten(shared, store.name, str(request["application_key"]))
        assert set(slot_statuses(shared.status(store.name)).values()) == {"removed"}
        assert "write_slot" not in calls(store)
    connect(shared, new_store())  # by now the late logins have told what they got
    for store in stores.values():
        assert not shared.redis.exists(f"occ:token:{store.name}")


def test_a_worker_killed_amid_disconnections_costs_nobody_a_url(tmp_path: Path) -> None:
    settings = {"OCC_LEASE": "6", "OCC_CALL_DEADLINE": "1", "OCC_CONCURRENCY": "4"}
    with running(Pipeline(tmp_path, settings=settings, latency=0.1)) as pipeline:
        stores = [pipeline.simulator.add(f"amid-{number}", slots=CARRYING_THEIRS) for number in range(6)]
        sealed = connected(pipeline, *stores)
        for store in stores:
            ask(pipeline, "occ.disconnect", merchant_id=store.name)
        await_true(lambda: any(calls(store)["write_slot"] > 4 for store in stores), "a first removal")
        pipeline.kill("worker-1", signal.SIGKILL)
        assert any(len(store.urls(slot)) == 2 for store in stores for slot in SLOTS), "some is yet to be done"
        for store in stores:  # a wish that was on its way to the worker is lost with it
            ask(pipeline, "occ.disconnect", merchant_id=store.name)
        await_true(lambda: all(pipeline.status(store.name)["status"] == "disconnected" for store in stores), "all")
        for store, key in zip(stores, sealed, strict=True):
            await_true(lambda store=store: slots_are_clear(pipeline, store), "all slots to be clear")  # type: ignore[misc]
            assert_only_theirs_are_in(store)
            await_forgotten(pipeline, store.name, key)
            assert len(history(pipeline, store.name, "slot_removed")) == 4, "each outcome is recorded once"
        assert_nothing_foreign_was_lost(stores)


def slots_are_clear(pipeline: Pipeline, store: SimulatedStore) -> bool:
    """Whether our callback URL is recorded as out of every slot."""
    return set(slot_statuses(pipeline.status(store.name)).values()) == {"removed"}


# --- Wishes nobody can grant ------------------------------------------------------------------------------------------

Refused = tuple[tuple[object, ...], dict[str, object], str, str]
"""Positional and named arguments; field and code of the refusal."""

MALFORMED: dict[str, Refused] = {
    "unknown merchant": ((), {"merchant_id": "nobody-has-connected-me"}, "merchant_id", "unknown_connection"),
    "a number": ((), {"merchant_id": 5}, "merchant_id", "not_text"),
    "no merchant": ((), {}, "merchant_id", "missing"),
    "not an id": ((), {"merchant_id": "a b|c"}, "merchant_id", "bad_merchant_id"),
    "unknown field": ((), {"merchant_id": "m", "colour": "red"}, "request", "unknown_field"),
    "positional": (("m",), {}, "request", "not_an_object"),
}
CHOICES = {"occ.revalidate": ("repair", "yes"), "occ.disconnect": ("forget", "tomorrow")}


@pytest.mark.parametrize("task", CHOICES)
def test_a_wish_nobody_can_grant_is_refused_with_field_and_remedy(shared: Pipeline, task: str) -> None:
    shared.redis.delete("occ:refused")
    log = Log(shared)
    option, choice = CHOICES[task]
    cases: dict[str, Refused] = {
        **MALFORMED,
        "unknown choice": ((), {"merchant_id": "m", option: choice}, option, "unknown_choice"),
    }
    for args, asked, _, _ in cases.values():
        ask(shared, task, *args, **asked)
    await_true(lambda: len(shared.records.refusals()) == len(cases), "the refusals")
    refusals = shared.records.refusals()
    assert sorted((refusal["field"], refusal["code"]) for refusal in refusals) == sorted(
        (field, code) for _, _, field, code in cases.values()
    )
    assert all(refusal["remedy"] and refusal["door"] == "celery" for refusal in refusals)
    assert "Traceback" not in log.text()
    assert shared.connection("m") is None


@pytest.mark.parametrize("task", CHOICES)
def test_what_looks_like_a_message_of_ours_harms_nobody(shared: Pipeline, new_store: NewStore, task: str) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    before, log = calls(store), Log(shared)
    shared.redis.delete("occ:refused")
    late: list[dict[str, object]] = [
        {"merchant_id": "nobody-has-connected-me", "run": 1, "slot": "order-submit"},
        {"merchant_id": store.name, "run": 99},
        {"merchant_id": store.name, "run": 1, "slot": "no-such-slot"},
    ]
    malformed: list[dict[str, object]] = [
        {"run": 1},
        {"merchant_id": 5, "run": 1},
        {"merchant_id": store.name, "run": "1", "slot": "order-submit"},
        {"merchant_id": store.name, "run": 1, "slot": ["order-submit"]},
    ]
    for asked in (*late, *malformed):
        ask(shared, task, **asked)
    connect(shared, new_store())
    await_true(lambda: len(shared.records.refusals()) == len(malformed), "the refusals")
    assert calls(store) == before
    assert shared.status(store.name)["status"] == "active"
    assert "Traceback" not in log.text()
